"""Drawing a plan: the exact list of what a rollout will do to whom, in order, with reasons, and a hash over it.

Pure. The daemon draws a plan to show it, and draws it again when it is to be carried out: equal hashes mean that the
fleet is still what the person looked at (rollout.md rule 12).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from fleet.core import budget, rootmode
from fleet.core.codec import image_out, run_out, settings_out
from fleet.core.desired import RolloutSettings
from fleet.core.errors import Invalid, Refused
from fleet.core.estimate import path_seconds, schedule
from fleet.core.grammar import format_duration
from fleet.core.lifecycle import TAKES_DOWN
from fleet.core.observed import ImageRef, Seen
from fleet.core.sight import Sight, span
from fleet.core.state import Run, Target

TYPED_SHARE = 20
"""More than this percent of a fleet in one plan needs the number typed."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked for. `image`: where to go. `servers` / `older_than` (seconds) narrow it; None means all.

    `surge`: the driver can run old and new side by side. `fleet_size`: servers in the whole fleet.
    """

    kind: str
    image: ImageRef
    settings: RolloutSettings
    surge: bool
    fleet_size: int
    servers: tuple[str, ...] | None = None
    older_than: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The list, in order. `whole`: it covers the pool, so the pointers may move. `estimate` in seconds."""

    pool: str
    kind: str
    image_from: ImageRef | None
    image_to: ImageRef
    settings: RolloutSettings
    budget: budget.Budget
    runs: tuple[Run, ...]
    estimates: tuple[float, ...]
    whole: bool
    domains: int
    worst_loss: int
    typed_number: bool
    estimate: float
    hash: str

    @property
    def acting(self) -> tuple[Run, ...]:
        """The servers that something will be done to."""
        return tuple(run for run in self.runs if run.action in ("replace", "birth"))


def draw(sight: Sight, ask: Ask) -> Plan:
    """The plan. Raises Invalid for unknown servers or an empty selection, Refused for what policy forbids."""
    _guard(sight, ask)
    limits = budget.resolve(ask.settings.max_surge, ask.settings.max_unavailable, sight.pool.servers)
    names = _selected(sight, ask)
    runs = [_judge(sight, ask, name) for name in names]
    acting = _ordered(sight, ask, [run for run in runs if run.action in ("replace", "birth")])
    if not acting:
        raise Refused(_nothing(runs, ask), where=sight.pool.name, code="empty-plan")
    first = 0 if ask.kind == "rollback" else budget.canaries(ask.settings.canaries, len(acting))
    acting = _spread_canaries(acting, first)
    acting = _choose_paths(sight, ask, limits, acting)
    order = [*acting, *(run for run in runs if run.action not in ("replace", "birth"))]
    order = [replace(run, index=index) for index, run in enumerate(order)]
    return _sum_up(sight, ask, limits, order, whole=len(names) == sight.pool.servers)


def _guard(sight: Sight, ask: Ask) -> None:
    pool, known = sight.pool, sight.pool_state
    if sight.rollout is not None:
        raise Refused(f"rollout {sight.rollout.id} of pool {pool.name} is {sight.rollout.state}; let it end, or abort or roll it back first",
                      where=pool.name, code="rollout-active")
    rejection = known.rejected.get(ask.image.digest)
    if rejection is not None:
        raise Refused(f"image {ask.image} is rejected for pool {pool.name}: {rejection.reason}; "
                      f"`anew image unreject {ask.image} --pool {pool.name}` lets it be chosen again", where=pool.name, code="rejected")
    first = next((active for name in pool.after if (active := sight.state.active(name)) is not None), None)
    if first is not None and ask.kind != "rollback":
        raise Refused(f"pool {pool.name} comes after pool {first.pool}, and rollout {first.id} there is {first.state}; let it end, then start again",
                      where=pool.name, code="after")
    if sight.observed is None:
        raise Refused(f"pool {pool.name} was not observed yet; try again in a moment", where=pool.name, code="not-observed")


