"""Bundles on their way to hosts: a real ssh child, a real sshd, the real anew-host in a sandbox, and a proxy that spoils it."""

from __future__ import annotations

import asyncio
import http.server
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from drivers.baremetal import child
from drivers.baremetal.bulk import Bulk
from drivers.baremetal.pace import Pace
from drivers.baremetal.packs import Packs
from drivers.identity import IdentityStore
from drivers.remotes import Remote
from drivers.ssh import SshSessions
from fleet.core.errors import Permanent, Refused, Transient
from fleet.ports import Operation
from tests.metal.bringing import MIB, Bench, QuickClock, bench, changed, digest, noise, text
from tests.metal.proxy import Spoil, proxy
from tests.metal.sshd import certify, key, sshd

__all__ = ["bench"]

# --- the plain way


async def test_a_bundle_arrives_whole_and_once(bench: Bench, tmp_path: Path) -> None:
    image = noise(tmp_path / "a", 20 * MIB)
    sha = await bench.bring(image)
    assert bench.has(image)
    assert bench.told
    assert bench.told[-1] == "20 MiB are there, the host checks them" or re.fullmatch(r"\d+ of 20 MiB, \d+ %.*", bench.told[-1])
    assert [line.split()[0] for line in bench.host.verbs()] == ["have", "upload"]
    verbs = len(bench.host.verbs())
    await bench.bring(image)
    await bench.bring(image, have=(sha,))
    assert [line.split()[0] for line in bench.host.verbs()][verbs:] == ["have"], "it is there, and once it is known even that is not asked"


@pytest.mark.parametrize("at", [3000, 300_000, 3 * MIB, 7 * MIB])
async def test_cut_at_a_byte_it_goes_on_from_where_the_host_is(bench: Bench, tmp_path: Path, at: int) -> None:
    image = noise(tmp_path / "a", 8 * MIB)
    async with proxy(bench.host.port, Spoil("up", cut=at)) as front:
        await bench.bring(image, front.port)
        assert bench.has(image)
        assert front.connections == 2
        assert front.up < 8.6 * MIB + min(at, 2.5 * MIB), "what had arrived was not sent again"
    assert bench.clock.pauses == [5.0]
    assert any("the connection broke" in said or "it closed the connection" in said for said in bench.told)
    offsets = [int(line.split()[5]) for line in bench.host.verbs() if line.startswith("upload")]
    assert offsets == sorted(offsets)
    assert at < 4 * MIB or offsets[-1] > 0


async def test_a_flipped_bit_never_counts(bench: Bench, tmp_path: Path) -> None:
    image = noise(tmp_path / "a", 6 * MIB)
    async with proxy(bench.host.port, Spoil("up", flip=3 * MIB)) as front:
        await bench.bring(image, front.port)
        assert front.connections == 2
    assert bench.has(image)


async def test_a_black_hole_ends_by_itself(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half open: nobody tells. Alive messages end it; here after 2 s, in earnest after 30."""
    quick = tuple(option.replace("ServerAliveInterval=5", "ServerAliveInterval=1").replace("CountMax=6", "CountMax=2") for option in child._OPTIONS)
    assert quick != child._OPTIONS
    monkeypatch.setattr(child, "_OPTIONS", quick)
    image = noise(tmp_path / "a", 6 * MIB)
    async with proxy(bench.host.port, Spoil("up", hole=2 * MIB)) as front:
        async with asyncio.timeout(60):
            await bench.bring(image, front.port)
        assert front.connections == 2
    assert bench.has(image)


async def test_three_cuts_are_enough(bench: Bench, tmp_path: Path) -> None:
    image = noise(tmp_path / "a", 4 * MIB)
    async with proxy(bench.host.port, Spoil("up", cut=3000, times=99)) as front:
        with pytest.raises(Transient, match="rack1|the connection broke|it closed the connection"):
            await bench.bring(image, front.port)
        assert front.connections == 3
    assert not bench.has(image)


async def test_cancelled_it_leaves_no_child_and_a_part_to_go_on_with(bench: Bench, tmp_path: Path) -> None:
    image = noise(tmp_path / "a", 16 * MIB)
    async with proxy(bench.host.port, Spoil(rate=2 * MIB)) as front:
        bringing = asyncio.create_task(bench.bring(image, front.port))
        async with asyncio.timeout(60):
            while front.up < 4 * MIB and not bringing.done():
                await asyncio.sleep(0.02)
        assert children()
        bringing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await bringing
        assert not children(), "a child is always ended"
        before, front.spoil = front.up, Spoil()
        await bench.bring(image, front.port)
        assert front.up - before < 16 * MIB, "it went on from the part"
    assert bench.has(image)


def children() -> list[str]:
    """The command lines of the ssh children of this process."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if int((entry / "stat").read_text().rsplit(") ", 1)[1].split()[1]) == os.getpid():
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except (OSError, IndexError):
            continue
    return [line for line in found if line.startswith("ssh ") and "anew-host upload" in line]


