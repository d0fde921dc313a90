"""The helper beyond RAUC with GRUB: systemd-boot, bootc, a plain host's root, and what a boot left behind.

systemd-boot: real signed verity bundles, unpacked by the real RAUC, real squashfs mounts; the loader itself is not run here,
only its files are looked at. bootc: a stand-in that turns answers recorded from the real tool; no real bootc was run.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.baremetal.facts import read
from tests.metal.sandbox import BOOTS, OP, OTHER_OP, SHELLS, Bundle, Sandbox, make_bundle, make_keys, missing, sandbox

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())
RECORDED = Path(__file__).parent / "recorded"
BUILT_IN = pytest.mark.parametrize("host", ["dash"], indirect=True)
"""busybox has sync, dd and mount built in: no wrapper on PATH would reach them."""


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_keys(tmp_path_factory.mktemp("keys") / "own")


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("one"), keys, "1", form="verity")


@pytest.fixture(params=SHELLS)
def host(request: pytest.FixtureRequest, keys: Path) -> Iterator[Sandbox]:
    with sandbox(request.param, keys) as made:
        yield made


# --- systemd-boot

FIRST = "title anew A\nsort-key anew\nversion 1\nlinux /anew/A/vmlinuz\ninitrd /anew/A/initrd.img\noptions rauc.slot=A quiet\n"


@pytest.fixture
def sdboot(host: Sandbox) -> Sandbox:
    conf = host.root / "etc/rauc/system.conf"
    conf.write_text("".join(line for line in conf.read_text().replace("=grub\n", "=noop\n").splitlines(keepends=True) if "grubenv" not in line))
    host.write("efi/loader/entries/anew-A.conf", FIRST)
    return host


def entries(host: Sandbox) -> list[str]:
    return sorted(path.name for path in (host.root / "efi/loader/entries").iterdir())


def entry(host: Sandbox, name: str) -> dict[str, str]:
    lines = (host.root / "efi/loader/entries" / name).read_text().splitlines()
    return {key: value for key, _, value in (line.partition(" ") for line in lines)}


def spends_its_try(host: Sandbox) -> None:
    """What systemd-boot does before it loads a counted entry."""
    folder = host.root / "efi/loader/entries"
    (folder / "anew-B+1.conf").rename(folder / "anew-B+0-1.conf")


def test_sdboot_from_looking_to_the_way_back(sdboot: Sandbox, bundle: Bundle) -> None:
    sdboot.uploads(bundle)
    for _ in range(2):
        assert sdboot.installs(bundle) == ""
    assert sdboot.slot("B").read_bytes().startswith(bundle.image)
    assert not (sdboot.root / "data/anew/bundles/extract").exists()
    assert entries(sdboot) == ["anew-A.conf"], "installed is not bootable"
    assert (sdboot.root / "efi/anew/B/vmlinuz").read_text() == "kernel 1\n"
    assert sdboot.record("B")["image_id"] == "web-1"
    for _ in range(2):
        assert sdboot.arms(bundle) == ""
    assert entries(sdboot) == ["anew-A.conf", "anew-B+1.conf"]
    assert int(entry(sdboot, "anew-B+1.conf")["version"]) > 1
    assert entry(sdboot, "anew-B+1.conf")["options"] == "rauc.slot=B quiet"
    facts = read(sdboot.ask("observe"), "test")
    assert (facts.backend, facts.booted, facts.reading.next, facts.reading.idle_good, facts.env) == ("sdboot", "A", "idle", False, "none")
    spends_its_try(sdboot)
    sdboot.words("B", trial="120")
    sdboot.write("usr/lib/anew/image-id", "web-1\n")
    assert read(sdboot.ask("observe"), "test").reading.next == "idle", "on trial the next boot is the old one"
    for _ in range(2):
        assert sdboot.does("bless", "1") == ""
    assert entries(sdboot) == ["anew-A.conf", "anew-B.conf"]
    assert read(sdboot.ask("observe"), "test").reading.next == "booted"
    for _ in range(2):
        assert sdboot.does("activate", "0") == ""
    assert read(sdboot.ask("observe"), "test").reading.next == "idle"
    sdboot.words("A")
    sdboot.write("usr/lib/anew/image-id", "web-0\n")
    assert sdboot.does("bless", "0") == ""
    for _ in range(2):
        assert sdboot.does("reject", "1") == ""
    assert entries(sdboot) == ["anew-A.conf"]


def test_sdboot_falls_back_and_the_slot_is_not_tried_again(sdboot: Sandbox, bundle: Bundle) -> None:
    sdboot.uploads(bundle)
    assert sdboot.installs(bundle) == ""
    assert sdboot.arms(bundle) == ""
    spends_its_try(sdboot)
    sdboot.words("A")
    assert read(sdboot.ask("observe"), "test").reading.next == "booted"
    assert sdboot.arms(bundle) == "wrong-state"
    assert sdboot.does("repair") == "", "there is no environment that could be torn"


def test_sdboot_refuses_a_bundle_of_somebody_else(sdboot: Sandbox, tmp_path: Path) -> None:
    strange = make_bundle(tmp_path, make_keys(tmp_path / "other"), "1", form="verity")
    sdboot.uploads(strange)
    assert sdboot.installs(strange) == "bad-bytes"
    assert entries(sdboot) == ["anew-A.conf"]


def test_sdboot_says_which_tool_the_image_lacks(sdboot: Sandbox, bundle: Bundle) -> None:
    """RAUC unpacks with unsquashfs, and says of its absence only that it cannot unpack."""
    sdboot.uploads(bundle)
    sdboot.lacks("unsquashfs")
    frame = sdboot.ask("install", "7", OP, bundle.sha, bundle.digest, "1")
    assert (frame.code, entries(sdboot)) == ("no-backend", ["anew-A.conf"])
    assert "squashfs-tools" in frame.sentence


def refused_disk(host: Sandbox, bundle: Bundle) -> str:
    """The sentence of an install that is refused; nothing was changed for it."""
    host.uploads(bundle)
    host.write("efi/loader/entries/anew-B.conf", FIRST.replace("A", "B"))
    before = host.slot("B").read_bytes()
    frame = host.ask("install", "7", OP, bundle.sha, bundle.digest, "1")
    assert (frame.code, host.record("B"), entries(host)) == ("wrong-disk", {}, ["anew-A.conf", "anew-B.conf"])
    assert host.slot("B").read_bytes() == before
    return frame.sentence


def test_sdboot_does_not_choose_between_two_partitions_of_one_name(sdboot: Sandbox, bundle: Bundle) -> None:
    """A second disk with the same layout: the name leads to either. What the initrd named is of the disk that booted."""
    sdboot.wrap("blkid", 'case "$*" in *PARTLABEL=rootB*) echo /dev/sda4; echo /dev/sdb4 ;; *) exit 2 ;; esac')
    assert "more than one partition is called rootB" in refused_disk(sdboot, bundle)
    sdboot.write("run/anew/disk/x", "")
    (sdboot.root / "run/anew/disk/rootB").symlink_to(sdboot.slot("B"))
    assert sdboot.installs(bundle) == ""


@pytest.mark.parametrize("known", ["name", "number"])
def test_sdboot_does_not_write_to_what_is_mounted(sdboot: Sandbox, bundle: Bundle, known: str) -> None:
    """Names that were exchanged would have the running system written over. Its root may be mounted as /dev/root, so its number counts too."""
    source = str(sdboot.slot("B")) if known == "name" else "/dev/root"
    sdboot.write("sys/class/block/rootB/dev", "8:4\n")
    sdboot.write("proc/self/mountinfo", f"22 1 {'0:99' if known == 'name' else '8:4'} / / ro,relatime - squashfs {source} ro\n")
    assert "is mounted" in refused_disk(sdboot, bundle)
    sdboot.write("proc/self/mountinfo", "22 1 8:3 / / ro,relatime - squashfs /dev/root ro\n")
    assert sdboot.installs(bundle) == ""


def test_sdboot_without_a_second_partition_says_so(sdboot: Sandbox, bundle: Bundle) -> None:
    sdboot.uploads(bundle)
    sdboot.slot("B").unlink()
    frame = sdboot.ask("install", "7", OP, bundle.sha, bundle.digest, "1")
    assert (frame.code, "no partition rootB" in frame.sentence, sdboot.record("B")) == ("failed", True, {})


def test_sdboot_lets_go_of_a_slot_that_a_killed_install_left_mounted(sdboot: Sandbox, bundle: Bundle) -> None:
    sdboot.uploads(bundle)
    assert sdboot.installs(bundle) == ""
    at = sdboot.root / "run/anew/slot"
    subprocess.run(["mount", "-o", "ro,loop", sdboot.slot("B"), at], check=True)
    (sdboot.root / "data/anew/slots/B").unlink()
    try:
        assert sdboot.installs(bundle, op=OTHER_OP) == ""
        assert not os.path.ismount(at)
    finally:
        subprocess.run(["umount", at], check=False, capture_output=True)


@BUILT_IN
def test_sdboot_killed_while_it_writes(sdboot: Sandbox, bundle: Bundle) -> None:
    """The slot's entry goes first, so that what is half written cannot boot."""
    sdboot.uploads(bundle)
    sdboot.write("efi/loader/entries/anew-B.conf", FIRST.replace("A", "B"))
    sdboot.wrap("dd", 'head -c 100000 "$0" >/dev/null; kill -9 $PPID')
    assert sdboot.say("install", "7", OTHER_OP, bundle.sha, bundle.digest, "1")[0] < 0
    (sdboot.root / "wrap/dd").unlink()
    assert (entries(sdboot), sdboot.record("B")["state"]) == (["anew-A.conf"], "writing")
    assert sdboot.arms(bundle) == "wrong-state"
    assert sdboot.installs(bundle) == ""