def _selected(sight: Sight, ask: Ask) -> tuple[str, ...]:
    names = sight.pool.server_names
    if ask.servers is not None:
        unknown = [name for name in ask.servers if name not in names]
        if unknown:
            raise Invalid(f"no server {', '.join(unknown)} in pool {sight.pool.name}; it has {names[0]} to {names[-1]}", code="unknown-server")
        chosen = frozenset(ask.servers)
        names = tuple(name for name in names if name in chosen)
    if ask.older_than is not None:
        names = tuple(name for name in names if _age(sight, name) >= ask.older_than)
        if not names:
            raise Invalid(f"no server of pool {sight.pool.name} is older than {span(ask.older_than)}", code="empty-selection")
    if not names:
        raise Invalid("the selection names no server", where=sight.pool.name, code="empty-selection")
    return names


def _age(sight: Sight, name: str) -> float:
    serving = sight.serving(name)
    return sight.now - serving.born_at if serving else -1.0


def _judge(sight: Sight, ask: Ask, name: str) -> Run:
    """What is done to one server, and why. A running digest is judged by what was found on the server, never by memory."""
    known, serving = sight.known(name), sight.serving(name)
    home = sight.image_of(serving) if serving else None
    run = Run(server=name, action="replace", place=sight.place(name), source=serving.number if serving else None, home=home)
    unreachable = sight.unreachable(name)
    if known.held is not None:
        return replace(run, action="hold", reason=f"held: {known.held}")
    if unreachable:
        return replace(run, action="hold", reason=f"{run.place} does not answer: {unreachable}")
    unfit = next((seen.unfit for seen in sight.by_server.get(name, {}).values() if seen.unfit), "")
    if unfit:
        return replace(run, action="hold", reason=unfit)
    target = _target(sight, ask, name)
    if (standby := sight.standby(name)) is not None:
        return replace(run, target=target, source=standby.number, home=sight.image_of(standby),
                       reason=f"incarnation {standby.number} runs, {known.admitted} should")
    strays = [seen for seen in sight.by_server.get(name, {}).values() if seen.state == "running"]
    if serving is None and strays:
        stray = max(strays, key=lambda seen: seen.number)
        last = sight.seen(name, known.admitted)  # a stray was not proved since it was started: nobody goes back to its image
        home = sight.image_of(last) if last else sight.pool_state.stable or sight.image_of(stray)
        return replace(run, target=target, source=stray.number, home=home, planned="in-place" if sight.pool.in_place else "delete-first",
                       reason=f"incarnation {stray.number} runs, but is not in service")
    if serving is None:
        why = "absent" if not sight.by_server.get(name) else "not running"
        return replace(run, action="birth", target=target, reason=why)
    if serving.digest == ask.image.digest and not (known.tainted or known.restarted or _drifted(sight, ask, serving)) and ask.older_than is None:
        return replace(run, action="skip", reason=f"already {ask.image.version}")
    if ask.kind == "rollback" and target.kind == "birth" and ask.image.digest not in sight.images:
        return replace(run, action="hold", reason=f"nothing to go back to: no incarnation of {ask.image} is retained there, and the image is not catalogued")
    if len(strays) > 1 and not sight.pool.in_place and not (sight.unknown(name) or sight.available(name)):  # two run already: the sick one makes room
        beside = max(seen.number for seen in strays if seen is not serving)
        return replace(run, target=target, planned="delete-first", reason=f"incarnation {serving.number} is not healthy, and {beside} runs beside it")
    return replace(run, target=target, reason=_why(sight, ask, serving))


def _why(sight: Sight, ask: Ask, serving: Seen) -> str:
    age = f"{span(sight.now - serving.born_at)} old" if serving.born_at else "of unknown age"
    tainted = sight.known(serving.server).tainted
    if sight.known(serving.server).restarted:
        return f"incarnation {serving.number} was started again, and not admitted since"
    if ask.kind == "rollback":
        back = _target(sight, ask, serving.server)
        how = f"back to retained incarnation {back.number}" if back.kind == "revive" else "by re-birth, none is retained"
        return f"runs {serving.version}, {how}"
    if tainted:
        return f"tainted: {tainted[-1]}"
    if drifted := _drifted(sight, ask, serving):
        return drifted
    if not sight.healthy(serving.server, serving.number):
        return f"not healthy, {age}"
    return age


