"""Every screen as text at four sizes, what poor terminals see of them, and ten in colour.

The text pictures lie in tests/tui/pictures; `ANEW_DRAW=1 pytest tests/tui/test_pictures.py` draws them anew. The SVGs are
pytest-textual-snapshot's (`--snapshot-update`); they are few, for they say nothing the text does not, but colour.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from rich.style import Style
from textual.pilot import Pilot

from tests.tui import diary, story
from tests.tui.stage import Session, session
from tui import offers
from tui.app import AnewApp
from tui.clock import FrozenClock
from tui.ink import width_of
from tui.view_model import Connection

PICTURES = Path(__file__).with_name("pictures")
SIZES = ((60, 20), (80, 24), (132, 40), (200, 60))


def promotable() -> dict[str, Any]:
    status = story.status()
    runs = [story.run("web-3", "+", canary=True), story.run("web-9", "+", canary=True)]
    runs += [story.run(f"web-{n}", ".", reason="waits for promotion") for n in (1, 4, 5, 6, 7, 8, 10, 11)]
    status["rollouts"] = [story.rollout("web", runs, state="awaiting-promotion", reason="2 canaries healthy for 5 minutes; c lets the others follow, u undoes them")]
    return status


def crowd() -> dict[str, Any]:
    """A thousand servers in one rollout."""
    status = story.status()
    runs = [story.run(f"web-{n}", "+" if n <= 400 else "bhd"[n % 3] if n <= 420 else "!" if n == 421 else ".", canary=n <= 5,
                      since=story.at(8), reason="extra 20 of 20 used", error="no route to host" if n == 421 else "") for n in range(1, 1001)]
    status["rollouts"] = [story.rollout("web", runs, max_failures=2, failures=1)]
    return status


def automatic() -> dict[str, Any]:
    """Pools in mode auto: one waits for its window, one is stopped by its breaker."""
    waits = {"due": "image 2", "auto": "waits for the window, opens Sat 02:00", "image": {"newest": "2"}}
    stopped = {"due": "", "auto": "stopped by the breaker: 2 of 4 servers unwell within 10m (edge-2, edge-4)"}
    pools = [story.pool("web", [story.server("web", n, "1", 90_000.0) for n in range(1, 4)], "1", mode="auto", **waits),
             story.pool("edge", [story.server("edge", n, "1", 60.0) for n in range(1, 5)], "1", mode="auto", **stopped)]
    return {**story.status(), "pools": pools, "rollouts": []}


def approvable() -> dict[str, Any]:
    """Another person's plan waits for the second of its two approvals."""
    web = story.pool("web", [story.server("web", n, "1", 90_000.0) for n in range(1, 13)], "1", image={"newest": "2"}, proposal=story.proposal(pool="web"))
    return {**story.status(), "pools": [web], "rollouts": []}


SCENES: dict[str, tuple[dict[str, Any] | None, tuple[str, ...]]] = {
    "fleet": (None, ("see:lately",)),
    "fleet-empty": ({**story.status(), "pools": [], "rollouts": []}, ()),
    "fleet-auto": (automatic(), ()),
    "fleet-approval": (approvable(), ()),
    "plan-approval": (approvable(), ("p", "see:nothing has happened yet")),
    "servers": (None, ("2",)),
    "servers-faults": (None, ("exclamation_mark",)),
    "servers-marked": (None, ("enter", "space", "space", "j", "v")),
    "server": (None, ("enter", "enter", "see:took")),
    "server-in-step": (None, ("colon", *"web-6", "enter", "see:took")),
    "server-failed": (None, ("colon", *"edge-4", "enter", "see:took")),
    "console": (None, ("enter", "l", "see:login")),
    "images": (None, ("4", "see:digest")),
    "diff": (None, ("4", "see:digest", "G", "d", "see:added")),
    "servers-filter": (None, ("2", "slash", *"pool", "colon", *"web", "space", "ampersand", "space", *"state", "colon", "exclamation_mark", *"ok", "enter")),
    "rollout": (None, ("5",)),
    "rollout-walk": (None, ("5", "j", "j", "j")),
    "rollout-paused": (None, ("j", "j", "5")),
    "rollout-promotion": (promotable(), ("5",)),
    "rollout-crowd": (crowd(), ("5",)),
    "plan": (None, ("p", "see:nothing has")),
    "plan-asks": (None, ("p", "see:nothing has", "A", "enter", "dead", "3")),
    "events": (None, ("7",)),
    "replay-of-now": (None, ("past", "5", "n", "N", "R", "space", "see:preparing incarnation", "exclamation_mark", "see:proving failed")),
    "help": (None, ("5", "question_mark")),
    "refused": (None, ("2", "H")),
    "command": (None, ("colon", *"p", "tab")),
}


