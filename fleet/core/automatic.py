"""What mode auto must remember of a pool, folded from the journal: who fell silent, the breaker, and which images it does not try again.

Rules: a person's `rollout start` or `rollout resume` acknowledges the breaker; servers that were sick then count again only once
they were well in between. An image whose rollout did not end well is not tried again by mode auto until a person starts it, or
takes back its rejection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fleet.core.events import Event

AUTHOR = "anew"
"""Who starts what mode auto starts."""
ENGINES = (AUTHOR, "engine")
"""Actors that are no person."""
FORGET = 7 * 86_400.0
"""Seconds: no breaker looks further back."""
KEPT_DECLINED = 50
HEARD = frozenset({"rollout-started", "rollout-moved", "rollout-ended", "server-unhealthy", "server-healthy", "image-unrejected",
                   "breaker-opened", "breaker-closed"})


@dataclass(frozen=True, slots=True)
class Automatic:
    """`breaker`: why it is open, "" if it is not; `unwell`: the servers that opened it. `pardoned`: servers whose sickness a person knows
    of since `acknowledged_at`. `silent`: server -> when its incarnation in service last stopped answering. `declined`: digest -> why.
    """

    breaker: str = ""
    opened_at: float = 0.0
    unwell: frozenset[str] = frozenset()
    acknowledged_at: float = 0.0
    pardoned: frozenset[str] = frozenset()
    silent: Mapping[str, float] = field(default_factory=dict)
    declined: Mapping[str, str] = field(default_factory=dict)


NOTHING_YET = Automatic()


def remember(known: Automatic, event: Event, digest: str, in_service: bool) -> Automatic:
    """`known` after an event of HEARD. `digest`: of the image that the event's rollout goes to, "" if it is no plain rollout.

    `in_service`: the incarnation that the event speaks of is the one in service.
    """
    kind, data = event.type, event.data
    if kind == "server-unhealthy":
        if not in_service:
            return known
        recent = {name: at for name, at in known.silent.items() if at > event.at - FORGET}
        return replace(known, silent={**recent, event.server: event.at})
    if kind == "server-healthy":
        return replace(known, pardoned=known.pardoned - {event.server}) if event.server in known.pardoned else known
    if kind == "breaker-opened":
        return replace(known, breaker=str(data["reason"]), opened_at=event.at, unwell=frozenset(data["servers"]))
    if kind == "breaker-closed":
        return replace(known, breaker="", unwell=frozenset())
    if kind == "image-unrejected":
        return replace(known, declined=_without(known.declined, str(data["digest"])))
    if kind == "rollout-ended":
        return replace(known, declined=_ended(known.declined, digest, event))
    if event.actor in ENGINES or not (kind == "rollout-started" or str(data["cause"]).startswith("resume-")):
        return known
    declined = _without(known.declined, digest) if kind == "rollout-started" else known.declined
    return replace(known, breaker="", unwell=frozenset(), acknowledged_at=event.at, pardoned=known.unwell, declined=declined)


def _ended(declined: Mapping[str, str], digest: str, event: Event) -> Mapping[str, str]:
    ending = str(event.data["state"])
    if not digest or ending == "done":
        return _without(declined, digest)
    why = f"its rollout {event.rollout} was {ending}" if ending != "failed" else f"its rollout {event.rollout} failed"
    return dict([*_without(declined, digest).items(), (digest, why)][-KEPT_DECLINED:])


def _without(declined: Mapping[str, str], digest: str) -> Mapping[str, str]:
    return {key: why for key, why in declined.items() if key != digest} if digest in declined else declined


__all__ = ["AUTHOR", "ENGINES", "HEARD", "NOTHING_YET", "Automatic", "remember"]
