"""The tables of docs/simulation.md that are made by playing: what was reached, and what each safeguard is worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.sim.ablations import ABLATIONS
from tests.sim.menu import OUTCOMES
from tests.sim.play import Triple
from tests.sim.runner import MODES, run_all
from tests.sim.shrink import promise

PAGE = Path(__file__).resolve().parents[2] / "docs" / "simulation.md"
STEPS = {"preparing": "stage", "booting": "birth", "proving": "", "admitting": "commit", "stopping": "retire", "retiring": "retire", "burying": "bury"}
"""Steps that simulated pools take (they have no hooks, so none drains), and the verb of each; booting is `birth` or `revive`."""

AROUND = ("place away", "server died", "health flaps", "daemon stopped", "daemon killed")
ENDS = ("done", "failed", "cut off")
"""`cut off`: no outcome before the case was over, or the run was sent another way."""


def triples() -> Iterator[Triple]:
    """All that can be thought of: each step, what its call may meet, and what may become of it."""
    for step, verb in STEPS.items():
        own = {*OUTCOMES.get(verb, ()), *(OUTCOMES["revive"] if verb == "birth" else ())}
        for fault in ("none", *sorted(own), *AROUND):
            for end in ENDS:
                yield step, fault, end


def coverage(seeds: int, jobs: int) -> str:
    """How often each triple was reached by the first `seeds` seeds of both modes; those never reached by name."""
    found = run_all(MODES, 1, seeds, jobs).triples
    lines = [f"Reached by {seeds} seeds in each mode, counted once a case.", "", "| step | fault | " + " | ".join(ENDS) + " |", "| --- | --- |" + " ---: |" * len(ENDS)]
    rows: dict[tuple[str, str], Counter[str]] = {}
    for step, fault, end in triples():
        rows.setdefault((step, fault), Counter())[end] = found[step, fault, end]
    for (step, fault), counts in rows.items():
        lines.append(f"| {step} | {fault} | " + " | ".join(str(counts[end]) if counts[end] else "–" for end in ENDS) + " |")
    never = [f"`{step} × {fault} × {end}`" for step, fault, end in triples() if not found[step, fault, end]]
    lines += ["", f"Never reached: {', '.join(never) if never else 'none'}."]
    return "\n".join(lines)


def worth(seeds: int, jobs: int) -> str:
    """Each safeguard switched off for the first `seeds` safety seeds."""
    lines = [f"Played: {seeds} safety seeds for each.", "", "| safeguard | switched off | caught as | cases in 1,000 | first seed | promised within |",
             "| --- | --- | --- | ---: | ---: | ---: |"]
    for name, ablation in ABLATIONS.items():
        found = run_all(("safety",), 1, seeds, jobs, off=name)
        names = Counter(promise(broken) for _, _, broken in found.broken)
        first = found.broken[0][1] if found.broken else "none"
        caught = ", ".join(name for name, _ in names.most_common(3)) or "nothing"
        lines.append(f"| {name} | {ablation.says} | {caught} | {1000 * len(found.broken) / seeds:.0f} | {first} | {ablation.within} |")
    return "\n".join(lines)


def put(name: str, text: str) -> None:
    """Write a table into the page, between its marks."""
    page = PAGE.read_text(encoding="utf-8")
    begin, end = f"<!-- {name}: made by python -m tests.sim -->", f"<!-- end of {name} -->"
    head, _, rest = page.partition(begin)
    _, found, tail = rest.partition(end)
    assert found, f"{PAGE.name} has no place for {name}"
    PAGE.write_text(f"{head}{begin}\n{text}\n{end}{tail}", encoding="utf-8")
