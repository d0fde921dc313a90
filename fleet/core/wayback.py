"""The way back of a server's run that failed or was turned: to what served before it.

The old incarnation is looked for before its way back is chosen, never assumed.
"""

from __future__ import annotations

from dataclasses import replace

from fleet.core.bench import Bench, redirect, running, settle
from fleet.core.events import Draft
from fleet.core.lifecycle import BACKWARD
from fleet.core.observed import Seen
from fleet.core.sight import Sight
from fleet.core.slots import ahead
from fleet.core.state import Rollout, Run, Target

MOST_ATTEMPTS = 4
"""So many failures on the way back are answered by another way."""


def way_back(bench: Bench, run: Run, why: str) -> Draft:
    """Where a run goes that failed or was turned: to what served before it, by looking at what is really there."""
    if run.path in BACKWARD:
        return _second_way(bench, run, why)
    rollout, sight = bench.rollout, bench.sight
    back = run.reverting or rollout.kind == "rollback"
    new = run.target.number if run.target else None
    old = sight.seen(run.server, run.source)
    if _left_a_stray(sight, run):
        return _past_a_stray(bench, run, old, why, back)
    if run.phase == "failed" and run.step in ("draining", "retiring") and sight.known(run.server).admitted == new and sight.healthy(run.server, new):
        return _not_cleared(bench, run, old, why)
    if run.path == "create-first" and sight.known(run.server).admitted == new and sight.healthy(run.server, new) and not running(old):
        return settle(rollout, run, "serving", f"incarnation {new} serves, and {run.source} has stopped")  # if it goes back, then under the budget
    if run.path == "in-place":
        return _own_way_back(bench, run, old, why, back)
    if old is not None and old.state == "running":
        target = Target("revive", old.number, sight.image_of(old))
        if sight.known(run.server).admitted != new or not sight.healthy(run.server, new):
            return redirect(rollout, run, "put-back" if _was_stopped(run) else "keep-old", why, source=new, target=target, reverting=back)
        return redirect(rollout, run, "create-first", why, source=new, target=target, reverting=True)
    if back and run.step == "admitting" and sight.healthy(run.server, new):
        return settle(rollout, run, "quarantined", f"it answers, but could not be admitted: {why}")
    if back and _on_its_way(sight, run):
        return _runs_after_all(rollout, run, run.source, why)
    if back and run.target is not None and run.attempts < 2 and run.target.image.digest in sight.images:
        target = Target("birth", sight.highest(run.server) + 1, run.target.image)
        return redirect(rollout, run, "put-back", f"born anew, since the retained one failed: {why}", source=new, target=target, reverting=True)
    if old is not None:
        return redirect(rollout, run, "put-back", why, source=new, target=Target("revive", old.number, sight.image_of(old)), reverting=back)
    if run.home is not None and run.action == "replace":
        return redirect(rollout, run, "put-back", why, source=new, target=Target("birth", sight.highest(run.server) + 1, run.home), reverting=back)
    return redirect(rollout, run, "clear", why, source=new)


def _left_a_stray(sight: Sight, run: Run) -> bool:
    """True if what gives up its place runs, or ran, without being in service: not proved since it was started, it is no way back."""
    admitted, new = sight.known(run.server).admitted, run.target.number if run.target else None
    return admitted is not None and run.source is not None and admitted not in (run.source, new)


def _past_a_stray(bench: Bench, run: Run, stray: Seen | None, why: str, back: bool) -> Draft:
    """To the last one that was in service, else to one that is retained, else born anew of the image it had; the stray is stopped on the way.
    One that may serve all the while is proved where it is.
    """
    sight = bench.sight
    kept = sight.retained(run.server)
    last = sight.seen(run.server, sight.known(run.server).admitted) or (kept[max(kept)] if kept else None)
    if run.path == "in-place":
        return _own_way_back(bench, run, last, why, back)
    source = run.source if running(stray) or run.target is None else run.target.number
    standby = sight.standby(run.server)
    if standby is not None and run.target is not None:
        source, last = run.target.number, standby
    if last is not None:
        return redirect(bench.rollout, run, "put-back", why, source=source, target=Target("revive", last.number, sight.image_of(last)), reverting=back)
    if run.home is not None and run.home.digest in sight.images:
        target = Target("birth", sight.highest(run.server) + 1, run.home)
        return redirect(bench.rollout, run, "put-back", why, source=source, target=target, reverting=back)
    return redirect(bench.rollout, run, "clear", why, source=source)


