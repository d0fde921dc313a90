"""Plans that somebody looked at, kept for a while: whoever comes back with the hash of one is told what changed since.

A plan's frame is all that people saw of it, so the difference is told in its terms. What a hash covers and a frame does not show
(the numbers of incarnations, deadlines) is told in one sentence for all.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

Frame = Mapping[str, Any]
MIN_HASH = 6
MOST = 32
MOST_ROWS = 20_000
SHOWN = ("pool", "kind", "from", "to", "digest", "budget")
OF_SERVER = ("action", "reason", "from", "to", "order", "canary")


class Looked:
    """The newest plans of one daemon's life by hash: at most `MOST`, with no more than `MOST_ROWS` servers in all but the last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[Frame, Frame]] = OrderedDict()
        self._rows = 0

    def keep(self, request: Frame, frame: Frame) -> None:
        """Remember a plan that is about to be shown, and what was asked for."""
        name = str(frame.get("hash", ""))
        if not name:
            return
        self._drop(name)
        rows = {row["name"]: {key: row.get(key) for key in OF_SERVER} for row in frame.get("servers", ())}
        self._kept[name] = dict(request), {**{key: frame.get(key) for key in SHOWN}, "servers": rows}
        self._rows += len(rows)
        while len(self._kept) > 1 and (len(self._kept) > MOST or self._rows > MOST_ROWS):
            self._drop(next(iter(self._kept)))

    def _drop(self, name: str) -> None:
        if (old := self._kept.pop(name, None)) is not None:
            self._rows -= len(old[1]["servers"])

    def since(self, word: str, frame: Frame) -> list[str]:
        """What changed between the plan whose hash begins so and the one of `frame`, which is kept; [] if they are one."""
        now = str(frame.get("hash", ""))
        if len(word) < MIN_HASH or now.startswith(word) or now not in self._kept:
            return []
        old = next((kept for name, kept in reversed(self._kept.items()) if name.startswith(word)), None)
        if old is None:
            return [f"what plan {word[:12]} was is not known here any more, so what changed since cannot be told"]
        return _asked(old[0], self._kept[now][0]) + _drawn(old[1], self._kept[now][1]) or [
            "nothing that a plan shows: an incarnation it looked at is another one by now, or a setting of its rollout was changed"]


def _asked(old: Frame, new: Frame) -> list[str]:
    """What is asked for otherwise than it was."""
    before, after = ({**plan, **plan.get("overrides", {})} for plan in (old, new))
    keys = [key for key in dict.fromkeys((*before, *after)) if key not in ("overrides", "kind") and before.get(key) != after.get(key)]
    return [f"{key} was {_said(before, key)}, now {_said(after, key)}" for key in keys]


def _said(plan: Frame, key: str) -> str:
    value = plan.get(key)
    return "not given" if value is None else ", ".join(value[:5]) + (" …" if len(value) > 5 else "") if isinstance(value, list) else str(value)


def _drawn(old: Frame, new: Frame) -> list[str]:
    lines = []
    if old["kind"] != new["kind"]:
        lines.append(f"it was a {old['kind']}, now it is a {new['kind']}")
    if old["to"] != new["to"]:
        lines.append(f"the target was {old['to']}, now {new['to']}")
    elif old["digest"] != new["digest"]:
        lines.append(f"the target {new['to']} is another image: its digest was {str(old['digest'])[:19]}, now {str(new['digest'])[:19]}")
    if old["from"] != new["from"]:
        lines.append(f"the image left behind was {old['from'] or 'none'}, now {new['from'] or 'none'}")
    lines += [f"{name} was {old['budget'].get(name)}, now {most}" for name, most in (new["budget"] or {}).items() if old["budget"].get(name) != most]
    before, after = old["servers"], new["servers"]
    for name in sorted(before.keys() | after.keys()):
        if line := _of_server(name, before.get(name), after.get(name)):
            lines.append(line)
    if not lines and list(before) != list(after):
        lines.append(f"the order is now {', '.join(list(after)[:10])}{' …' if len(after) > 10 else ''}")
    return lines


def _of_server(name: str, was: Frame | None, now: Frame | None) -> str:
    """"" or what changed for one server. A reason alone grows older by itself, and is no change."""
    if was is None or now is None:
        return f"{name} is {'no longer' if now is None else 'now'} in the plan"
    if was["action"] != now["action"]:
        return f"{name}: was {was['action']} ({was['reason']}), now {now['action']} ({now['reason']})"
    if was["from"] != now["from"]:
        return f"{name} ran {was['from'] or 'nothing'}, now {now['from'] or 'nothing'}"
    if was["order"] != now["order"]:
        return f"{name}: was {was['order']}, now {now['order']}"
    return f"{name} is {'now' if now['canary'] else 'no longer'} a canary" if was["canary"] != now["canary"] else ""
