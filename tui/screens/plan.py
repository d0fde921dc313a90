"""Plan: what a start would do, to whom, in what order and why, before anything is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tui import actions, fields, phrases
from tui.ink import Line, Span, wrap
from tui.offers import Plan, PlanRow
from tui.screens.base import TableView, View, fact
from tui.shapes import Pool, Rollout, Server, Waiting
from tui.widgets.table import Column, Shown, Table

if TYPE_CHECKING:
    from tui.desk import Desk

ACTION_TONES = {"replace": "plain", "birth": "accent", "skip": "dim", "hold": "warn"}


class PlanView(TableView[PlanRow]):
    """The table is the plan; the lines around it say what it costs, what it changes, and how it is started."""

    name = "plan"

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._shown: Plan | None = None
        self._rows: dict[str, PlanRow] = {}
        self._turns: dict[str, str] = {}
        self._looked = 0
        self.table = Table(
            (
                Column("server", "server", lambda row: row.name, 8, 20, words=lambda row: row.name),
                Column("does", "does", lambda row: (Span(row.action, ACTION_TONES.get(row.action, "plain")),), 7,
                       words=lambda row: row.action, order=lambda row: row.action),
                Column("turn", "turn", self._turn, 6, align="right", words=lambda row: "canary" if row.canary else "", value=lambda row: self._turns.get(row.name, "")),
                Column("move", "from→to", self._move, 8, 14, words=lambda row: f"{row.origin}→{row.to}"),
                Column("data", "data kept", lambda row: (Span(", ".join(row.data_kept) or "-", "dim"),), 9, 16,
                       words=lambda row: ",".join(row.data_kept)),
                Column("why", "why", self._why, 0, words=lambda row: row.reason),
                Column("order", "how", lambda row: (Span(row.order, "dim"),), 12, at=120, words=lambda row: row.order),
                Column("back", "way back", lambda row: (Span(row.rollback, "dim"),), 9, at=120,
                       words=lambda row: row.rollback),
                Column("takes", "takes", lambda row: phrases.span(row.seconds) if row.seconds else "-", 7,
                       align="right", at=120, order=lambda row: -row.seconds, words=lambda row: "", value=lambda row: round(row.seconds)),
            ),
        )

    def enter(self, before: View, **what: str) -> None:
        pool = before.pool()
        plan = self.desk.plan
        unseen = plan is not None and plan is not self._shown  # it came when the user was elsewhere
        if what.get("kept") or unseen or (plan is not None and (pool is None or pool.name == plan.pool)):
            self.heard()
        elif pool is not None:
            self.desk.spawn(actions.make_plan(self.desk, {"pool": pool.name}))

    def heard(self) -> None:
        """Ask once more for the plan, once for each change of its pool."""
        plan, pool = self.desk.plan, self.pool()
        if plan is not None and pool is not None and pool.generation > max(plan.generation, self._looked):
            self._looked = pool.generation
            self.desk.spawn(actions.look_again(self.desk, plan))

    def crumb(self) -> str:
        return self.name if self.desk.plan is None else f"plan {self.desk.plan.pool}"

    # cells

    def _turn(self, row: PlanRow) -> Shown:
        turn = self._turns.get(row.name, "")
        return (Span(turn, "accent" if turn == "canary" else "plain"),)

    def _move(self, row: PlanRow) -> Shown:
        if row.action in ("replace", "birth"):
            return f"{row.origin}→{row.to}" if row.origin else f"→{row.to}"
        return (Span(row.origin or "-", "dim"),)

    def _why(self, row: PlanRow) -> Shown:
        return (Span(row.reason, "dim" if row.action == "skip" else "plain"),)

    # drawing

    def lines(self, width: int, height: int) -> list[Line]:
        plan = self.desk.plan
        if plan is None:
            return [(), (Span(f"  No plan yet: {self.desk.model.key_of('plan')} on a pool or on marked servers makes one. Planning changes nothing.", "dim"),)]
        if plan is not self._shown:
            self._take(plan)
        top = self._head(plan, width)
        bottom = self._foot(plan, width)
        room = max(2, height - len(top) - len(bottom))
        self.table.update(self._rows, id(plan))
        rows = self.table.lines(width, room)
        if self._rows and not self.table.order:
            rows = [*rows[: room - 1], (Span(f"  {self.no_match('row')}", "dim"),)]
        if len(top) + len(rows) + len(bottom) < height:
            bottom = [(), *bottom]
        if len(top) + len(rows) + len(bottom) < height:
            top = [*top, ()]
        return ([*top, *rows, *bottom])[:height]

    def _take(self, plan: Plan) -> None:
        before, self._shown = self._shown, plan
        self._rows = {row.name: row for row in plan.servers}
        self._turns = {}
        for turn, row in enumerate((row for row in plan.servers if row.action in ("replace", "birth")), start=1):
            self._turns[row.name] = "canary" if row.canary else str(turn)
        if before is None or before.hash != plan.hash:
            self.table.go(0)
            self.table.home()

    def _head(self, plan: Plan, width: int) -> list[Line]:
        kind = "" if plan.kind == "rollout" else f"{plan.kind} of "
        move = f"{plan.origin}→{plan.to}" if plan.origin and plan.origin != plan.to else f"→{plan.to}"
        rows: list[Line] = [(
            Span(f" plan {plan.hash[:8]}", "title"), Span(f"  {kind}{plan.pool} {move}"),
            Span("  nothing has happened yet", "dim"),
        )]
        for text in (plan.summary or self._summary(plan))[:6]:
            rows += [(Span(f" {row}"),) for row in wrap(text, width - 2, 2)]
        if self.desk.difference:
            rows.append((Span(f" ! the fleet changed since; {self.desk.model.key_of('plan')} plans anew:", "warn"),))
            rows += [(Span(f"   {text}", "warn"),) for text in self.desk.difference[:3]]
        elif self.desk.left_behind:
            rows.append((Span(f" ! the pool has changed since this plan was drawn: {self.desk.model.key_of('plan')} plans anew", "warn"),))
        return rows

    def _summary(self, plan: Plan) -> tuple[str, ...]:
        """Said here only when the daemon said nothing."""
        canaries = sum(1 for row in plan.servers if row.canary)
        extra, missing = plan.budget.get("max_surge", 0), plan.budget.get("max_unavailable", 0)
        pace = f"at most {extra} extra and {missing} missing at a time"
        first = f", {phrases.plural(canaries, 'canary', 'canaries')} first" if canaries else ""
        return (f"{phrases.plural(plan.acting, 'server')}, {pace}{first} · {phrases.about(plan.seconds)}",)

    def _foot(self, plan: Plan, width: int) -> list[Line]:
        rows: list[Line] = []
        if words := diff_words(plan):
            rows += [fact("changes" if not index else "", text) for index, text in enumerate(wrap(words, width - 12, 2))]
        kept = sorted({name for row in plan.servers for name in row.data_kept})
        rows.append(fact("kept", f"data {', '.join(kept)} · " if kept else "", self._way_back(plan)))
        over = phrases.plural(plan.blast_domains, "hypervisor") if plan.blast_domains else "no hypervisor"
        rows.append(fact("blast", f"{phrases.plural(plan.blast_servers or plan.acting, 'server')} on {over}, "
                                  f"worst loss at once: {plan.worst_loss}"))
        if plan.rejects:
            rows.append(fact("rejects", Span(f"{plan.rejects} for {plan.pool}: not chosen again before "
                                             "`anew image unreject`", "warn")))
        rows.append(fact("needs", *self._needs(plan)))
        if approvals := self._approvals(plan):
            rows.append(fact("approved", *approvals))
        if isinstance(closed := plan.needs.get("closed"), str):
            rows += [fact("but" if not index else "", Span(text, "warn")) for index, text in enumerate(wrap(closed, width - 12, 4))]
        return rows

    def _way_back(self, plan: Plan) -> str:
        """What it would cost to regret this, from the rows."""
        acting = [row for row in plan.servers if row.action == "replace"]
        kept = sum(1 for row in acting if row.rollback == "retained")
        if plan.kind == "rollback":
            return "this is the way back"
        if not acting:
            return "nothing is replaced"
        if kept == len(acting):
            return "old incarnations are retained: back in seconds"
        return f"rollback: {kept} in seconds from retained incarnations, {len(acting) - kept} by a new birth"

    def _needs(self, plan: Plan) -> Line:
        count = plan.acting
        if not count:
            return (Span("nothing: there is nothing to do", "dim"),)
        if self.desk.left_behind:
            return (Span(self.desk.model.key_of("plan"), "key"), Span(" to plan anew: the pool has changed since"))
        waits, left = self._waiting(plan), actions.unapproved(plan, self.pool())
        if waits is not None and left:
            whose = "1 approval of another person" if left == 1 else f"{left} approvals of other people"
            how = ", by" if actions.proposed_here(self.desk, waits) else f": {self.desk.model.key_of('approve')}, or"
            return (Span(whose, "warn"), Span(f"{how} anew plan approve {plan.hash[:12]}"))
        does = "propose, nothing is started" if left else "start"
        typed = "enter, then y" if count == 1 else f"enter, then type {count}"
        if self.desk.armed_left <= 0:
            typed = f"{self.desk.model.key_of('arm')} to arm, then {typed}"
        return (Span(typed, "key"), Span(f" to {does}"))

    def _waiting(self, plan: Plan) -> Waiting | None:
        """This very plan, if it waits for approval."""
        pool = self.pool()
        return pool.proposal if pool is not None and pool.proposal is not None and pool.proposal.hash == plan.hash else None

    def _approvals(self, plan: Plan) -> Line:
        waits, model = self._waiting(plan), self.desk.model
        needed = plan.needs.get("approvals")
        if waits is None:
            return (Span(f"by nobody yet: {phrases.plural(needed, 'approval')} of other people needed"),) if isinstance(needed, int) and needed else ()
        until = phrases.when(model.local(waits.expires), self.desk.now, self.desk.clock.zone)
        return (Span(f"{phrases.approved(waits)}, proposed by {phrases.who(waits.author)}", "warn" if waits.left else "good"), Span(f" · waits until {until}", "dim"))

    # doing

    def pool(self) -> Pool | None:
        plan = self.desk.plan
        return None if plan is None else self.desk.model.pools.get(plan.pool)

    def server(self) -> Server | None:
        return self.desk.model.servers.get(self.table.cursor)

    def rollout(self) -> Rollout | None:
        plan = self.desk.plan
        return None if plan is None else self.desk.model.rollout_of(plan.pool)

    def act(self, action: str) -> bool:
        if action == "open":
            actions.start_plan(self.desk)
            return True
        return super().act(action)


def diff_words(plan: Plan) -> str:
    """`+2 packages, 14 upgraded, 1 removed, kernel a→b`, from a diff whose lists may be lists or numbers."""
    def count(*names: str) -> int:
        for name in names:
            value: Any = plan.diff.get(name)
            if isinstance(value, (list, dict)):
                return len(value)
            if isinstance(value, int) and not isinstance(value, bool):
                return value
        return 0

    added, removed, changed = count("added"), count("removed"), count("changed", "upgraded")
    parts = [f"+{phrases.plural(added, 'package')}" if added else "", f"{changed} upgraded" if changed else "",
             f"{removed} removed" if removed else ""]
    kernel = plan.diff.get("kernel")
    if isinstance(kernel, str) and kernel:
        parts.append(f"kernel {kernel}")
    elif isinstance(kernel, list) and len(kernel) == 2:
        parts.append(f"kernel {str(kernel[0]).partition(' ')[2][:6]}→{str(kernel[1]).partition(' ')[2][:6]}")
    before, after = (fields.number(plan.diff, key) for key in ("size_a", "size_b"))
    if before is not None and after is not None and before != after:
        grows = after > before
        parts.append(f"{phrases.size(int(abs(after - before)))} {'more' if grows else 'less'}")
    if plan.diff.get("packages_known") is False:
        parts.append("no list of packages to compare")
    said = ", ".join(part for part in parts if part)
    return said or ("no package differs" if plan.diff else "")


def make(desk: Desk) -> PlanView:
    return PlanView(desk)
