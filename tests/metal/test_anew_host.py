"""The real helper, verb by verb, with the real RAUC: done, found done, refused, cut in the middle, and begun again."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.baremetal.facts import read
from tests.metal.sandbox import BOOTS, OP, OTHER_OP, SHELLS, Bundle, Sandbox, make_bundle, make_keys, missing, sandbox

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_keys(tmp_path_factory.mktemp("keys") / "own")


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("one"), keys, "1")


@pytest.fixture(scope="session")
def second(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("two"), keys, "2")


@pytest.fixture(params=SHELLS)
def host(request: pytest.FixtureRequest, keys: Path) -> Iterator[Sandbox]:
    with sandbox(request.param, keys) as made:
        made.start()
        yield made


@pytest.fixture
def staged(host: Sandbox, bundle: Bundle) -> Sandbox:
    """Bundle 1 is in slot B, not armed."""
    host.uploads(bundle)
    assert host.installs(bundle) == ""
    return host


@pytest.fixture
def trial(staged: Sandbox, bundle: Bundle) -> Sandbox:
    """Incarnation 1 runs in slot B, on trial."""
    assert staged.arms(bundle) == ""
    staged.reboots("B", trial="120", image="1")
    return staged


# --- one whole replacement


def test_a_replacement_from_looking_to_blessed(host: Sandbox, bundle: Bundle) -> None:
    """Every verb twice: done, and found done. What is observed is read by the controller's own readers."""
    facts = read(host.ask("observe"), "test")
    assert (facts.backend, facts.booted, facts.trial, facts.data, facts.env, facts.lock, facts.version) == ("rauc", "A", False, "writable", "ok", "", "0")
    assert (facts.root, facts.reading.next, facts.epoch, dict(facts.slots)) == ("read-only", "booted", 0, {})
    for _ in range(2):
        host.uploads(bundle)
    assert host.ask("have", bundle.sha).pairs == (("size", str(bundle.size)), ("state", "complete"))
    for _ in range(2):
        assert host.installs(bundle) == ""
    assert host.slot("B").read_bytes().startswith(bundle.image)
    facts = read(host.ask("observe"), "test")
    assert facts.reading.next == "booted", "an install must not make the slot the one that boots"
    assert facts.idle is not None
    assert (facts.idle.state, facts.idle.digest, facts.idle.image_id, facts.idle.bundle) == ("staged", bundle.digest, "web-1", bundle.sha)
    for _ in range(2):
        assert host.arms(bundle) == ""
    facts = read(host.ask("observe"), "test")
    assert facts.idle is not None
    assert (facts.idle.state, facts.idle.number, facts.idle.armed_boot, facts.reading.next) == ("armed", 1, BOOTS(1), "idle")
    host.reboots("B", trial="120", image="1")
    facts = read(host.ask("observe"), "test")
    assert (facts.booted, facts.trial, facts.deadman, facts.number, facts.reading.next) == ("B", True, 120, 1, "idle")
    assert host.arms(bundle) == "", "the same operation again, after its reboot: it is done"
    for _ in range(2):
        assert host.does("bless", "1") == ""
    assert (host.root / "dev/watchdog").read_text() == "V"
    facts = read(host.ask("observe"), "test")
    assert (facts.trial, facts.deadman, facts.reading.next, facts.reading.booted_good, facts.image_id) == (False, -1, "booted", True, "web-1")
    assert {name: (slot.number, slot.state) for name, slot in facts.slots.items()} == {"A": (0, "kept"), "B": (1, "blessed")}
    assert (host.root / "data/anew/blessed/web-1").exists()


def test_the_way_back_and_what_is_left_of_it(trial: Sandbox, bundle: Bundle) -> None:
    assert trial.does("bless", "1") == ""
    for _ in range(2):
        assert trial.does("activate", "0") == ""
    assert trial.grubenv()["ORDER"] == "A B"
    trial.reboots("A")
    assert trial.does("activate", "0") == "", "it runs already"
    for _ in range(2):
        assert trial.does("bless", "0") == ""
    assert (trial.record("A")["state"], trial.record("B")["state"]) == ("blessed", "kept")
    for _ in range(2):
        assert trial.does("reject", "1") == ""
    assert (trial.record("B")["state"], trial.grubenv()["B_OK"]) == ("rejected", "0")
    for _ in range(2):
        assert trial.does("forget", "1") == ""
    assert trial.record("B") == {}


