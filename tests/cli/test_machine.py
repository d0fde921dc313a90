"""`anew machine list · check · install · recover`, and a rollout as a person sees it, on pretended machines behind a real daemon."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.racks import Racks
from tests.cli.running import at_terminal, call
from tests.metal.evil import ESCAPES, Evil
from tests.wire.running import Served

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def racks(tmp_path: Path) -> Iterator[Racks]:
    racks = Racks(tmp_path)
    racks.write()
    yield racks
    racks.close()


def test_a_check_says_a_sentence_for_each_machine(racks: Racks) -> None:
    racks.write(lambda text: text + '[machines.rack9]\naddress = "127.0.9.9"\n')
    ended = racks.anew("machine", "check", "rack1", "rack2")
    assert ended.code == 0, ended.out + ended.err
    first, second, last = ended.out.splitlines()
    assert first.startswith("rack1: ready, rauc, slot A, version ") and "root read-only" in first and second.startswith("rack2: ready")
    assert last == "2 machines, all ready"
    racks.call(racks.world["rack2"].change_key())
    ended = racks.anew("machine", "check")
    assert ended.code == 1
    told = dict(line.split(": ", 1) for line in ended.out.splitlines() if ": " in line)
    assert told["rack1"].startswith("ready") and "host key" in told["rack2"]
    assert told["rack9"] == "no host key is pinned, so nothing is ever sent to it; run `anew machine pin rack9`"
    assert ended.out.splitlines()[-1] == "3 machines, 2 not ready"
    checks = json.loads(racks.anew("machine", "check", "--json").out)
    assert checks["ok"] is False and [row["ok"] for row in checks["checks"]] == [True, False, False]
    ended = racks.anew("machine", "check", "rack3")
    assert ended.code == 2 and "no machine 'rack3'; did you mean rack" in ended.err


def test_one_silent_machine_does_not_hide_the_others(racks: Racks) -> None:
    racks.world["rack2"].power_cut()
    ended = racks.anew("machine", "check")
    assert ended.code == 1 and "rack1: ready" in ended.out and "rack2: " in ended.out and "Traceback" not in ended.out + ended.err


def test_the_list_fits_a_terminal_and_shows_who_is_trusted(racks: Racks) -> None:
    racks.write(lambda text: text + '[machines.rack9]\naddress = "rack9.example.org"\n')
    assert racks.anew("machine", "check", "rack1", "rack2").code == 0
    out = racks.anew("machine", "list").out
    lines = out.splitlines()
    assert lines[0].split() == ["machine", "address", "pool", "key", "image", "backend", "root", "reach"]
    assert "none" in lines[3] and "rack9" in lines[3]
    assert "! rack9: no host key is pinned, so nothing is ever sent there; `anew machine pin rack9` shows one and asks" in lines
    assert max(len(line) for line in lines[:4]) <= 80, out
    assert lines[1].split()[5:] == ["rauc", "read-only", "ok"]
    rows = {row["name"]: row for row in racks.data("machine", "list")["machines"]}
    assert len(rows["rack1"]["pin"]) == 50 and rows["rack1"]["reach"] == "ok" and rows["rack1"]["pool"] == "web"
    assert rows["rack9"]["pin"] == "" and rows["rack9"]["pool"] == "" and rows["rack9"]["reach"].startswith("no host key is pinned")


def test_a_rollout_on_machines_reads_well(racks: Racks) -> None:
    plan = racks.anew("plan", "web", "--to", "2")
    assert plan.code == 0, plan.err
    assert "2 servers, 1 restart at a time" in plan.out and "brought to the idle slots beforehand" in plan.out
    assert "of unknown age" in plan.out, "nobody knows since when a machine runs what anew did not install"
    assert "canary, in-place" in plan.out and "undo      retained" in plan.out
    assert max(len(line) for line in plan.out.splitlines()) <= 80, plan.out
    ended = racks.anew("rollout", "start", "web", "--to", "2", "--yes", "--wait")
    assert ended.code == 0, ended.out + ended.err
    assert racks.world.versions() == {"2": 2} and racks.world.most_missing == 1
    shown = racks.anew("rollout", "show", "web")
    status = racks.anew("status", "web")
    assert "in-place" in shown.out or "done" in shown.out
    assert max(len(line) for line in status.out.splitlines()) <= 80, status.out
    assert "rack1" in status.out and "read-only" in status.out
    back = racks.anew("rollback", "web", "--yes", "--wait")
    assert back.code == 3, back.out + back.err
    assert "2" not in racks.world.versions()


def test_a_power_cycle_is_asked_for_done_and_recorded(racks: Racks, tmp_path: Path) -> None:
    assert racks.bmc is not None
    (tmp_path / "password").write_text("secret\n")
    (tmp_path / "password").chmod(0o600)
    line = f'bmc = {{ url = "{racks.bmc.url}", user = "anew", password_file = "password" }}\n'
    racks.write(lambda text: text.replace("[machines.rack2]", line + "[machines.rack2]"))
    code, shown = racks.typing("no\n", "machine", "recover", "rack1")
    assert code == 5 and "whatever runs there is cut off" in shown and racks.bmc.resets() == []
    code, shown = racks.typing("rack1\n", "machine", "recover", "rack1")
    assert code == 0, shown
    assert racks.bmc.resets() == ["ForceRestart"]
    ordered, done = racks.events("machine-ordered", "machine-recovered")
    assert ordered["server"] == done["server"] == "rack1" and ordered["data"]["op"] == done["data"]["op"]
    assert ordered["actor"].startswith("root") or "@" in ordered["actor"]
    assert "secret" not in racks.anew("journal", "export").out
    ended = racks.anew("machine", "recover", "rack2", "--yes")
    assert ended.code == 5 and "no management controller is configured for it; set machines.rack2.bmc, or go there" in ended.err
    ended = racks.anew("machine", "recover", "rack1", "--yes")
    assert ended.code == 5 and "it serves, and answers healthily" in ended.err and racks.bmc.resets() == ["ForceRestart"]
    racks.bmc.answers.clear()
    code, shown = racks.typing("rack1\n", "machine", "recover", "rack1")
    assert code == 1 and "power cycle of rack1 failed: " in shown
    assert len(racks.events("machine-failed")) == 1


def test_a_first_install_wants_the_disk_s_serial_number(racks: Racks) -> None:
    ended = racks.anew("machine", "install", "rack1", "--disk", "WD-1")
    assert ended.code == 5 and "the fleet file names no disk for it; set machines.rack1.disk" in ended.err
    racks.write(lambda text: text.replace("[machines.rack2]", 'disk = "WD-1"\n[machines.rack2]'))
    assert racks.anew("reload").code == 0
    ended = racks.anew("machine", "install", "rack1", "--disk", "WD-2")
    assert ended.code == 5 and "the fleet file names disk WD-1; nothing was written" in ended.err
    ended = racks.anew("machine", "install", "rack1")
    assert ended.code == 2 and "--disk SERIAL answers it" in ended.err
    code, shown = racks.typing("rack1\n", "machine", "install", "rack1")
    assert code == 5 and "A disk that is not blank is refused there, and never written." in shown
    assert racks.world["rack1"].verbs() == [] and racks.events("machine-ordered") == []
    assert racks.anew("machine", "install", "rack7", "--disk", "WD-1").code == 2


def test_machines_without_a_pool_and_a_fleet_without_machines(racks: Racks) -> None:
    racks.write(lambda text: text + "[images.app]\nsimulated = ['1']\n[pools.app]\ndriver = 'sim'\nservers = 1\nimage = 'app'\n")
    sim = racks.file.read_text()
    racks.file.write_text(sim[: sim.index("[machines.")] + sim[sim.index("[images.app]"):])
    ended = racks.anew("machine", "check")
    assert ended.code == 5 and "no pool of this fleet has machines" in ended.err
    assert "the fleet file has no machines; `anew machine add NAME ADDRESS` writes one" in racks.anew("machine", "list").out


def test_a_bad_fleet_and_no_daemon_are_said(racks: Racks) -> None:
    ended = racks.anew("machine", "check", "--no-start")
    assert ended.code == 6 and "no daemon" in ended.err
    racks.write(lambda text: text.replace('"rack2"]', '"rak2"]'))
    ended = racks.anew("machine", "check")
    assert ended.code == 2 and 'found "rak2", allowed a machine of this file (rack1, rack2). Did you mean "rack2"?' in ended.err


def test_what_a_machine_says_brings_no_control_byte_to_the_terminal(racks: Racks) -> None:
    racks.call(racks.world["rack1"].be(Evil(os=ESCAPES)))
    for arguments in (("machine", "check"), ("machine", "list"), ("machine", "check", "--json")):
        out = racks.anew(*arguments).out
        assert not any(not char.isprintable() and char != "\n" for char in out)


def test_a_table_of_canned_machines(served: Served, capsys: Capture) -> None:
    assert call("machine", "list") == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines()[:3])) <= 80
    assert call("machine", "check") == 1
    assert capsys.readouterr().out == "rack1: ready, rauc, slot A, version 1\nrack2: no host key is pinned\n2 machines, 1 not ready\n"
    assert call("machine", "recover", "rack3", "--yes") == 2
    assert "did you mean rack" in capsys.readouterr().err
    code, shown = at_terminal(served, "rack2\n", "machine", "recover", "rack1")
    assert code == 5 and not served.office.commands and "type rack1: " in shown