async def play(user: Session, keys: tuple[str, ...]) -> None:
    for key in keys:
        if key.startswith("see:"):
            await user.see(key[4:])
        elif key == "dead":
            user.clock.advance(0.4)
        elif key == "past":
            user.daemon.past = [{**row, "rollout": "web-r1"} if row["rollout"] else row for row in json.loads(json.dumps(diary.night()))]
        else:
            await user.press(key)
    await user.settle()


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", SCENES)
async def test_the_screen_reads_as_it_did(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    status, keys = SCENES[name]
    async with session(tmp_path, size, status, state_dir="/home/maria") as user:
        await user.see("14:01:52") if name.startswith("fleet") and status is None else None
        await play(user, keys)
        drawn = user.text
    rows = drawn.splitlines()
    assert len(rows) <= size[1]
    assert max(len(row) for row in rows) <= size[0]
    _same(PICTURES / f"{name}-{size[0]}x{size[1]}.txt", drawn)


def _same(path: Path, drawn: str) -> None:
    if os.environ.get("ANEW_DRAW"):
        PICTURES.mkdir(exist_ok=True)
        path.write_text(drawn, encoding="utf-8")
    assert drawn == path.read_text(encoding="utf-8"), f"{path} was drawn differently; ANEW_DRAW=1 draws it anew"


async def test_narrow_terminals_degrade_and_tiny_ones_keep_one_line(tmp_path: Path) -> None:
    async with session(tmp_path, (60, 20)) as user:
        assert "web" in user.row("body")
        assert "P pause" in user.row("foot")
    async with session(tmp_path, (59, 20)) as user:
        assert len(user.text.splitlines()) == 2
        assert "paused" in user.row("head")
        assert "P resume u back" in user.row("head")
        await user.press("P")
        await user.see("press A to arm")
        await user.press("A", "P")
        await user.see("Resume edge")


POOR = ("fleet", "servers-marked", "server-in-step", "server-failed", "console", "images", "diff", "rollout", "plan", "events", "replay-of-now", "help")
"""One picture of each screen, with what is at stake on it."""


def inked(user: Session) -> str:
    """The screen as a poor terminal shows it: each row, and below it what colour or weight its cells have (nothing for plain ones)."""
    rows: list[str] = []
    for paper in user.app.papers.values():
        for y in range(paper.size.height):
            segments = list(paper.render_line(y))
            letters = "".join(_letter(segment.style) * width_of(segment.text) for segment in segments)
            rows.append("".join(segment.text for segment in segments).rstrip())
            rows += [letters.rstrip()] if letters.strip() else []
    return "\n".join(rows) + "\n"


def _letter(style: Style | None) -> str:
    """`r` reverse or on a ground, `b` bold, `d` dim or grey, else the first letter of the colour."""
    if style is None:
        return " "
    colour = style.color.name if style.color is not None and not style.color.is_default else ""
    if style.reverse or (style.bgcolor is not None and not style.bgcolor.is_default):
        return "r"
    if colour:
        return "d" if colour == "bright_black" else colour[:1].upper()
    return "b" if style.bold else "d" if style.dim else " "


@pytest.mark.parametrize("look", ["ansi-dark", "mono", "ascii"])
@pytest.mark.parametrize("name", POOR)
async def test_poor_terminals_tell_the_same(tmp_path: Path, name: str, look: str) -> None:
    """No state by colour alone: in mono every word is there, in ASCII every cell has its place."""
    status, keys = SCENES[name]
    options = {"ascii": "yes"} if look == "ascii" else {"theme": look}
    async with session(tmp_path, (80, 24), status, state_dir="/home/maria", **options) as user:
        await user.see("14:01:52") if name == "fleet" else None
        await play(user, keys)
        drawn, words = inked(user) if look != "ascii" else _segments(user), user.text
    if look == "ascii":
        assert drawn.isascii()
        assert [len(row) for row in drawn.splitlines()] == [len(row) for row in words.splitlines()]
    else:
        assert set(words.splitlines()) <= set(drawn.splitlines())
    _same(PICTURES / f"{name}-{look}.txt", drawn)


def _segments(user: Session) -> str:
    return "".join("".join(segment.text for segment in paper.render_line(y)).rstrip() + "\n"
                   for paper in user.app.papers.values() for y in range(paper.size.height))


async def test_a_terminal_without_utf_8_gets_ascii_only(tmp_path: Path) -> None:
    async with session(tmp_path, ascii="yes") as user:
        for key in ("1", "2", "5", "7"):
            await user.press(key)
            drawn = "".join(segment.text for paper in user.app.papers.values() for y in range(paper.size.height)
                            for segment in paper.render_line(y))
            assert drawn.isascii()
            assert len(drawn) == 80 * 24


# colours


class Pictured(AnewApp):
    """Its pictures name no web fonts: they look the same everywhere, and name no host."""

    def export_screenshot(self, *, title: str | None = None, simplify: bool = False) -> str:
        drawn = super().export_screenshot(title=title, simplify=simplify)
        return re.sub(r"@font-face \{.*?\}|<!--.*?-->", "", drawn, flags=re.DOTALL)


def app(theme: str = "dark", status: dict[str, Any] | None = None, armed: bool = False, lost: bool = False) -> AnewApp:
    """The app without a line: it shows what it was told."""
    made = Pictured(None, {"theme": theme}, FrozenClock(story.NOW.timestamp(), UTC))
    desk = made.desk
    desk.model.status(status if status is not None else story.status(), story.NOW.timestamp())
    desk.model.add_events(list(story.events()))
    desk.model.images = {item.key: item for item in map(offers.image, story.images())}
    desk.model.connection = Connection("stale" if lost else "live", story.NOW.timestamp())
    desk.plan = offers.plan(story.plan(), {"pool": "web"})
    if armed:
        desk.armed_until = desk.clock.ticks() + 500
    return made


Compare = Callable[..., bool]


@pytest.mark.parametrize(("made", "keys"), [
    pytest.param({}, (), id="fleet"),
    pytest.param({"theme": "light"}, (), id="fleet-light"),
    pytest.param({"theme": "ansi-dark"}, (), id="fleet-ansi"),
    pytest.param({"theme": "mono"}, (), id="fleet-mono"),
    pytest.param({"lost": True}, (), id="fleet-stale"),
    pytest.param({}, ("2", "space", "j"), id="servers"),
    pytest.param({"armed": True}, ("5",), id="rollout"),
    pytest.param({"status": crowd()}, ("5",), id="rollout-crowd"),
    pytest.param({"armed": True}, ("6",), id="plan"),
    pytest.param({"theme": "light"}, ("7",), id="events-light"),
])
def test_the_colours_are_calm(snap_compare: Compare, made: dict[str, Any], keys: tuple[str, ...]) -> None:
    async def play_keys(pilot: Pilot[int]) -> None:
        await pilot.press(*keys)
        await pilot.pause()
        with suppress(AttributeError):
            pilot.app.paint()  # type: ignore[attr-defined]
        await pilot.pause()

    assert snap_compare(app(**made), terminal_size=(80, 24), run_before=play_keys)
