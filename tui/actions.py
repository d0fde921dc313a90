"""What keys and commands do to the fleet: a question by the safety ladder, one command, the answer as a sentence.

The ladder: looking, pausing and aborting are one key. One server is a key, then `y`. Several are the number, typed.
Each command carries the pool's generation as it was seen, and a start the plan's hash; the daemon judges both.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tui import diffs, fields, offers, phrases, roots, shells
from tui.errors import LinkError
from tui.fields import Raw
from tui.shapes import Pool, Rollout, Server, Waiting

if TYPE_CHECKING:
    from tui.desk import Desk


def act(desk: Desk, action: str) -> None:
    """Do a fleet action; its needs were checked by the table of keys."""
    at = desk.situation()
    match action:
        case "plan":
            plan_here(desk)
        case "approve" if at.pool is not None:
            approve(desk, at.pool)
        case "pause" if at.rollout is not None:
            pause(desk, at.rollout)
        case "abort" if at.rollout is not None:
            send(desk, command="rollout.abort", rollout=at.rollout.id, pool=at.rollout.pool)
        case "promote" if at.rollout is not None:
            promote(desk, at.rollout)
        case "rollback":
            rollback(desk, at.screen, at.pool, at.server, at.rollout)
        case "hold" if at.server is not None:
            hold(desk, at.server)
        case "root":
            roots.change(desk, at.server if at.screen in ("servers", "server") else None, at.pool)
        case "shell" if at.server is not None:
            shells.ask(desk, at.server)
        case "remark":
            remark(desk)
        case "diff":
            diffs.show(desk)
        case "console" if at.server is not None:
            desk.open("console", server=at.server.name)


def send(desk: Desk, **command: Any) -> None:
    """Send one command; its answer, or the refusal, becomes a sentence."""
    desk.spawn(_send(desk, command))


async def _send(desk: Desk, command: dict[str, Any]) -> None:
    pool = command.get("pool", "")
    request: dict[str, Any] = {"request": desk.clock.request_name(), **command}
    if pool:
        request.setdefault("generation", desk.model.generation(pool))
    if command["command"] in ("rollout.start", "rollout.resume", "rollout.promote"):
        request["driven"] = True
    answer = await desk.calls.command(request)
    desk.difference = ()
    started = fields.text(answer, "rollout")
    desk.say(fields.text(answer, "message") or "Done.", "good", started, fields.whole(answer, "seq"))
    if request.get("driven"):
        desk.mine.add(started or str(command.get("rollout", "")))
    if started and command["command"] in ("rollout.start", "rollback.start"):
        desk.open("rollout", rollout=started)


# plan and start


def plan_here(desk: Desk) -> None:
    """Plan for the marked servers; without marks for the server looked at, or for the pool under the cursor."""
    view = desk.view
    if view.name == "plan" and desk.plan is not None:
        desk.spawn(make_plan(desk, dict(desk.plan.request)))
        return
    marks = sorted(view.marks())
    if marks:
        pools = sorted({desk.model.servers[name].pool for name in marks if name in desk.model.servers})
        if len(pools) != 1:
            desk.say(f"The marks are in {len(pools)} pools ({', '.join(pools[:4])}): a plan is for one pool.", "warn")
            return
        desk.spawn(make_plan(desk, {"pool": pools[0], "servers": marks}))
        return
    pool = view.pool()
    if pool is None:
        desk.say("There is no pool under the cursor to plan for.", "warn")
        return
    request: dict[str, Any] = {"pool": pool.name}
    if view.name == "server" and (server := view.server()) is not None:
        request["servers"] = [server.name]
    if version := view.image():
        request["to"] = version
    desk.spawn(make_plan(desk, request))


async def make_plan(desk: Desk, request: Raw) -> None:
    """Ask the daemon for a plan and show it, unless the user has gone elsewhere meanwhile. Planning changes nothing."""
    desk.say(f"Planning for {request['pool']}.", "dim")
    asked_on = desk.view
    answer = await desk.calls.plan(request)
    desk.plan = offers.plan(answer, request)
    desk.difference, desk.left_behind = (), False
    if desk.view not in (asked_on, desk.at("plan")):
        desk.say(f"The plan of {request['pool']} is there: {desk.model.key_of('show-plan')} shows it.", "dim")
        return
    desk.flash.clear()
    desk.open("plan", kept="yes")


async def look_again(desk: Desk, plan: offers.Plan) -> None:
    """Is the plan still what would be drawn? If not it stays on the screen and says what changed: it never changes under a finger."""
    answer: Raw = {}
    try:
        answer = await desk.calls.plan({**plan.request, "looked_at": plan.hash})
        now = offers.plan(answer, plan.request)
    except LinkError:
        now = None  # refused now, or nobody answers: the header says the latter
    if desk.plan is plan:
        desk.left_behind, before = now is None or now.hash != plan.hash, desk.left_behind
        if before or desk.left_behind:
            desk.difference = fields.words(answer, "difference")
        desk.plan = plan if now is None or desk.left_behind else replace(plan, generation=now.generation)
        desk.stage.paint_soon()


def left_behind(desk: Desk) -> str:
    """Why a plan that is not what would be drawn now is neither started nor approved."""
    return f"The pool has changed since this plan was drawn: {desk.model.key_of('plan')} plans anew."


def start_plan(desk: Desk) -> None:
    """Enter on the plan: arm, then the ladder, then the start with the hash that was seen."""
    from tui.keys import armed, in_seat, operator, reachable, startable

    at, plan = desk.situation(), desk.plan
    for need in (startable, reachable, operator, in_seat, armed):
        if why := need(at):
            desk.say(why.replace("then again.", "then enter again."), "warn")
            return
    assert plan is not None
    if desk.left_behind:
        desk.say(left_behind(desk), "warn")
        return
    waits, left = at.pool.proposal if at.pool is not None else None, unapproved(plan, at.pool)
    if left and waits is not None and waits.hash == plan.hash:
        desk.say(f"It waits for {phrases.plural(left, 'approval')} of other people: a in their own client, or `anew plan approve {plan.hash[:12]}`.", "warn")
        return
    rollback_plan = plan.kind == "rollback"
    verb = "Roll back" if rollback_plan else "Replace"
    if all(row.action != "replace" for row in plan.servers if row.action in ("replace", "birth")):
        verb = "Bring up"

    def go(_: str) -> None:
        send(desk, command="rollback.start" if rollback_plan else "rollout.start", pool=plan.pool,
             plan_hash=plan.hash, generation=plan.generation, plan=dict(plan.request))

    if left:
        verb = f"Propose: {verb.lower()}"
    what = phrases.plural(plan.acting, "server")
    if plan.rejects:
        what += f" of {plan.pool}, reject {plan.rejects}"
    confirm(desk, f"{verb} {what}?", plan.acting, go)


def unapproved(plan: offers.Plan, pool: Pool | None) -> int:
    """How many more people must approve the plan shown: by its own word, or the daemon's newest one of the plan that waits."""
    waits = pool.proposal if pool is not None else None
    if waits is not None and waits.hash == plan.hash:
        return waits.left
    return fields.whole(plan.needs, "approvals")