def test_a_trial_that_fell_back_is_not_tried_again(trial: Sandbox, bundle: Bundle) -> None:
    trial.reboots("A")
    facts = read(trial.ask("observe"), "test")
    assert facts.idle is not None
    assert (facts.booted, facts.idle.state) == ("A", "armed")
    assert facts.idle.armed_boot != facts.boot_id, "by this the controller knows"
    assert trial.arms(bundle) == "wrong-state"
    assert trial.does("bless", "1") == "wrong-state"
    assert trial.does("reject", "1") == ""


def test_a_trial_can_be_left_by_hand(trial: Sandbox) -> None:
    """What ran before it is idle and still called blessed, and it is the way back."""
    assert trial.does("activate", "0") == ""
    assert read(trial.ask("observe"), "test").reading.next == "idle"


def test_who_is_armed_and_forgotten_does_not_boot(staged: Sandbox, bundle: Bundle) -> None:
    assert staged.arms(bundle) == ""
    assert staged.does("forget", "1") == ""
    assert read(staged.ask("observe"), "test").reading.next == "booted"


def test_the_same_image_in_both_slots_needs_no_second_upload(trial: Sandbox, bundle: Bundle) -> None:
    assert trial.does("bless", "1") == ""
    assert trial.installs(bundle, op=OTHER_OP) == ""
    assert (trial.record("A")["state"], trial.record("A")["digest"], trial.record("B")["state"]) == ("staged", bundle.digest, "blessed")


def test_an_install_keeps_only_the_bundles_that_can_be_needed(trial: Sandbox, bundle: Bundle, second: Bundle) -> None:
    stray = trial.root / f"data/anew/bundles/{'c' * 64}.part"
    stray.write_bytes(b"half")
    foreign = trial.root / "data/anew/bundles/notes.txt"
    foreign.write_text("not ours")
    assert trial.does("bless", "1") == ""
    trial.uploads(second)
    assert trial.installs(second, "2") == ""
    assert {path.name for path in stray.parent.iterdir()} == {f"{bundle.sha}.bundle", f"{second.sha}.bundle", "notes.txt"}


# --- refusals, each with nothing changed


def test_install_refuses(host: Sandbox, bundle: Bundle, keys: Path, tmp_path: Path) -> None:
    assert host.installs(bundle) == "wrong-state", "the bundle is not there"
    before = host.slot("B").read_bytes()
    for strange, code in ((make_bundle(tmp_path / "x", make_keys(tmp_path / "other"), "1"), "bad-bytes"),
                          (make_bundle(tmp_path / "y", keys, "1", compatible="another"), "failed")):
        host.uploads(strange)
        assert host.installs(strange) == code
        assert host.slot("B").read_bytes() == before
    cut = tmp_path / "cut"
    cut.write_bytes(bundle.path.read_bytes()[:100_000])
    host.uploads(Bundle(cut, bundle.image))
    assert host.installs(Bundle(cut, bundle.image)) == "bad-bytes"
    assert host.grubenv()["ORDER"] == "A B"
    host.uploads(bundle)
    conf = (host.root / "etc/rauc/system.conf").read_text()
    host.write("etc/rauc/system.conf", conf.replace("activate-installed=false\n", ""))
    assert host.installs(bundle) == "no-backend", "this image would boot what it installs"
    host.write("etc/rauc/system.conf", conf)
    host.words("A", trial="120")
    assert host.installs(bundle) == "wrong-state", "it would write over what the trial falls back to"


def test_a_slot_that_reads_back_otherwise_is_not_staged(host: Sandbox, bundle: Bundle) -> None:
    host.uploads(bundle)
    host.wrap("rauc", f'"$real" "$@"; code=$?; case " $* " in *" install "*) printf X | dd of={host.slot("B")} bs=1 seek=5000 conv=notrunc;; esac; exit $code')
    assert host.installs(bundle) == "bad-bytes"
    assert (host.record("B")["state"], host.grubenv()["B_OK"]) == ("writing", "0")
    (host.root / "wrap/rauc").unlink()
    assert host.installs(bundle) == ""


