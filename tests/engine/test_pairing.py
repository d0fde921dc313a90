"""Who is here and who drives, in virtual time: the seat is asked for, granted, kept, lost; and what each may do meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fleet.api.office import Caller
from fleet.api.wire import COMMANDS
from fleet.core.errors import Refused
from fleet.core.events import Draft
from fleet.core.state import State
from fleet.engine import pairing
from fleet.engine.hub import Hub
from fleet.engine.inbox import Inbox
from fleet.engine.loop import Engine
from fleet.engine.pairing import FREE, GRACE, IDLE, SILENCE, Pairing
from fleet.engine.record import Record
from tests.clocks import VirtualClock, run_virtual
from tests.scenarios.memory import MemoryJournal

ANA, BEN, EVE = Caller(1, 1, 101, "ana", (), "pts/1"), Caller(2, 2, 102, "ben", (), "pts/2"), Caller(3, 3, 103, "eve", (), "pts/3")
SHELL = Caller(1, 1, 111, "ana", (), "pts/9")
"""Another process of ana's."""


class House:
    """A pairing with the journal and the hub it writes to; `frames` is what a terminal would hear."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.journal = MemoryJournal(self.clock)
        self.record = Record(self.journal, State())
        self.hub = Hub(self.clock, lambda pool, servers: (), self.record.journal_page)
        self.over = False
        self.roles = {"ana": "operator", "ben": "operator", "eve": "observer"}
        engine = SimpleNamespace(clock=self.clock, record=self.record, hub=self.hub, views={})
        self.pairing = Pairing(lambda: cast(Engine, engine), lambda caller: self.roles[caller.user])
        self.frames: list[Mapping[str, Any]] = []
        self._open: dict[Caller, ExitStack] = {}
        self._asked = 0

    def come(self, *callers: Caller) -> None:
        for caller in callers:
            self._open[caller] = ExitStack()
            self._open[caller].enter_context(self.pairing.here(caller, lambda: self.over))

    def go(self, caller: Caller) -> None:
        self._open.pop(caller).close()

    async def ask(self, caller: Caller, verb: str) -> str:
        self._asked += 1
        answer = await getattr(self.pairing, verb)((caller.uid, caller.pid), caller.actor, {"request": f"r{self._asked}"})
        return str(answer["message"])

    def may(self, caller: Caller, command: str = "rollout.start") -> bool:
        try:
            self.pairing.check((caller.uid, caller.pid), command)
        except Refused:
            return False
        return True

    @property
    def roles_shown(self) -> dict[str, str]:
        return {row["user"]: row["role"] for row in self.pairing.rows()}

    def told(self) -> list[tuple[str, str, str]]:
        return [(event.type, event.actor, " ".join(map(str, event.data.values()))) for event in self.journal.events]

    async def listen(self) -> None:
        async with self.hub.subscribe(0, {"frame": "hello", "seq": 0}) as frames:
            async for frame in frames:
                self.frames.append(frame)


def play(story: Callable[[House], Awaitable[None]]) -> None:
    async def run() -> None:
        house = House()
        house.record.listen(house.hub.on_event)
        jobs = [asyncio.ensure_future(house.pairing.run()), asyncio.ensure_future(house.listen())]
        await house.clock.sleep(1.0)
        await story(house)
        for caller in list(house._open):
            house.go(caller)
        for job in jobs:
            job.cancel()

    run_virtual(run())


def test_without_anybody_in_the_seat_everybody_may_what_they_may() -> None:
    async def story(house: House) -> None:
        house.come(ANA, BEN)
        assert house.may(ANA) and house.may(BEN) and house.may(SHELL)
        assert house.roles_shown == {"ana": "co-driver", "ben": "co-driver"}

    play(story)


def test_only_the_driver_starts_things_and_everybody_may_stop_them() -> None:
    async def story(house: House) -> None:
        house.come(ANA, BEN)
        assert "you have the driver's seat" in await house.ask(ANA, "take")
        assert house.roles_shown == {"ana": "driver", "ben": "co-driver"}
        for command in COMMANDS:
            assert house.may(ANA, command)
            assert house.may(SHELL, command), "the driver's own shell is the driver's"
            assert house.may(BEN, command) is (command in FREE)
            assert house.may(Caller(2, 2, 222, "ben", ()), command) is (command in FREE), "a one-shot command of somebody else"
        assert {"rollout.pause", "rollout.abort", "remark"} <= FREE and not {"rollout.start", "rollout.resume", "rollback.start"} & FREE
        house.come(SHELL)
        assert not house.may(SHELL), "a second terminal of the driver's user is another person at the table"
        with pytest.raises(Refused, match=r"ana@pts/1 has the driver's seat, and only the driver starts things .* ask for it with T: .* 30 s of silence") as caught:
            house.pairing.check((2, 102), "rollout.start")
        assert caught.value.code == "seat"

    play(story)


def test_the_driver_hands_the_seat_over_or_keeps_it() -> None:
    async def story(house: House) -> None:
        house.come(ANA, BEN)
        await house.ask(ANA, "take")
        assert "ana@pts/1 is asked for the driver's seat" in await house.ask(BEN, "take")
        with pytest.raises(Refused, match="you have asked for it already"):
            await house.ask(BEN, "take")
        with pytest.raises(Refused, match="you do not have the driver's seat; ana@pts/1 has it"):
            await house.ask(BEN, "give")
        assert house.pairing.rows()[1]["asks_until"] is not None
        assert "ben@pts/2 is told" in await house.ask(ANA, "keep")
        await house.clock.sleep(2 * SILENCE)
        assert house.may(ANA) and not house.may(BEN), "no is no, however long it is silent then"
        with pytest.raises(Refused, match="nobody asks"):
            await house.ask(ANA, "keep")
        await house.ask(BEN, "take")
        assert "ben@pts/2 has the driver's seat now" in await house.ask(ANA, "give")
        assert house.may(BEN) and not house.may(ANA)
        assert "any operator may start" in await house.ask(BEN, "give")
        assert house.may(BEN) and house.may(ANA)
        assert house.told() == [
            ("seat-taken", "ana@pts/1", "ana@pts/1 it was free"), ("seat-asked", "ben@pts/2", "ana@pts/1"), ("seat-kept", "ana@pts/1", "ben@pts/2"),
            ("seat-asked", "ben@pts/2", "ana@pts/1"), ("seat-taken", "ana@pts/1", "ben@pts/2 handed over"), ("seat-left", "ben@pts/2", "given up")]

    play(story)


def test_silence_grants_the_seat_after_thirty_seconds_and_not_before() -> None:
    async def story(house: House) -> None:
        house.come(ANA, BEN)
        await house.ask(ANA, "take")
        await house.ask(BEN, "take")
        await house.clock.sleep(SILENCE - 0.5)
        assert not house.may(BEN)
        house.pairing.show((1, 101), {"screen": "fleet"})
        await house.clock.sleep(1.0)
        assert house.may(BEN) and not house.may(ANA), "who moves about and does not answer is silent"
        assert house.told()[-1] == ("seat-taken", "engine", "ben@pts/2 30 s of silence of ana@pts/1")
        assert house.frames[-1]["people"][0]["user"] == "ben", "everybody is told"

    play(story)


def test_the_seat_is_lost_with_its_connection() -> None:
    async def story(house: House) -> None:
        house.come(ANA, BEN)
        await house.ask(ANA, "take")
        house.go(ANA)
        assert house.may(BEN) and house.roles_shown == {"ben": "co-driver"}
        house.come(ANA)
        assert house.roles_shown == {"ben": "co-driver", "ana": "co-driver"}, "who comes back sits down again by a key"
        await house.ask(ANA, "take")
        await house.ask(BEN, "take")
        house.go(ANA)
        assert house.roles_shown == {"ben": "driver"}, "it falls to who asks for it"
        house.go(BEN)
        await house.clock.sleep(1.0)
        assert [kind for kind, _, _ in house.told()] == ["seat-taken", "seat-left", "seat-taken", "seat-asked", "seat-taken", "seat-left"]
        assert house.told()[-1][2] == "the terminal of ben@pts/2 went away"

    play(story)


def test_a_second_stream_of_a_terminal_is_nobody_new() -> None:
    async def story(house: House) -> None:
        house.come(ANA)
        await house.ask(ANA, "take")
        with house.pairing.here(ANA, lambda: False) as number:
            assert number == 1 and len(house.pairing.rows()) == 1
        assert house.roles_shown == {"ana": "driver"}

    play(story)


def test_a_reload_ends_every_stream_and_costs_nobody_the_seat() -> None:
    async def story(house: House) -> None:
        house.come(ANA, BEN)
        await house.ask(ANA, "take")
        house.over = True
        house.go(ANA)
        house.go(BEN)
        house.over = False
        assert not house.may(BEN)
        await house.clock.sleep(GRACE / 2)
        house.come(ANA)
        await house.clock.sleep(GRACE)
        assert house.roles_shown == {"ana": "driver"}, "ben did not come back"
        house.over = True
        house.go(ANA)
        await house.clock.sleep(GRACE + 1.0)
        assert house.roles_shown == {}
        assert [kind for kind, _, _ in house.told()] == ["seat-taken", "seat-left"]

    play(story)


def test_a_seat_that_nobody_uses_falls_empty_unless_something_rolls() -> None:
    async def story(house: House) -> None:
        house.come(ANA)
        await house.ask(ANA, "take")
        await house.clock.sleep(IDLE - 10)
        house.pairing.show((1, 101), {"screen": "servers"})
        await house.clock.sleep(IDLE - 10)
        assert house.roles_shown == {"ana": "driver"}, "every sign counts"
        assert house.may(SHELL, "server.hold")
        await house.clock.sleep(IDLE - 10)
        assert house.roles_shown == {"ana": "driver"}, "what she types in a shell, too"
        rolls = SimpleNamespace(ended=False)
        cast(Any, house.record.state.rollouts)["r1"] = rolls
        await house.clock.sleep(3 * IDLE)
        assert house.roles_shown == {"ana": "driver"}
        rolls.ended = True
        await house.clock.sleep(IDLE + 1)
        assert house.roles_shown == {"ana": "co-driver"}
        assert house.told()[-1] == ("seat-left", "engine", "nothing rolls, and 10 minutes without a sign of ana@pts/1")

    play(story)


def test_who_is_no_operator_any_more_drives_no_more() -> None:
    async def story(house: House) -> None:
        house.come(ANA, BEN)
        await house.ask(ANA, "take")
        house.roles["ana"] = "observer"
        house.come(EVE)
        await house.clock.sleep(1.0)
        assert house.roles_shown == {"ana": "observer", "ben": "co-driver", "eve": "observer"}
        assert house.told()[-1][2] == "ana@pts/1 is no operator any more"

    play(story)


def test_only_who_is_here_may_sit_or_be_followed() -> None:
    async def story(house: House) -> None:
        for verb in ("take", "give", "keep"):
            with pytest.raises(Refused, match="only a terminal that is attached|you do not have the driver's seat; nobody has it"):
                await house.ask(ANA, verb)
        with pytest.raises(Refused, match="open `anew`"):
            house.pairing.show((1, 101), {"screen": "fleet"})
        house.come(ANA)
        house.pairing.show((1, 101), {"screen": "rollout\x1b[2J", "server": "web-3" + "x" * 4000})
        place = house.pairing.rows()[0]["place"]
        assert "\x1b" not in place["screen"] and len(place["server"]) <= 128

    play(story)


def test_what_the_empty_seat_allowed_is_written_after_how_it_became_empty() -> None:
    async def story(house: House) -> None:
        inbox = Inbox(house.pairing._engine, lambda key: (), lambda actor: asyncio.sleep(0.0, ""), lambda: "", house.pairing)
        house.come(ANA, BEN)
        await house.ask(ANA, "take")
        house.go(ANA)
        await inbox.command(BEN.actor, {"command": "remark", "text": "now I", "request": "r9"}, BEN.uid, BEN.pid)
        assert [kind for kind, *_ in house.told()] == ["seat-taken", "seat-left", "remark"]

    play(story)


def test_a_crowd_that_moves_about_all_the_time_is_told_at_a_steady_pace() -> None:
    async def story(house: House) -> None:
        house.come(ANA, BEN)
        await house.clock.sleep(1.0)
        before = len(house.frames)
        for turn in range(1000):
            house.pairing.show((1, 101), {"screen": f"s{turn}"})
            await house.clock.sleep(0.001)
        assert len(house.frames) - before <= 1.0 / pairing.PACE + 2
        await house.clock.sleep(1.0)
        assert house.frames[-1]["people"][0]["place"] == {"screen": "s999"}

    play(story)


def test_a_crowd_is_told_less_often() -> None:
    async def story(house: House) -> None:
        house.roles |= {f"guest{number}": "observer" for number in range(100)}
        crowd = [Caller(1000 + number, 1000, 5000 + number, f"guest{number}", ()) for number in range(100)]
        house.come(*crowd)
        await house.clock.sleep(30.0)
        before = len(house.frames)
        for turn in range(1000):
            house.pairing.show((1000 + turn % 100, 5000 + turn % 100), {"screen": f"s{turn}"})
            await house.clock.sleep(0.1)
        assert 1 <= len(house.frames) - before <= 100 / pairing.SLOWEST + 2
        house.come(ANA)
        assert "you have the driver's seat" in await house.ask(ANA, "take"), "commands wait for none of it"
        assert not house.may(crowd[0])

    play(story)


def test_a_listener_that_is_stopped_holds_nobody_up() -> None:
    async def story(house: House) -> None:
        house.come(ANA, BEN)
        async with house.hub.subscribe(0, {"frame": "hello", "seq": 0}):  # never reads
            for turn in range(5000):
                house.hub.tell({"frame": "people", "people": [], "turn": turn})
                if turn % 1000 == 0:
                    await house.clock.sleep(0.0)
            assert "you have the driver's seat" in await house.ask(ANA, "take")
            await house.record.write(Draft("remark", data={"text": "still here"}))
            await house.clock.sleep(1.0)
        assert house.told()[-1][0] == "remark"

    play(story)
