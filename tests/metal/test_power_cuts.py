"""The power is cut (kill -9 of QEMU) where it hurts: the machine always comes back, and the rollout ends right once it is resumed."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from fleet.core.lifecycle import SETTLED
from tests.lab.daemonlab import figures
from tests.metal.metallab import COMEBACK, MetalLab

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(3600)]

STRUCK = "rack1"


def slot_state(lab: MetalLab, name: str, slot: str) -> str:
    """The state in a slot's record, asked of the machine; "" while it does not answer."""
    done = lab.machines[name].ssh("cat /data/anew/slots/" + slot, timeout=60)
    return next((word.removeprefix("state=") for word in done.stdout.split() if word.startswith("state=")), "")


def idle_slot(lab: MetalLab, name: str) -> str:
    return {"A": "B", "B": "A"}[lab.told(name)["booted"]]


def to_the_end(lab: MetalLab, version: str) -> None:
    """Wait for the rollout to end or to need a person, who resumes it; at most three times."""
    for _ in range(4):
        row = lab.until_state("done", "paused")
        if row["state"] == "done":
            break
        lab.until_step(STRUCK, *SETTLED, seconds=COMEBACK)
        lab.well(COMEBACK)
        done = lab.anew("rollout", "resume", "metal")
        assert done.code == 0, lab.trouble(done)
    figures(lab.rollout(lab.pool), lab)
    assert lab.rollout(lab.pool)["state"] == "done", lab.trouble()
    lab.well()
    told = lab.told(STRUCK)
    assert (told["version"], told["trial"], told["env"]) == (version, "no", "ok")
    booted = told[f"slot.{told['booted']}"]
    assert "state=blessed" in booted and f"version={version}" in booted


def other(version: str) -> str:
    return {"1": "2", "2": "1"}[version]


@pytest.fixture
def lab(metal_lab: MetalLab) -> MetalLab:
    """The machine that is struck is well, whatever it runs; the other one stays out of it."""
    metal_lab.at_rest()
    return metal_lab


def version_of(lab: MetalLab) -> str:
    return str(lab.rows(lab.pool)[STRUCK]["version"])


def strike(lab: MetalLab, moment: Callable[[MetalLab, str, str], bool], what: str, state: str, *options: str) -> str:
    """Start a rollout to the other version and cut the canary's power at the moment, at which the new slot's record on the disk must match
    `state`. The version aimed at.
    """
    to = other(version_of(lab))
    slot = idle_slot(lab, STRUCK)
    lab.begin(to, "--servers", STRUCK, *options)
    lab.until(lambda: moment(lab, STRUCK, slot), 300.0, what)
    machine = lab.machines[STRUCK]
    machine.kill9()
    assert re.search(f"state=({state}) ", machine.peek_data(f"anew/slots/{slot}")), "the power was cut at the moment that was meant"
    machine.start()
    return to


def at(step: str) -> Callable[[MetalLab, str, str], bool]:
    """The moment at which the journal has the intent to do this step."""
    def begun(lab: MetalLab, name: str, slot: str) -> bool:
        return any(event["type"] == "step-begun" and event["server"] == name and event["data"].get("step") == step
                   for event in lab.journal()[-30:] if event["rollout"] == lab.rollout(lab.pool)["id"])

    return begun


def test_while_the_slot_is_written(lab: MetalLab) -> None:
    to = strike(lab, lambda lab, name, slot: slot_state(lab, name, slot) == "writing", "the slot is being written", "writing")
    to_the_end(lab, to)


def test_between_install_and_reboot(lab: MetalLab) -> None:
    to = strike(lab, lambda lab, name, slot: slot_state(lab, name, slot) in ("staged", "armed"), "the slot is written", "staged|armed")
    to_the_end(lab, to)


def test_in_the_trial(lab: MetalLab) -> None:
    """It answers, and is being proved: nobody has blessed it."""
    to_the_end(lab, strike(lab, at("proving"), "it is on trial", "armed", "--min-healthy-time", "20s"))


def test_just_before_the_bless(lab: MetalLab) -> None:
    """The journal has the intent to admit, and hardly anything else happened."""
    to_the_end(lab, strike(lab, at("admitting"), "it is about to be admitted", "armed|blessed"))


def test_a_boot_environment_that_a_power_cut_left_is_found_repaired_and_said(lab: MetalLab) -> None:
    """Torn, in both copies; that a machine boots with an empty one is shown in test_machine.py."""
    to, name = other(version_of(lab)), STRUCK
    machine = lab.machines[name]
    machine.kill9()
    for path in ("grub/grubenv", "grub/grubenv.spare"):
        machine.damage_file(path, 500)
    machine.start()
    machine.wait_up()
    lab.well(COMEBACK)
    assert lab.told(name)["env"] in ("empty", "torn")
    said = lab.anew("machine", "check", name)
    assert "boot environment" in said.out, said
    row = lab.roll(lab.pool, to, "--servers", name)
    assert row["state"] == "done"
    assert lab.told(name)["env"] == "ok"
    to_the_end(lab, to)