# --- what is not believed


async def test_another_host_key_gets_nothing(bench: Bench, tmp_path: Path) -> None:
    image, other = noise(tmp_path / "a", 2 * MIB), key(tmp_path, "other")
    async with proxy(bench.host.port) as front:
        with pytest.raises(Permanent, match="host key is not the pinned one. Nothing was sent"):
            await bench.bring(image, front.port, pins=(other,))
        assert front.up < 8 * 1024, "a handshake, and no more"
        assert front.connections == 1, "it is not tried again"
    accepted = bench.host.log().count("Accepted publickey")
    assert accepted == 1, "only the session that asked what is there, which has the right key"


async def test_a_refused_key_is_tried_once(bench: Bench, tmp_path: Path) -> None:
    image = noise(tmp_path / "a", 2 * MIB)
    key(tmp_path, "strange")
    async with proxy(bench.host.port) as front:
        for _ in range(5):
            with pytest.raises(Transient, match="does not accept the key .*strange.*; next try in") as caught:
                await bench.bring(image, front.port, key=str(tmp_path / "strange"))
            assert caught.value.code == "auth"
        assert front.connections == 1


async def test_a_part_of_something_else_is_discarded(bench: Bench, tmp_path: Path) -> None:
    image = noise(tmp_path / "a", 2 * MIB)
    bench.host.bundles.mkdir(parents=True)
    (bench.host.bundles / f"{digest(image)}.part").write_bytes(b"x" * 70_000)
    await bench.bring(image)
    assert bench.has(image)
    assert "what it has of the image is not of this image; it begins anew" in bench.told


async def test_a_part_with_every_byte_is_only_finished(bench: Bench, tmp_path: Path) -> None:
    image = noise(tmp_path / "a", 2 * MIB)
    bench.host.bundles.mkdir(parents=True)
    (bench.host.bundles / f"{digest(image)}.part").write_bytes(image.read_bytes())
    async with proxy(bench.host.port) as front:
        await bench.bring(image, front.port)
        assert front.connections == 0
    assert bench.has(image)


async def test_a_file_that_is_not_the_manifests(bench: Bench, tmp_path: Path) -> None:
    image = noise(tmp_path / "a", 2 * MIB)
    with pytest.raises(Permanent, match="not what its manifest says"):
        await bench.bring(image, sha256="ab" * 32)
    assert not list(bench.host.bundles.glob("*.bundle"))
    sha, verbs = digest(image), len(bench.host.verbs())
    image.write_bytes(image.read_bytes()[:-1])
    with pytest.raises(Permanent, match=r"has 2097151 bytes and its manifest says 2097152"):
        op = Operation("0" * 16, 7, "", 60.0)
        await bench.bulk.bring(bench.remote(), str(image), sha, 2 * MIB, bench.call, op, (), bench.told.append)
    assert [line.split()[0] for line in bench.host.verbs()[verbs:]] == ["have"], "nothing was sent"
    bench.host.bundles.mkdir(parents=True, exist_ok=True)
    (bench.host.bundles / f"{'ab' * 32}.part").write_bytes(b"abc")
    with pytest.raises(Permanent, match="cannot be read .*put its folder back"):
        await bench.bulk.bring(bench.remote(), str(tmp_path / "gone"), "ab" * 32, 5, bench.call, Operation("0" * 16, 7, "", 60.0), (), bench.told.append)


async def test_a_newer_controller_has_the_host(bench: Bench, tmp_path: Path) -> None:
    await bench.bring(noise(tmp_path / "a", MIB))
    bench.epoch = 6
    with pytest.raises(Refused, match="another controller") as caught:
        await bench.bring(noise(tmp_path / "b", MIB, 2))
    assert caught.value.code == "stale-epoch"


# --- shorter ways


async def test_a_changed_twentieth_goes_as_a_delta(bench: Bench, tmp_path: Path) -> None:
    """64 MiB of noise, 5 % of its 64 KiB blocks changed for hex digits: 3.2 MiB of them, half of that of information."""
    old = noise(tmp_path / "old", 64 * MIB)
    new = changed(old, tmp_path / "new", 0.05)
    sha = await bench.bring(old)
    async with proxy(bench.host.port) as front:
        await bench.bring(new, front.port, have=(sha,))
        assert bench.has(new)
        assert front.up < 0.032 * 64 * MIB, f"{front.up} bytes on the wire"
    assert any("makes the image from the delta form of 2." in said for said in bench.told)
    assert not list(bench.host.bundles.glob("*.part"))


