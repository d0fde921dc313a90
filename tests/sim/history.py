"""The history of commands: who asked what and when, and what was answered; checked for one single order (I18, I31).

- An acknowledged command is in the journal, once, under its request id and its giver's name; a refused one is not.
- If one command was acknowledged before another was given, it stands before it in the journal.
- One request id has one effect, whoever was killed in between, and one answer.
- What was decided on a generation that was over is refused (pause, abort, and turning a rollout around excepted).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet.core.events import Event

CHECKED = ("rollout.start", "rollout.promote", "rollout.resume")
"""Commands that carry the generation they were decided on."""


@dataclass(slots=True)
class Call:
    """One pressing of a key. `given` and `answered`: turns of the case's own counter. `seq` 0: refused; None: never answered."""

    who: str
    command: str
    request: str
    generation: int | None
    given: int
    answered: int = 0
    seq: int | None = None
    why: str = ""
    rollout: str = ""


class History:
    """All calls of a case."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._turn = 0

    def give(self, who: str, command: str, request: str, generation: int | None) -> Call:
        """A key is pressed."""
        self._turn += 1
        call = Call(who, command, request, generation, self._turn)
        self.calls.append(call)
        return call

    def ack(self, call: Call, answer: Mapping[str, Any]) -> None:
        """The command was acknowledged."""
        self._turn += 1
        call.answered, call.seq, call.rollout = self._turn, int(answer["seq"]), str(answer.get("rollout", ""))

    def refuse(self, call: Call, why: str) -> None:
        """It was refused."""
        self._turn += 1
        call.answered, call.seq, call.why = self._turn, 0, why

    def problems(self, events: Sequence[Event], generations: Mapping[int, int]) -> list[str]:
        """What is wrong. `generations`: seq of a deciding event -> the pool's generation just before it."""
        rows: dict[str, list[Event]] = {}
        for event in events:
            if event.request:
                rows.setdefault(event.request, []).append(event)
        found = [problem for call in self.calls for problem in self._one(call, rows.get(call.request, []), generations)]
        found += [f"I18: request {request} has {len(mine)} effects" for request, mine in rows.items() if len(mine) > 1]
        return found + self._order()

    def _one(self, call: Call, mine: Sequence[Event], generations: Mapping[int, int]) -> list[str]:
        said = f"{call.who}: {call.command} ({call.request})"
        if call.seq is None:
            return []
        if call.seq == 0:
            others = any(other.request == call.request and other.seq for other in self.calls)
            return [f"I18: {said} was refused ({call.why}), but is in the journal"] if mine and not others else []
        if not mine:
            return [f"I18: {said} was acknowledged, but is not in the journal"]
        if mine[0].actor != call.who:
            return [f"I18: {said} stands in the journal as {mine[0].actor}'s"]
        if call.generation is not None and call.command in CHECKED and generations.get(mine[0].seq, 0) > call.generation:
            return [f"I31: {said} was decided on generation {call.generation}, and done on {generations[mine[0].seq]}"]
        return []

    def _order(self) -> list[str]:
        """Acknowledged before given means written before written, but for a repetition, whose answer is an old one."""
        found = []
        first: dict[str, Call] = {}
        given: dict[str, int] = {}
        for call in self.calls:
            given.setdefault(call.request, call.given)  # who asks again, having had no answer, asked then
            if call.seq:
                known = first.setdefault(call.request, call)
                if known.seq != call.seq and known.rollout != call.rollout:
                    found.append(f"I18: request {call.request} was answered with {known.seq} and with {call.seq}")
        done = sorted(first.values(), key=lambda call: call.answered)
        for index, later in enumerate(done):
            for earlier in done[:index]:
                if earlier.answered < given[later.request] and (earlier.seq or 0) >= (later.seq or 0):
                    found.append(f"I31: {earlier.command} was acknowledged before {later.command} was given, but stands after it in the journal")
        return found