def _was_stopped(run: Run) -> bool:
    """True if we stopped what served: if it runs all the same, a request that came late has started it, and nobody has proved it since."""
    return run.path == "delete-first" and (run.step in ("booting", "proving", "admitting") or (run.step == "stopping" and run.phase == "done"))


def _stopped(seen: Seen | None) -> bool:
    return seen is not None and seen.state == "stopped"


def _own_way_back(bench: Bench, run: Run, old: Seen | None, why: str, back: bool) -> Draft:
    """A machine goes back to its old slot, unless it never left it. That it may have gone back by itself is found by the verb."""
    new = run.target.number if run.target else None
    if ahead(run):
        return settle(bench.rollout, run, "put-back", f"not touched, it serves what it did: {why}")
    if back and run.step == "admitting" and bench.sight.healthy(run.server, new):
        return settle(bench.rollout, run, "quarantined", f"it answers, but could not be admitted: {why}")
    if back and _on_its_way(bench.sight, run):
        return _runs_after_all(bench.rollout, run, None, why)
    if old is not None and old.state in ("running", "stopped"):
        target = Target("revive", old.number, bench.sight.image_of(old))
        path = "keep-old" if run.step == "draining" and running(old) else "fall-back"
        return redirect(bench.rollout, run, path, why, source=new, target=target, reverting=back)
    if run.home is not None and run.home.digest in bench.sight.images:
        target = Target("birth", bench.sight.highest(run.server) + 1, run.home)
        return redirect(bench.rollout, run, "fall-back", f"its old slot is gone, born anew: {why}", source=new, target=target, reverting=back)
    return settle(bench.rollout, run, "quarantined", f"could not be put back, its old slot is gone and its image is not catalogued: {why}")


def _on_its_way(sight: Sight, run: Run) -> bool:
    """True if what was started runs, and has not failed its proof: of its start, at most the word that it was done is missing."""
    unproved = run.step == "booting" or (run.step == "proving" and run.phase != "failed")
    return unproved and run.target is not None and running(sight.seen(run.server, run.target.number))


def _not_cleared(bench: Bench, run: Run, old: Seen | None, why: str) -> Draft:
    """The new one serves and is well; only its predecessor was not got rid of. Nothing that serves is taken down for that."""
    assert run.target is not None
    if old is None or old.state != "running":
        return settle(bench.rollout, run, "serving", f"incarnation {run.target.number} serves, and {run.source} has stopped")
    if run.step == "draining" and bench.sight.healthy(run.server, old.number):
        target = Target("revive", old.number, bench.sight.image_of(old))
        back = run.reverting or bench.rollout.kind == "rollback"
        return redirect(bench.rollout, run, "keep-old", why, source=run.target.number, target=target, reverting=back)
    return settle(bench.rollout, run, "quarantined", f"it serves {run.target.image.version}, but incarnation {run.source} could not be stopped: {why}")


