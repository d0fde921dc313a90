"""A pool that mixes backends, on real machines: one with systemd-boot under UEFI, one with GRUB under BIOS; what a host has is found out by looking.

Forward, back by one command, then an image that panics: systemd-boot counts its one try, and falls back by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.daemonlab import figures
from tests.metal.conftest import MakeMachine
from tests.metal.metallab import COMEBACK, MetalLab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

UEFI, BIOS = "rack221", "rack222"


@pytest.fixture(name="lab", scope="module")
def _lab(make_machine: MakeMachine, metal_images: Path) -> Iterator[MetalLab]:
    lab = MetalLab([make_machine(221, boot="sdboot"), make_machine(222, boot="grub")], metal_images)
    try:
        lab.boot()
        yield lab
    finally:
        lab.close()


def entries(lab: MetalLab) -> list[str]:
    """The names by which systemd-boot chooses, and counts."""
    return lab.machines[UEFI].said("ls /efi/loader/entries").split()


def test_both_backends_go_forward_back_and_stop_at_a_bad_image(lab: MetalLab) -> None:
    assert {name: lab.told(name)["backend"] for name in lab.machines} == {UEFI: "sdboot", BIOS: "rauc"}
    assert entries(lab) == ["anew-A.conf"]

    with lab.watched() as watch:
        forward = lab.roll(lab.pool, "2")
    figures(forward, lab, fewest_answering=watch.fewest, looks=watch.looks)
    assert forward["state"] == "done"
    assert watch.fewest == 1, watch.told()
    for name in lab.machines:
        told = lab.told(name)
        assert (told["version"], told["trial"], told["booted"]) == ("2", "no", "B"), name
        assert told["root"].startswith("read-only")
    assert entries(lab) == ["anew-A.conf", "anew-B.conf"], "blessed: its entry counts no tries any more"

    done = lab.anew("rollback", "metal", "--yes", "--wait", "--json")
    assert done.code == 3, lab.trouble(done)
    assert {name: lab.told(name)["version"] for name in lab.machines} == {UEFI: "1", BIOS: "1"}
    uploads = [event for event in lab.journal() if event["rollout"] == done.data["id"] and event["data"].get("verb") == "stage"]
    assert uploads == [], "a rollback brings nothing to a machine"

    before = lab.inside()
    row = lab.roll(lab.pool, "3-panic", "--servers", UEFI, expect=4)
    lab.until(lambda: lab.step(UEFI) == "put-back", COMEBACK, "the way back")
    (bad,) = [run for run in lab.rollout(lab.pool)["servers"] if run["error"]]
    assert (row["state"], bad["name"]) == ("paused", UEFI)
    assert "came back to" in bad["error"] and "Kernel panic - not syncing" in bad["last_words"], bad
    after = lab.inside()
    assert after[UEFI][:2] == before[UEFI][:2] and after[UEFI][2] != before[UEFI][2], "the same incarnation, after a boot"
    assert after[BIOS] == before[BIOS], "the other machine was not touched"
    assert lab.told(UEFI)["trial"] == "no"
    assert "anew-A.conf" in entries(lab)
