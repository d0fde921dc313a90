"""The pretended hosts keep docs/host-protocol.md, so that what is proved on them is proved of the contract."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import resource
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncssh
import pytest

from tests import ports
from tests.metal.evil import FLOODS, STALLS, Evil
from tests.metal.farm import Farm, TooFewDescriptors
from tests.metal.host import Host, Pace
from tests.metal.hosts import World
from tests.ports import free_block, handed_out

KEY = asyncssh.generate_private_key("ssh-ed25519")
OP, OTHER_OP = "00000000000000aa", "00000000000000bb"
BUNDLE = b"a bundle of version 2\n" * 40
SHA = hashlib.sha256(BUNDLE).hexdigest()
DIGEST = "sha256:" + "2" * 64
DEADLINE = 60.0


@asynccontextmanager
async def world(count: int = 1, **images: str) -> AsyncIterator[World]:
    made = World(count, Pace(boot=0.05, hang=0.1, images={name.lstrip("v"): how for name, how in images.items()}))
    made.welcome_key(KEY.export_public_key().decode())
    async with made:
        yield made


async def connect(host: Host) -> asyncssh.SSHClientConnection:
    return await asyncssh.connect(host.address, host.port, known_hosts=([host.key.convert_to_public()], [], []), client_keys=[KEY],
                                  username=host.user, config=None, agent_path=None)


async def say(host: Host, line: str, given: bytes = b"") -> tuple[int | None, str]:
    async with asyncio.timeout(DEADLINE), await connect(host) as connection:
        process: asyncssh.SSHClientProcess[bytes] = await connection.create_process(line, encoding=None)
        with contextlib.suppress(BrokenPipeError):  # it may refuse before it has read everything
            process.stdin.write(given)
            process.stdin.write_eof()
        said = await process.stdout.read()
        await process.wait_closed()
    return process.exit_status, said.decode()


async def facts(host: Host) -> dict[str, str]:
    code, said = await say(host, "anew-host observe")
    assert (code, said.endswith("ok\n")) == (0, True)
    return dict(line.split(" ", 1) for line in said.splitlines() if " " in line)


async def until(true: object, what: str) -> None:
    ends = asyncio.get_running_loop().time() + DEADLINE
    assert callable(true)
    while not true():
        assert asyncio.get_running_loop().time() < ends, what
        await asyncio.sleep(0.01)


async def rebooted(host: Host, number: int = 1, epoch: int = 1) -> None:
    """Upload, install, arm, reboot; returns when it has settled in whatever slot."""
    boot = host.boot_id
    assert (await say(host, f"anew-host upload {epoch} {OP} {SHA} {len(BUNDLE)} 0", BUNDLE))[0] == 0
    assert (await say(host, f"anew-host install {epoch} {OP} {SHA} {DIGEST} 2"))[0] == 0
    assert (await say(host, f"anew-host arm {epoch} {OP} {number} {DIGEST} 1795000000 -"))[0] == 0
    assert (await say(host, f"anew-host reboot {epoch} {OP} {boot}")) == (0, "anew-host 1\nok\n")
    await until(lambda: host.boots > 1 and host.boot_id not in ("", boot), "it boots again")


async def test_observe_says_what_the_contract_says() -> None:
    """Key by key as docs/host-protocol.md lists them."""
    with open("docs/host-protocol.md", encoding="utf-8") as file:
        text = file.read().partition("## What `observe` says")[2].partition("```")[2].partition("```")[0]
    promised = [line.split(" ")[0] for line in text.strip().splitlines() if re.match(r"[a-z_.]+ ", line)]
    async with world() as made:
        _, said = await say(made["rack1"], "anew-host observe")
    told = [line.split(" ")[0] for line in said.splitlines() if re.match(r"[a-z_.]+ ", line)]
    assert told == [key for key in promised if key != "bundle"]


async def test_the_raw_section_is_as_long_as_it_says_and_rauc_json() -> None:
    async with world() as made:
        _, said = await say(made["rack1"], "anew-host observe")
    head, _, rest = said.partition("--- rauc ")
    length, _, rest = rest.partition("\n")
    status = json.loads(rest[: int(length)])
    assert (status["booted"], status["boot_primary"]) == ("A", "rootfs.0")
    assert rest[int(length) :] == "\nok\n"
    assert "slot.A" not in head, "a slot without record has no line"


async def test_an_update_is_tried_blessed_and_taken_back() -> None:
    async with world() as made:
        host = made["rack1"]
        await rebooted(host)
        await until(lambda: host.serving, "it serves")
        seen = await facts(host)
        assert (seen["booted"], seen["trial"], seen["version"]) == ("B", "yes", "2")
        assert "number=0" in seen["slot.A"], "what ran before the first rollout is incarnation 0"
        assert f"number=1 digest={DIGEST}" in seen["slot.B"] and "state=armed" in seen["slot.B"]
        assert (await say(host, f"anew-host bless 1 {OP} 1"))[0] == 0
        host.power_cut()
        await host.power_on()
        seen = await facts(host)
        assert "state=kept" in seen["slot.A"]
        assert (seen["booted"], seen["trial"], seen["deadman"]) == ("B", "no", "off"), "kept, also after power loss"
        assert made.versions() == {"2": 1}


@pytest.mark.parametrize("manner", ["panics", "hangs", "no-sshd", "dies-after 0.01"])
async def test_a_bad_image_falls_back_by_itself(manner: str) -> None:
    async with world(v2=manner) as made:
        host = made["rack1"]
        await rebooted(host)
        await until(lambda: host.version == "1" and host.serving, "it comes back to version 1")
        seen = await facts(host)
        assert (seen["booted"], seen["trial"]) == ("A", "no")
        assert "state=armed" in seen["slot.B"] and seen["boot_id"] not in seen["slot.B"]
        assert "--- words" in (await say(host, "anew-host lastwords"))[1]
        assert (await say(host, f"anew-host reject 1 {OP} 1"))[0] == 0
        assert "state=rejected" in (await facts(host))["slot.B"]


async def test_a_trial_that_nobody_blesses_ends() -> None:
    async with world() as made:
        made.pace.dead_man = 0.2
        host = made["rack1"]
        await rebooted(host)
        await until(lambda: host.version == "1", "the dead-man fires")


async def test_a_power_cut_in_the_middle_of_an_install_boots_the_old_slot() -> None:
    async with world() as made:
        host = made["rack1"]
        made.pace.install = 30.0
        await say(host, f"anew-host upload 1 {OP} {SHA} {len(BUNDLE)} 0", BUNDLE)
        installing = asyncio.create_task(say(host, f"anew-host install 1 {OP} {SHA} {DIGEST} 2"))
        await until(lambda: "B" in host.disk.records, "it is being written")
        host.power_cut()
        assert (await installing)[0] is None, "no exit status: the answer never came"
        await host.power_on()
        seen = await facts(host)
        assert (seen["booted"], "state=writing" in seen["slot.B"]) == ("A", True)


async def test_an_upload_may_be_cut_and_goes_on() -> None:
    async with world() as made:
        host = made["rack1"]
        begin = f"anew-host upload 1 {OP} {SHA} {len(BUNDLE)}"
        assert (await say(host, f"{begin} 0", BUNDLE[:100]))[0] == 4
        _, said = await say(host, f"anew-host have {SHA}")
        assert f"size 100\nstate part\nsha_so_far {hashlib.sha256(BUNDLE[:100]).hexdigest()}\n" in said
        assert (await say(host, f"{begin} 0", BUNDLE))[0] == 4, "an offset that is not its size"
        assert (await say(host, f"{begin} 100", BUNDLE[100:]))[0] == 0
        assert "state complete" in (await say(host, f"anew-host have {SHA}"))[1]
        assert (await say(host, f"anew-host upload 1 {OP} {'0' * 64} 4 0", b"evil"))[0] == 5


async def test_refusals() -> None:
    async with world() as made:
        host = made["rack1"]
        host.disk.epoch = 7
        for line, code in [
            (f"forget 6 {OP} 1", 3), (f"forget 7 {OP} 1", 0), ("sing", 2), ("have ../../etc", 2), (f"bless 7 {OP} x", 2),
            (f"bless 7 {OP} 9", 3), (f"activate 7 {OP} 1", 3), (f"lock 7 {OP} read-only", 3), (f"reboot 7 {OP} {'0' * 8}-0000-0000-0000-{'0' * 12}", 0),
        ]:
            exit_code, said = await say(host, f"anew-host {line}")
            assert exit_code == code, line
            assert said.splitlines()[-1].startswith("ok" if code == 0 else "error "), line
        await host.be(Evil(locked_by=OTHER_OP))
        assert (await say(host, f"anew-host forget 7 {OP} 1"))[0] == 4


async def test_a_carried_helper_needs_its_script() -> None:
    async with world() as made:
        made["rack1"].be_plain()
        assert await say(made["rack1"], "sh -s -- observe") == (0, "")
        code, said = await say(made["rack1"], "sh -s -- observe", b"#!/bin/sh\n")
        assert (code, "backend none" in said) == (0, True)
        assert (await say(made["rack1"], f"sh -s -- lock 1 {OP} read-only", b"#!/bin/sh\n"))[0] == 0
        assert "root read-only ext4" in (await say(made["rack1"], "sh -s -- observe", b"#!/bin/sh\n"))[1]


@pytest.mark.parametrize("stall", STALLS)
async def test_stalls_are_silent_and_end_with_the_connection(stall: str) -> None:
    async with world(2) as made:
        await made["rack1"].be(Evil(stall=stall))  # type: ignore[arg-type]
        with pytest.raises((TimeoutError, asyncssh.Error)):
            async with asyncio.timeout(0.3):
                await say(made["rack1"], "anew-host observe")
        assert (await facts(made["rack2"]))["version"] == "1"


@pytest.mark.parametrize("flood", FLOODS)
async def test_floods_stop_when_nobody_reads(flood: str) -> None:
    async with world() as made:
        await made["rack1"].be(Evil(flood=flood))  # type: ignore[arg-type]
        async with await connect(made["rack1"]) as connection:
            process: asyncssh.SSHClientProcess[bytes] = await connection.create_process("anew-host observe", encoding=None)
            assert len(await process.stdout.readexactly(2**20)) == 2**20


@pytest.mark.parametrize("limit", [0, 5, 400, 1800])
async def test_a_connection_that_dies_at_a_byte(limit: int) -> None:
    async with world() as made:
        await made["rack1"].be(Evil(cut_after=limit))
        with pytest.raises((asyncssh.Error, OSError)):
            await say(made["rack1"], "anew-host observe")
        await made["rack1"].be(Evil())
        assert (await facts(made["rack1"]))["version"] == "1"


async def test_keys() -> None:
    async with world() as made:
        host = made["rack1"]
        await host.be(Evil(refuses_key=True))
        with pytest.raises(asyncssh.PermissionDenied):
            await say(host, "anew-host observe")
        assert host.door.keys_shown == 1
        old = host.host_key
        await host.change_key()
        assert host.host_key != old


async def test_five_hundred_start_in_a_few_seconds_and_leave_nothing() -> None:
    """Ten times what it takes is allowed; what matters is that nothing of them is left."""
    descriptors, tasks = len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())
    began = time.process_time()
    async with world(500) as made:
        assert len({(host.address, host.port) for host in made}) == 500
        assert not made.missing
        assert time.process_time() - began < 20
    await asyncio.sleep(0)
    assert len(os.listdir("/proc/self/fd")) <= descriptors
    assert len(asyncio.all_tasks()) == tasks


async def test_a_port_that_is_taken_is_said_and_not_waited_for() -> None:
    made = World(3)
    with socket.create_server((made["rack2"].address, made.service_port)), pytest.raises(OSError, match="address already in use"):
        async with asyncio.timeout(DEADLINE), made:
            pass
    async with made:
        assert made["rack2"].serving, "nothing was left of the first try"


def test_no_ssh_port_can_be_given_where_the_service_will_listen() -> None:
    lowest, highest = handed_out()
    assert not any(lowest <= World(1).service_port <= highest for _ in range(50))


def test_a_block_of_ports_is_kept_for_whom_it_was_given_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though nobody listens on all of it: a server that is replaced later would find somebody else at its second port."""
    lowest, _ = handed_out()
    monkeypatch.setattr(ports, "LOWEST", lowest - 60)
    monkeypatch.setattr(ports, "handed_out", lambda: (lowest, 65_535))
    monkeypatch.setattr(ports, "_kept", set())
    blocks = [range(first, first + 6) for first in (free_block(6), free_block(6), free_block(6))]
    given = [port for block in blocks for port in block]
    assert len(set(given)) == 18 and max(given) < lowest
    assert not {ports.free_port() for _ in range(200)} & set(given)


async def test_more_hosts_than_there_may_be_open_files_are_refused_at_once() -> None:
    before, count = resource.getrlimit(resource.RLIMIT_NOFILE), 10**9
    with pytest.raises(TooFewDescriptors, match=rf"^{4 * count + 256} open files are needed, and a process may have {before[1]} here"):
        async with Farm(count):
            pass
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
