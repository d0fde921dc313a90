"""bootc: `bootc status --format=json` (apiVersion org.containers.bootc/v1).

A bootc host has no lettered slots: `booted`, `staged` (what `bootc switch` brought, taken at the next shutdown) and `rollback`.
Which of its deployments is A and which B, the helper keeps. A staged deployment boots next; else a queued rollback; else
the booted one. bootc has no trial of its own: what was switched to boots for ever, so the helper queues the rollback itself
before it tries, and an automatic update (bootc-fetch-apply-updates.timer) must be off, or it would undo a rollback.
Tested against recorded answers of the real tool, not against a running one.
"""

from __future__ import annotations

from drivers.baremetal.backends import Reading, parse_object, table


def read(raw: bytes) -> Reading:
    """See Reading."""
    host = parse_object(raw)
    if host is None or host.get("kind") != "BootcHost":
        return Reading(problem="bootc's status is no BootcHost; look at `bootc status --format=json` there")
    status = table(host.get("status"))
    if not table(status.get("booted")):
        return Reading(problem="bootc is installed there, and did not boot it: it is no bootc host")
    if table(status["booted"]).get("incompatible") is True:
        return Reading(problem="its booted deployment has local changes that bootc cannot carry over (`incompatible`); undo them there first")
    staged, back = bool(table(status.get("staged"))), bool(table(status.get("rollback")))
    queued = status.get("rollbackQueued") is True
    return Reading(
        next="idle" if staged or (queued and back) else "booted",
        booted_good=True,
        idle_good=(staged or back),
    )
