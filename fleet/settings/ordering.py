"""Which pool comes after which: `after` names pools of the file, each once, and no pool comes after itself by a circle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fleet.core.grammar import describe
from fleet.settings.case import Case
from fleet.settings.problems import did_you_mean


def check_after(cases: Sequence[Case], known: Sequence[str]) -> None:
    """Report every name that no pool bears, every name written twice, and every circle with its members in order."""
    order: dict[str, tuple[str, ...]] = {}
    by_name = {case.name: case for case in cases}
    for case in cases:
        if case.report.lost(case.key("after")):
            continue
        for index, name in enumerate(case.pool.after):
            if name not in known:
                allowed = f"a pool of this file ({', '.join(sorted(known)[:10])})"
                case.add(("after", index), describe(name), allowed, did_you_mean(name, known))
            elif name in case.pool.after[:index]:
                case.add(("after", index), f"{describe(name)} twice", "each pool once")
        order[case.name] = tuple(name for name in case.pool.after if name in by_name)
    for circle in _circles(order):
        first = by_name[circle[0]]
        hint = "A pool cannot wait for itself; take one of them out"
        first.add(("after", first.pool.after.index(circle[1])), " → ".join(circle), "pools that do not come after this one", hint)


def _circles(order: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, ...]]:
    """Each circle as ("web", "db", "web"); of circles that share a pool only one, since taking that out changes the others."""
    left = {name: [other for other in others if other in order] for name, others in order.items()}
    while True:
        while free := [name for name, others in left.items() if not any(other in left for other in others)]:
            for name in free:
                del left[name]
        if not left:
            return
        walk = [next(iter(left))]
        while (after := next(other for other in left[walk[-1]] if other in left)) not in walk:
            walk.append(after)
        circle = walk[walk.index(after):]
        yield (*circle, circle[0])
        for name in circle:
            del left[name]
