"""The bare-metal driver's verbs, on hosts that speak the protocol over real SSH."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from drivers.baremetal import words
from fleet.core.desired import Bmc, Machine
from fleet.core.errors import AnewError, Permanent, Refused, Transient
from fleet.core.observed import Observed
from fleet.ports import Birth, Operation
from tests.metal.baremetal_world import BaremetalHarness, harness
from tests.metal.evil import ESCAPES, Evil
from tests.metal.host import Pace

DEADLINE = 60.0


async def until(h: BaremetalHarness, true: Callable[[Observed], bool]) -> Observed:
    ends = asyncio.get_running_loop().time() + DEADLINE
    while not true(seen := await h.driver.observe(h.pool)):
        assert asyncio.get_running_loop().time() < ends, f"still {seen}"
        await asyncio.sleep(0.02)
    return seen


def telling(h: BaremetalHarness, deadline: float = 30.0) -> tuple[Operation, list[str]]:
    """An operation and what is told of it."""
    told: list[str] = []
    return replace(h.op(deadline=deadline), tell=told.append), told


# -- the way of all machines ---------------------------------------------------------------------------------


async def test_a_machine_is_staged_tried_kept_and_goes_back(tmp_path: Path) -> None:
    async with harness(tmp_path, 1) as h:
        assert await h.states() == {0: "running"}
        await h.staged()
        assert h.host.version == "1" and await h.states() == {0: "running"}, "it serves on"
        seen = await h.born(1)
        assert (seen.number, seen.state, seen.version, seen.digest, seen.uuid) == (1, "running", "2", h.image.ref.digest, h.host.disk.server)
        assert "on trial" in seen.note and seen.address == f"{h.host.address}:{h.host.port}"
        assert await h.states() == {0: "stopped", 1: "running"}
        await h.driver.commit(h.pool, h.place, 1, h.op())
        assert not h.host.trial and await h.states() == {0: "stopped", 1: "running"}
        await h.born(2, h.version("3"))
        await h.driver.commit(h.pool, h.place, 2, h.op())
        assert await h.states() == {1: "stopped", 2: "running"}
        for _ in range(2):
            back = await h.driver.revive(h.pool, h.place, 1, h.op())
            assert (back.number, back.state, back.version, h.host.version) == (1, "running", "2", "2")
        await h.driver.commit(h.pool, h.place, 1, h.op())
        for _ in range(2):
            await h.driver.bury(h.pool, h.place, 2, h.op())
        assert await h.states() == {1: "running"}
        assert h.host.strange == [], "nothing was ever said to it but verbs"


async def test_what_is_staged_ahead_is_not_brought_again(tmp_path: Path) -> None:
    async with harness(tmp_path, 3) as h:
        for _ in range(2):
            await asyncio.gather(*(h.staged(name=name) for name in h.pool.machines))
        await h.born(1)
        assert h.host.verbs() == ["upload", "install", "arm", "reboot"]
        assert [host.verbs() for host in h.world][1:] == [["upload", "install"]] * 2


async def test_a_large_bundle_goes_through_openssh(tmp_path: Path) -> None:
    async with harness(tmp_path, 1, small=1000) as h:
        op, told = telling(h)
        await h.driver.stage(h.pool, h.version("2", 3_000_000), h.place, op)
        assert h.host.verbs()[-1] == "install" and any("MiB" in words for words in told)


async def test_the_trial_can_be_left_before_it_is_kept(tmp_path: Path) -> None:
    """Not healthy: back to what ran before, which needs no record of its own."""
    async with harness(tmp_path, 1) as h:
        await h.born(1)
        back = await h.driver.revive(h.pool, h.place, 0, h.op())
        assert (back.number, h.host.version) == (0, "1")
        assert (await h.states())[1] == "crashed", "it will not boot again"


async def test_pools_of_mixed_backends_roll_alike(tmp_path: Path) -> None:
    async with harness(tmp_path, 3) as h:
        for name, backend in zip(h.pool.machines, ("rauc", "sdboot", "bootc"), strict=True):
            h.world[name].backend = backend
            assert (await h.born(1, name=name)).version == "2"
            await h.driver.commit(h.pool, name, 1, h.op())
            await h.born(2, h.version("3"), name)
            assert (await h.driver.revive(h.pool, name, 1, h.op())).number == 1
            assert (await h.own.check(name))["backend"] == backend


# -- images that are no good ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("manner", "last"), [("panics", "Kernel panic"), ("hangs", "softdog"), ("no-sshd", "softdog")])
async def test_a_machine_that_comes_back_by_itself_is_told_of_with_its_last_words(tmp_path: Path, manner: str, last: str) -> None:
    async with harness(tmp_path, 2, Pace(boot=0.05, hang=0.1, images={"3": manner})) as h:
        await h.born(1)
        await h.driver.commit(h.pool, h.place, 1, h.op())
        bad, op = h.version("3"), h.op()
        for _ in range(2):
            with pytest.raises(Permanent, match=f"rack1: tried image 3 and came back to 1 by itself: .*{last}"):
                await h.driver.birth(h.pool, Birth(h.place, 2, bad, h.place, h.born_at()), op)
            assert await h.states() == {1: "running", 2: "crashed"}
        assert h.host.verbs().count("reboot") == 2 and h.host.disk.records["A"].state == "rejected"
        assert last in await h.own.last_words(h.pool, h.place, 2)
        assert h.world["rack2"].calls and h.world["rack2"].verbs() == [], "the others are untouched"
        await h.born(3, h.version("4"))


async def test_what_comes_up_must_be_what_was_written(tmp_path: Path) -> None:
    """And is sent back: it still has its dead-man."""
    async with harness(tmp_path, 1) as h:
        await h.host.be(Evil(lie="wrong-image"))
        with pytest.raises(Permanent, match="bears image id web-0-ffffffff and the slot was written with web-2-"):
            await h.born(1)
        await h.host.be(Evil())
        assert (h.host.version, await h.states()) == ("1", {0: "running", 1: "crashed"})


async def test_a_machine_that_does_not_come_back_is_power_cycled_once(tmp_path: Path) -> None:
    cycled: list[tuple[str, bool]] = []

    async with harness(tmp_path, 1) as h:
        async def cycle(machine: Machine, pxe: bool, deadline: float) -> str:
            cycled.append((machine.name, pxe))
            h.host.pace = Pace(boot=0.05)
            h.host.restart()
            return "its BMC restarted it"

        h.own._births._cycle = cycle
        h.own.hosts[h.place].machine = replace(h.own.hosts[h.place].machine, bmc=Bmc("https://bmc.example/redfish/v1/Systems/1"))
        await h.staged()
        h.host.pace = Pace(boot=3600.0)
        op, told = telling(h, 6.0)
        seen = await h.driver.birth(h.pool, Birth(h.place, 1, h.image, h.place, h.born_at()), op)
        assert seen.state == "running" and "its BMC restarted it" in seen.note
        assert cycled == [("rack1", False)] and "its BMC restarted it" in told


async def test_a_slot_that_somebody_wrote_is_not_kept_as_what_its_record_says(tmp_path: Path) -> None:
    """A blessing would write the id of what runs into the record, and what nobody knows would count as the catalogued image."""
    async with harness(tmp_path, 1) as h:
        await h.born(1)
        await h.driver.commit(h.pool, h.place, 1, h.op())
        await h.born(2, h.version("3"))
        await h.driver.commit(h.pool, h.place, 2, h.op())
        slot = "A" if h.host.booted == "B" else "B"
        content = h.host.disk.contents[slot]
        assert content is not None
        h.host.disk.contents[slot] = replace(content, version="9", image_id="web-9-99999999")
        seen = await h.driver.revive(h.pool, h.place, 1, h.op())
        assert (seen.digest, h.host.version) == ("", "9")
        with pytest.raises(Permanent, match="runs image id web-9-99999999, and incarnation 1 was made with web-2-.*not kept"):
            await h.driver.commit(h.pool, h.place, 1, h.op())
        assert h.host.verbs()[-1] == "reboot", "it was not blessed"


@pytest.mark.parametrize("ours", [False, True])
async def test_a_machine_that_could_not_be_told_to_reboot_keeps_its_power(tmp_path: Path, ours: bool) -> None:
    """Somebody else holds its lock: it serves, and may be writing a slot. With its lock held for us it goes down, or hangs in that."""
    cycled: list[str] = []

    async def cycle(machine: Machine, pxe: bool, deadline: float) -> str:
        cycled.append(machine.name)
        return "its BMC restarted it"

    async with harness(tmp_path, 1, cycle=cycle) as h:
        mine = h.own.hosts[h.place]
        mine.machine = replace(mine.machine, bmc=Bmc("https://bmc.example/redfish/v1/Systems/1"))
        await h.staged()
        op = h.op(deadline=4.0)
        await mine.ask(words.arm(op, 1, h.image.ref.digest, h.born_at(), op.rollout))
        await h.host.be(Evil(locked_by=op.id if ours else "00000000000000bb"))
        sentence = r"has not come back in \d+ s" if ours else r"could not be told to boot image 2 in \d+ s: operation 00000000000000bb"
        with pytest.raises(Permanent, match=sentence):
            await h.driver.birth(h.pool, Birth(h.place, 1, h.image, h.place, h.born_at()), op)
        assert cycled == (["rack1"] if ours else [])
        assert (h.host.boots, h.host.serving, mine.told_to_reboot) == (1, True, ""), "and nobody is told that it boots"


async def test_a_newer_controller_s_machine_is_not_said_to_boot(tmp_path: Path) -> None:
    async with harness(tmp_path, 1) as h:
        await h.born(1)
        h.host.disk.epoch = 9
        with pytest.raises(Refused, match="another controller"):
            await h.driver.revive(h.pool, h.place, 0, h.op())
        seen = await h.driver.observe(h.pool)
        assert not seen.unreachable and h.own.hosts[h.place].told_to_reboot == ""


async def test_a_machine_that_is_lost_is_said_to_be_and_is_found_later(tmp_path: Path) -> None:
    async with harness(tmp_path, 1) as h:
        await h.staged()
        h.host.pace = Pace(boot=3600.0)
        with pytest.raises(Permanent, match=r"rack1: it was told to boot image 2 and has not come back in \d+ s .*console"):
            await h.driver.birth(h.pool, Birth(h.place, 1, h.image, h.place, h.born_at()), h.op(deadline=6.0))
        assert "rack1" in (await h.driver.observe(h.pool)).unreachable
        h.host.pace = Pace(boot=0.05)
        h.host.restart()
        seen = await until(h, lambda seen: not seen.unreachable)
        assert {item.number: item.state for item in seen.incarnations} == {0: "stopped", 1: "running"}


# -- before anything is touched ------------------------------------------------------------------------------


@pytest.mark.parametrize(("evil", "kind", "sentence"), [
    (Evil(disk_full=True), Permanent, "0 MiB free"),
    (Evil(read_only_data=True), Permanent, "read-only"),
    (Evil(no_backend=True), Permanent, "no way to boot two images"),
    (Evil(refuses_key=True), Transient, "does not accept anew's key"),
    (Evil(no_helper=True), Permanent, "no way to boot two images|no anew-host"),
    (Evil(stall="no-answer", verbs=("install",)), Transient, "longer than|no answer"),
    (Evil(locked_by="00000000000000bb"), Transient, "00000000000000bb"),
    (Evil(answers=b"anew-host 2\nok\n"), Permanent, "protocol 2"),
    (Evil(flood="huge-json"), Permanent, "256 KiB|1 MiB"),
    (Evil(flood="million-lines"), Permanent, "1 MiB|4000 lines"),
    (Evil(flood="endless"), AnewError, "no answer|1 MiB"),
    (Evil(lie="claims-done"), Permanent, "do not agree|no change"),
])
async def test_a_machine_that_cannot_be_rolled_says_why_and_goes_on_serving(tmp_path: Path, evil: Evil, kind: type[AnewError], sentence: str) -> None:
    async with harness(tmp_path, 1) as h:
        await h.host.be(evil)
        with pytest.raises(kind, match=sentence) as raised:
            await h.driver.birth(h.pool, Birth(h.place, 1, h.image, h.place, h.born_at()), h.op(deadline=2.5))
        assert type(raised.value) in (Transient, Permanent, Refused) or isinstance(raised.value, Transient)
        assert h.host.version == "1" and h.host.boots == 1 and h.host.serving


@pytest.mark.parametrize("condition", ["empty", "torn", "missing"])
async def test_a_bad_boot_environment_is_found_repaired_and_said(tmp_path: Path, condition: str) -> None:
    async with harness(tmp_path, 1) as h:
        h.host.disk.env.condition = condition  # type: ignore[assignment]
        (shown,) = (await h.driver.observe(h.pool)).incarnations
        assert f"boot environment is {condition}" in shown.note
        seen = await h.born(1)
        assert h.host.verbs()[0] == "repair" and h.host.version == "2"
        assert seen.state == "running"


async def test_a_second_controller_is_refused_by_the_machine(tmp_path: Path) -> None:
    async with harness(tmp_path, 1) as h:
        await h.driver.stage(h.pool, h.image, h.place, h.op(epoch=9))
        boots, calls = h.host.boots, h.host.verbs()
        order = Birth(h.place, 1, h.image, h.place, h.born_at())
        verbs: tuple[Callable[[Operation], Awaitable[object]], ...] = (
            lambda op: h.driver.birth(h.pool, order, op), lambda op: h.own.lock_root(h.pool, h.place, "read-only", op),
            lambda op: h.driver.stage(h.pool, h.version("3"), h.place, op),
        )
        for verb in verbs:
            with pytest.raises(Refused, match=r"another controller \(epoch 9\) has this host"):
                await verb(h.op(epoch=8))
        assert h.host.boots == boots and not h.host.trial and h.host.disk.epoch == 9
        assert set(h.host.verbs()[len(calls):]) <= {"arm", "lock", "upload"}, "each verb ends at its first word"
        await h.driver.birth(h.pool, order, h.op(epoch=9))
        with pytest.raises(Refused, match=r"\(epoch 9\)"):
            await h.driver.commit(h.pool, h.place, 1, h.op(epoch=8))
        assert h.host.trial


async def test_another_host_key_stops_before_anything_is_sent(tmp_path: Path) -> None:
    async with harness(tmp_path, 2) as h:
        await h.states()
        await h.host.change_key()
        calls = len(h.host.calls)
        with pytest.raises(Permanent, match="not the pinned one: pinned ssh-ed25519 SHA256:.*shown ssh-ed25519 SHA256:.*anew machine pin rack1"):
            await h.born(1)
        seen = await until(h, lambda seen: "rack1" in seen.unreachable)
        assert "not the pinned one" in seen.unreachable["rack1"] and [item.server for item in seen.incarnations] == ["rack2"]
        assert len(h.host.calls) == calls


async def test_a_machine_that_is_not_pinned_is_never_sent_anything(tmp_path: Path) -> None:
    async with harness(tmp_path, 2) as h:
        h.own.hosts["rack1"]._desired.machines["rack1"] = replace(h.own.hosts["rack1"].machine, host_key="")  # type: ignore[index]
        seen = await h.driver.observe(h.pool)
        assert "no pinned host key; run `anew machine pin rack1`" in seen.unreachable["rack1"]
        with pytest.raises(Refused, match="no pinned host key"):
            await h.born(1)
        assert (await h.own.check("rack1"))["reach"].startswith("machine rack1 has no pinned host key")
        assert h.world["rack1"].calls == [] and [item.server for item in seen.incarnations] == ["rack2"]


async def test_numbers_and_names_that_are_not_there(tmp_path: Path) -> None:
    async with harness(tmp_path, 1) as h:
        await h.born(1)
        for verb in (h.driver.commit, h.driver.revive):
            with pytest.raises(Refused):
                await verb(h.pool, h.place, 7, h.op())
        await h.driver.bury(h.pool, h.place, 7, h.op())
        with pytest.raises(Refused, match="runs"):
            await h.driver.bury(h.pool, h.place, 1, h.op())
        with pytest.raises(Refused, match="has no machine rack9"):
            await h.driver.retire(h.pool, "rack9", 1, h.op())
        with pytest.raises(Refused, match="another image"):
            await h.driver.birth(h.pool, Birth(h.place, 1, h.version("9"), h.place, h.born_at()), h.op())
        with pytest.raises(Refused, match="on trial with incarnation 1"):
            await h.driver.birth(h.pool, Birth(h.place, 2, h.version("9"), h.place, h.born_at()), h.op())
        with pytest.raises(Refused, match="of kind squashfs"):
            await h.driver.stage(h.pool, replace(h.image, kind="squashfs"), h.place, h.op())
        assert await h.states() == {0: "stopped", 1: "running"}


# -- looking -------------------------------------------------------------------------------------------------


async def test_one_slow_machine_delays_nobody(tmp_path: Path) -> None:
    async with harness(tmp_path, 5, glance=0.4) as h:
        await until(h, lambda seen: not seen.unreachable)
        await h.world["rack2"].be(Evil(stall="no-answer"))
        await h.world["rack4"].be(Evil(stall="no-banner"))
        begun = asyncio.get_running_loop().time()
        seen = await until(h, lambda seen: set(seen.unreachable) == {"rack2", "rack4"})
        assert asyncio.get_running_loop().time() - begun < 5.0
        assert "has not answered within 0.4 s; it goes on being asked" in seen.unreachable["rack2"]
        assert {item.server for item in seen.incarnations} == {"rack1", "rack3", "rack5"}
        for _ in range(5):
            await h.driver.observe(h.pool)
        assert sum(call.verb == "observe" for call in h.world["rack2"].calls) <= 3, "one attempt at a time, however often it is looked"
        for name in ("rack2", "rack4"):
            await h.world[name].be(Evil())
        await until(h, lambda seen: not seen.unreachable)


async def test_a_slow_machine_is_not_kept_busy_and_does_not_flap(tmp_path: Path) -> None:
    """Its last answer stands while the next one is awaited; what was done to it since makes an answer worthless."""
    async with harness(tmp_path, 1, glance=0.02) as h:
        await until(h, lambda seen: not seen.unreachable)
        own = h.own.hosts["rack1"]
        own._due, own._stands_until = h.own._clock.now() + 3600, h.own._clock.now() + 3600  # as after a look that took long
        looks = len(h.host.calls)
        for _ in range(20):
            assert not (await h.driver.observe(h.pool)).unreachable
        assert len(h.host.calls) == looks
        own._due = 0.0
        h.host.evil = Evil(stall="no-answer")
        for _ in range(20):
            assert not (await h.driver.observe(h.pool)).unreachable
        own._changes += 1
        own._stands_until = 0.0
        assert "has not answered" in (await h.driver.observe(h.pool)).unreachable["rack1"]


async def test_a_machine_that_boots_is_said_to_boot(tmp_path: Path) -> None:
    async with harness(tmp_path, 1, Pace(boot=0.5), glance=0.1) as h:
        await h.staged()
        birth = asyncio.create_task(h.driver.birth(h.pool, Birth(h.place, 1, h.image, h.place, h.born_at()), h.op()))
        seen = await until(h, lambda seen: bool(seen.unreachable))
        assert "rack1" in seen.unreachable and seen.incarnations == ()
        assert (await birth).state == "running"


async def test_a_machine_that_has_no_helper_is_looked_at_and_locked_all_the_same(tmp_path: Path) -> None:
    async with harness(tmp_path, 2) as h:
        h.host.be_plain()
        await h.host.be(Evil(no_helper=True))
        seen = (await h.driver.observe(h.pool)).by_server["rack1"][0]
        assert (seen.state, seen.digest) == ("running", "") and "no way to boot two images" in seen.note
        assert (await h.driver.probe(h.pool, "rack1", 0)).root == "writable"
        assert "rsyslogd 412 /var/log/syslog" in await h.own.writers(h.pool, "rack1")
        assert "read-only now, and after a reboot" in await h.own.lock_root(h.pool, "rack1", "read-only", h.op())
        assert h.host.disk.fstab == "ro" and (await h.driver.probe(h.pool, "rack1", 0)).root == "read-only"
        with pytest.raises(Refused, match="read-only by itself"):
            await h.own.lock_root(h.pool, "rack2", "read-only", h.op())


async def test_what_a_hostile_machine_says_is_shown_printable(tmp_path: Path) -> None:
    async with harness(tmp_path, 1) as h:
        h.host.evil.os = ESCAPES + "x" * 300
        h.host.evil.clock_off = 366 * 86_400.0
        told = await h.own.check("rack1")
        assert told["reach"] == "ok" and all(value.isprintable() for value in told.values())
        assert "its clock is a year ahead" in told["note"]
        facts = await h.driver.probe(h.pool, "rack1", 0)
        assert facts.os.isprintable() and len(facts.os) <= 128 and facts.boot_id == h.host.boot_id


async def test_probing_tells_what_runs_inside(tmp_path: Path) -> None:
    async with harness(tmp_path, 1) as h:
        await h.born(1)
        facts = await h.driver.probe(h.pool, h.place, 1)
        assert (facts.root, facts.version, facts.boot_id) == ("read-only", "2", h.host.boot_id)
        assert (await h.driver.probe(h.pool, h.place, 0)).note == "it is not running"
        h.host.power_cut()
        assert (await h.driver.probe(h.pool, h.place, 1)).note


async def test_the_console_is_the_machines_file(tmp_path: Path) -> None:
    file = tmp_path / "console.log"
    file.write_bytes(b"old\n" * 100_000 + b"last line before it died\n")
    async with harness(tmp_path, 2) as h:
        h.own.hosts["rack1"].machine = replace(h.own.hosts["rack1"].machine, console=str(file))
        assert (await h.own.last_words(h.pool, "rack1", 1)).endswith("last line before it died\n")
        stream = h.own.console(h.pool, "rack1", 0)
        assert len(await anext(stream)) == 65_536
        with file.open("ab") as more:
            more.write(b"and on\n")
        assert await asyncio.wait_for(anext(stream), DEADLINE) == b"and on\n"
        file.write_bytes(b"anew\n")
        assert await asyncio.wait_for(anext(stream), DEADLINE) == b"anew\n"
        await stream.aclose()  # type: ignore[attr-defined]
        with pytest.raises(Refused, match="no console file"):
            await anext(h.own.console(h.pool, "rack2", 0))
        file.unlink()
        assert await h.own.last_words(h.pool, "rack1", 1) == ""


async def test_a_console_that_is_a_pipe_or_a_line_is_not_waited_for(tmp_path: Path) -> None:
    """Opened like a file it would keep a thread of the daemon for ever."""
    pipe = tmp_path / "console"
    os.mkfifo(pipe)
    async with harness(tmp_path, 1) as h:
        h.own.hosts["rack1"].machine = replace(h.own.hosts["rack1"].machine, console=str(pipe))
        h.host.disk.last_words = "asked of the machine itself\n"
        try:
            assert "machine itself" in await asyncio.wait_for(h.own.last_words(h.pool, "rack1", 0), DEADLINE)
            with pytest.raises(Permanent, match="console is no file"):
                await asyncio.wait_for(anext(h.own.console(h.pool, "rack1", 0)), DEADLINE)
        finally:
            os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))  # whoever waits is let go


async def test_power_is_the_bmcs(tmp_path: Path) -> None:
    async def cycle(machine: Machine, pxe: bool, deadline: float) -> str:
        return f"{machine.name} restarted{' from the network' if pxe else ''}"

    async with harness(tmp_path, 1, cycle=cycle) as h:
        assert await h.own.recover(h.pool, h.place, "pxe", h.op()) == "rack1 restarted from the network"
    async with harness(tmp_path / "without", 1) as h:
        with pytest.raises(Refused, match="no BMC in the fleet file"):
            await h.own.recover(h.pool, h.place, "cycle", h.op())
