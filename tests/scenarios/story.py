"""A story: a short scenario file, played on the stage, told as a trace that reads like one.

A scenario is TOML: `title`, `rules` (of rollout.md) that it shows, `counter` (rules of which it is the counter-example: what
happens where the rule does not hold back, or must not be taken too far), `versions`, `faults` by version, `servers`, further keys of
the pool and of its `rollout`, `others` (further pools by name, each with the versions of its own image), `in_place` (servers are
machines with two slots), `places` (so many hypervisors: sim-1, sim-2 …), `before` (the version the pool runs when the story begins;
left out: it is empty), `settle` (real seconds to wait for a hook before time jumps), and the script:

    ana: start 2            a command, given by ana (the words of `_COMMANDS`); `… outside: why` lets it go on outside the windows
    when web-2 booting      until the server's run is at that step; `when paused`: until the rollout is; `when rests`
    after 5s                time passes
    world: kill web-2       what happens by itself (the words of `_happen`); `world: publish 2`: a new version is catalogued
    daemon: killed          and started again, on the same journal
    ana: drives             her terminal drives the rollout (`start 2 driven` says that it will), until `ana: leaves`
"""

from __future__ import annotations

import json
import re
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from drivers.sim import Faults
from drivers.sim.faults import Outcome
from fleet.cli.wait import EXIT_BY_STATE
from fleet.core.automatic import AUTHOR
from fleet.core.errors import AnewError
from fleet.core.events import Event
from fleet.core.grammar import parse_duration
from fleet.core.lifecycle import ENDED, ROLLOUT_STATES
from fleet.engine.plans import draw_plan
from fleet.engine.steer import driving
from fleet.engine.tell import words
from fleet.engine.view import PoolView
from tests.clocks import run_virtual
from tests.scenarios.stage import Stage, staged

HERE = Path(__file__).parent
STORIES = HERE / "stories"
TRACES = HERE / "traces"
SILENT = {"server-healthy", "daemon-started", "command-refused"}
ROLLOUT = {"canaries": 0, "promotion": "auto", "min_healthy_time": "3s", "healthy_deadline": "15s", "progress_deadline": "60s", "retain": "10m"}