def test_a_bundle_that_rotted_on_the_data_disk_is_removed_and_brought_again(host: Sandbox, bundle: Bundle) -> None:
    host.uploads(bundle)
    path = host.bundle(bundle)
    with path.open("r+b") as file:
        file.seek(bundle.size // 2)
        file.write(b"rot")
    frame = host.ask("install", "7", OP, bundle.sha, bundle.digest, "1")
    assert (frame.code, "removed" in frame.sentence) == ("bad-bytes", True)
    assert host.record("B") == {}, "nothing was begun"
    assert host.ask("have", bundle.sha).value("state") == "none", "else it would count as brought for ever"
    host.uploads(bundle)
    assert host.installs(bundle) == ""


def test_arm_refuses(host: Sandbox, bundle: Bundle, second: Bundle) -> None:
    assert host.arms(bundle) == "wrong-state", "nothing is staged"
    host.uploads(bundle)
    assert host.installs(bundle) == ""
    assert host.arms(second) == "wrong-state", "another digest"
    host.grubenv(A_TRY="1")
    assert host.arms(bundle) == "not-ready", "the booted slot would not be fallen back to"
    host.grubenv(A_TRY="0")
    assert host.arms(bundle) == ""
    assert host.arms(bundle, op=OTHER_OP) == "wrong-state"
    assert host.arms(bundle, number=2) == "wrong-state"


def test_bless_refuses_what_does_not_run(trial: Sandbox) -> None:
    assert trial.does("bless", "0") == "wrong-state"
    assert trial.does("bless", "2") == "wrong-state"
    assert trial.record("B")["state"] == "armed"
    assert (trial.root / "run/anew-trial").exists()


def test_bless_refuses_another_image_than_the_record_names(trial: Sandbox) -> None:
    """Between the controller's look and its word the slot's number stands still, and what runs in it need not."""
    trial.write("usr/lib/anew/image-id", "web-9\n")
    frame = trial.ask("bless", "7", OP, "1")
    assert (frame.code, "web-9" in frame.sentence, "web-1" in frame.sentence) == ("wrong-state", True, True)
    trial.write("usr/lib/anew/image-id", "../strange\n")
    assert trial.does("bless", "1") == "wrong-state"
    assert (trial.record("B")["state"], trial.record("B")["image_id"], trial.record("A")["state"]) == ("armed", "web-1", "blessed")
    assert (trial.root / "run/anew-trial").exists()
    assert not (trial.root / "dev/watchdog").exists(), "its dead-man goes on"
    trial.write("usr/lib/anew/image-id", "web-1\n")
    assert trial.does("bless", "1") == ""


def test_what_ran_before_anew_is_blessed_whatever_it_bears(host: Sandbox) -> None:
    """Incarnation 0 was written by nobody of ours; its owner may have written it anew since."""
    assert host.does("bless", "0") == ""
    host.write("usr/lib/anew/image-id", "web-0b\n")
    assert host.does("bless", "0") == ""
    assert host.record("A")["image_id"] == "web-0b"


def test_an_image_without_an_id_is_blessed_where_its_record_has_none(trial: Sandbox) -> None:
    record = trial.root / "data/anew/slots/B"
    record.write_text(record.read_text().replace("image_id=web-1", "image_id=-"))
    (trial.root / "usr/lib/anew/image-id").unlink()
    assert trial.does("bless", "1") == ""


def test_the_idle_slots_verbs_refuse_what_runs(trial: Sandbox) -> None:
    assert trial.does("reject", "1") == "wrong-state"
    assert trial.does("forget", "1") == "wrong-state"
    assert trial.does("activate", "2") == "wrong-state"
    assert trial.does("forget", "2") == "wrong-state"


def test_a_dead_man_that_does_not_stop_is_said(trial: Sandbox) -> None:
    (trial.root / "dev/watchdog").mkdir()
    assert trial.does("bless", "1") == "failed"
    assert (trial.root / "run/anew-trial").exists()
    (trial.root / "dev/watchdog").rmdir()
    assert trial.does("bless", "1") == ""
    assert not (trial.root / "run/anew-trial").exists()


def test_a_trial_without_a_dead_man_is_told_and_can_be_blessed(staged: Sandbox, bundle: Bundle) -> None:
    assert staged.arms(bundle) == ""
    staged.reboots("B", trial="none", image="1")
    assert read(staged.ask("observe"), "test").deadman == 0
    assert staged.does("bless", "1") == ""
    assert not (staged.root / "dev/watchdog").exists()


def test_without_its_service_rauc_is_not_ready(host: Sandbox, bundle: Bundle) -> None:
    """Not broken: just after a boot it is still starting. What is known without it is said all the same."""
    host.uploads(bundle)
    host.stop()
    frame = host.ask("observe")
    assert (frame.code, frame.value("booted"), frame.value("boot_id")) == ("not-ready", "A", BOOTS(1))
    assert host.installs(bundle) == "not-ready"
    assert host.record("B") == {}


# --- reboot


def test_reboot_only_out_of_the_boot_that_was_meant(host: Sandbox) -> None:
    keys = host.root / "proc/sysrq-trigger"
    frame = host.ask("reboot", "7", OTHER_OP, BOOTS(9))
    assert (frame.code, frame.value("boot_id")) == ("", BOOTS(1)), "found done: it is another boot already"
    assert not keys.exists()
    assert host.does("reboot", BOOTS(1)) == ""
    assert read(host.ask("observe"), "test").lock == OP, "nobody begins anything on a host that goes down"
    host.until(lambda: keys.exists() and keys.read_text() == "s\nu\nb\n")


def test_reboot_asks_systemd_first(host: Sandbox) -> None:
    (host.root / "run/systemd/system").mkdir(parents=True)
    host.wrap("systemctl", f'echo "$@" >{host.root}/asked')
    verb = host.popen("reboot", "7", OP, BOOTS(1))
    assert verb.communicate(timeout=30)[0] == b"anew-host 1\nok\n", "the answer comes before the host goes down"
    host.until(lambda: (host.root / "asked").exists() and (host.root / "asked").read_text() == "reboot\n")
    os.killpg(verb.pid, signal.SIGKILL)


# --- cut in the middle, and begun again


def test_killed_while_rauc_installs(host: Sandbox, bundle: Bundle) -> None:
    """RAUC's own process goes on for a while; the next one is told to wait, and then does it."""
    host.uploads(bundle)
    os.mkfifo(host.root / "gate")
    host.wrap("rauc", f'case " $* " in *" install "*) echo " 40% half"; read -r go <{host.root}/gate;; esac; exec "$real" "$@"')
    verb = host.popen("install", "7", OTHER_OP, bundle.sha, bundle.digest, "1")
    assert verb.stdout is not None
    assert [verb.stdout.readline() for _ in range(2)] == [b"anew-host 1\n", b"progress 40\n"]
    os.kill(verb.pid, signal.SIGKILL)
    verb.wait()
    assert host.record("B")["state"] == "writing"
    assert read(host.ask("observe"), "test").lock == OTHER_OP
    assert host.does("arm", "1", bundle.digest, "1", "-") == "busy"
    with (host.root / "gate").open("w") as gate:
        gate.write("go\n")
    (host.root / "wrap/rauc").unlink()
    host.until(lambda: read(host.ask("observe"), "test").lock == "")
    assert host.arms(bundle) == "wrong-state", "nobody has proved what is in the slot"
    assert host.installs(bundle) == ""
    assert host.arms(bundle) == ""


@pytest.mark.parametrize("host", ["dash"], indirect=True)  # busybox has sync built in: no wrapper on PATH would reach it
@pytest.mark.parametrize("at", range(1, 13))
def test_killed_anywhere_in_arm_and_bless(staged: Sandbox, bundle: Bundle, at: int) -> None:
    """Whichever sync is its last act: the same verb again ends right, and every record parses."""
    counter = staged.root / "count"
    deadly = f'n=$(($(cat {counter}) + 1)); echo $n >{counter}; "$real" "$@"; [ $n -ne {at} ] || kill -9 $PPID'
    for verb, words in (("arm", ("1", bundle.digest, "1795311111", "-")), ("bless", ("1",))):
        counter.write_text("0\n")
        staged.wrap("sync", deadly)
        staged.say(verb, "7", OTHER_OP, *words)
        (staged.root / "wrap/sync").unlink()
        assert not read(staged.ask("observe"), "test").lock
        assert staged.does(verb, *words, op=OTHER_OP) == ""
        if verb == "arm":
            staged.reboots("B", trial="120", image="1")
    assert (staged.record("A")["state"], staged.record("B")["state"]) == ("kept", "blessed")
    assert not (staged.root / "run/anew-trial").exists()


def test_a_torn_record_is_refused_and_an_install_heals_it(host: Sandbox, bundle: Bundle) -> None:
    host.uploads(bundle)
    assert host.installs(bundle) == ""
    assert host.arms(bundle) == ""
    for slot, verbs in (("B", ("arm", "activate", "reject", "forget")), ("A", ("bless",))):
        record = host.root / f"data/anew/slots/{slot}"
        text = record.read_bytes()
        for cut in (0, 1, 40, len(text) // 2, -1):
            record.write_bytes(text[:cut])
            assert host.ask("observe").value(f"slot.{slot}") == "state=torn"
            for verb in verbs:
                words = ("1", bundle.digest, "1795311111", "-") if verb == "arm" else ("1",)
                assert host.does(verb, *words) == "wrong-state"
    assert host.installs(bundle, op=OTHER_OP) == ""
    assert host.record("B")["state"] == "staged"


@pytest.mark.parametrize("line", [
    "number=1 digest=- version=2 image_id=- state=armed born=1 op=- rollout=- armed_boot=-",
    "number=1 digest=- version=2 image_id=- state=happy born=1 op=- rollout=- armed_boot=- bundle=-",
    "number=one digest=- version=2 image_id=- state=armed born=1 op=- rollout=- armed_boot=- bundle=-",
    "number=1 digest=- version=$(reboot) image_id=- state=armed born=1 op=- rollout=- armed_boot=- bundle=-",
    "number=1 digest=- version=* image_id=- state=armed born=1 op=- rollout=- armed_boot=- bundle=-",
    "number=1 digest=- version=2 image_id=- state=armed born=1 op=- rollout=- armed_boot=- bundle=../../etc/passwd",
    "x" * 100_000,
], ids=["short", "state", "number", "command", "glob", "path", "long"])
def test_a_record_outside_its_grammar_is_torn(keys: Path, line: str) -> None:
    for shell in SHELLS:
        with sandbox(shell, keys) as host:
            host.write("data/anew/slots/B", line + "\n")
            assert host.ask("observe").value("slot.B") == "state=torn"
            assert host.does("activate", "1") == "wrong-state"


# --- the boot environment


@pytest.mark.parametrize(("damage", "called"), [(b"", "empty"), (b"# GRUB Environment Block\nORDER=A B\n", "torn"), (b"\0" * 1024, "torn"), (None, "missing")],
                         ids=["empty", "cut", "zeros", "missing"])
def test_repair_makes_the_environment_anew(trial: Sandbox, bundle: Bundle, damage: bytes | None, called: str) -> None:
    path = trial.root / "efi/grub/grubenv"

    def hurt() -> None:
        path.unlink()
        if damage is not None:
            path.write_bytes(damage)

    spare = path.with_name("grubenv.spare")
    trial.grubenv(extra="console=ttyS1")
    spare.write_bytes(path.read_bytes())
    hurt()
    assert read(trial.ask("observe"), "test").env == called
    assert trial.does("repair") == ""
    values = trial.grubenv()
    assert path.stat().st_size == 1024
    assert (values["ORDER"], values["A_OK"], values["A_TRY"], values["B_TRY"]) == ("A B", "1", "0", "1"), "on trial: what comes next is what was trusted"
    assert values["extra"] == "console=ttyS1"
    assert trial.does("bless", "1") == ""
    spare.unlink()
    hurt()
    for _ in range(2):
        assert trial.does("repair") == ""
    values = trial.grubenv()
    assert (values["ORDER"], values["B_OK"], values["B_TRY"], values["A_OK"]) == ("B A", "1", "0", "1"), "A is what ran before"
    hurt()
    assert trial.installs(bundle, op=OTHER_OP) == "", "an install repairs it by itself, since staging comes first"
    hurt()
    assert trial.arms(bundle, 2, op=OTHER_OP) == "wrong-state", "nothing is tried without a boot environment"
    assert trial.does("repair") == ""
    assert trial.grubenv()["A_OK"] == "0", "A holds what was never tried"
    assert trial.arms(bundle, 2, op=OTHER_OP) == ""
