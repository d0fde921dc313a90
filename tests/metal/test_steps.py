"""What is done next with a machine, and what the engine sees of it, as tables of what it shows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from drivers.baremetal import sight, steps
from drivers.baremetal.backends import Reading
from drivers.baremetal.facts import HostFacts, Slot
from drivers.baremetal.steps import Bundle, Step
from fleet.core.desired import Machine
from fleet.core.errors import AnewError, Permanent, Refused, Transient
from fleet.core.observed import ImageRef

OLD, NEW, OTHER = ("sha256:" + digit * 64 for digit in "123")
IMAGE = ImageRef("web", "2", NEW)
BUNDLE = Bundle("a" * 64, 100 * 2**20)
BOOT, BEFORE = "7f0c0000-0000-4000-8000-00000000000a", "7f0c0000-0000-4000-8000-00000000000b"
MACHINE = Machine("rack1", "10.0.0.1", 2222)

KEPT = Slot("A", "blessed", 3, OLD, "1", "web-1-1", born=5.0)
STAGED = Slot("B", "staged", -1, NEW, "2", "web-2-2")
ARMED = Slot("B", "armed", 4, NEW, "2", "web-2-2", armed_boot=BOOT)
STEADY = HostFacts("rauc", BOOT, 500.0, 0.0, "web-1-1", "1", "Debian", "read-only", False, -1, "A", 10**9, "writable", 7, "ok", "", "",
                   Reading("A", "booted", True, True), {"A": KEPT})


def facts(*idle: Slot, **more: Any) -> HostFacts:
    return replace(STEADY, slots={"A": KEPT, **{slot.name: slot for slot in idle}}, **more)


def trial(**more: Any) -> HostFacts:
    """Booted B, armed, on trial; A is what it falls back to."""
    given: dict[str, Any] = {"booted": "B", "trial": True, "deadman": 120, "image_id": "web-2-2", "version": "2", "boot_id": BEFORE,
                             "reading": Reading("B", "idle", False, True), **more}
    return replace(facts(ARMED), **given)


def rejected(slot: Slot = ARMED) -> Slot:
    return replace(slot, state="rejected")


@pytest.mark.parametrize(("shown", "step"), [
    (facts(), "install"),
    (facts(Slot("B", "writing", -1, NEW)), "install"),
    (facts(Slot("B", "kept", 2, NEW, "2")), "install"),
    (facts(Slot("B", "rejected", 2, OTHER)), "install"),
    (facts(replace(STAGED, digest=OTHER)), "install"),
    (facts(STAGED), "arm"),
    (facts(STAGED, data_free=0), "arm"),
    (facts(data_free=0, bundles={BUNDLE.sha256: BUNDLE.size}), "install"),
    (facts(data_free=41 * 2**20, parts={BUNDLE.sha256: 70 * 2**20}), "install"),
    (facts(ARMED, reading=Reading("A", "idle", True, True)), "reboot"),
    (facts(ARMED, reading=Reading("A", "unknown", True, None)), "reboot"),
    (facts(ARMED), "arm"),
    (trial(), "done"),
    (trial(trial=False, deadman=-1), "done"),
    (facts(replace(ARMED, armed_boot=BEFORE)), "reject"),
    (facts(rejected()), "reject"),
    (trial(deadman=0), "go-home"),
    (trial(image_id="web-9-9"), "go-home"),
    (facts(env="empty", reading=Reading("A", "unknown", False, False)), "repair"),
    (facts(STAGED, env="torn"), "repair"),
])
def test_a_birth_goes_on_from_wherever_the_machine_stands(shown: HostFacts, step: str) -> None:
    assert steps.birth(shown, 4, IMAGE, BUNDLE, "rack1").kind == step


@pytest.mark.parametrize(("shown", "kind", "sentence"), [
    (facts(reading=Reading(problem="there is no RAUC")), Permanent, "there is no RAUC"),
    (facts(booted="", reading=Reading()), Permanent, "not clear which slot"),
    (facts(reading=Reading("B", "booted", True, True)), Permanent, "its rauc B"),
    (facts(data="absent"), Permanent, "no data partition"),
    (facts(data="read-only"), Permanent, "read-only"),
    (trial(), Refused, "on trial with incarnation 4"),
    (facts(reading=Reading("A", "idle", False, True), uptime=10.0), Transient, "just booted"),
    (facts(reading=Reading("A", "idle", False, True)), Permanent, "no way back"),
    (facts(data_free=109 * 2**20), Permanent, "109 MiB free and the image needs 110"),
    (facts(data_free=39 * 2**20, parts={BUNDLE.sha256: 70 * 2**20}), Permanent, "39 MiB free and the image needs 40"),
    (facts(data_free=109 * 2**20, parts={"b" * 64: 70 * 2**20}), Permanent, "109 MiB free and the image needs 110"),
    (facts(replace(ARMED, number=5, digest=OTHER)), Refused, "another image"),
    (facts(Slot("B", "kept", 5, NEW)), Refused, "revived"),
])
def test_a_birth_is_refused_before_anything_is_touched(shown: HostFacts, kind: type[AnewError], sentence: str) -> None:
    with pytest.raises(kind, match=sentence) as raised:
        steps.birth(shown, 5, IMAGE, BUNDLE, "rack1")
    assert type(raised.value) is kind and raised.value.where == "rack1"


def test_a_number_belongs_to_one_image() -> None:
    with pytest.raises(Refused, match="another image"):
        steps.birth(trial(), 4, replace(IMAGE, digest=OTHER), BUNDLE, "rack1")


@pytest.mark.parametrize(("shown", "step"), [
    (facts(), "install"), (facts(STAGED), "done"), (facts(ARMED), "done"), (facts(replace(ARMED, armed_boot=BEFORE)), "install"),
    (facts(Slot("B", "kept", 2, NEW)), "install"), (facts(env="torn"), "repair"), (trial(), "done"),
])
def test_staging_ends_with_the_image_in_the_idle_slot(shown: HostFacts, step: str) -> None:
    assert steps.stage(shown, IMAGE, BUNDLE, "rack1").kind == step


@pytest.mark.parametrize(("shown", "number", "step"), [
    (facts(), 3, Step("done")),
    (facts(replace(ARMED, armed_boot=BEFORE)), 3, Step("reject", 4)),
    (facts(ARMED), 3, Step("reject", 4)),
    (facts(Slot("B", "kept", 2, OLD)), 2, Step("activate", 2)),
    (facts(Slot("B", "kept", 2, OLD), reading=Reading("A", "idle", True, True)), 2, Step("reboot")),
    (trial(), 3, Step("reboot")),
    (trial(reading=Reading("B", "booted", None, True)), 3, Step("activate", 3)),
    (replace(trial(), slots={"B": ARMED}), 0, Step("reboot")),
])
def test_the_way_back(shown: HostFacts, number: int, step: Step) -> None:
    assert steps.revival(shown, number, "rack1") == step


@pytest.mark.parametrize(("shown", "number", "kind", "sentence"), [
    (facts(), 2, Refused, "no incarnation 2 any more: its other slot has no record"),
    (facts(STAGED), 2, Refused, "written over"),
    (facts(Slot("B", "kept", 1, OLD)), 2, Refused, "holds incarnation 1"),
    (facts(rejected()), 4, Permanent, "came back by itself"),
    (facts(replace(ARMED, armed_boot=BEFORE)), 4, Permanent, "came back by itself"),
    (facts(ARMED), 4, Refused, "never booted"),
])
def test_a_way_back_that_is_none(shown: HostFacts, number: int, kind: type[AnewError], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        steps.revival(shown, number, "rack1")


# -- what the engine sees ------------------------------------------------------------------------------------


def seen(shown: HostFacts, now: float = 0.0) -> dict[int, tuple[str, str, str]]:
    return {item.number: (item.state, item.digest, item.note) for item in sight.incarnations(MACHINE, shown, now)}


def test_states() -> None:
    assert seen(facts()) == {3: ("running", OLD, "")}
    assert seen(facts(STAGED)) == {3: ("running", OLD, "")}
    assert seen(facts(Slot("B", "writing", -1, NEW))) == {3: ("running", OLD, "")}
    assert seen(facts(Slot("B", "kept", 2, OTHER)))[2] == ("stopped", OTHER, "")
    assert seen(facts(ARMED))[4] == ("half-made", NEW, "it is tried at the next boot")
    assert seen(facts(replace(ARMED, armed_boot=BEFORE)))[4] == ("crashed", NEW, "it was tried, and the machine came back to 3 by itself")
    assert seen(facts(rejected()))[4][0] == "crashed"
    on_trial = seen(trial())
    assert on_trial[4] == ("running", NEW, "on trial, its dead-man fires after 120 s")
    assert on_trial[3] == ("stopped", OLD, "")


def test_a_machine_without_record_runs_incarnation_0() -> None:
    assert seen(replace(STEADY, slots={})) == {0: ("running", "", "")}
    assert seen(replace(trial(), slots={"B": ARMED}))[0] == ("stopped", "", "")


def test_the_running_system_is_believed_and_not_its_record() -> None:
    state, digest, note = seen(facts(image_id="web-9-9"))[3]
    assert (state, digest) == ("running", "") and "runs image id web-9-9, its record says web-1-1" in note
    assert seen(facts(image_id=""))[3][1] == ""


@pytest.mark.parametrize(("more", "note"), [
    ({"env": "torn"}, "boot environment is torn"),
    ({"env": "empty"}, "boot environment is empty"),
    ({"data": "read-only"}, "data partition is read-only"),
    ({"data": "absent"}, "data partition is absent"),
    ({"clock": 1e9 + 366 * 86400.0}, "its clock is a year ahead"),
    ({"clock": 1e9 - 3 * 86400.0}, "its clock is 3 days behind"),
    ({"torn": ("B",)}, "record of slot B is torn"),
    ({"reading": Reading(problem="no RAUC there")}, "no RAUC there"),
])
def test_what_a_person_must_know(more: dict[str, Any], note: str) -> None:
    assert note in seen(facts(**more), 1e9)[3][2]
    assert "WITHOUT" in seen(trial(deadman=0))[4][2]


def test_who_it_is() -> None:
    (item,) = sight.incarnations(replace(MACHINE, address="fd00::1", console="/var/log/c"), replace(facts(), server=BOOT), 0.0)
    assert (item.server, item.place, item.address, item.uuid, item.console) == ("rack1", "rack1", "[fd00::1]:2222", BOOT, "/var/log/c")