def approve(desk: Desk, pool: Pool) -> None:
    """The plan that waits: shown first; approved by the same key on the plan, as it was shown."""
    waits, plan = pool.proposal, desk.plan
    if waits is None:
        return
    if desk.view.name != "plan" or plan is None or plan.hash != waits.hash:
        desk.spawn(_show_waiting(desk, pool.name))
        return
    if desk.left_behind:
        desk.say(left_behind(desk), "warn")
        return
    if proposed_here(desk, waits):
        desk.say(f"You proposed this plan; another person approves it, in their own client: a, or `anew plan approve {plan.hash[:12]}`.", "warn")
        return
    confirm(desk, f"Approve {phrases.who(waits.author)}'s plan, {phrases.plural(plan.acting, 'server')} of {plan.pool} to {plan.to}?", plan.acting,
            lambda _: send(desk, command="plan.approve", pool=plan.pool, plan_hash=plan.hash))


def proposed_here(desk: Desk, waits: Waiting) -> bool:
    """True if the person at this terminal is the author, who never counts. Only a hint: the daemon goes by the kernel's word."""
    return phrases.who(waits.author) == phrases.who(desk.model.name)


async def _show_waiting(desk: Desk, pool: str) -> None:
    """The plan as it is drawn now from what was asked for; what changed since it was proposed is shown with it."""
    found = fields.rows(await desk.calls.get("/v1/proposals"), "proposals")
    row = next((row for row in found if row.get("pool") == pool), None)
    if row is None:
        desk.say(f"No plan of {pool} waits for approval any more.", "warn")
        return
    await make_plan(desk, fields.mapping(row, "request"))
    desk.difference = fields.words(row, "difference")
    desk.stage.paint()