async def test_without_zstd_there_it_is_sent_whole(bench: Bench, tmp_path: Path) -> None:
    old = noise(tmp_path / "old", 2 * MIB)
    new = changed(old, tmp_path / "new", 0.05)
    sha = await bench.bring(old)
    broken = bench.host.folder / "bin" / "zstd"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    await bench.bring(new, have=(sha,))
    assert bench.has(new)
    assert any("the delta form was no help" in said and "sent whole" in said for said in bench.told)


async def test_a_delta_needs_the_old_file_as_it_was(bench: Bench, tmp_path: Path) -> None:
    old = noise(tmp_path / "old", 2 * MIB)
    new = changed(old, tmp_path / "new", 0.05)
    sha = await bench.bring(old)
    noise(old, 2 * MIB, 9)
    await bench.bring(new, have=(sha, "cd" * 32))
    assert bench.has(new)
    assert not any("delta" in said for said in bench.told)


async def test_what_compresses_is_compressed_once_for_all(bench: Bench, tmp_path: Path) -> None:
    image = text(tmp_path / "a", 8 * MIB)
    async with proxy(bench.host.port) as front:
        await bench.bring(image, front.port)
        assert bench.has(image)
        assert front.up < 0.6 * image.stat().st_size
        made = {path: path.stat().st_mtime_ns for path in bench.state.glob("plain-*") if path.stat().st_size}
        assert len(made) == 1
        for left in bench.host.bundles.iterdir():
            left.unlink()
        inode = next(iter(made)).stat().st_ino
        await bench.bring(image, front.port)
        assert bench.has(image)
    assert next(iter(made)).stat().st_ino == inode, "the same file, not made again"


async def test_a_wrong_file_leaves_nothing_in_the_cache(bench: Bench, tmp_path: Path) -> None:
    image = text(tmp_path / "a", 2 * MIB)
    right, sha = image.read_bytes(), digest(image)
    image.write_bytes(right[:-1] + b"?")
    with pytest.raises(Permanent, match="not what its manifest says"):
        await bench.bring(image, sha256=sha)
    image.write_bytes(right)
    await bench.bring(image)
    assert bench.has(image)
    assert any("makes the image from the compressed form" in said for said in bench.told)


@contextmanager
def mirror(folder: Path) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Files(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object, **more: object) -> None:
            super().__init__(*args, directory=str(folder), **more)  # type: ignore[arg-type]

        def log_message(self, *args: object) -> None:
            asked.append(self.path)

    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{served.server_port}", asked
    finally:
        served.shutdown()
        thread.join()
        served.server_close()


async def test_the_host_fetches_it_from_the_mirror(bench: Bench, tmp_path: Path) -> None:
    image = noise(tmp_path / "a", 2 * MIB)
    with mirror(tmp_path) as (url, asked):
        async with proxy(bench.host.port) as front:
            await bench.bring(image, front.port, mirror=f"{url}/a")
            assert front.connections == 0
        assert asked == ["/a"]
    assert bench.has(image)


@pytest.mark.parametrize("url", ["/other", "/none", " and more", ";reboot"])
async def test_a_mirror_that_has_something_else_is_no_help(bench: Bench, tmp_path: Path, url: str) -> None:
    image = noise(tmp_path / "a", MIB)
    noise(tmp_path / "other", MIB, 2)
    with mirror(tmp_path) as (base, _):
        await bench.bring(image, mirror=base + url)
    assert bench.has(image)
    assert any("the mirror was no help" in said for said in bench.told)


# --- other ways to the host


async def test_over_a_jump_host_with_its_own_pin(bench: Bench, tmp_path: Path) -> None:
    store = IdentityStore(str(tmp_path / "identities"))
    image = noise(tmp_path / "a", 2 * MIB)
    odd = tmp_path / "keys 50% off"
    odd.mkdir()
    with sshd(tmp_path / "gate", store, authorized=key(odd, "gate") + "\n") as gate:
        by = Remote("gate", "127.0.0.1", gate.port, gate.user, str(odd / "gate"), pins=(gate.host_key,))
        await bench.bring(image, jump=by)
        assert bench.has(image)
        assert "Accepted publickey" in gate.log()
        accepted = gate.log().count("Accepted publickey")
        wrong = Remote("gate", "127.0.0.1", gate.port, gate.user, str(odd / "gate"), pins=(key(tmp_path, "other"),))
        with pytest.raises(Permanent, match="not the pinned one"):
            await bench.bring(noise(tmp_path / "b", MIB, 2), jump=wrong)
        assert gate.log().count("Accepted publickey") == accepted


