"""How long things take in a simulated world, and which fault an image has.

Chance is drawn by hashing what it is about, never from a stream: the answer does not depend on the order of
calls, so a run with other interleavings, or resumed by another daemon, meets the same world.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from fleet.core.desired import Pool, SimSettings
from fleet.core.errors import Permanent
from fleet.core.grammar import parse_duration

SHARES = {
    "stage": 0.2,
    "birth": 0.1,
    "boot": 1.0,
    "commit": 0.02,
    "retire": 0.2,
    "revive": 0.5,
    "bury": 0.05,
    "probe": 0.01,
    "rise": 0.5,
    "remount": 0.05,
}
"""Seconds of each verb as a share of the pool's `boot`; `boot` follows a birth, `rise` a revival, in the
background.
"""

_DIES = "dies-after "


def settings_of(pool: Pool) -> SimSettings:
    """The pool's `sim` table, or its defaults."""
    return pool.sim or SimSettings()


def chance(seed: int, *about: object) -> float:
    """A number in [0, 1) that depends on nothing but its arguments."""
    text = "\x1f".join(str(part) for part in (seed, *about))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") / 2.0**64


def seconds_for(sim: SimSettings, verb: str, server: str, number: int) -> float:
    """How long `verb` takes for this incarnation: its share of `boot`, times 1 ± jitter."""
    spread = sim.jitter * (2.0 * chance(sim.seed, server, number, verb) - 1.0)
    return max(0.0, sim.boot * SHARES[verb] * (1.0 + spread))


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with an image version. `after`: seconds of health before a `dies-after` ends it."""

    kind: Literal["none", "never-healthy", "never-boots", "dies-after", "writable-root"] = "none"
    after: float = 0.0


def fault_of(sim: SimSettings, version: str) -> Fault:
    """The fault that the pool's settings give this version. Raises Permanent for one that no simulated world
    knows.
    """
    text = sim.faults.get(version, "")
    if not text:
        return Fault()
    if text == "never-healthy":
        return Fault("never-healthy")
    if text == "never-boots":
        return Fault("never-boots")
    if text == "writable-root":
        return Fault("writable-root")
    if text.startswith(_DIES):
        return Fault("dies-after", parse_duration(text.removeprefix(_DIES), where=f"sim.faults.{version}"))
    raise Permanent(
        f'the sim knows no fault "{text[:60]}"; write never-healthy, never-boots, writable-root or '
        'dies-after with a duration such as "dies-after 3s"',
        where=f"sim.faults.{version}",
    )
