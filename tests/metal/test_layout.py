"""First install on a real block device: what it writes, what it refuses before one byte is written, and what a cut leaves."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.baremetal.install import orders
from tests.lab.guest import wait_until
from tests.metal.blankdisk import KEY, NAME, OP, SERIAL, SHELLS, Given, Live, bundle, live, missing
from tests.metal.machines import IMAGES, REPO

pytestmark = [pytest.mark.lab, pytest.mark.skipif(bool(missing()), reason=missing() or "can run")]
MIB = 2**20
MARK = 2040 * 512


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    if not (IMAGES / "1" / "image.toml").exists():
        pytest.fail(f"{IMAGES} lacks images; run: make lab-metal")
    return bundle(tmp_path_factory.mktemp("image"))


@pytest.fixture
def system(tmp_path: Path) -> Iterator[Live]:
    with live(tmp_path) as made:
        yield made


@pytest.fixture(scope="module", params=SHELLS)
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, given: Given) -> Iterator[tuple[Live, dict[str, str]]]:
    """A disk laid out by each shell, and what was said of it."""
    with live(tmp_path_factory.mktemp("done")) as made:
        code, frame = made.lay(given, request.param)
        assert code == 0, frame
        yield made, {key: frame.value(key) for key in ("disk", "server", "image_id", "host_key", "fingerprint")}


def dump(device: str | Path) -> str:
    return subprocess.run(["sfdisk", "-d", str(device)], capture_output=True, text=True, check=True).stdout


# --- what is written


def test_the_table_is_the_images_own(done: tuple[Live, dict[str, str]], tmp_path: Path) -> None:
    """vagrant/images/metal/layout.sfdisk, with sizes of this disk: the same order, names, types, and places of the first two."""
    table = dump(done[0].device)
    expected = tmp_path / "expected.raw"
    expected.touch()
    os.truncate(expected, 1024 * MIB)
    text = (REPO / "vagrant/images/metal/layout.sfdisk").read_text().replace("@esp@", "64MiB").replace("@slot@", "239MiB")
    subprocess.run(["sfdisk", "-q", str(expected)], input=text, text=True, check=True, capture_output=True)

    def essence(said: str) -> list[tuple[str, ...]]:
        return re.findall(r"start= *(\d+), size= *(\d+), type=([0-9A-F-]+), .*name=\"(\w+)\"", said)

    assert essence(table) == essence(dump(expected))
    assert len(essence(table)) == 5
    assert "616E6577-6C61-4F79" not in table.upper(), "the id of a table that is being made is gone"
    with open(done[0].device, "rb") as disk:
        assert disk.seek(MARK) and disk.read(512) == bytes(512), "and so is the mark"


def test_slot_a_is_the_image_and_slot_b_is_none(done: tuple[Live, dict[str, str]], given: Given, tmp_path: Path) -> None:
    subprocess.run(["unsquashfs", "-q", "-n", "-d", str(tmp_path / "bundle"), str(given.path), "rootfs.img"], capture_output=True, check=False)
    image = (tmp_path / "bundle/rootfs.img").read_bytes()
    with open(done[0].partition(3), "rb") as slot:
        assert slot.read(len(image)) == image
    with open(done[0].partition(4), "rb") as slot:
        assert slot.read(MIB) == bytes(MIB), "nothing that boots, nothing that looks like a file system"


def test_the_esp_has_loader_environment_and_its_spare(done: tuple[Live, dict[str, str]], tmp_path: Path) -> None:
    esp = tmp_path / "esp"
    esp.mkdir()
    subprocess.run(["mcopy", "-s", "-n", "-i", done[0].partition(2), "::EFI", "::grub", str(esp)], check=True, env={**os.environ, "MTOOLS_SKIP_CHECK": "1"})
    with done[0].mounted(3, "squashfs") as root:
        boot = root / "usr/lib/anew/boot"
        assert (esp / "EFI/BOOT/BOOTX64.EFI").read_bytes() == (boot / "grubx64.efi").read_bytes()
        assert (esp / "grub/grub.cfg").read_bytes() == (boot / "grub.cfg").read_bytes()
        said = subprocess.run(["grub-editenv", str(esp / "grub/grubenv"), "list"], capture_output=True, text=True, check=True).stdout
        assert dict(line.split("=") for line in said.splitlines()) == {"ORDER": "A B", "A_OK": "1", "A_TRY": "0", "B_OK": "0", "B_TRY": "0", "extra": ""}
        assert (esp / "grub/grubenv").stat().st_size == 1024
        assert (esp / "grub/grubenv.spare").read_bytes() == (esp / "grub/grubenv").read_bytes()
        with open(done[0].device, "rb") as disk:
            assert disk.read(440) == (boot / "boot.img").read_bytes()
            disk.seek(2048 * 512)
            core = (boot / "core.img").read_bytes()
            assert disk.read(len(core)) == core


def test_the_data_partition_has_name_key_record_and_identity(done: tuple[Live, dict[str, str]], given: Given) -> None:
    told = done[1]
    with done[0].mounted(5, "ext4") as data:
        record = (data / "anew/slots/A").read_text()
        assert record == (f"number=1 digest={given.digest} version={given.version} image_id={told['image_id']} state=blessed born=1795300000 "
                          f"op=00000000000000aa rollout=- armed_boot=- bundle={given.sha}\n")
        assert (data / "anew/blessed" / told["image_id"]).exists()
        assert (data / "anew/server").read_text().strip() == told["server"]
        assert (data / "anew/epoch").read_text() == "1\n"
        assert (data / "state/etc/hostname").read_text() == f"{NAME}\n"
        assert (data / "state/etc/ssh/authorized_keys/root").read_text() == f"{KEY}\n"
        private = data / "state/etc/ssh/ssh_host_ed25519_key"
        assert private.stat().st_mode & 0o777 == 0o600
        public = subprocess.run(["ssh-keygen", "-y", "-f", str(private)], capture_output=True, text=True, check=True).stdout
        assert public.split()[:2] == told["host_key"].split()
        shown = subprocess.run(["ssh-keygen", "-lf", str(private)], capture_output=True, text=True, check=True).stdout
        assert told["fingerprint"] in shown
        assert {(data / name).stat().st_mode & 0o777 for name in ("anew", "state")} == {0o700}


def test_nothing_is_left_in_the_live_system(done: tuple[Live, dict[str, str]]) -> None:
    assert not done[0].install.exists()
    assert str(done[0].root) not in Path("/proc/self/mounts").read_text()


def test_it_is_not_done_twice(done: tuple[Live, dict[str, str]], given: Given) -> None:
    before = done[0].fingerprint()
    code, frame = done[0].lay(given)
    assert (code, frame.code) == (3, "not-blank")
    assert done[0].fingerprint() == before


# --- what is refused before one byte is written


def refused(system: Live, given: Given, code: str, *, shell: str = "dash", **more: object) -> str:
    """The sentence; the disk is what it was, to the last byte."""
    before = system.fingerprint()
    status, frame = system.lay(given, shell, **more)  # type: ignore[arg-type]
    assert (frame.code, status) == (code, 3 if code in ("wrong-disk", "not-blank", "stale-epoch", "wrong-state") else 2 if code == "usage" else 5), frame
    assert system.fingerprint() == before
    assert not system.install.exists(), "nor is anything left in the live system"
    return frame.sentence


FILLED = {
    "ext4": ["mkfs.ext4", "-q", "-F", "{}"], "vfat": ["mkfs.vfat", "-I", "{}"],
    "a GPT": ["sh", "-c", "echo 'label: gpt' | sfdisk -q {}"], "an MBR with a partition": ["sh", "-c", "printf 'label: dos\\n,100M\\n' | sfdisk -q {}"],
    "swap": ["mkswap", "-q", "{}"],
}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("what", FILLED)
def test_a_disk_that_holds_something(system: Live, given: Given, what: str, shell: str) -> None:
    subprocess.run([word.format(system.device) for word in FILLED[what]], check=True, capture_output=True)
    words = refused(system, given, "not-blank", shell=shell)
    assert SERIAL in words
    assert re.search(r"it holds: \w+", words), "wipefs or blkid names it, long before anybody looks for bytes"


RAW = {
    "a LUKS header": (0, b"LUKS\xba\xbe\x00\x02" + b"\x00" * 100), "an LVM physical volume": (512, b"LABELONE" + b"\x01" + b"\x00" * 7 + b"\x00" * 8 + b"LVM2 001"),
    "a byte at the start": (0, b"x"), "a MiB in the middle": (500 * MIB, b"\x01" * MIB), "the last byte": (1024 * MIB - 1, b"\x80"),
}


@pytest.mark.parametrize("what", RAW)
def test_a_disk_with_bytes_on_it(system: Live, given: Given, what: str) -> None:
    system.write(*RAW[what])
    assert "not blank" in refused(system, given, "not-blank")


def test_a_large_disk_is_looked_at_in_many_places(tmp_path: Path, given: Given) -> None:
    with live(tmp_path, 20 * 1024) as system:
        for offset in (63 * MIB, 20 * 1024 * MIB - 1, 40 * 100 * MIB):
            system.write(offset, b"\x01")
            status, frame = system.lay(given)
            assert (status, frame.code) == (3, "not-blank"), offset
            system.write(offset, b"\x00")


@pytest.mark.parametrize("shell", SHELLS)
def test_another_serial_number(system: Live, given: Given, shell: str) -> None:
    words = refused(system, given, "wrong-disk", shell=shell, serial="DISK-0002")
    assert f"vdx {SERIAL}" in words, "the person learns what there is"


def test_two_disks_of_one_serial_number(system: Live, given: Given) -> None:
    shutil.copytree(system.root / "sys/block/vdx", system.root / "sys/block/vdy")
    assert "both vdx and vdy" in refused(system, given, "wrong-disk")


@pytest.mark.parametrize("use", ["mounted", "swap", "held", "write-protected"])
def test_a_disk_in_use(system: Live, given: Given, use: str) -> None:
    sys, number = system.root / "sys/block/vdx", (system.root / "sys/block/vdx/dev").read_text().strip()
    match use:
        case "mounted":
            (system.root / "proc/self/mountinfo").write_text(f"30 22 {number} / /mnt/backup rw - xfs /dev/mapper/x rw\n")
        case "swap":
            (system.root / "proc/swaps").write_text("Filename Type Size Used Priority\n/dev/vdx partition 1 0 -2\n")
        case "held":
            (sys / "holders/dm-0").touch()
        case _:
            (sys / "ro").write_text("1\n")
    refused(system, given, "wrong-disk" if use == "write-protected" else "not-blank")


def test_a_disk_that_is_too_small(tmp_path: Path, given: Given) -> None:
    with live(tmp_path, 300) as system:
        assert "300 MiB" in refused(system, given, "no-space")


def test_a_machine_that_runs_from_a_slot(system: Live, given: Given) -> None:
    (system.root / "proc/cmdline").write_text("quiet rauc.slot=A\n")
    assert "live system" in refused(system, given, "wrong-state")


def test_a_controller_of_the_past(system: Live, given: Given) -> None:
    (system.root / "run/anew/epoch").write_text("9\n")
    refused(system, given, "stale-epoch", epoch=8)


def test_tools_that_are_missing_are_named(system: Live, given: Given, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for tool in ("cat", "dd", "awk", "sed", "grep", "tr", "head", "id", "mkdir", "rm", "flock", "umount", "mount", "sort", "tail", "cut", "wc", "date", "sh",
                 "blkid", "wipefs", "blockdev", "cmp", "sha256sum", "od", "ssh-keygen", "sync", "mv"):
        (few / tool).symlink_to(shutil.which(tool) or "/nonexistent")
    before = system.fingerprint()
    system.put(orders(1.0, [KEY]))
    words = [str(system.install / "program"), "layout", "1", OP, SERIAL, given.sha, str(given.size), given.digest, given.version, NAME]
    process = subprocess.run([shutil.which("dash") or "dash", *words], env={"PATH": str(few), "ANEW_HOST_ROOT": str(system.root)},
                             stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert process.returncode == 5
    assert "lacks: sfdisk mkfs.vfat mkfs.ext4" in process.stdout
    assert system.fingerprint() == before


@pytest.mark.parametrize("text", [b"", b"born 5\n", f"key {KEY}\n".encode(), f"born x\nkey {KEY}\n".encode()])
def test_orders_without_key_or_time(system: Live, given: Given, text: bytes) -> None:
    refused(system, given, "usage", text=text)


# --- cuts


@pytest.mark.parametrize("bytes_given", [0, 1, 1024 * 1024])
def test_a_connection_that_is_cut_leaves_a_disk_that_may_be_begun_anew(system: Live, given: Given, bytes_given: int) -> None:
    status, frame = system.lay(given, bytes_given=bytes_given)
    assert (status, frame.code) == (5, "bad-bytes")
    with open(system.device, "rb") as disk:
        assert disk.read(440) == bytes(440), "no firmware starts from it"
    status, frame = system.lay(given)
    assert status == 0, frame


def test_bytes_of_another_bundle_are_not_installed(system: Live, given: Given) -> None:
    status, frame = system.lay(given, sha="0" * 64)
    assert (status, frame.code) == (5, "bad-bytes")


STEPS = ("sfdisk", "wipefs", "mkfs.vfat", "mkfs.ext4", "ssh-keygen", "umount")


@pytest.mark.parametrize("step", [step for step in STEPS if step != "wipefs"])
def test_the_power_goes_at_a_step_and_it_is_done_again(system: Live, given: Given, tmp_path: Path, step: str) -> None:
    """A tool that never returns, then kill -9 of everything: what the disk has then is all that the next attempt knows."""
    wrap = tmp_path / "wrap"
    wrap.mkdir()
    (wrap / step).write_text(f"#!/bin/sh\ntouch {tmp_path}/reached\nexec sleep 600\n")
    (wrap / step).chmod(0o755)
    process = system.start(given, wrap=wrap)
    os.set_blocking(process.stdin.fileno(), True)  # type: ignore[union-attr]
    feeder = subprocess.Popen(["cat", str(given.path)], stdout=process.stdin)
    process.stdin.close()  # type: ignore[union-attr]
    wait_until((tmp_path / "reached").exists, 120.0, step)
    kill_tree(process.pid)
    feeder.wait(30)
    process.wait(30)
    system.detach()
    system.attach()
    status, frame = system.lay(given)
    assert status == 0, frame


def kill_tree(pid: int) -> None:
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False).stdout.split()
    os.kill(pid, signal.SIGSTOP)
    for child in children:
        kill_tree(int(child))
    os.kill(pid, signal.SIGKILL)


def begun(system: Live, given: Given) -> None:
    assert system.lay(given, bytes_given=10)[1].code == "bad-bytes"


def test_a_cut_disk_that_somebody_partitioned_since_is_theirs(system: Live, given: Given) -> None:
    begun(system, given)
    subprocess.run(["sfdisk", "-q", system.device], input="label: gpt\nsize=100MiB\n", text=True, check=True, capture_output=True)
    assert "partitioned by somebody else" in refused(system, given, "not-blank")


def test_a_cut_disk_that_somebody_formatted_since_is_theirs(system: Live, given: Given) -> None:
    begun(system, given)
    subprocess.run(["wipefs", "-qa", system.device], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "nodiscard", system.device], check=True)
    refused(system, given, "not-blank")


def test_the_mark_of_another_disk_counts_for_nothing(system: Live, given: Given) -> None:
    system.write(MARK, b"anew-layout 1 begun DISK-9999\n")
    refused(system, given, "not-blank")


def test_our_mark_does_not_make_the_rest_of_a_disk_ours(tmp_path: Path, given: Given) -> None:
    """Marked and cut before there was a table: the rest must still be blank, wherever it would be looked at on a blank disk."""
    for mib in (1024, 20 * 1024):
        folder = tmp_path / str(mib)
        folder.mkdir()
        with live(folder, mib) as system:
            system.write(MARK, f"anew-layout 1 begun {SERIAL}\n".encode())
            for offset in (MIB, 63 * MIB, mib // 2 * MIB, (mib - 2) * MIB):
                system.write(offset, b"\x01")
                assert "not blank" in refused(system, given, "not-blank"), offset
                system.write(offset, b"\x00")


def test_a_table_that_was_cut_while_it_was_written_is_ours(system: Live, given: Given) -> None:
    """sfdisk writes the copy at the end of the disk first: power may go before there is one that anybody finds."""
    system.write(MARK, f"anew-layout 1 begun {SERIAL}\n".encode())
    system.write(1024 * MIB - 33 * 512, b"\x01" * 512)
    status, frame = system.lay(given)
    assert status == 0, frame
