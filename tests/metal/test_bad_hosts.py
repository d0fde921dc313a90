"""What bad machines get: a sentence each, on the real engine, while the others of their pool go on to the new version.

Machines come and go in this process (tests/metal/hosts.py). rack3 is the bad one; rack1 is the canary.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from drivers import refusals
from fleet.core.printable import printable
from tests.metal.evil import ESCAPES, Evil
from tests.metal.host import Host, Pace
from tests.metal.hosts import World
from tests.metal.rolling import Rolling, add_image, client_key, rolling

BAD = "rack3"
GOOD = ("rack1", "rack2")
SETTINGS = {"max_failures": 3, "max_unavailable": 2, "healthy_deadline": "30s"}
Spoil = Callable[[Host], Awaitable[None]]


def evil(knobs: Evil) -> Spoil:
    """A machine with these knobs turned."""
    return lambda host: host.be(knobs)


async def no_power(host: Host) -> None:
    """Nobody listens at its address."""
    host.power_cut()


async def another_user(host: Host) -> None:
    """It knows nobody by the name in the fleet file."""
    host.user = "admin"


async def plain(host: Host) -> None:
    """A system without two slots."""
    host.be_plain()


async def asks_password(host: Host) -> None:
    """sudo is there, and wants a password."""
    host.access = "sudo"
    await host.be(Evil(sudo_password=True))


async def stranger(host: Host) -> None:
    """Somebody else answers at its address."""
    await host.change_key()


async def rolled(folder: Path, spoil: Spoil, then: Callable[[Rolling, World], Awaitable[None]] | None = None) -> tuple[str, Host]:
    """One rollout of three machines, one of them spoilt; its sentence when the others are done."""
    add_image(folder, "2")
    async with World(3, Pace(boot=0.05)) as world:
        world.welcome_key(client_key(folder))
        machines = world.machines()
        await spoil(world[BAD])
        async with rolling(folder, machines, world.service_port, SETTINGS) as made:
            await made.until(lambda: sum(host.serving and health.healthy for host in world for health in made.engine.views["web"].health.values()
                                         ) >= len(GOOD), "the good ones are seen")
            await made.start("2")
            await made.until(lambda: all(made.rollout.runs[name].step == "serving" for name in GOOD), "the others go on")
            if then is not None:
                await then(made, world)
            else:
                await made.until(lambda: made.sentence(BAD) and not made.busy(BAD), "the bad one has its sentence")
            assert [world[name].version for name in GOOD] == ["2", "2"]
            assert all(world[name].verbs()[-1] == "bless" and not world[name].strange for name in GOOD)
            return made.sentence(BAD), world[BAD]


CASES: list[tuple[str, Spoil, str]] = [
    ("unreachable", no_power, "refused"),
    ("wrong-user", another_user, "does not accept anew's key for user root"),
    ("key-refused", evil(Evil(refuses_key=True)), "does not accept anew's key for user root.*authorized_keys"),
    ("host-key", stranger, "host key is not the pinned one.*pinned ssh-ed25519 SHA256.*shown ssh-ed25519 SHA256"),
    ("sudo-password", asks_password, "NOPASSWD"),
    ("no-rauc", evil(Evil(no_backend=True)), "no way to boot two images"),
    ("unknown-layout", plain, "no way to boot two images"),
    ("unknown-slot", evil(Evil(lie="no-slot")), "which slot it booted"),
    ("disk-full", evil(Evil(disk_full=True)), "MiB free and the image needs"),
    ("read-only-data", evil(Evil(read_only_data=True)), "data partition is read-only"),
    ("no-helper", evil(Evil(no_helper=True)), "no anew-host"),
    ("json-of-100-MB", evil(Evil(flood="huge-json")), "section of 104857600 bytes|more than 1 MiB"),
    ("a-million-lines", evil(Evil(flood="million-lines")), "more than 1 MiB|more than 4000 lines"),
    ("no-banner", evil(Evil(stall="no-banner")), "has not answered within|no answer"),
    ("half-an-answer", evil(Evil(stall="half-answer")), "has not answered within|no answer"),
    ("cut-at-a-byte", evil(Evil(cut_after=1500)), "SSH session failed|breaks off|lost|broken pipe"),
]


@pytest.mark.parametrize(("spoil", "sentence"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
async def test_one_sentence_and_the_others_go_on(tmp_path: Path, spoil: Spoil, sentence: str) -> None:
    said, host = await rolled(tmp_path, spoil)
    assert re.search(sentence, said), said
    assert said == printable(said, 1000), "fit to be shown"
    assert BAD in said or "rack" not in said
    assert host.boots <= 1 and host.version in ("1", ""), "nothing was written where it was not to be"
    assert not {"arm", "reboot", "activate", "layout"} & set(host.verbs())
    assert not host.strange


async def test_a_refused_key_is_no_storm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the pool is looked at, and whatever is waited for. The pause is longer than any machine takes for all that."""
    monkeypatch.setattr(refusals, "FIRST", 3600.0)

    async def many_looks(made: Rolling, world: World) -> None:
        for _ in range(5):
            looked = made.engine.views["web"].observed
            made.engine.views["web"].look.set()
            await made.until(lambda before=looked: made.engine.views["web"].observed is not before, "another look")  # type: ignore[misc]

    _, host = await rolled(tmp_path, evil(Evil(refuses_key=True)), many_looks)
    assert (host.door.opened, host.door.keys_shown) == (1, 1), "one connection and one key, then a pause"


