"""Frames of a live rollout as the daemon sends them: 60 servers, six extra at a time, steps at the pace of real guests.

A server takes 20 s: preparing 0.5, booting 6, proving 10, admitting 0.5, draining 1, stopping 2. Each step is two events
(intent, outcome), a server row, a pool row and a partial rollout row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.tui import story

STEPS = (("preparing", "b", 0.5), ("booting", "b", 6.0), ("proving", "h", 10.0), ("admitting", "h", 0.5),
         ("draining", "d", 1.0), ("stopping", "s", 2.0))
SERVERS, EXTRA = 60, 6
Row = dict[str, Any]


def status() -> Row:
    """Before the first step: all wait."""
    servers = [story.server("web", n, "1", 600000.0 + n) for n in range(1, SERVERS + 1)]
    runs = [story.run(f"web-{n}", ".", canary=n == 1) for n in range(1, SERVERS + 1)]
    rollout = story.rollout("web", runs, counts={"waiting": SERVERS})
    return {"schema_version": 1, "fleet": "lab", "generation": 1, "seq": 1000, "now": story.at(0), "read_only": "",
            "you": {"user": "maria", "role": "operator"},
            "pools": [story.pool("web", servers, "1", rollout="web-r1", image={"target": "2", "newest": "2"})],
            "rollouts": [rollout]}


def frames() -> Iterator[tuple[float, list[Row]]]:
    """(seconds from the start, frames) in order of time."""
    moments: list[tuple[float, int, int]] = []
    for number in range(SERVERS):
        start = (number // EXTRA) * 20.0 + (number % EXTRA) * 3.3
        for step, (_, _, seconds) in enumerate(STEPS):
            moments.append((start, number, step))
            start += seconds
        moments.append((start, number, len(STEPS)))
    done = {"waiting": SERVERS, "serving": 0}
    seq = 1000
    for moment, number, step in sorted(moments):
        rows: list[Row] = []
        name = f"web-{number + 1}"
        about = {"pool": "web", "server": name, "rollout": "web-r1"}
        ended = step == len(STEPS)
        if step > 0:
            seq += 1
            rows.append(_event(seq, "step-done", f"{STEPS[step - 1][0]} done", moment, **about))
        if not ended:
            seq += 1
            said = f"{STEPS[step][0]}: {STEPS[step][0]} incarnation 2, image 2"
            rows.append(_event(seq, "step-begun", said, moment, **about))
        if step == 3:
            seq += 1
            rows.append(_event(seq, "server-healthy", "incarnation 2 is healthy: tcp 22 in 3 ms", moment, **about))
        done["serving"] += ended
        done["waiting"] -= step == 0
        cell = "+" if ended else STEPS[step][1]
        state = "serving" if ended else STEPS[step][0]
        run = story.run(name, cell, step=state, since=story.at(-moment), deadline=story.at(-moment - 300),
                        reason="" if ended else f"{state} incarnation 2, image 2", canary=number == 0)
        busy = sum(1 for at, n, s in moments if at <= moment and s == 0) - done["serving"]
        budget = {"max_surge": EXTRA, "max_unavailable": 0, "in_flight": busy, "surge_used": busy, "missing": 0}
        row = story.rollout("web", [run], partial=True, budget=budget, eta_seconds=200.0 - moment,
                            counts={**done, "busy": SERVERS - sum(done.values())})
        server = story.server("web", number + 1, "2" if step > 3 else "1", 0.0, state=state)
        pool = story.pool("web", [], "1", rollout="web-r1", size=SERVERS, healthy=SERVERS, available=SERVERS,
                          versions={"2": done["serving"], "1": SERVERS - done["serving"]},
                          image={"target": "2", "newest": "2"})
        pool.pop("servers")
        rows += [{"frame": "server", "row": server}, {"frame": "pool", "row": pool}, {"frame": "rollout", "row": row}]
        yield moment, rows


def _event(seq: int, kind: str, text: str, moment: float, **about: str) -> Row:
    return {"frame": "event", "seq": seq, "row": story.event(seq, -moment, kind, text, **about)}