# --- bootc

REFERENCE = b"transport=registry\nreference=registry.example/web:2\n"
STAND_IN = """
case "$*" in
  'status --format=json') cat {state} ;;
  'switch --transport registry registry.example/web:2') cp {switched} {state} ;;
  rollback) if grep -q '"rollbackQueued":true' {state}; then cp {steady} {state}; else cp {back} {state}; fi ;;
  *) exit 1 ;;
esac"""


@pytest.fixture
def bootc(host: Sandbox) -> Sandbox:
    """Before: booted 736b…, nothing staged; `switch` stages 16dc…; a rollback toggles between two later answers."""
    host.write("run/ostree-booted", "")
    switched = json.loads((RECORDED / "bootc-switched.json").read_text())
    switched["status"]["staged"] = None
    host.write("state.json", json.dumps(switched))
    host.wrap("bootc", STAND_IN.format(state=host.root / "state.json", switched=RECORDED / "bootc-switched.json", steady=RECORDED / "bootc-steady.json",
                                       back=RECORDED / "bootc-rolled-back.json"))
    return host


def test_bootc_as_far_as_its_verbs_go(bootc: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "reference").write_bytes(REFERENCE)
    found = Bundle(tmp_path / "reference", b"")
    facts = read(bootc.ask("observe"), "test")
    assert (facts.backend, facts.booted) == ("bootc", "A")
    bootc.uploads(found)
    for _ in range(2):
        assert bootc.installs(found) == ""
    for _ in range(2):
        assert bootc.arms(found) == ""
    record = dict(word.split("=", 1) for word in (bootc.root / "var/lib/anew/slots/B").read_text().split())
    assert (record["state"], record["image_id"][:12]) == ("armed", "sha256:16dc2")
    bootc.write("state.json", (RECORDED / "bootc-steady.json").read_text())
    bootc.write("proc/sys/kernel/random/boot_id", f"{BOOTS(2)}\n")
    facts = read(bootc.ask("observe"), "test")
    assert (facts.booted, facts.number) == ("B", 1)
    assert bootc.does("bless", "1") == ""
    for _ in range(2):
        assert bootc.does("activate", "0") == ""
    assert read(bootc.ask("observe"), "test").reading.next == "idle"
    assert bootc.does("bless", "1") == "", "blessed again: the queued rollback is taken back"
    assert read(bootc.ask("observe"), "test").reading.next == "booted"


