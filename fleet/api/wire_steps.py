"""What /v1/servers/NAME tells of a server's last replacement: more shapes that cross the socket, by the rules of wire.py."""

from __future__ import annotations

from typing import TypedDict


class StepTaken(TypedDict):
    """A step of a replacement. `how`: done | failed | left | now | ahead. `median_seconds`: of the last 20 in this pool, with its driver.

    `long_from_seconds`: from how many seconds on it counts as long; None before three were seen.
    """

    step: str
    how: str
    since: str | None
    seconds: float | None
    median_seconds: float | None
    long_from_seconds: float | None
    long: bool


class ReplacementRow(TypedDict):
    """What the newest rollout that touched a server did to it, also after its end. `state`: a server state of cli.md; `seconds`: from the first step to the end."""

    rollout: str
    kind: str
    to: str
    state: str
    active: bool
    ended_at: str | None
    seconds: float | None
    error: str
    last_words: str
    steps: list[StepTaken]
    # also "from": str | None