async def test_a_host_certificate_counts_for_the_child_too(tmp_path: Path) -> None:
    store = IdentityStore(str(tmp_path / "identities"))
    (tmp_path / "rack1").mkdir()
    key(tmp_path / "rack1", "host")
    authority = certify(tmp_path / "rack1", "ca", "127.0.0.1")
    sessions, image = SshSessions(store), noise(tmp_path / "a", MIB)
    with sshd(tmp_path / "rack1", store) as host:
        made = Bench(host, sessions, Bulk(str(tmp_path / "s"), QuickClock(), sessions), QuickClock(), tmp_path)
        with pytest.raises(Permanent, match="not the pinned one"):
            await made.bring(image, pins=(), authorities=(key(tmp_path, "strange"),))
        await made.bring(image, pins=(), authorities=(authority,))
        assert made.has(image)
    await sessions.close()


async def test_nothing_secret_is_in_the_arguments_and_nothing_is_a_shells(bench: Bench, tmp_path: Path) -> None:
    by = Remote("gate", "gate;reboot", 22, "o'ps", pins=(bench.host.host_key,))
    argv = bench.bulk._ssh.argv(bench.remote(jump=by), "anew-host have x", "said")
    assert argv[:3] == ["ssh", "-F", "none"]
    assert "PRIVATE" not in " ".join(argv)
    assert {"BatchMode=yes", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "IdentityAgent=none", "ServerAliveInterval=5"} <= set(argv)
    way = next(word for word in argv if word.startswith("ProxyCommand="))
    assert "'gate;reboot'" in way
    assert """'o'"'"'ps'""" in way
    with pytest.raises(Refused, match="OpenSSH reads otherwise"):
        bench.bulk._ssh.argv(bench.remote(key=str(_odd(tmp_path))), "x", "said")


def _odd(folder: Path) -> Path:
    key(folder, "a$HOME")
    return folder / "a$HOME"


async def test_more_hosts_than_are_sent_to_at_once_wait(bench: Bench, tmp_path: Path) -> None:
    bench.bulk = Bulk(str(tmp_path / "two"), bench.clock, bench.sessions, at_once=1)
    one, two = noise(tmp_path / "a", 4 * MIB), noise(tmp_path / "b", 4 * MIB, 2)
    async with proxy(bench.host.port, Spoil(rate=8 * MIB)) as front:
        await asyncio.gather(bench.bring(one, front.port), bench.bring(two, front.port))
    assert bench.has(one)
    assert bench.has(two)
    assert "waits until other hosts have theirs" in bench.told


# --- small parts


def test_how_far_it_is_as_a_sentence() -> None:
    now, told = [0.0], []  # type: tuple[list[float], list[str]]
    pace = Pace(160 * MIB, lambda: now[0], told.append)
    pace.at(10 * MIB)
    for second in range(1, 5):
        now[0] = second / 2
        pace.at((10 + 10 * second) * MIB)
    now[0] = 3.0
    pace.at(160 * MIB)
    assert told == ["10 of 160 MiB, 6 %", "30 of 160 MiB, 18 %, 21.0 MB/s, 6 s left", "50 of 160 MiB, 31 %, 21.0 MB/s, 6 s left",
                    "160 MiB are there, the host checks them"]


async def test_the_cache_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from drivers.baremetal import packs as module

    monkeypatch.setattr(module, "CACHE_CAP", 3 * MIB)
    monkeypatch.setattr(module, "MEMORY", 4)
    packs = Packs(str(tmp_path / "packs"))
    for number in range(8):
        image = text(tmp_path / f"{number}", 2 * MIB)
        image.write_bytes(image.read_bytes() + bytes([number]))
        sha = digest(image)
        await packs.check(str(image), sha, image.stat().st_size)
        assert await packs.compressed(str(image), sha, image.stat().st_size)
    held = [path for path in (tmp_path / "packs").iterdir() if path.is_file()]
    assert 1 <= len(held)
    assert sum(path.stat().st_size for path in held) <= 3 * MIB
    assert len(list((tmp_path / "packs/files").iterdir())) == 4


async def test_a_jump_host_that_refuses_is_the_one_that_is_left_alone(bench: Bench, tmp_path: Path) -> None:
    image = noise(tmp_path / "a", MIB)
    with sshd(tmp_path / "gate", IdentityStore(str(tmp_path / "stranger"))) as gate:
        by = Remote("gate", "localhost", gate.port, gate.user, pins=(gate.host_key,))
        for _ in range(3):
            with pytest.raises(Transient, match="does not accept anew's key") as caught:
                await bench.bring(image, jump=by)
            assert caught.value.where.startswith("gate ")
        assert gate.log().count("Failed publickey") == 1
