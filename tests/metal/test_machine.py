"""The bare-metal image on real machines: it boots under BIOS and UEFI, from GRUB and systemd-boot, and nothing in it can be changed."""

from __future__ import annotations

import subprocess

import pytest

from tests.metal.conftest import MakeMachine
from tests.metal.machines import WEB_PORT, Machine, wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def rack(make_machine: MakeMachine) -> Machine:
    """One machine, BIOS and GRUB, up."""
    machine = make_machine(201)
    machine.boot()
    return machine


def observed(machine: Machine) -> dict[str, str]:
    """The `KEY VALUE` lines of `anew-host observe`, once RAUC's service is up too."""
    answer = machine.ssh("anew-host observe")
    wait_until(lambda: again(machine, answer), 120, "anew-host observe says ok")
    lines = answer.stdout.splitlines()
    assert lines[0] == "anew-host 1"
    return dict(line.split(" ", 1) for line in lines[1:-1] if " " in line)


def again(machine: Machine, answer: subprocess.CompletedProcess[str]) -> bool:
    """Ask anew unless the answer is whole; the new answer replaces it."""
    if answer.stdout.splitlines()[-1:] == ["ok"]:
        return True
    answer.stdout = machine.ssh("anew-host observe").stdout
    return False


def test_version_1_boots_under_bios_and_its_helper_says_what_it_is(rack: Machine) -> None:
    seen = observed(rack)

    assert seen["backend"] == "rauc"
    assert seen["version"] == "1"
    assert seen["booted"] == "A"
    assert seen["root"] == "read-only squashfs"
    assert (seen["trial"], seen["deadman"]) == ("no", "off"), "a blessed slot is no trial"
    assert seen["env"] == "ok"
    assert seen["server"] == rack.identity.server
    assert "number=1 " in seen["slot.A"]
    assert " state=blessed " in seen["slot.A"]
    assert f"image_id={seen['image_id']} " in seen["slot.A"]


def test_the_root_cannot_be_written_by_root_itself(rack: Machine) -> None:
    for command in ("touch /usr/bin/x", "mount -o remount,rw / && touch /usr/bin/x", "dd if=/dev/zero of=/usr/bin/env count=1"):
        done = rack.ssh(command)
        assert done.returncode != 0
        assert "read-only" in done.stderr.lower() or "write-protected" in done.stderr.lower(), done.stderr


def test_what_is_declared_survives_a_power_cut_and_what_is_not_does_not(rack: Machine) -> None:
    machine_id = rack.said("cat /etc/machine-id")
    rack.said("echo drift >/etc/drift; echo kept >/data/state/kept; echo kept >/var/lib/kept; sync")

    rack.kill9()
    rack.boot()

    # The host key is pinned, so the login itself says that it is the same.
    assert rack.said("cat /data/state/kept /var/lib/kept; hostname; cat /etc/machine-id").split() == ["kept", "kept", rack.identity.name, machine_id]
    assert rack.ssh("test -e /etc/drift").returncode == 1
    before = rack.said("cat /data/anew/trail.last").splitlines()
    assert before[-1].endswith("slot A is good"), "the trail of the boot that was cut"


def test_the_service_of_the_image_says_its_version(rack: Machine) -> None:
    answer = subprocess.run(["curl", "-s", f"http://{rack.address}:{WEB_PORT}/healthz"], capture_output=True, text=True, timeout=60, check=False)
    assert answer.stdout == "ok 1\n"


def test_an_environment_that_a_power_cut_emptied_is_read_from_its_copy(rack: Machine) -> None:
    rack.kill9()
    rack.damage_file("grub/grubenv", 0)

    rack.boot()

    seen = observed(rack)
    assert (seen["booted"], seen["env"]) == ("A", "empty")
    words = rack.said("cat /proc/cmdline").split()
    assert "anew.env=spare" in words
    assert "anew.deadman=120" in words, "what the environment adds to the command line comes from the copy too"


def test_with_both_environments_torn_it_still_boots(rack: Machine) -> None:
    rack.kill9()
    rack.damage_file("grub/grubenv", 40)  # its first line is whole, its values are not
    rack.damage_file("grub/grubenv.spare", 0)

    # Nothing is known but the defaults, so this is the real profile: systemd, an address from DHCP.
    rack.boot()

    assert "anew.env=none" in rack.said("cat /proc/cmdline").split()
    assert rack.said("cat /proc/1/comm") == "systemd"


@pytest.mark.parametrize("boot", ["grub", "sdboot"])
def test_the_same_image_boots_under_uefi(make_machine: MakeMachine, boot: str) -> None:
    with make_machine(202, boot=boot, firmware="uefi") as machine:
        machine.boot()
        assert machine.said("cat /usr/lib/anew/version") == "1"
        assert machine.said("test -d /sys/firmware/efi && echo uefi") == "uefi"
        assert machine.said("ls /efi").split() == (["EFI", "grub"] if boot == "grub" else ["EFI", "anew", "loader"])