def _drifted(sight: Sight, ask: Ask, serving: Seen) -> str:
    """"" or that its root, as last seen inside, is not what the pool promises (rollout.md rule 6). A root that is stricter than promised is left,
    but for a server that somebody names.
    """
    facts = sight.facts.get((serving.server, serving.number))
    if facts is None or ask.kind == "rollback" or rootmode.kept(sight.pool.root, facts.root):
        return ""
    if facts.root == "read-only" and ask.servers is None:
        return ""
    return f"its root is {facts.root} inside, not {sight.pool.root}"


def _target(sight: Sight, ask: Ask, name: str) -> Target:
    if ask.kind == "rollback":
        retained = [number for number, seen in sight.retained(name).items() if seen.digest == ask.image.digest]
        if retained:
            return Target("revive", max(retained), ask.image)
    return Target("birth", sight.highest(name) + 1, ask.image)


def _ordered(sight: Sight, ask: Ask, runs: list[Run]) -> list[Run]:
    """The sick first, which a rollback promises (rollout.md rule 9) and nothing speaks against; then by the pool's order."""
    names = {name: index for index, name in enumerate(sight.pool.server_names)}
    ages = {run.server: _age(sight, run.server) for run in runs}

    def key(run: Run) -> tuple[bool, float, int]:
        sick_first = sight.available(run.server) and run.server not in sight.unadmitted
        age = 0.0 if ask.settings.order == "name" else -ages[run.server] if ask.settings.order == "oldest" else ages[run.server]
        return sick_first, age, names[run.server]

    return sorted(runs, key=key)


def _spread_canaries(runs: list[Run], count: int) -> list[Run]:
    """The first `count`, taken from different places in turn (rollout.md rule 17)."""
    queues: dict[str, deque[int]] = {}
    for index, run in enumerate(runs):
        queues.setdefault(run.place, deque()).append(index)
    used = dict.fromkeys(queues, 0)
    chosen: list[int] = []
    for _ in range(count):
        place = min((place for place, queue in queues.items() if queue), key=lambda place: (used[place], queues[place][0]))
        used[place] += 1
        chosen.append(queues[place].popleft())
    first = set(chosen)
    return [*(replace(runs[index], canary=True) for index in chosen), *(run for index, run in enumerate(runs) if index not in first)]


def _choose_paths(sight: Sight, ask: Ask, limits: budget.Budget, runs: Iterable[Run]) -> list[Run]:
    """Create first where the driver can and the budget allows extra ones; both kinds in proportion where it allows both."""
    create = limits.surge if ask.surge and not sight.pool.data and not sight.pool.in_place else 0
    delete = limits.unavailable
    if create == 0 and delete == 0:
        raise Refused("the budget allows only extra servers, and this pool cannot run old and new side by side; set max_unavailable to 1 or more",
                      where=f"pools.{sight.pool.name}.rollout.max_unavailable", code="budget")
    out, turn = [], 0
    for run in runs:
        if run.action == "birth":
            out.append(replace(run, planned="birth", path="birth"))
            continue
        if run.planned:
            out.append(replace(run, path=run.planned))
            continue
        down = "in-place" if sight.pool.in_place else "delete-first"
        path = "create-first" if turn % (create + delete) < create else down
        turn += 1
        out.append(replace(run, planned=path, path=path))
    return out


def _nothing(runs: list[Run], ask: Ask) -> str:
    reasons = sorted({run.reason for run in runs})
    return f"nothing to do for {ask.image}: {'; '.join(reasons[:3])}"