def confirm(desk: Desk, question: str, count: int, accept: Any) -> None:
    """The ladder's question: `y` for one server, the number for several."""
    if count <= 1:
        desk.ask(f"{question} y:", accept, "yes")
    else:
        desk.ask(f"{question} type {count}:", accept, "number", number=count)


# a rollout under way


def pause(desk: Desk, rollout: Rollout) -> None:
    """Pausing is one key; going on starts things, so it asks."""
    if rollout.state != "paused":
        send(desk, command="rollout.pause", rollout=rollout.id, pool=rollout.pool)
        return
    left = rollout.checkpoint or f"{phrases.plural(rollout.cells.get('.', 0), 'server')} to go"
    desk.ask(f"Resume {rollout.pool} {phrases.movement(rollout)}, {left}? y:",
             lambda _: send(desk, command="rollout.resume", rollout=rollout.id, pool=rollout.pool), "yes")


def promote(desk: Desk, rollout: Rollout) -> None:
    left = rollout.cells.get(".", 0)
    follow = rollout.checkpoint or f"{phrases.plural(left, 'more server')} follow"
    desk.ask(f"Promote: let {follow}? y:",
             lambda _: send(desk, command="rollout.promote", rollout=rollout.id, pool=rollout.pool), "yes")


def rollback(desk: Desk, screen: str, pool: Pool | None, server: Server | None, rollout: Rollout | None) -> None:
    """One server, the rollout under way, or the pool after its end: the last one shows its plan first."""
    if screen in ("servers", "server", "console") and server is not None:
        _rollback_server(desk, server, pool)
    elif rollout is not None and rollout.active:
        count = desk.model.moved(rollout)
        away = f"Roll back {phrases.plural(count, 'server')} of {rollout.pool}" if count else "End this rollout"
        what = f"{away}{',' if count else ' and'} reject {rollout.to}?"
        confirm(desk, what, count,
                lambda _: send(desk, command="rollback.start", rollout=rollout.id, pool=rollout.pool))
    elif pool is not None:
        desk.spawn(make_plan(desk, {"pool": pool.name, "kind": "rollback"}))


def _rollback_server(desk: Desk, server: Server, pool: Pool | None) -> None:
    if server.retained:
        way = f"to {server.retained[0].version}, retained, in seconds"
    else:
        way = f"to {pool.previous if pool is not None else 'the image before'}, by a new birth"
    desk.ask(f"Roll {server.name} back {way}? y:",
             lambda _: send(desk, command="rollback.start", pool=server.pool, server=server.name), "yes")


# a server, the journal


def hold(desk: Desk, server: Server) -> None:
    """Hold asks why; a held server is released."""
    if server.held:
        desk.ask(f'Release {server.name}, held: "{server.held}"? y:',
                 lambda _: send(desk, command="server.release", pool=server.pool, server=server.name), "yes")
        return
    desk.ask(f"Why hold {server.name}?",
             lambda why: send(desk, command="server.hold", pool=server.pool, server=server.name, why=why))


def remark(desk: Desk) -> None:
    at = desk.situation()
    where: dict[str, str] = {}
    if at.rollout is not None and at.rollout.active and at.screen == "rollout":
        where = {"rollout": at.rollout.id, "pool": at.rollout.pool}
    elif at.server is not None and at.screen == "server":
        where = {"server": at.server.name, "pool": at.server.pool}
    desk.ask("remark", lambda text: send(desk, command="remark", text=text, **where))