def _second_way(bench: Bench, run: Run, why: str) -> Draft:
    """Putting back failed. A retained incarnation that does not come is born anew from its image; in a rollback, a newborn that does
    not come makes way for the last one that was in service; after that a person is needed."""
    sight, rollout = bench.sight, bench.rollout
    if run.step == "admitting" and run.target is not None and sight.healthy(run.server, run.target.number):
        return settle(rollout, run, "quarantined", f"it answers, but could not be admitted: {why}")
    if run.path not in ("put-back", "fall-back") or run.target is None or run.step == "stopping":
        return settle(rollout, run, "quarantined", f"could not be put back: {why}")
    failed = run.target.number
    if run.step == "booting" and run.attempts < MOST_ATTEMPTS and running(sight.seen(run.server, failed)):
        return _runs_after_all(rollout, run, None, why)
    if run.path == "put-back" and run.step == "booting" and run.attempts < MOST_ATTEMPTS and (stray := _in_the_way(sight, run)):
        return redirect(rollout, run, run.path, f"incarnation {stray} runs again, and is in its way: {why}", source=stray, target=run.target,
                        reverting=run.reverting)
    if run.path == "fall-back" and run.step == "proving" and run.attempts < MOST_ATTEMPTS and _stopped(sight.seen(run.server, failed)):
        return redirect(rollout, run, run.path, f"the machine left it again: {why}", source=run.source, target=replace(run.target, kind="revive"),
                        reverting=run.reverting)  # a boot that was asked for long ago came late: its slot is startable, and the way back
    old = sight.seen(run.server, run.source)
    if unwanted(rollout, run) and run.attempts < MOST_ATTEMPTS and old is not None and _stopped(old):
        target = Target("revive", old.number, sight.image_of(old))
        return redirect(rollout, run, run.path, f"it answered again, and failed again: {why}", source=failed, target=target)
    if run.target.kind == "revive" and run.attempts < MOST_ATTEMPTS and run.target.image.digest in sight.images:
        target = Target("birth", sight.highest(run.server) + 1, run.target.image)
        return redirect(rollout, run, run.path, f"the old incarnation did not come back ({why}), born anew", source=failed, target=target,
                        reverting=run.reverting)
    last = sight.seen(run.server, sight.known(run.server).admitted)
    if run.reverting and run.target.kind == "birth" and run.attempts < MOST_ATTEMPTS and last is not None and last.number != failed:
        target = Target("revive", last.number, sight.image_of(last))
        return redirect(rollout, run, run.path, f"not born anew ({why}), back to the last one in service", source=failed, target=target,
                        reverting=run.reverting)
    return settle(rollout, run, "quarantined", f"could not be put back: {why}")


def _in_the_way(sight: Sight, run: Run) -> int:
    """What runs in place of the target and is not in service, 0 if nothing: a request that came late started it, and it may hold the disks. What
    was in service before, and may serve for all we know, is not in the way.
    """
    standby = sight.standby(run.server)
    kept = (run.target.number if run.target else None, sight.known(run.server).admitted, standby.number if standby else None)
    return max((number for number, seen in sight.by_server.get(run.server, {}).items() if running(seen) and number not in kept), default=0)


def _runs_after_all(rollout: Rollout, run: Run, source: int | None, why: str) -> Draft:
    """Its start was not confirmed in time, or an abort came before its proof, and it runs: it is proved and admitted, never stopped for that."""
    assert run.target is not None
    path = run.path if run.path in BACKWARD else "fall-back" if run.path == "in-place" else "put-back"
    back = run.reverting or rollout.kind == "rollback"
    how = "it runs after all" if run.phase == "failed" else "it is on its way back already"
    return redirect(rollout, run, path, f"{how}: {why}", source=source, target=replace(run.target, kind="revive"), reverting=back)


def unwanted(rollout: Rollout, run: Run) -> bool:
    """True for one that was to be put back, and stays, or stayed, on the image that it was to leave, since it answered again. Where that image is
    the one it had before, too, it was put back as it should be.
    """
    home = run.home or rollout.image_from
    if rollout.kind != "rollout" or run.path != "put-back" or run.reverting or run.target is None:
        return False
    return run.target.image.digest == rollout.image_to.digest and (home is None or home.digest != rollout.image_to.digest)


def again(sight: Sight, rollout: Rollout, run: Run) -> Draft | None:
    """While rolling back: a server that was kept on what it shall leave is tried once more, by birth; then a person is needed."""
    wanted = rollout.image_to if rollout.kind == "rollback" else run.home or rollout.image_from
    if run.step != "put-back" or not run.reverting or run.target is None or wanted is None or run.target.image.digest == wanted.digest:
        return None
    if run.attempts < 2 and wanted.digest in sight.images:
        target = Target("birth", sight.highest(run.server) + 1, wanted)
        return redirect(rollout, run, forward_path(sight, rollout, run), f"tried once more, by re-birth: {run.error}", source=run.target.number,
                        target=target, reverting=True)
    return settle(rollout, run, "quarantined", f"could not be rolled back, it serves {run.target.image.version}: {run.error}")


def forward_path(sight: Sight, rollout: Rollout, run: Run) -> str:
    """The path by which a server that serves is replaced in this rollout."""
    if run.planned != "birth":
        return run.planned
    if sight.pool.in_place:
        return "in-place"
    return "create-first" if rollout.budget.surge and not sight.pool.data else "delete-first"
