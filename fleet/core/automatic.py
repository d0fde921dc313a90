"""What mode auto must remember of a pool, folded from the journal: who fell silent, the breaker, and which images it does not try again.

Rules: a person's `rollout start` or `rollout resume` acknowledges the breaker; servers that were sick then count again only once
they were well in between. An image whose rollout did not end well is not tried again by mode auto until a person starts it for the
whole pool, or takes back its rejection; a server whose replacement failed is not tried again for its age while that incarnation serves.
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
    `spared`: server -> the incarnation that a failed replacement left in service.
    """

    breaker: str = ""
    opened_at: float = 0.0
    unwell: frozenset[str] = frozenset()
    acknowledged_at: float = 0.0
    pardoned: frozenset[str] = frozenset()
    silent: Mapping[str, float] = field(default_factory=dict)
    declined: Mapping[str, str] = field(default_factory=dict)
    spared: Mapping[str, int] = field(default_factory=dict)


NOTHING_YET = Automatic()


@dataclass(frozen=True, slots=True)
class About:
    """What an event of HEARD is about. `digest`: of the image that its rollout goes to, "" if it is no plain rollout; `whole`: of the whole
    pool. `left`: server -> incarnation in service, where the replacement failed. `in_service`: it speaks of the incarnation in service.
    """

    digest: str = ""
    whole: bool = True
    left: Mapping[str, int] = field(default_factory=dict)
    in_service: bool = False


def remember(known: Automatic, event: Event, about: About) -> Automatic:
    """`known` after an event of HEARD."""
    kind, data = event.type, event.data
    if kind == "server-unhealthy":
        if not about.in_service:
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
        return replace(known, declined=_ended(known.declined, about, event), spared={**known.spared, **about.left})
    if event.actor in ENGINES or not (kind == "rollout-started" or str(data["cause"]).startswith("resume-")):
        return known
    declined = _without(known.declined, about.digest) if kind == "rollout-started" and about.whole else known.declined
    return replace(known, breaker="", unwell=frozenset(), acknowledged_at=event.at, pardoned=known.unwell, declined=declined)


def _ended(declined: Mapping[str, str], about: About, event: Event) -> Mapping[str, str]:
    ending = str(event.data["state"])
    if not about.digest or ending == "done":
        return _without(declined, about.digest) if about.whole else declined
    why = f"its rollout {event.rollout} was {ending}" if ending != "failed" else f"its rollout {event.rollout} failed"
    return dict([*_without(declined, about.digest).items(), (about.digest, why)][-KEPT_DECLINED:])


def _without(declined: Mapping[str, str], digest: str) -> Mapping[str, str]:
    return {key: why for key, why in declined.items() if key != digest} if digest in declined else declined


__all__ = ["AUTHOR", "ENGINES", "HEARD", "NOTHING_YET", "About", "Automatic", "remember"]
