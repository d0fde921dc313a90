"""Several people on one fleet: the driver's seat, following, and what others may see of where this terminal looks.

The daemon decides all of it. What is here asks, answers and shows; a key that the daemon would refuse says why.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tui import actions
from tui.errors import LinkError
from tui.fields import mapping, text
from tui.phrases import clock
from tui.shapes import Person
from tui.view_model import Trouble

if TYPE_CHECKING:
    from tui.desk import Desk

LONGEST_PLACE = 1000
"""Bytes of a place that the daemon takes, nearly."""
QUIETLY = frozenset({"follow", "seat", "remark", "pause", "abort", "approve", "theme", "copy", "arm"})
"""Actions of one's own that do not end following."""
FOLLOWED = frozenset({"fleet", "servers", "server", "rollout", "console", "images", "events", "plan"})


# the seat


def seat(desk: Desk) -> None:
    """Take the seat, ask for it, answer who asks, or leave it: whichever there is to do."""
    model = desk.model
    asks = model.asks
    if model.drives and asks is not None:
        desk.ask(f"Hand the driver's seat to {asks.name}? any other key keeps it. y:", lambda _: actions.send(desk, command="seat.give"), "yes",
                 cancelled=lambda: actions.send(desk, command="seat.keep"))
    else:
        actions.send(desk, command="seat.give" if model.drives else "seat.take")


async def sit_down(desk: Desk) -> None:
    """Arming takes a seat that is free; one that is taken is said."""
    try:
        await desk.calls.command({"request": desk.clock.request_name(), "command": "seat.take"})
    except LinkError as error:
        desk.say(f"Armed, without the driver's seat: {error.sentence}", "warn")
        return
    desk.say("Armed for ten minutes, in the driver's seat; every change still asks first.", "good")


def armed(desk: Desk) -> None:
    """What else arming does, and what there is to say about it."""
    driver = desk.model.driver
    if desk.model.me and driver is None:
        desk.spawn(sit_down(desk))
    elif driver is not None and not desk.model.drives:
        desk.say(f"Armed; but {driver.name} has the driver's seat and alone starts things: {desk.model.key_of('seat')} asks for it.", "warn")
    else:
        desk.say("Armed for ten minutes; every change still asks first.", "good")


def heard(desk: Desk, driver: Person | None, asks: Person | None) -> None:
    """The people were told anew; `driver` and `asks` are those before. Says what changed for this terminal, and goes where the followed one goes."""
    model = desk.model
    now, wants = model.driver, model.asks
    was_mine = driver is not None and driver.id == model.me
    if model.drives and wants is not None and (asks is None or asks.id != wants.id):
        desk.say(f"{wants.name} asks for the driver's seat: {model.key_of('seat')} answers. Silence gives it away at {clock(model.local(wants.asks_until), desk.clock.zone, seconds=True)}.", "warn")
    elif model.drives and driver is not None and not was_mine:
        desk.say("You have the driver's seat.", "good")
    elif was_mine and now is not None and not model.drives:
        desk.say(f"{now.name} has the driver's seat now.", "warn")
    elif asks is not None and asks.id == model.me and wants is None and now is not None and driver is not None and now.id == driver.id:
        desk.say(f"{now.name} keeps the driver's seat.", "warn")
    go_along(desk)
    share(desk)


def standing(desk: Desk) -> Trouble | None:
    """What waits for this person's answer."""
    asks = desk.model.asks
    if asks is None or not desk.model.drives:
        return None
    return Trouble(asks.name, f"asks for the driver's seat until {clock(desk.model.local(asks.asks_until), desk.clock.zone, seconds=True)}: {desk.model.key_of('seat')} answers", "warn", "")


# following


def follow(desk: Desk, name: str = "") -> None:
    """Follow the driver, else the first of the others; again: the next one; after the last nobody. `name`: this one, by user or `user@terminal`."""
    others = desk.model.others
    if not others:
        desk.say("Nobody else is here to follow.", "warn")
        return
    ids = [person.id for person in others]
    at = ids.index(desk.following) + 1 if desk.following in ids else 0
    if name:
        at = next((index for index, person in enumerate(others) if name in (person.name, person.user)), -1)
    if at < 0:
        desk.say(f"There is no {name!r} here to follow: {', '.join(person.name for person in others[:5])}.", "warn")
        return
    if at >= len(others):
        stop_following(desk)
        return
    desk.following, desk.seen_place = others[at].id, {}
    desk.say(f"You follow {others[at].name}: {desk.model.key_of('follow')} for the next, any key that moves ends it.", "good")
    go_along(desk)


def stop_following(desk: Desk, why: str = "") -> None:
    """Back on one's own; the screen stays where it is."""
    gone = desk.model.people.get(desk.following)
    desk.following = 0
    name = gone.name if gone is not None else "them"
    desk.say(why or f"You no longer follow {name}.", "dim")


def go_along(desk: Desk) -> None:
    """Go where the followed person is, unless a question is open here."""
    if not desk.following or desk.prompt is not None:
        return
    person = desk.model.people.get(desk.following)
    if person is None:
        stop_following(desk, "Who you followed went away.")
        return
    place = person.place
    if place == desk.seen_place:
        return
    desk.seen_place = place
    screen = text(place, "screen")
    if screen not in FOLLOWED:
        return
    request = mapping(place, "plan")
    if screen == "plan":
        if text(request, "pool"):
            desk.spawn(actions.make_plan(desk, dict(request)))
        return
    about = {key: value for key in ("server", "rollout") if (value := text(place, key))}
    if desk.view.name != screen:
        desk.open(screen, **about)
    desk.view.goto(place)
    desk.stage.paint()


# what others may see


def place_of(desk: Desk) -> dict[str, Any]:
    """The screen, and what its cursor is on."""
    place: dict[str, Any] = {"screen": desk.view.name, **desk.view.place()}
    if desk.view.name == "plan" and desk.plan is not None:
        place["plan"] = dict(desk.plan.request)
        if len(json.dumps(place)) > LONGEST_PLACE:
            del place["plan"]
    return place


def share(desk: Desk) -> None:
    """Tell where this terminal looks, if anybody could follow, or the driver's sign of life is wanted. One word at a time is under way."""
    model = desk.model
    if model.me and (model.others or model.drives) and not desk.sharing and place_of(desk) != desk.shared:
        desk.sharing = True
        desk.stage.spawn(_share(desk))


async def _share(desk: Desk) -> None:
    """A line that breaks is no news (the header says it); the next key tells again."""
    try:
        while (place := place_of(desk)) != desk.shared:
            desk.shared = place
            await desk.calls.here(place)
    except LinkError:
        desk.shared = {}
    finally:
        desk.sharing = False


__all__ = ["QUIETLY", "armed", "follow", "go_along", "heard", "place_of", "seat", "share", "standing", "stop_following"]