@pytest.mark.parametrize("off", [366 * 86400.0, -366 * 86400.0], ids=["ahead", "behind"])
async def test_a_clock_that_is_a_year_off_is_told_and_harms_nobody(tmp_path: Path, off: float) -> None:
    async def it_rolls_too(made: Rolling, world: World) -> None:
        await made.until(lambda: made.rollout.runs[BAD].step == "serving", "it is rolled as well")
        await made.until(lambda: any("its clock is a year" in seen.note for seen in made.seen(BAD)), "its clock is told of")
        assert (world[BAD].version, world[BAD].trial) == ("2", False)

    await rolled(tmp_path, evil(Evil(clock_off=off)), it_rolls_too)


@pytest.mark.parametrize("os", [ESCAPES, "x" * 10_000, "", "ok", "error busy x", "--- rauc 99999999"], ids=["escapes", "10-kB", "empty", "ok", "error", "section"])
async def test_a_hostile_os_release_is_shown_printable_or_not_at_all(tmp_path: Path, os: str) -> None:
    """The pretended helper passes on what it finds; the real one shortens it to 128 printable bytes."""
    async def shown(made: Rolling, world: World) -> None:
        facts = [facts.os for (name, _), facts in made.engine.views["web"].facts.items() if name == BAD]
        assert all(text == printable(text) and len(text) <= 128 for text in facts)

    said, _ = await rolled(tmp_path, evil(Evil(os=os)), shown)
    assert said == printable(said)


async def test_a_rauc_that_starts_late_is_waited_for(tmp_path: Path) -> None:
    """After each boot sshd answers before RAUC does."""
    async def slow(host: Host) -> None:
        host.pace = Pace(boot=0.05, late=1.0)
        host.started -= 60.0  # this boot was a minute ago

    async def it_rolls_too(made: Rolling, world: World) -> None:
        await made.until(lambda: made.rollout.runs[BAD].step == "serving", "it is rolled as well")

    said, host = await rolled(tmp_path, slow, it_rolls_too)
    assert host.boots == 2 and "incarnation" in said


async def test_a_machine_whose_lock_is_held_says_who_holds_it(tmp_path: Path) -> None:
    """It is asked again for as long as a bundle may take to be brought; a person reads why meanwhile."""
    async def held(made: Rolling, world: World) -> None:
        await made.until(lambda: "operation 00000000000000bb holds" in made.sentence(BAD), "it says who holds its lock")
        await world[BAD].be(Evil())
        await made.until(lambda: made.rollout.runs[BAD].step == "serving", "it goes on when it is let go")

    await rolled(tmp_path, evil(Evil(locked_by="00000000000000bb")), held)


async def test_two_controllers(tmp_path: Path) -> None:
    """A machine that has seen a higher epoch is another daemon's."""
    async def seen_by_another(host: Host) -> None:
        host.disk.epoch = 99

    said, host = await rolled(tmp_path, seen_by_another)
    assert re.search("another controller.*99", said), said
    assert not set(host.verbs()) - {"upload"}


async def test_a_machine_that_dies_in_its_reboot_keeps_only_its_own_place(tmp_path: Path) -> None:
    """The place it takes is one of the budget; the others go on beside it."""
    async def dies(host: Host) -> None:
        host.pace = Pace(boot=3600.0)

    said, host = await rolled(tmp_path, dies, _until_gone)
    assert re.search("booting|not come back|not answer|refused", said), said
    assert not host.serving


async def _until_gone(made: Rolling, world: World) -> None:
    await made.until(lambda: world[BAD].verbs()[-1:] == ["reboot"] and not world[BAD].serving, "it was told to reboot")
    await asyncio.sleep(0)