class Story:
    """One scenario file."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        self.title: str = data["title"]
        self.rules: list[int] = data["rules"]
        self.counter: list[int] = data.get("counter", [])
        self.before: str = data.get("before", "")
        self.script: list[str] = [line for line in data["script"].splitlines() if line.strip()]
        self.settle: float = data.get("settle", 0.0)
        self.fleet = _fleet(data)
        self.watch: Callable[[Stage], None] = lambda stage: None
        """Called when the stage stands, for tests that look at more than the trace."""

    def about(self) -> str:
        """The rules that it shows."""
        shown = [f"rules {', '.join(map(str, self.rules))}"] if self.rules else []
        return ", ".join([*shown, *(f"counter-example to rule {rule}" for rule in self.counter)])

    def trace(self) -> str:
        """Play it. Raises Broken when a promise is."""
        return run_virtual(self._play(), settle=self.settle)

    async def _play(self) -> str:
        with tempfile.TemporaryDirectory() as folder:
            async with staged(self.fleet, folder, Faults()) as stage:
                teller = Teller(stage, self)
                self.watch(stage)
                if self.before:
                    await stage.birth(self.before)
                    await stage.clock.sleep(1.0)
                assert stage.oracle is not None
                stage.oracle.least, stage.oracle.most_extra = stage.pool.servers if self.before else 0, 0
                await stage.observed()
                teller.begin()
                for line in self.script:
                    await teller.obey(line.strip())
                await stage.clock.sleep(1.0)
                return teller.end()


def _fleet(data: Mapping[str, Any]) -> str:
    faults = ", ".join(f'"{version}" = "{fault}"' for version, fault in data.get("faults", {}).items())
    pool = {"driver": "sim", "servers": data["servers"], "image": "web", "mode": "manual", **data.get("pool", {})}
    rollout = {**ROLLOUT, **data.get("rollout", {})}
    hooks = data.get("hooks", {})
    access = {"operators": ["user:ana", "user:bob", "user:cid"], "approvers": ["user:eve"]} if "approvals" in pool else {}
    jitter = data.get("jitter", 0.0)
    slots = ", in_place = true" if data.get("in_place") else f", places = {data['places']}" if data.get("places") else ""
    return "\n".join([
        "[fleet]", 'name = "story"', "[images.web]", f"simulated = {json.dumps(data['versions'])}", "[pools.web]", *_lines(pool),
        f'sim = {{ seed = 1, boot = "2s", jitter = {jitter}{slots}, faults = {{ {faults} }} }}', "[pools.web.rollout]", *_lines(rollout),
        *(["[pools.web.hooks]", *_lines(hooks)] if hooks else []), *_others(data.get("others", {})), *(["[access]", *_lines(access)] if access else [])]) + "\n"


def _others(pools: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, given in pools.items():
        pool = {"driver": "sim", "servers": 1, "image": name, "mode": "manual", **given}
        lines += [f"[images.{name}]", f"simulated = {json.dumps(pool.pop('versions'))}", f"[pools.{name}]", *_lines(pool),
                  'sim = { seed = 1, boot = "2s", jitter = 0.0 }', f"[pools.{name}.rollout]", *_lines(ROLLOUT)]
    return lines


def _lines(table: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_value(value)}" for key, value in table.items()]


def _value(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)


class Teller:
    """Plays the script and writes the trace."""

    def __init__(self, stage: Stage, story: Story) -> None:
        self.stage = stage
        self.story = story
        self.lines: list[str] = []
        self.started = 0.0
        self.telling = False
        self.names: dict[str, str] = {}
        self.waits: dict[str, str] = {}
        self.looked: dict[str, int] = {}
        self.planned: dict[str, str] = {}
        self.driving: dict[str, AsyncExitStack] = {}
        self.people: dict[str, int] = {}
        self.auto: dict[str, str] = {}
        stage.on_event = self.hear
        stage.on_waits = self.hear_waits
        stage.engine.on_waits = self.hear_waits

    def begin(self) -> None:
        self.telling, self.started = True, self.stage.clock.now()

    def tell(self, who: str, what: str) -> None:
        if self.telling:
            what = re.sub(r"(plan|plan approve) [0-9a-f]{6,16}", r"\1 …", what)
            for long, short in self.names.items():
                what = what.replace(long, short)
            self.lines.append(f"{self.stage.clock.now() - self.started:8.2f}  {who:<8} {what}".rstrip())

    def hear(self, event: Event) -> None:
        if event.rollout and event.rollout not in self.names and self.telling:
            self.names[event.rollout] = f"R{len(self.names) + 1}"
        if event.type in SILENT:
            return
        said = re.sub(r"until \S+ \S+Z", "", words(event)).rstrip()
        if event.type == "rollout-started" and event.actor == AUTHOR:
            said += ", begun by anew itself"
        if event.type == "step-failed" and event.data["last_words"]:
            said += f" ({event.data['last_words'].splitlines()[-1].split('] ')[-1]})"
        self.tell(event.server or self.names.get(event.rollout, "") or event.pool, said)

    def hear_waits(self, view: PoolView) -> None:
        """What keeps a server or mode auto waiting, when the reason is a new one."""
        if view.auto.waits != self.auto.get(view.pool.name, ""):
            self.auto[view.pool.name] = view.auto.waits
            if view.auto.waits:
                self.tell(view.pool.name, f"… auto: {view.auto.waits}")
        for name, wait in sorted(view.waits.items()):
            if wait.reason.startswith(("waits", "paused")) and self.waits.get(name) != wait.reason:
                self.tell(name, f"… {wait.reason}")
            self.waits[name] = wait.reason

    def end(self) -> str:
        """The whole trace: title, story, and what the oracle saw."""
        oracle, pool = self.stage.oracle, self.stage.pool
        assert oracle is not None
        serves = self.stage.serving()
        now = ", ".join(f"{name} {serves.get(name, '-')}" for name in pool.server_names)
        state = self.stage.state.pool(pool.name)
        pointers = f"stable {_version(state.stable)}, previous {_version(state.previous)}"
        rejected = ", ".join(item.version for item in state.rejected.values())
        limits = f"{oracle.limits.surge} extra and {oracle.limits.unavailable} missing allowed"
        return "\n".join([
            f"# {self.story.title}", f"# {self.story.about()} · {pool.servers} servers, {limits}", "", *self.lines, "",
            f"serving:  {now}", f"pointers: {pointers}" + (f", rejected {rejected}" if rejected else ""),
            f"oracle:   never fewer than {oracle.least} well, never more than {oracle.most_extra} extra", ""])

    # --- the script

    async def obey(self, line: str) -> None:
        """One line of the script."""
        if line.startswith("when "):
            await self._when(line.removeprefix("when ").split())
        elif line.startswith("after "):
            await self.stage.clock.sleep(parse_duration(line.removeprefix("after ").strip()))
        elif line == "daemon: killed":
            self.tell("daemon", "is killed, and another one starts")
            await self.stage.restart()
            await self.stage.observed()
        elif line.startswith("world: "):
            self.tell("world", line.removeprefix("world: "))
            self._happen(line.removeprefix("world: ").split())
        else:
            who, _, what = line.partition(": ")
            await self._command(who, what)

    async def _when(self, condition: list[str]) -> None:
        stage, first = self.stage, condition[0]
        if first == "rests":
            await stage.settle()
            return
        await stage.until(lambda: self._is(first, condition[-1]), what=" ".join(condition))

    def _is(self, first: str, second: str) -> bool:
        stage = self.stage
        if first in ENDED:
            return stage.rollout is None and stage.last.state == first
        if first in ROLLOUT_STATES:
            return stage.last.state == first
        if first == "idle":
            return stage.state.active(second) is None
        if first == "buried":
            return len(stage.world.lives) == int(second)
        return stage.last.runs[first].step == second

    def _happen(self, event: list[str]) -> None:
        stage, what = self.stage, event[0]
        if what == "kill":
            stage.world.kill(event[1])
        elif what == "publish":
            stage.publish(event[1])
        elif what == "taint":
            stage.world.taint(event[1])
        elif what == "loses":
            stage.world.bury(stage.world.find(event[1], int(event[2])))
        elif what == "silent":
            stage.faults.unreachable[event[1]] = "no route to it"
        elif what in ("deaf", "hears"):
            stage.faults.deaf = what == "deaf"
            stage.faults.mute = set()
        elif what == "mute":
            stage.faults.mute |= set(event[1:])
        elif what == "answers":
            stage.faults.unreachable.clear()
        elif what == "fails":
            outcome: Outcome = event[2]  # type: ignore[assignment]
            stage.faults.fail(event[1], outcome, server=event[3] if event[3:] and event[3] != "any" else "", times=int(event[4]) if len(event) > 4 else 1)
        else:
            raise AssertionError(f"nothing like {event} can happen")

    async def _command(self, who: str, what: str) -> None:
        verb, *rest = what.split()
        if verb == "looks":
            self.looked[who] = self.stage.state.pool("web").generation
            self.tell(who, "looks at the pool")
            return
        if verb in ("drives", "leaves"):
            await self._drives(who, verb)
            return
        if verb == "plans":
            self._plan(who, rest)
            return
        if verb == "waits":
            state = self.stage.last.state
            self.tell(who, f"waits — it ends with {EXIT_BY_STATE[state]} ({state})" if state in EXIT_BY_STATE else f"waits — and goes on waiting ({state})")
            return
        command, request = self._request(who, verb, rest)
        try:
            answer = await self.stage.inbox.command(who, {"command": command, "pool": "web", **request}, self._uid(who))
        except AnewError as error:
            self.tell(who, f"{what} — refused: {error}")
            return
        if answer.get("rollout"):
            self.names.setdefault(answer["rollout"], f"R{len(self.names) + 1}")
        self.tell(who, f"{what} — {answer['message']}")

    def _uid(self, who: str) -> int:
        """`ana@pts/2` is ana at another terminal: the same person to the kernel."""
        return self.people.setdefault(who.partition("@")[0], 1001 + len(self.people))

    async def _drives(self, who: str, verb: str) -> None:
        """A stream of events that declares to drive the rollout; it ends with the terminal, or with the daemon."""
        await self.driving.pop(who, AsyncExitStack()).aclose()
        if verb == "drives":
            self.driving[who] = AsyncExitStack()
            await self.driving[who].enter_async_context(driving(self.stage.engine, self.stage.last.id, who))
        self.tell(who, "drives the rollout from a terminal" if verb == "drives" else "goes away with the terminal")

    def _plan(self, who: str, rest: list[str]) -> None:
        request = {"pool": "web", "kind": "rollback"} if rest == ["rollback"] else {"pool": "web", "to": rest[0]}
        try:
            _, plan = draw_plan(self.stage.engine, request)
        except AnewError as error:
            self.tell(who, f"plans {' '.join(rest)} — refused: {error}")
            return
        self.stage.inbox.remember(plan)
        self.planned[who] = plan.hash
        self.tell(who, f"plans {' '.join(rest)}:")
        for run in plan.runs:
            how = f" {run.planned}, {run.target.kind} of {run.target.number}" if run.target else ""
            self.lines.append(f"{'':19}{run.server}: {run.action}{how}{', canary' if run.canary else ''} ({run.reason})")

    def _request(self, who: str, verb: str, rest: list[str]) -> tuple[str, dict[str, Any]]:
        request: dict[str, Any] = {}
        overrides: dict[str, str] = {}
        plain: list[str] = []
        if "outside:" in rest:
            rest, why = rest[: rest.index("outside:")], rest[rest.index("outside:") + 1:]
            request["outside"] = " ".join(why)
        for word in rest:
            key, equals, value = word.partition("=")
            if word == "driven":
                request["driven"] = True
            elif word == "as-seen":
                request["generation"] = self.looked[who]
            elif word == "as-planned":
                request["plan_hash"] = self.planned[who]
            elif key == "request":
                request["request"] = value
            elif key == "pool":
                request["pool"] = value
            elif key == "older-than":
                request["plan"] = {**request.get("plan", {}), "older_than": value}
            elif key == "servers":
                request["plan"] = {**request.get("plan", {}), "servers": value.split(",")}
            elif equals:
                overrides[key] = value
            else:
                plain.append(word)
        if verb == "set":
            return "rollout.set", {**request, "overrides": overrides}
        if overrides:
            request["plan"] = {**request.get("plan", {}), "overrides": overrides}
        if verb == "start":
            return "rollout.start", {**request, "plan": {**request.get("plan", {}), **({"to": plain[0]} if plain else {})}}
        if verb in ("approve", "withdraw"):
            return f"plan.{verb}", {**request, **({"plan_hash": plain[0]} if plain else {})}
        if verb == "rollback":
            return "rollback.start", {**request, **({"server": plain[0]} if plain else {})}
        if verb in ("hold", "release"):
            return f"server.{verb}", {**request, "server": plain[0], "why": " ".join(plain[1:])}
        if verb in ("reject", "unreject"):
            return f"image.{verb}", {**request, "version": plain[0], "why": " ".join(plain[1:])}
        if verb == "root":
            return "root.set", {**request, "mode": plain[0]}
        return f"rollout.{verb}", request


def _version(image: Any) -> str:
    return image.version if image else "none"


def stories() -> list[Path]:
    """All scenario files, in order."""
    return sorted(STORIES.glob("*.toml"))


def golden(path: Path) -> Path:
    """Where the story's trace is kept."""
    return TRACES / f"{path.stem}.txt"