@pytest.mark.parametrize("text", [b"", b"reference=x\n", b"transport=registry\n", b"transport=registry\nreference=$(reboot)\n", b"transport=dir\nreference=/etc\n",
                                  b"transport=registry\nreference=--help\n", b"x" * 5000], ids=lambda text: repr(text[:20]))
def test_bootc_takes_no_strange_reference(bootc: Sandbox, tmp_path: Path, text: bytes) -> None:
    (tmp_path / "reference").write_bytes(text)
    found = Bundle(tmp_path / "reference", b"")
    if text:
        bootc.uploads(found)
    assert bootc.installs(found) in ("bad-bytes", "wrong-state")
    assert "16dc" not in (bootc.root / "state.json").read_text()


# --- a plain host

FSTAB = "# written by hand\nUUID=1 /      ext4 errors=remount-ro 0 1\nUUID=2 /home ext4 rw 0 2\n"


@pytest.fixture
def plain(host: Sandbox) -> Sandbox:
    (host.root / "etc/rauc/system.conf").unlink()
    host.write("etc/fstab", FSTAB)
    host.write("proc/cmdline", "root=UUID=1 ro quiet\n")
    host.write("proc/self/mounts", "/dev/sda1 / ext4 rw,relatime 0 0\n")
    host.wrap("mount", f'[ ! -e {host.root}/held ] || exit 32; echo "/dev/sda1 / ext4 ${{2#remount,}},relatime 0 0" >{host.root}/proc/self/mounts')
    return host


