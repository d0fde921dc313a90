"""`python -m tests.sim`: play many seeds, or one again; make the tables of docs/simulation.md.

    python -m tests.sim --seeds 10000 --mode safety|liveness|both --start 1 --jobs 2 [--hash]
    python -m tests.sim --seconds 60 --mode both              (as many seeds as fit)
    python -m tests.sim --replay 4711 --mode safety           (one seed, with its journal)
    python -m tests.sim --case 'Case(…)'                      (one written down)
    python -m tests.sim --coverage 2000 [--write]             (the table of what is reached; --write: into docs/simulation.md)
    python -m tests.sim --ablations 1000 [--write]            (the table of what each safeguard is worth)
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tests.sim.case import Case, read
from tests.sim.menu import draw
from tests.sim.play import play
from tests.sim.runner import MODES, cores, report, run_all
from tests.sim.tables import coverage, put, worth
from tests.sim.tell import told


def main(arguments: Sequence[str]) -> int:
    """0: no promise was broken."""
    options = _options(arguments)
    if options.replay is not None or options.case:
        return _again(read(options.case) if options.case else draw(options.replay, options.mode if options.mode != "both" else "safety", options.servers))
    if options.coverage or options.ablations:
        return _tables(options)
    modes = MODES if options.mode == "both" else (options.mode,)
    found = run_all(modes, options.start, options.seeds, options.jobs, options.seconds, options.servers, options.hash)
    for line in report(found, keep=not options.servers):
        print(line, flush=True)
    print(f"{len(found.broken)} of {found.plays} cases broke a promise ({options.mode}, from seed {options.start}); "
          f"{found.events} events, {found.per_minute:.0f} cases a minute on {options.jobs} processes")
    if options.hash:
        print(f"trace {found.trace}")
    return 1 if found.broken else 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="Plays random cases against the production engine, and judges the world.")
    parser.add_argument("--seeds", type=int, default=1000, help="so many seeds of each mode (1000)")
    parser.add_argument("--start", type=int, default=1, help="the first seed (1)")
    parser.add_argument("--mode", choices=("safety", "liveness", "both"), default="both")
    parser.add_argument("--jobs", type=int, default=cores(), help="processes")
    parser.add_argument("--seconds", type=float, help="as many seeds as fit into this time")
    parser.add_argument("--servers", type=int, help="worlds of this size, instead of what the seed says; nothing is kept")
    parser.add_argument("--hash", action="store_true", help="print sha256 over all journals")
    parser.add_argument("--replay", type=int, metavar="SEED", help="play one seed, and print its journal")
    parser.add_argument("--case", help="play a case as it was printed")
    parser.add_argument("--coverage", type=int, metavar="SEEDS", help="the table of actions, faults and outcomes that so many seeds reach")
    parser.add_argument("--ablations", type=int, metavar="SEEDS", help="the table of safeguards, each switched off for so many seeds")
    parser.add_argument("--write", action="store_true", help="put the table into docs/simulation.md")
    return parser.parse_args(arguments)


def _tables(options: argparse.Namespace) -> int:
    for name, seeds, make in (("coverage", options.coverage, coverage), ("ablations", options.ablations, worth)):
        if seeds:
            text = make(seeds, options.jobs)
            if options.write:
                put(name, text)
            else:
                print(text)
    return 0


def _again(case: Case) -> int:
    print(case)
    with told(print):
        result = play(case)
    print(f"broken: {result.broken}" if result.broken else "no promise was broken")
    return 1 if result.broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
