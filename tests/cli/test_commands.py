"""What commands do and how they end: exit codes, questions, errors, waiting."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from fleet.api.client import DaemonUnreachable
from fleet.cli import wait
from fleet.cli.tree import OVERRIDES
from fleet.core.desired import RolloutSettings
from tests.cli.running import DEADLINE, PROGRAM, at_terminal, call, environment, run
from tests.wire.office import HASH, plan_frame, rollout_row
from tests.wire.running import Served

Capture = pytest.CaptureFixture[str]


def error_of(capsys: Capture) -> dict[str, object]:
    captured = capsys.readouterr()
    found = json.loads(captured.out)["error"]
    assert str(found["message"]).splitlines()[0] in captured.err
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(("arguments", "code", "name"), [
    (("stauts",), 2, "usage"), (("rollout",), 2, "usage"), (("status", "--colour"), 2, "usage"), (("hold", "web-1"), 2, "usage"),
    (("status", "wbe"), 2, "unknown-pool"), (("plan", "db"), 2, "unknown-pool"), (("rollout", "show", "r-9"), 2, "unknown-rollout"),
    (("image", "show", "web"), 2, "usage"), (("image", "show", "web/9"), 2, "unknown-image"), (("adopt", "nope", "web", "--yes"), 2, "unknown-domain"),
    (("rollout", "start", "web", "--yes", "--plan", "0000000"), 5, "stale-plan"), (("rollout", "start", "web", "--yes", "--plan", "0"), 2, "usage"),
    (("rollout", "start", "web"), 2, "no-terminal"), (("rollback", "web"), 2, "no-terminal"), (("plan", "web", "--servers", ","), 2, "usage"),
    (("lab", "down", "--fleet", "/etc/anew/fleet.toml", "--socket", "SOCKET"), 2, "no-terminal"), (("status", "--fleet", "/other.toml"), 5, "other-fleet"),
    (("image", "add", "/nonexistent"), 2, "invalid"), (("root", "nope"), 2, "unknown-name"), (("journal", "show", "--limit", "0"), 2, "usage"),
    (("daemon", "run", "--fleet", "/nonexistent.toml"), 2, "no-fleet"), ((), 2, "usage")])
def test_errors_are_sentences_with_a_code(served: Served, capsys: Capture, arguments: tuple[str, ...], code: int, name: str) -> None:
    arguments = tuple(served.socket if word == "SOCKET" else word for word in arguments)
    assert call(*arguments, "--json") == code
    found = error_of(capsys)
    assert (found["code"], found["exit_code"]) == (name, code)
    assert not served.office.commands


@pytest.mark.parametrize(("server", "code", "name"), [("web-refused", 5, "refused"), ("web-away", 1, "transient")])
def test_what_the_engine_refuses_is_told(served: Served, capsys: Capture, server: str, code: int, name: str) -> None:
    assert call("hold", server, "--why", "x", "--json") == code
    assert error_of(capsys)["code"] == name


def test_a_typo_gets_the_nearest_word(served: Served, capsys: Capture) -> None:
    call("stauts")
    assert "did you mean 'status'?" in capsys.readouterr().err
    call("status", "wbe")
    assert "did you mean web?" in capsys.readouterr().err


def test_no_daemon_is_exit_6(tmp_path: object, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANEW_SOCKET", f"{tmp_path}/none.sock")
    assert call("status", "--no-start", "--json") == 6
    assert error_of(capsys)["code"] == "daemon-unreachable"
    assert call("daemon", "status") == 6
    assert call("daemon", "stop") == 6
    assert call("reload") == 6
    assert call("info") == 0


def test_options_stand_before_or_after_the_command(served: Served, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANEW_SOCKET")
    for arguments in (("--socket", served.socket, "rollout", "list"), ("rollout", "--socket", served.socket, "list"),
                      ("rollout", "list", "--socket", served.socket)):
        assert call("--no-start", *arguments) == 0
        assert "r-0123456789abcdef" in capsys.readouterr().out


def test_without_a_command_and_terminal_there_is_help() -> None:
    ended = run(None)
    assert ended.code == 2
    assert ended.out == ""
    assert "without a command: the terminal UI" in ended.err


def test_a_start_sends_what_was_seen(served: Served) -> None:
    assert call("rollout", "start", "web", "--to", "2", "--servers", "web-1, web-2", "--older-than", "7d", "--max-surge", "25%",
                "--min-healthy-time", "5s", "--plan", HASH[:8], "--yes") == 0
    sent = served.office.commands[-1]
    assert sent["plan"] == {"pool": "web", "kind": "rollout", "to": "2", "servers": ["web-1", "web-2"], "older_than": "7d",
                            "overrides": {"max_surge": "25%", "min_healthy_time": "5s"}}
    assert (sent["plan_hash"], sent["generation"], sent["terminal"]) == (HASH, 42, "pts/7")


def test_settings_of_a_rollout_under_way_are_sent_as_they_were_typed(served: Served, capsys: Capture) -> None:
    assert call("rollout", "set", "web", "--max-unavailable", "2", "--checkpoints", "25%,50%", "--outside-windows", "it burns") == 0
    sent = served.office.commands[-1]
    assert (sent["command"], sent["rollout"], sent["outside"]) == ("rollout.set", "r-0123456789abcdef", "it burns")
    assert sent["overrides"] == {"max_unavailable": "2", "checkpoints": "25%,50%"}
    assert call("rollout", "resume", "web", "--outside-windows", "it burns") == 0
    assert served.office.commands[-1]["outside"] == "it burns"
    count = len(served.office.commands)
    capsys.readouterr()
    for arguments in (("rollout", "set", "web"), ("rollout", "resume", "web"), ("rollout", "start", "web", "--yes")):
        assert call(*arguments, "--outside-windows", " ", "--json") == 2
        assert "say why" in str(error_of(capsys)["message"])
    assert len(served.office.commands) == count


def test_a_rollout_outside_its_windows_says_so_wherever_it_is_looked_at(served: Served, capsys: Capture) -> None:
    served.office.rollout_states = [rollout_row(outside="it burns", outside_by="eve@pts/1", changed="max_unavailable 1 → 2, by bob")]
    assert call("rollout", "show", "web") == 0
    shown = capsys.readouterr().out
    assert "outside the windows: it burns (said eve@pts/1)" in shown and "max_unavailable 1 → 2, by bob" in shown
    assert call("status") == 0
    assert "web: its rollout goes on outside the windows: it burns (said eve@pts/1)" in capsys.readouterr().out
    served.office.rollout_states[0]["state"] = "paused"
    assert call("status") == 0
    assert "goes on outside" not in capsys.readouterr().out


def test_every_setting_of_a_rollout_can_be_overridden() -> None:
    assert {name for name, _ in OVERRIDES} == set(RolloutSettings.__dataclass_fields__)


def test_nothing_to_do_is_done(served: Served, capsys: Capture) -> None:
    served.office.plan_answer = plan_frame(count=0)
    assert call("rollout", "start", "web") == 0
    assert "nothing to do" in capsys.readouterr().out
    assert not served.office.commands


def test_a_rollback_turns_the_running_rollout_around(served: Served) -> None:
    assert call("rollback", "web", "--yes", "--why", "errors") == 0
    sent = served.office.commands[-1]
    assert (sent["command"], sent["rollout"], sent["pool"], sent["why"]) == ("rollback.start", "r-0123456789abcdef", "web", "errors")
    served.office.empty = True
    assert call("rollback", "web", "--yes", "--server", "web-1") == 0
    assert "rollout" not in served.office.commands[-1]
    assert served.office.commands[-1]["server"] == "web-1"


@pytest.mark.parametrize(("state", "code"), [("done", 0), ("failed", 1), ("aborted", 1), ("rolled-back", 3), ("paused", 4),
                                             ("awaiting-promotion", 4), ("checkpoint", 4)])
def test_waiting_ends_with_the_code_of_the_state(
        served: Served, capsys: Capture, monkeypatch: pytest.MonkeyPatch, state: str, code: int) -> None:
    monkeypatch.setattr("fleet.api.stream.LIFE_SECONDS", 0.1)  # the canned office says nothing by itself
    served.office.rollout_states = [rollout_row(), rollout_row(), rollout_row(state, reason="web-2 panicked at boot")]
    assert call("rollout", "start", "web", "--yes", "--wait") == code
    captured = capsys.readouterr()
    assert state in captured.out
    assert "web 1→2 rolling 1/3, eta 1m 15s" in captured.err
    served.office.rollout_states = [rollout_row(state)]
    assert call("rollout", "wait", "web", "--json") == code
    assert json.loads(capsys.readouterr().out)["state"] == state


@pytest.mark.parametrize(("state", "code"), [("done", 0), ("failed", 1), ("aborted", 1), ("rolled-back", 3), ("paused", 4)])
@pytest.mark.parametrize("command", [("rollback", "web", "--yes"), ("rollout", "promote", "web"), ("rollout", "resume", "web")])
def test_every_waiting_command_ends_with_the_code_of_the_state(served: Served, command: tuple[str, ...], state: str, code: int) -> None:
    served.office.rollout_states = [rollout_row(), rollout_row(state, reason="web-2 panicked at boot")]
    assert call(*command, "--wait") == code


def test_a_checkpoint_that_opens_by_itself_needs_nobody_and_ends_no_wait(served: Served, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """To leave there would be to be missed there: with on_disconnect = "pause" the rollout stopped at the first one."""
    monkeypatch.setattr("fleet.api.stream.LIFE_SECONDS", 0.1)
    stands = {**rollout_row("checkpoint", reason="it goes on by itself after 20s"), "opens_at": "2026-11-21T21:14:02Z"}
    served.office.rollout_states = [rollout_row(), stands, stands, rollout_row("done", reason="")]
    assert call("rollout", "start", "web", "--yes", "--wait") == 0
    captured = capsys.readouterr()
    assert "it goes on by itself after 20s" in captured.err
    assert "rollout promote" not in captured.err and "checkpoint" not in captured.out


def test_waiting_hears_of_changes_from_the_stream(served: Served) -> None:
    command = subprocess.Popen([sys.executable, "-c", PROGRAM, "rollout", "wait", "web"], env=environment(served),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + DEADLINE
    while not served.office.queues:
        assert time.monotonic() < limit
        time.sleep(0.01)
    served.do(lambda: served.office.publish({"frame": "rollout", "seq": 101, "row": rollout_row("done", reason="")}))
    out, _ = command.communicate(timeout=DEADLINE)
    assert command.returncode == 0
    assert out == "web 1 → 2: done\n"


def test_interrupting_a_wait_leaves_the_rollout_alone(served: Served) -> None:
    command = subprocess.Popen([sys.executable, "-c", PROGRAM, "rollout", "start", "web", "--yes", "--wait"], env=environment(served),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + DEADLINE
    while not served.office.queues:
        assert time.monotonic() < limit
        time.sleep(0.01)
    command.send_signal(signal.SIGINT)
    _, err = command.communicate(timeout=DEADLINE)
    assert command.returncode == 130
    assert "the rollout r-0123456789abcdef goes on" in err
    assert "Traceback" not in err
    assert [one["command"] for one in served.office.commands] == ["rollout.start"]


def test_a_lost_daemon_is_waited_for_and_then_named(served: Served, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait, "LOST_SECONDS", 0.2)
    monkeypatch.setattr(wait, "RETRY_SECONDS", 0.02)
    served.do(lambda: setattr(served.office, "rollout_states", [rollout_row()]))
    from fleet.cli.context import Context
    from fleet.cli.tree import build

    context = Context(build("status").parse_args(["status"]))
    assert context.client
    served.stop()
    with pytest.raises(DaemonUnreachable):
        wait.wait_for(context, "r-0123456789abcdef")


def test_several_servers_need_their_number_typed(served: Served) -> None:
    code, shown = at_terminal(served, "3\n", "rollout", "start", "web")
    assert code == 0, shown
    assert "Replace 3 servers? type 3:" in shown
    assert "at no moment fewer than 3 serve" in shown
    for typed in ("\n", "y\n", "2\n"):
        code, shown = at_terminal(served, typed, "rollout", "start", "web")
        assert code == 5
        assert "nothing was changed" in shown
    assert len(served.office.commands) == 1


def test_one_server_needs_a_y(served: Served) -> None:
    served.office.plan_answer = plan_frame(count=1)
    code, shown = at_terminal(served, "y\n", "rollout", "start", "web")
    assert code == 0
    assert "Replace web-1? type y:" in shown


def test_adoption_says_what_it_means_before_it_asks(served: Served) -> None:
    code, shown = at_terminal(served, "y\n", "adopt", "old-web", "web", "--as", "web-3")
    assert code == 0
    assert "neither its disks nor its run are touched" in shown
    assert served.office.commands[-1]["server"] == "web-3"


def test_breaking_glass_needs_the_name(served: Served) -> None:
    code, shown = at_terminal(served, "web-1\n", "root", "web-1", "writable", "--why", "broken disk")
    assert code == 0
    assert "taints web-1" in shown
    sent = served.office.commands[-1]
    assert (sent["command"], sent["mode"], sent["server"], sent["why"]) == ("root.set", "writable", "web-1", "broken disk")


def test_progress_is_one_line_at_a_terminal(served: Served) -> None:
    served.office.rollout_states = [rollout_row(), rollout_row("done", reason="")]
    code, shown = at_terminal(served, "", "rollout", "wait", "web", prompt="never")
    assert code == 0
    assert "\rweb 1→2 rolling 1/3" in shown
    assert "web 1 → 2: done" in shown


def test_a_closed_pipe_is_no_fault(served: Served) -> None:
    command = subprocess.Popen([sys.executable, "-c", PROGRAM, "journal", "export"], env=environment(served), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    assert command.stdout is not None
    command.stdout.close()
    assert command.stderr is not None
    err = command.stderr.read()
    command.stderr.close()
    assert command.wait(DEADLINE) == 141
    assert err == b""


def test_a_fault_of_anew_is_a_sentence_and_a_log(served: Served) -> None:
    program = "import fleet.cli.status as s\ndef status(c): raise ZeroDivisionError('x')\ns.status = status\n" + PROGRAM
    done = subprocess.run([sys.executable, "-c", program, "status"], env=environment(served), capture_output=True, text=True,
                          timeout=DEADLINE, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "client.log has the details" in done.stderr
    with open(os.path.join(os.path.dirname(served.socket), ".local/state/anew/client.log")) as log:
        assert "ZeroDivisionError" in log.read()


def test_following_the_journal(served: Served) -> None:
    command = subprocess.Popen([sys.executable, "-c", PROGRAM, "journal", "follow", "--since", "98"], env=environment(served),
                               stdout=subprocess.PIPE, text=True)
    assert command.stdout is not None
    assert [command.stdout.readline().split()[0] for _ in range(2)] == ["99", "100"]
    served.do(lambda: served.office.publish({"frame": "bye"}))
    assert command.wait(DEADLINE) == 0
    command.stdout.close()


def test_the_daemon_that_is_stopped_is_the_one_that_listens(tmp_path: object, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"{tmp_path}/a.sock"
    listen = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print(flush=True); input()"
    daemon = subprocess.Popen([sys.executable, "-c", listen, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert daemon.stdout is not None
    daemon.stdout.readline()
    assert call("daemon", "stop", "--socket", path) == 0
    assert daemon.poll() == -signal.SIGTERM
    assert "the daemon has ended" in capsys.readouterr().out
    daemon.communicate()


def test_the_lab_is_removed_by_the_daemon_alone(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.cli.lab.stop_daemon", lambda _: served.stop())
    monkeypatch.setattr("fleet.cli.lab.LOOK_SECONDS", 0.01)
    served.office.rollout_seen = [rollout_row(), rollout_row("paused"), rollout_row("aborted", ended_at="2026-11-21T21:00:00Z")]
    served.office.findings = [{"place": "hv1", "kind": "volume", "key": "web-2-seed", "note": "", "fix": "remove it", "pool": "web"}]
    assert call("lab", "down", "--yes", "--fleet", "/etc/anew/fleet.toml", "--socket", served.socket) == 0
    sent = [(one["command"], one.get("rollout"), one.get("pool"), one.get("kind"), one.get("key")) for one in served.office.commands]
    assert sent == [("rollout.abort", "r-0123456789abcdef", None, None, None), ("doctor.fix", None, None, "fleet", "lab"),
                    ("doctor.fix", None, "web", "volume", "web-2-seed")]


def test_an_empty_lab_is_born_at_version_1(served: Served, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    served.office.empty = True
    monkeypatch.setattr("fleet.cli.births.LOOK_SECONDS", 0.01)

    def grown(context: object, seconds: float) -> None:
        served.office.empty = False

    monkeypatch.setattr("fleet.cli.lab.until_born", grown)
    assert call("lab", "up", "--fleet", "/etc/anew/fleet.toml", "--socket", served.socket) == 0
    sent = served.office.commands[-1]
    assert (sent["command"], sent["plan"]["to"], sent["plan"]["overrides"]) == ("rollout.start", "1", {"promotion": "auto"})
    assert "anew rollout start web --to 2" in capsys.readouterr().out
    assert call("lab", "up", "--fleet", "/etc/anew/fleet.toml", "--socket", served.socket) == 0
    assert len(served.office.commands) == 1


def test_progress_counts_the_servers_done_of_those_it_is_about(served: Served, capsys: Capture) -> None:
    """Who was put back is not done, and who is held or runs the target already was never to be: as the terminal UI says it."""
    served.office.rollout_states = [rollout_row(state="paused", eta_seconds=None, counts={"serving": 2, "put-back": 1, "waiting": 2, "held": 1, "skipped": 3})]
    assert call("rollout", "show", "web") == 0
    assert "paused 2/5\n" in capsys.readouterr().out


@pytest.mark.parametrize(("stable", "health", "words"), [(None, "none yet", "  web: nothing of it runs yet: "), ("1", "0 ok, 3 not", "! web: nothing of it runs any more: ")])
def test_a_pool_whose_servers_all_died_is_not_one_that_never_lived(served: Served, monkeypatch: pytest.MonkeyPatch, capsys: Capture, stable: str | None, health: str, words: str) -> None:
    status = served.office.status

    def dead(caller: object) -> dict[str, object]:
        frame = dict(status(caller))  # type: ignore[arg-type]
        pool = next(one for one in frame["pools"] if one["name"] == "web")
        pool |= {"versions": {}, "healthy": 0, "available": 0, "size": 3, "rollout": None, "servers": [], "mode": "manual", "image": {**pool["image"], "stable": stable}}
        return frame

    monkeypatch.setattr(served.office, "status", dead)
    assert call("status") == 0
    said = capsys.readouterr().out
    assert health in said and words in said, said
