"""Bringing up pools that have no servers yet: what `anew demo` and `anew lab up` begin with."""

from __future__ import annotations

import re
import time

from fleet.cli.wait import EXIT_BY_STATE, NEEDS_PERSON
from fleet.core.errors import Invalid, Refused, Transient

TYPE_CHECKING = False  # as `typing` has it; importing typing is felt at start-up
if TYPE_CHECKING:
    from typing import Any

    from fleet.cli.context import Context

LOOK_SECONDS = 0.2


def is_empty(pool: dict[str, Any]) -> bool:
    """Whether no server of the pool has an incarnation, and no rollout is about to change that."""
    return not pool["rollout"] and not pool["versions"] and all(row["incarnation"] is None for row in pool.get("servers", ()))


def first_version(images: list[dict[str, Any]], family: str) -> str:
    """The lowest version of a family: 2 before 10, and before 3-panics."""
    versions = [row["version"] for row in images if row["family"] == family]
    if not versions:
        raise Invalid("there is no image of this family", where=family, code="unknown-image")
    return str(min(versions, key=_as_numbers))


def _as_numbers(version: str) -> list[tuple[bool, int, str]]:
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.findall(r"\d+|\D+", version)]


AT_ONCE = {"canaries": "0", "max_unavailable": "100%"}
"""Overrides for births that cost nothing: nobody is served yet, so nobody can be missed."""


def birth(context: Context, *, version: str | None = None, overrides: dict[str, str] | None = None) -> list[str]:
    """Start a birth for every empty pool of the fleet; the rollouts' ids. Promotion is automatic, other settings the pool's."""
    frame = context.client.get("/v1/status")
    empty = [pool for pool in frame["pools"] if is_empty(pool)]
    images = context.client.get("/v1/images")["images"] if empty else []
    return [_birth(context, pool, version or first_version(images, pool["image"]["family"]), overrides or {}) for pool in empty]


def _birth(context: Context, pool: dict[str, Any], version: str, overrides: dict[str, str]) -> str:
    request = {"pool": pool["name"], "kind": "rollout", "to": version, "overrides": {"promotion": "auto", **overrides}}
    frame = context.client.post("/v1/plan", request)
    answer = context.client.command("rollout.start", pool=pool["name"], plan=request, plan_hash=frame["hash"],
                                    generation=frame["generation"])
    if answer.get("proposed"):
        error = Refused(str(answer["message"]), where=pool["name"], code="awaiting-approval")
        error.exit_code = NEEDS_PERSON
        raise error
    return str(answer["rollout"])


def until_born(context: Context, seconds: float) -> None:
    """Wait until every server of the fleet is healthy. Transient after `seconds`, or with the reason if a birth stopped."""
    limit = time.monotonic() + seconds
    said = ""
    while True:
        frame = context.client.get("/v1/status")
        missing = [pool for pool in frame["pools"] if pool["healthy"] < pool["size"]]
        if not missing:
            return
        for row in frame["rollouts"]:
            if row["state"] in EXIT_BY_STATE and EXIT_BY_STATE[row["state"]] and row["pool"] in [pool["name"] for pool in missing]:
                raise Transient(f"the birth is {row['state']}: {row['reason']}", where=row["pool"], code="not-born")
        text = ", ".join(f"{pool['name']} {pool['healthy']} of {pool['size']} healthy" for pool in missing)
        if time.monotonic() > limit:
            raise Transient(f"not up within {seconds:.0f} s: {text}", code="not-born")
        if text != said and not context.as_json:
            context.note(text)
            said = text
        time.sleep(LOOK_SECONDS)
