"""Many seeds over several processes; what breaks is shrunk, told with its replay command, and kept in seeds.txt for ever."""

from __future__ import annotations

import gc
import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from tests.sim.ablations import without
from tests.sim.case import Case, Mode, read
from tests.sim.menu import draw
from tests.sim.play import Triple, play
from tests.sim.shrink import promise, shrink
from tests.sim.world import past_of

SEEDS = Path(__file__).with_name("seeds.txt")
CHUNK = 25
MODES: tuple[Mode, ...] = ("safety", "liveness")
TOLD = 5
"""So many broken seeds are shrunk; the rest are only named."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A line of seeds.txt: `MODE SEED | what it broke | the shrunk case`."""

    mode: Mode
    seed: int
    broke: str
    case: Case


@dataclass(slots=True)
class Found:
    """What a run over many seeds came to. `trace`: sha256 over all journals, in the order of the seeds."""

    plays: int = 0
    events: int = 0
    seconds: float = 0.0
    trace: str = ""
    broken: list[tuple[Mode, int, str]] = field(default_factory=list)
    triples: Counter[Triple] = field(default_factory=Counter)

    @property
    def per_minute(self) -> float:
        """Cases in a minute of wall-clock time."""
        return 60.0 * self.plays / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some seeds in a row, for one process."""

    mode: Mode
    start: int
    count: int
    servers: int | None = None
    trace: bool = False
    without: str = ""


def play_chunk(chunk: Chunk) -> tuple[Chunk, Found]:
    """What one process does."""
    found, digest = Found(), hashlib.sha256()
    cases = [draw(seed, chunk.mode, chunk.servers) for seed in range(chunk.start, chunk.start + chunk.count)]
    for case in cases:
        past_of(*case.shape)  # a past is made by the whole engine
    gc.collect()
    gc.freeze()  # modules and pasts live as long as the process: no collection between two cases need look at them
    with without(chunk.without):
        for case in cases:
            result = play(case, chunk.trace)
            found.plays += 1
            found.events += result.events
            found.triples.update(result.triples)
            digest.update(result.trace.encode())
            if result.broken:
                found.broken.append((chunk.mode, case.seed, result.broken))
    found.trace = digest.hexdigest() if chunk.trace else ""
    return chunk, found


def chunks(modes: Sequence[Mode], start: int, seeds: int, servers: int | None = None, trace: bool = False, off: str = "") -> Iterator[Chunk]:
    """All seeds of all modes, in turn."""
    for first in range(start, start + seeds, CHUNK):
        for mode in modes:
            yield Chunk(mode, first, min(CHUNK, start + seeds - first), servers, trace, off)


def run_all(modes: Sequence[Mode], start: int, seeds: int, jobs: int, seconds: float | None = None, servers: int | None = None,
            trace: bool = False, off: str = "") -> Found:
    """Play `seeds` seeds of each mode, or as many as fit into `seconds`. `off`: the safeguard that is switched off."""
    began, found = time.monotonic(), Found()
    todo = chunks(modes, start, seeds if seconds is None else 10**9, servers, trace, off)
    traces: dict[tuple[int, Mode], str] = {}
    for chunk, part in _spread(todo, jobs, began + seconds if seconds is not None else None):
        found.plays += part.plays
        found.events += part.events
        found.broken += part.broken
        found.triples.update(part.triples)
        traces[chunk.start, chunk.mode] = part.trace
    found.seconds = time.monotonic() - began
    found.broken.sort(key=lambda one: (one[1], one[0]))
    found.trace = hashlib.sha256("".join(traces[key] for key in sorted(traces)).encode()).hexdigest() if trace else ""
    return found


def _spread(todo: Iterator[Chunk], jobs: int, until: float | None) -> Iterator[tuple[Chunk, Found]]:
    if jobs == 1:
        for chunk in todo:
            if until is not None and time.monotonic() >= until:
                return
            yield play_chunk(chunk)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running: set[Future[tuple[Chunk, Found]]] = set()
        for chunk in todo:
            if until is not None and time.monotonic() >= until:
                break
            running.add(pool.submit(play_chunk, chunk))
            if len(running) >= 2 * jobs:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (one.result() for one in done)
        yield from (one.result() for one in wait(running).done)


def report(found: Found, keep: bool = True) -> Iterator[str]:
    """What broke, each with the command that plays it again; then the first of them shrunk, and kept in seeds.txt."""
    for mode, seed, broken in found.broken:
        yield f"{mode} seed {seed}: {broken[:500]}\n  again: python -m tests.sim --replay {seed} --mode {mode}"
    for mode, seed, broken in found.broken[:TOLD] if keep else ():
        case = shrink(draw(seed, mode), broken)
        remember(Kept(mode, seed, promise(broken), case))
        yield f"{mode} seed {seed}, shrunk: {case!r}\n  which says: {play(case).broken}"


def remember(kept: Kept) -> None:
    """Add a line to seeds.txt, unless it is there."""
    line = f"{kept.mode} {kept.seed} | {kept.broke} | {kept.case!r}"
    before = SEEDS.read_text(encoding="utf-8") if SEEDS.is_file() else ""
    if line not in before.splitlines():
        SEEDS.write_text(f"{before}{line}\n", encoding="utf-8")


def kept_seeds() -> list[Kept]:
    """All lines of seeds.txt."""
    found = []
    for line in SEEDS.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            head, broke, case = line.split(" | ", 2)
            mode, seed = head.split()
            assert mode in ("safety", "liveness"), line
            found.append(Kept(mode, int(seed), broke, read(case)))  # type: ignore[arg-type]
    return found


def cores() -> int:
    """Processes to use: the machine's cores, two at most, as a CI machine has."""
    return min(2, os.cpu_count() or 1)
