"""What deciding about a run needs, and the notes that send it another way or end it."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.core.codec import target_out
from fleet.core.events import Draft
from fleet.core.observed import Seen
from fleet.core.sight import Sight
from fleet.core.slots import Slots
from fleet.core.state import Rollout, Run, Target


@dataclass(frozen=True, slots=True)
class Bench:
    """What deciding about a run needs: the sight, the rollout, the budget's places, what is left until the next checkpoint, and whether the
    observation is fresh.
    """

    sight: Sight
    rollout: Rollout
    slots: Slots
    checkpoint: tuple[int, int] | None

    def fresh(self, run: Run) -> bool:
        """True if the fleet was observed after the run's last event, and after what was tried beside the run, or by a rollout before, and failed."""
        known = self.sight.known(run.server)
        return self.sight.looked_at(run.server) >= max(run.changed_at, known.failed_at, *known.untidy[1:])


def running(seen: Seen | None) -> bool:
    """True if it is there and runs."""
    return seen is not None and seen.state == "running"


def redirect(rollout: Rollout, run: Run, path: str, reason: str, *, source: int | None = None, target: Target | None = None,
             reverting: bool = False) -> Draft:
    """The note that sends a run another way."""
    return Draft("server-redirected", pool=rollout.pool, server=run.server, rollout=rollout.id,
                 data={"path": path, "source": source, "target": target_out(target), "reason": reason, "reverting": reverting})


def settle(rollout: Rollout, run: Run, state: str, reason: str) -> Draft:
    """The note that ends a run in a settled state (`put-back` is one, and also the name of a path: hence two types)."""
    return Draft("server-settled", pool=rollout.pool, server=run.server, rollout=rollout.id, data={"state": state, "reason": reason})
