"""From a blank disk to a machine of a pool: a live system, `anew machine install`, a boot from the disk, a look by anew."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.daemonlab import DaemonLab
from tests.metal.machines import SSH_PORT
from tests.metal.newcomer import MEDIUM, Newcomer

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(3600)]
NUMBER = 61


class NewLab(DaemonLab):
    """A daemon over one newcomer. Its own key is another one than that of the person who looks inside."""

    def __init__(self, machine: Newcomer, images: Path) -> None:
        super().__init__(f"new-{machine.identity.name}")
        self.machine, self.images, self.name_of = machine, images, machine.identity.name
        self.describe(machine.identity.host_key, machine.identity.name)

    def describe(self, host_key: str, disk: str) -> None:
        """The fleet file, with this pin and this disk."""
        person = self.machine.login.with_suffix(".pub").read_text().strip()
        self.fleet.write_text("\n".join([
            "[fleet]", f'name = "{self.name}"', "[images.metal]", f'path = "{self.images}"',
            f"[machines.{self.name_of}]", f'address = "{self.machine.address}"', f"port = {SSH_PORT}", f'key = "{self.machine.own}"',
            f'host_key = "{" ".join(host_key.split()[:2])}"', f'disk = "{disk}"',
            "[pools.metal]", 'driver = "baremetal"', f'machines = ["{self.name_of}"]', 'image = "metal"', 'mode = "manual"', f'authorized_keys = ["{person}"]',
            "[[pools.metal.health]]", f'tcp = {{ port = {SSH_PORT}, expect = "SSH-" }}', 'deadline = "8s"', ""]))

    def close(self) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomer]:
    if not (MEDIUM / "root.raw").exists():
        pytest.fail(f"{MEDIUM} is missing; run: make image-debian")
    with Newcomer(NUMBER, tmp_path_factory.mktemp("newcomer")) as made:
        yield made


@pytest.fixture(scope="module")
def lab(machine: Newcomer, metal_images: Path) -> Iterator[NewLab]:
    lab = NewLab(machine, metal_images)
    try:
        machine.start()
        machine.wait_up()
        lab.start()
        lab.until(lambda: lab.anew("machine", "check", lab.name_of).out.startswith(f"{lab.name_of}: it answers"), 120, "the live system is seen")
        yield lab
    finally:
        lab.close()


def disk_of(machine: Newcomer) -> str:
    with machine.disk.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_a_disk_that_is_not_the_named_one_is_not_written(lab: NewLab, machine: Newcomer) -> None:
    blank = disk_of(machine)
    refused = lab.anew("machine", "install", lab.name_of, "--disk", "another")
    assert refused.code != 0
    assert "nothing was written" in refused.err

    lab.describe(machine.identity.host_key, "MEDIUM")
    assert lab.anew("reload").code == 0
    done = lab.anew("machine", "install", lab.name_of, "--to", "1", "--disk", "MEDIUM")
    assert done.code == 1, lab.trouble(done)
    assert "not blank" in done.out + done.err or "in use" in done.out + done.err, lab.trouble(done)

    lab.describe(machine.identity.host_key, "NOBODY-1")
    assert lab.anew("reload").code == 0
    done = lab.anew("machine", "install", lab.name_of, "--to", "1", "--disk", "NOBODY-1")
    assert done.code == 1
    assert f"vdb {lab.name_of}" in done.out, "the person learns which disks there are"
    assert disk_of(machine) == blank


def test_a_blank_disk_becomes_a_machine_of_the_pool(lab: NewLab, machine: Newcomer) -> None:
    lab.describe(machine.identity.host_key, lab.name_of)
    assert lab.anew("reload").code == 0

    done = lab.anew("machine", "install", lab.name_of, "--to", "1", "--disk", lab.name_of)

    assert done.code == 0, lab.trouble(done)
    key = re.search(r"ssh-ed25519 [A-Za-z0-9+/=]+", done.out)
    assert key, done.out
    assert "SHA256:" in done.out
    again = lab.anew("machine", "install", lab.name_of, "--to", "1", "--disk", lab.name_of)
    assert (again.code, "not blank" in again.out) == (1, True), "what is installed is not blank any more"

    machine.kill9()
    machine.live = False
    machine.pin(key[0])
    lab.describe(key[0], lab.name_of)
    machine.start()
    machine.wait_up()
    assert lab.anew("reload").code == 0

    lab.until(lambda: lab.anew("machine", "check", lab.name_of).code == 0, 180, "ready for a rollout")
    told = lab.anew("machine", "check", lab.name_of, "--json").data["checks"][0]["told"]
    assert (told["backend"], told["booted"], told["version"], told["trial"]) == ("rauc", "A", "1", "no")
    assert told["root"].startswith("read-only")
    assert machine.said("hostname") == lab.name_of, "a person's key logs in, to a shell"
    row = lab.server(lab.name_of)
    assert (row["incarnation"], row["version"], row["root"]) == (1, "1", "read-only")
    own = machine.said("cat /etc/ssh/authorized_keys/root").splitlines()[0]
    assert own.startswith('restrict,command="anew-host" ssh-ed25519 '), "anew itself has the helper's verbs and nothing else"


def test_the_same_disk_boots_under_the_other_firmware(lab: NewLab, machine: Newcomer) -> None:
    assert not machine.live, "this goes on where the test before ended"
    before = machine.said("cat /proc/sys/kernel/random/boot_id")
    machine.kill9()
    machine.firmware = "uefi"
    machine.start()
    machine.wait_up(other_than=before)
    assert machine.said("test -d /sys/firmware/efi && cat /usr/lib/anew/version") == "1"
