"""Storms: any keys in any order at any size, any frames, end in no exception and no line wider than the terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tui import story
from tests.tui.desktop import MadeUp, Seat, desk, picture
from tests.tui.stage import session
from tui import verbs
from tui.clock import FrozenClock
from tui.commands import PLACES, VERBS
from tui.errors import LinkError
from tui.ink import width_of
from tui.keys import KEYS

NAMES = sorted({name for key in KEYS for name in key.keys} | {"y", "tab", "backspace", "ctrl+u", "f9", "unknown"})
KEY = st.sampled_from(NAMES) | st.sampled_from("abc123 !:/[*é")
SIZE = st.tuples(st.integers(1, 500), st.integers(1, 200)) | st.tuples(st.integers(1, 100), st.integers(1, 30))
WORDS = st.sampled_from(["web", "web-1", "name:", "state:!ok", "-age", "pink", "light", "&", "!", "image:", "[", "outside=x", "max_surge=1", "2", "servers", "*", "nosuch.xls"])
LINE = st.tuples(st.sampled_from([*VERBS, *verbs.VERBS, *PLACES, *(key.action for key in KEYS), "web", "wbe", ""]).filter(
    lambda verb: verb != "quit"), st.lists(WORDS | st.text(max_size=12), max_size=4)).filter(
    lambda pair: pair[0] != "export" or pair[1][-1:] == ["nosuch.xls"]).map(lambda pair: " ".join((pair[0], *pair[1])))
FRAME = st.sampled_from([
    {"frame": "gone", "kind": "server", "name": "web-1"}, {"frame": "gone", "kind": "pool", "name": "web"},
    {"frame": "server", "row": story.server("web", 1, "9", 5.0, state="failed", healthy=False, reason="x")},
    {"frame": "server", "row": story.server("new", 77, "9", 5.0)}, {"frame": "rollout", "row": {**story.web_rollout(), "state": "done"}},
    {"frame": "rollout", "row": {"id": "r9", "pool": "db", "partial": True, "counts": {"a": 5}}},
    {"frame": "rollout", "row": {"id": "web-r1", "pool": "gone", "servers": []}}, {"frame": "pool", "row": {"name": "web", "size": 0}},
    {"frame": "event", "seq": 500, "row": story.event(500, 0, "step-failed", "web-1: no", server="web-1")}, {"frame": "bye"},
    {"frame": "hello", "seq": 1, "you": 1}, {"frame": "people", "people": "nobody"},
    *({"frame": "people", "people": [
        {"id": 1, "user": "maria", "role": "driver" if driver == 1 else "co-driver", "asks_until": story.at(-30) if asks == 1 else None},
        {"id": 2, "user": "ben", "role": "driver" if driver == 2 else "co-driver", "asks_until": story.at(-30) if asks == 2 else None, "place": place}]}
      for driver, asks, place in ((0, 0, {"screen": "servers", "server": "web-9"}), (1, 2, {"screen": "rollout", "rollout": "edge-r1", "server": "edge-5"}),
                                  (2, 1, {"screen": "plan", "plan": {"pool": "web"}}), (2, 0, {"screen": "server", "server": "none"}), (1, 0, {"screen": 7}))),
])
STEP = st.one_of(st.tuples(st.just("key"), KEY), st.tuples(st.just("size"), SIZE), st.tuples(st.just("frame"), FRAME),
                 st.tuples(st.just("time"), st.sampled_from([0.1, 0.4, 61.0, 700.0])), st.tuples(st.just("lost"), st.booleans()))


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, max_size=40), st.booleans())
def test_any_keys_at_any_size_while_anything_happens(steps: list[tuple[str, Any]], refusing: bool) -> None:
    made = desk()
    calls, clock = cast(MadeUp, made.calls), cast(FrozenClock, made.clock)
    if refusing:
        calls.refusal = LinkError("no", ("a difference",))
    size = (80, 24)
    for kind, value in steps:
        if kind == "key":
            made.key(value, value if len(value) == 1 else None)
        elif kind == "size":
            size = value
        elif kind == "frame":
            made.came_frame(cast(Mapping[str, Any], value))
        elif kind == "time":
            clock.advance(value)
        elif value:
            made.lost("gone")
        else:
            made.came_life()
        for row in picture(made, *size):
            assert width_of(row) == size[0]
    for request in calls.commands:
        assert request["request"]
        calm = ("rollout.pause", "remark", "rollout.abort", "seat.take", "seat.give", "seat.keep")
        assert request["command"] in calm or made.armed_until is not None


@settings(max_examples=150, deadline=None)
@given(st.lists(LINE | st.text(max_size=40).filter(lambda line: not line.lstrip().startswith(("export", "q"))), max_size=12), st.booleans())
def test_any_line_after_a_colon_or_a_slash_is_done_or_answered(lines: list[str], slash: bool) -> None:
    made = desk()
    made.key("2", "2")
    for line in lines:
        made.flash.clear()
        made.prompt = None
        rows = picture(made, 80, 24)
        made.key("slash" if slash and made.view.name != "help" else "colon", None)
        if made.prompt is None:
            continue
        made.paste(line)
        before = made.prompt
        made.key("enter", None)
        after = picture(made, 80, 24)
        assert slash or after != rows or made.prompt is not None or before.typed.strip() == "" or _silent(line), line
        assert cast(Seat, made.stage).left == 0
    assert made.armed_until is not None or {row["command"] for row in cast(MadeUp, made.calls).commands} <= {"rollout.pause", "rollout.abort", "remark"}


def _silent(line: str) -> bool:
    """Lines that ask for what is so already: a view one is on, a filter that hides nothing, a row that is the last."""
    return True if line.strip().partition(" ")[0] in {*PLACES, "web", "filter", "sort", "mark", "mark-all", "mark-range", "next", "previous", "faults", "wide", "reverse"} else (
        line.strip().startswith("show-"))


@settings(max_examples=6, deadline=None)
@given(st.lists(st.tuples(SIZE, st.lists(KEY, max_size=6)), min_size=4, max_size=10))
def test_a_storm_of_random_sizes_and_keys_in_the_app(steps: list[tuple[tuple[int, int], list[str]]]) -> None:
    async def storm(folder: Path) -> None:
        async with session(folder) as user:
            for (columns, rows), keys in steps:
                await user.pilot.resize_terminal(columns, rows)
                for key in keys:
                    if user.app.is_running:
                        user.app.desk.key(key, key if len(key) == 1 else None)
                if not user.app.is_running:
                    return
                await user.settle()
                assert len(user.text.splitlines()) <= max(2, rows)
                assert all(width_of(row) <= columns for row in user.text.splitlines())

    with TemporaryDirectory() as folder:
        asyncio.run(storm(Path(folder)))


@settings(max_examples=40, deadline=None)
@given(st.lists(KEY, max_size=60))
def test_nothing_but_pause_abort_and_remark_leaves_a_read_only_terminal(keys: list[str]) -> None:
    made = desk()
    clock = cast(FrozenClock, made.clock)
    for name in keys:
        if name not in ("A", "question_mark", "?"):  # help could run arm
            clock.advance(0.4)
            made.key(name, name if len(name) == 1 else None)
    assert {request["command"] for request in cast(MadeUp, made.calls).commands} <= {"rollout.pause", "rollout.abort", "remark"}


async def test_a_storm_of_sizes_and_keys_in_the_real_app(tmp_path: Path) -> None:
    async with session(tmp_path) as user:
        for columns, rows, keys in ((1, 1, "2j"), (500, 200, "5j"), (61, 21, "7G"), (3, 80, "?j"), (80, 24, "1"), (59, 24, "P"), (80, 24, "2w"),
                                    (132, 40, "p"), (20, 20, "q"), (80, 24, "1")):
            await user.pilot.resize_terminal(columns, rows)
            await user.press(*keys)
        await user.see("lately")


async def test_ten_thousand_servers_are_drawn_like_a_hundred(tmp_path: Path) -> None:
    async with session(tmp_path, status=story.large(10_000)) as user:
        await user.press("2")
        await user.see("of 10,000")
        await user.press("G")
        await user.see("› p09-1000")
        await user.press("slash", *"p03-77$", "enter")
        await user.see("› p03-77")
        await user.press("5", "7", "1")
        await user.see("p00")