def _sum_up(sight: Sight, ask: Ask, limits: budget.Budget, order: list[Run], *, whole: bool) -> Plan:
    acting = [run for run in order if run.action in ("replace", "birth")]
    durations = sight.pool_state.durations
    each = tuple(path_seconds(run.planned, run.target, durations, ask.settings) if run.planned else 0.0 for run in order)
    slots = limits.surge + limits.unavailable
    deleting = sum(run.planned in TAKES_DOWN for run in acting)
    image_from = _from(sight, acting)
    return Plan(
        pool=sight.pool.name, kind=ask.kind, image_from=image_from, image_to=ask.image, settings=ask.settings, budget=limits,
        runs=tuple(order), estimates=each, whole=whole, domains=len({run.place for run in acting}),
        worst_loss=min(limits.unavailable, deleting), typed_number=len(acting) * 100 > TYPED_SHARE * ask.fleet_size and len(acting) > 1,
        estimate=schedule([length for length in each if length], slots), hash=_hash(ask, image_from, order))


def _from(sight: Sight, acting: list[Run]) -> ImageRef | None:
    """What is left behind: the pool's stable image, or what most of the acting servers run."""
    stable = sight.pool_state.stable
    homes = [run.home for run in acting if run.home is not None]
    if not homes:
        return stable
    counts = Counter(image.digest for image in homes)
    most = max(homes, key=lambda image: (counts[image.digest], image.version))
    return stable if stable and any(image.digest == stable.digest for image in homes) else most


def _hash(ask: Ask, image_from: ImageRef | None, order: list[Run]) -> str:
    """Over everything that will be done, and nothing that merely grows older (reasons speak of ages)."""
    rows: list[dict[str, Any]] = [{**run_out(run), "reason": ""} for run in order]
    body = {"kind": ask.kind, "from": image_out(image_from), "to": image_out(ask.image), "settings": settings_out(ask.settings), "runs": rows}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


class Drawn(Protocol):
    """What a plan would do: a plan just drawn, or one that was kept."""

    @property
    def runs(self) -> tuple[Run, ...]: ...
    @property
    def image_to(self) -> ImageRef: ...
    @property
    def settings(self) -> RolloutSettings: ...


def _shown(value: Any) -> str:
    return format_duration(value) if isinstance(value, float) else "none" if value is None else str(value)


def _changed(name: str, was: Run | None, now: Run | None, retargeted: bool) -> str:
    """"" or what changed for one server. A reason alone grows older by itself; that all are `retargeted` to another image is said once for all."""
    if was is None or now is None:
        return f"{name} is {'no longer' if now is None else 'now'} in the plan"
    if was.action != now.action:
        return f"{name}: was {was.action} ({was.reason}), now {now.action} ({now.reason})"
    if was.source != now.source:
        return f"{name}: incarnation {was.source} ran there, now {now.source}"
    if was.planned != now.planned:
        return f"{name}: was {was.planned}, now {now.planned}"
    if was.canary != now.canary:
        return f"{name} is {'now' if now.canary else 'no longer'} a canary"
    if was.place != now.place:
        return f"{name}: was on {was.place}, now on {now.place}"
    same = retargeted or {**run_out(was), "reason": ""} == {**run_out(now), "reason": ""}
    return "" if same else f"{name}: what is made of it, or what it goes back to, is another incarnation or image by now"


def differences(old: Drawn, new: Drawn) -> tuple[str, ...]:
    """What changed between two plans, one sentence each, for the person whose plan went stale."""
    before, after = ({run.server: run for run in plan.runs} for plan in (old, new))
    lines = []
    for name in sorted(before.keys() | after.keys()):
        if line := _changed(name, before.get(name), after.get(name), old.image_to != new.image_to):
            lines.append(line)
    if old.image_to != new.image_to:
        lines.append(f"the target was {old.image_to}, now {new.image_to}")
    was_set, is_set = settings_out(old.settings), settings_out(new.settings)
    lines += [f"{name} was {_shown(was_set[name])}, now {_shown(is_set[name])}" for name in is_set if was_set[name] != is_set[name]]
    if not lines and list(before) != list(after):
        lines.append(f"the order is now {', '.join(after)}")
    return tuple(lines)