@BUILT_IN
def test_a_root_is_locked_and_unlocked(plain: Sandbox) -> None:
    facts = read(plain.ask("observe"), "test")
    assert (facts.backend, facts.root, facts.booted) == ("none", "writable", "")
    for _ in range(2):
        assert plain.does("lock", "read-only") == ""
    assert read(plain.ask("observe"), "test").root == "read-only"
    assert (plain.root / "etc/fstab").read_text().splitlines()[1] == "UUID=1 / ext4 ro,errors=remount-ro 0 1"
    assert (plain.root / "etc/fstab").read_text().splitlines()[2] == FSTAB.splitlines()[2]
    for _ in range(2):
        assert plain.does("lock", "writable") == ""
    assert (plain.root / "etc/fstab").read_text() == FSTAB
    assert read(plain.ask("observe"), "test").root == "writable"
    assert plain.does("lock", "read-only", epoch=6) == "stale-epoch"


@BUILT_IN
def test_a_root_that_stays_writable_leaves_fstab_as_it_was(plain: Sandbox) -> None:
    (plain.root / "held").touch()
    frame = plain.ask("lock", "7", OP, "read-only")
    assert (frame.code, "writers" in frame.sentence) == ("failed", True)
    assert (plain.root / "etc/fstab").read_text() == FSTAB


def test_what_cannot_be_locked_is_refused(plain: Sandbox) -> None:
    plain.write("etc/fstab", "UUID=2 /home ext4 rw 0 2\n")
    assert plain.does("lock", "read-only") == "wrong-state"
    plain.write("etc/fstab", FSTAB)
    plain.write("proc/self/mounts", "overlay / overlay rw 0 0\n")
    assert plain.does("lock", "read-only") == "wrong-state"
    for verb in ("bless", "activate", "reject", "forget"):
        assert plain.does(verb, "1") == "no-backend"


def test_a_host_of_images_is_not_locked_by_hand(host: Sandbox) -> None:
    assert host.does("lock", "read-only") == "wrong-state"


def test_writers_names_process_and_path(host: Sandbox, tmp_path: Path) -> None:
    """On the real /proc: a file held open for writing is told, one held for reading is not."""
    subprocess.run(["rm", "-rf", host.root / "proc"], check=True)
    (host.root / "proc").symlink_to("/proc")
    at = Path(__file__).parents[2]
    where = next(path for path in (Path("/var/tmp"), tmp_path, at) if os.stat(path).st_dev == os.stat("/").st_dev)
    kept, looked_at = where / f"anew-writers-{os.getpid()}", where / f"anew-readers-{os.getpid()}"
    looked_at.write_text("x")
    try:
        with kept.open("w"), looked_at.open():
            said = host.ask("writers")
        assert said.sections is not None
        lines = said.section("writers").decode().splitlines()
        assert [line.split()[1:] for line in lines if str(kept) in line] == [[str(os.getpid()), str(kept)]]
        assert not [line for line in lines if str(looked_at) in line]
        assert [line for line in lines if line.startswith("mount - /")]
    finally:
        kept.unlink()
        looked_at.unlink()


# --- what a boot left behind


def test_last_words_of_three_witnesses(host: Sandbox) -> None:
    host.write("data/anew/trail.last", "x" * 5000 + "0.9 hands over to /sbin/init\n")
    host.write("sys/fs/pstore/dmesg-efi-1", "y" * 5000 + "Kernel panic - not syncing\n")
    host.wrap("journalctl", 'printf "z%.0s" $(seq 3000); echo "web.service failed \x1b[31m"')
    words = host.ask("lastwords").section("words")
    assert len(words) <= 4096
    for said in (b"hands over to /sbin/init", b"Kernel panic - not syncing", b"web.service failed"):
        assert said in words


def test_no_last_words(host: Sandbox) -> None:
    host.wrap("journalctl", "exit 1")
    assert host.ask("lastwords").section("words") == b"== journal of the boot before\n"


def test_hostile_words_of_the_host_stay_in_their_line(host: Sandbox) -> None:
    host.write("etc/os-release", 'PRETTY_NAME="evil\x1b[2J $(reboot) ' + "e" * 5000 + '"\nVERSION_ID=`id`\n')
    host.write("usr/lib/anew/image-id", "../../etc/passwd\n")
    host.write("usr/lib/anew/version", "x" * 100_000 + "\n")
    host.write("data/anew/server", "not a uuid\n")
    frame = host.ask("observe")
    assert (frame.value("image_id"), frame.value("server")) == ("-", "-")
    assert len(frame.value("os")) <= 128
    assert all(len(value) <= 512 and value.isprintable() for _, value in frame.pairs)
