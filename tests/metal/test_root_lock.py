"""The root of plain hosts, locked and unlocked by the real kernel over real SSH, through the daemon and the command line."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

import pytest

from tests.metal.plainhost import PlainHost, PlainLab, plain_host

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]
SETTLE = 60.0


@pytest.fixture(scope="module")
def lab() -> Iterator[PlainLab]:
    """Two hosts in boxes, and a daemon that has seen both inside."""
    with contextlib.ExitStack() as ends:
        lab = PlainLab([ends.enter_context(plain_host(f"box{number}", f"127.0.91.{number}")) for number in (1, 2)])
        ends.callback(lab.close)
        lab.start()
        lab.until(lambda: all(row["root"] == "writable" for row in lab.rows(PLAIN).values()), SETTLE, "both seen inside")
        yield lab


class _Pool:
    name = "plain"


PLAIN = _Pool()


@pytest.fixture
def box(lab: PlainLab) -> PlainHost:
    """The first host, writable, whatever an earlier test left."""
    host = lab.hosts["box1"]
    if "ro" in host.root_options().split(","):
        host.said("mount -o remount,rw / && sed -i 's/ ro,/ /' /etc/fstab && rm -f /var/lib/anew/fstab")
    return host


@contextlib.contextmanager
def writing(host: PlainHost, path: str) -> Iterator[None]:
    """A process in the box that holds a file open for writing."""
    host.said(f"sh -c 'exec sleep 300 >{path} 2>/dev/null </dev/null & echo $! >/run/writer'")
    try:
        yield
    finally:
        host.said("kill $(cat /run/writer)")


def test_locked_for_good_seen_from_inside_and_unlocked_with_a_reason(lab: PlainLab, box: PlainHost) -> None:
    fstab = box.said("cat /etc/fstab")

    done = lab.anew("root", "box1", "read-only", "--yes")

    assert done.code == 0, lab.trouble(done)
    assert "box1: read-only, as seen inside" in done.out
    assert "ro" in box.root_options().split(",")
    assert "Read-only file system" in box.ssh("touch /x").stderr
    assert " / ext4 ro," in box.said("cat /etc/fstab"), "it lasts over a reboot"
    assert lab.rows(PLAIN)["box1"]["root"] == "read-only"
    assert lab.rows(PLAIN)["box2"]["root"] == "writable", "the other was not touched"
    assert not lab.rows(PLAIN)["box1"]["tainted"]
    again = lab.anew("root", "box1", "read-only", "--yes")
    assert again.code == 0, lab.trouble(again)

    refused = lab.anew("root", "box1", "writable", "--yes")
    assert (refused.code, "--why" in refused.err) == (2, True)
    done = lab.anew("root", "box1", "writable", "--yes", "--why", "a driver to try")

    assert done.code == 0, lab.trouble(done)
    assert "rw" in box.root_options().split(",")
    box.said("touch /x && rm /x")
    assert box.said("cat /etc/fstab") == fstab
    assert any("a driver to try" in why for why in lab.rows(PLAIN)["box1"]["tainted"])
    events = [(event["type"], event["server"]) for event in lab.journal() if event["type"] in ("root-set", "server-tainted")]
    assert events[-2:] == [("root-set", "box1"), ("server-tainted", "box1")]


def test_what_holds_a_file_open_is_named_before_and_when_it_fails(lab: PlainLab, box: PlainHost) -> None:
    with writing(box, "/var/log/precious.log"):
        shown = lab.anew("root", "box1", "read-only", "--dry-run")
        assert shown.code == 0, lab.trouble(shown)
        line = next(line for line in shown.out.splitlines() if "/var/log/precious.log" in line)
        assert "sleep" in line
        assert "nothing was changed" in shown.out

        done = lab.anew("root", "box1", "read-only", "--yes")

        assert done.code == 1, lab.trouble(done)
        assert "/var/log/precious.log" in done.err
        assert "Traceback" not in done.err
        assert "rw" in box.root_options().split(",")
        assert "ext4 ro," not in box.said("cat /etc/fstab"), "nor will it be read-only after a reboot"
    assert lab.anew("root", "box1", "read-only", "--yes").code == 0


def test_a_whole_pool_and_one_that_is_away(lab: PlainLab, box: PlainHost) -> None:
    away = lab.hosts["box2"]
    away.stop()
    try:
        done = lab.anew("root", "plain", "read-only", "--yes")
        assert done.code == 0, lab.trouble(done)
        assert "box1: read-only, as seen inside" in done.out
        assert "box2" in done.out
        assert "ro" in box.root_options().split(",")
    finally:
        away.start()
    assert "rw" in away.root_options().split(",")


def test_a_host_without_a_line_for_its_root_is_not_locked_for_a_while_only(lab: PlainLab, box: PlainHost) -> None:
    box.said("cp /etc/fstab /run/fstab && echo '# nothing' >/etc/fstab")
    try:
        done = lab.anew("root", "box1", "read-only", "--yes")
        assert done.code != 0
        assert "/etc/fstab has no line for /" in done.err
        assert "rw" in box.root_options().split(",")
    finally:
        box.said("cat /run/fstab >/etc/fstab")


def test_the_box_really_has_a_root_of_its_own(lab: PlainLab, box: PlainHost) -> None:
    here = subprocess.run(["findmnt", "-no", "OPTIONS", "/"], capture_output=True, text=True, check=True).stdout
    assert "rw" in here.split(",")
    assert box.said("cat /etc/debian_version").strip()
