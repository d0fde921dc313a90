"""The film of README: a short walk through the real app can be recorded, and the picture says what was on the screen, whatever that was."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

from docs.cast import CAST, LARGEST, SVG, Recorder, environment
from docs.film import Screen, film, frames
from tests.tui.canned import CannedDaemon
from tests.tui.terminal import CHILD

SPACE = "{http://www.w3.org/2000/svg}"
README = Path(__file__).parents[2] / "README.md"


def drawn(svg: str) -> ElementTree.Element:
    """The root of a picture that holds nothing which runs or loads."""
    root = ElementTree.fromstring(svg)
    assert {part.tag.removeprefix(SPACE) for part in root.iter()} <= {"svg", "title", "style", "defs", "g", "use", "rect", "circle", "text"}
    links = [value for part in root.iter() for name, value in part.attrib.items() if name.endswith("href")]
    assert all(link.startswith("#") for link in links)
    assert not [name for part in root.iter() for name in part.attrib if name.startswith("on")]
    assert "url(" not in svg
    assert {link[1:] for link in links} <= {part.get("id") for part in root.iter()}
    return root


def words(root: ElementTree.Element) -> set[str]:
    return {part.text or "" for part in root.iter(f"{SPACE}text")}


def record(folder: Path, socket: Path) -> str:
    with Recorder([sys.executable, "-c", CHILD, str(socket), str(folder), "{}"], environment(str(folder))) as tape:
        tape.see("web", "edge", "lately")
        tape.press("5", "5  the rollout")
        tape.see("budget", "failures")
        return tape.cast("a short walk")


async def test_a_short_walk_is_recorded_and_drawn(tmp_path: Path) -> None:
    async with CannedDaemon(tmp_path / "anew.sock") as daemon:
        cast = await asyncio.to_thread(record, tmp_path, daemon.socket)
    head, *events = map(json.loads, cast.splitlines())
    assert (head["version"], head["width"], head["height"]) == (2, 80, 24)
    assert {kind for _, kind, _ in events} == {"o", "i", "m"}
    assert [at for at, _, _ in events] == sorted(at for at, _, _ in events)
    root = drawn(film(cast))
    said = words(root)
    assert {"edge", "budget", "the rollout", "5"} <= said
    assert any("extra 1 of 1" in text for text in said)
    assert root.find(f"{SPACE}title") is not None
    assert re.search(r"@keyframes k3\{0%|@keyframes k3\{0\.00%", film(cast)), "a row that changed moves"


def cast_of(*events: tuple[float, str, str], width: int = 40, height: int = 3) -> str:
    head = {"version": 2, "width": width, "height": height, "title": 'a "walk" <b>&'}
    return "\n".join(json.dumps(item) for item in (head, *map(list, events)))


def test_what_was_on_the_screen_is_words_and_never_markup() -> None:
    root = drawn(film(cast_of((0.0, "o", "<script>alert(1)</script>"), (1.0, "m", "x  </text><image href='http://x'/>"), (2.0, "o", "\r\n]]> &lt; \"'"))))
    assert {"<script>alert(1)</script>", "</text><image href='http://x'/>", "]]> &lt; \"'"} <= words(root)
    assert root.get("aria-label") == 'a "walk" <b>&'


def test_waits_are_cut_and_a_caption_that_says_so_is_faster() -> None:
    _, found, length = frames(cast_of((0.0, "o", "a"), (60.0, "o", "b"), (60.1, "m", "rolling (4 times as fast)"), (64.1, "o", "c")))
    assert [frame.at for frame in found][0] == 0.0
    assert found[1].at < 3.0
    assert found[-1].at - found[-2].at < 0.6
    assert length > found[-1].at


def test_the_screen_is_as_a_terminal_has_it() -> None:
    screen = Screen(10, 3)
    screen.feed("one\r\ntwo\x1b[?1049h\x1b[2;3H\x1b[1;38;2;255;0;0mred\x1b[0m\x1b[")
    assert screen.text == "\n  red\n"
    run = screen.rows[1][0] if screen.rows[1][0].text.strip() else screen.rows[1][1]
    assert (run.text, run.style.fg, run.style.bold) == ("red", "#ff0000", True)
    screen.feed("?1049l!")
    assert screen.text == "one\ntwo!\n"
    screen.feed("\r\nthree\r\nfour\x1b[K")
    assert screen.text == "two!\nthree\nfour"


def test_the_film_in_readme_is_small_true_to_its_cast_and_shown() -> None:
    text = SVG.read_text(encoding="utf-8")
    assert len(text.encode()) <= LARGEST
    said = words(drawn(text))
    shown = "\n".join(said)
    for part in ("ARMED 10m left", "nothing has happened yet", "paused", "median", "rolled back", "REPLAY", "The daemon goes on"):
        assert part in shown
    _, found, _ = frames(CAST.read_text(encoding="utf-8"))
    last = [run.text.strip() for row in found[-1].rows for run in row]
    assert any("The daemon goes on" in part for part in last)
    assert "docs/walk.svg" in README.read_text(encoding="utf-8")
