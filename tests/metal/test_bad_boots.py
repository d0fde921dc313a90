"""Images that are bad on purpose: the machine comes back from each by itself, on the slot that was blessed, and can say how far it got."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.metal.conftest import MakeMachine

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(3600)]

REACHED = {
    "3-panic": "hands over to",       # process 1 ends at once: the kernel panics and resets
    "3-hang": "hangs",                # nothing is started: the dead-man
    "3-no-sshd": "sshd is missing",  # all but the door: the dead-man
    "3-dies": "dies",                 # healthy, and dead before anybody blessed it: the dead-man
}


@pytest.mark.parametrize("version", REACHED)
def test_a_machine_comes_back_from_a_bad_image_by_itself(make_machine: MakeMachine, metal_images: Path, version: str) -> None:
    with make_machine(203, deadman=60) as machine:
        machine.plant(metal_images / version, 2)
        machine.start()
        boot = machine.wait_up()
        if version == "3-dies":
            assert machine.said("cat /usr/lib/anew/version /run/anew-trial").split() == [version, "60"]
            machine.wait_up(other_than=boot)

        assert machine.said("cat /usr/lib/anew/version") == "1"
        assert machine.ssh("test -e /run/anew-trial").returncode == 1
        trail = machine.said("cat /data/anew/trail.last").splitlines()
        assert any(line.endswith("slot B mounted") for line in trail)
        assert any(line.endswith("trial, dead-man 60") for line in trail)
        assert REACHED[version] in trail[-1]
        assert "slot.B number=2 " in machine.ssh("anew-host observe").stdout, "the record of what was tried is left for the controller"
