"""Frames in, phrases out: what is said about a fleet, case by case."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import pytest

from tests.tui import live, story
from tui import phrases, shapes, view_model
from tui.ink import line_width, plain
from tui.keymap import Keymap
from tui.keys import Situation, footer_words, why_not
from tui.theme import PALETTES, THEMES, choose, needs_ascii, style
from tui.view_model import ViewModel

NOW = story.NOW.timestamp()


def model(status: dict[str, Any] | None = None) -> ViewModel:
    made = ViewModel()
    made.status(status if status is not None else story.status(), NOW)
    made.add_events(list(story.events()))
    return made


@pytest.mark.parametrize(("seconds", "said"), [
    (None, "-"), (0, "<1m"), (59, "<1m"), (60, "1m"), (3599, "59m"), (3600, "1h"), (86399, "23h"), (86400, "1d 0h"),
    (532800, "6d 4h"), (100 * 86400, "100d"),
])
def test_ages(seconds: float | None, said: str) -> None:
    assert phrases.age(seconds) == said


@pytest.mark.parametrize(("seconds", "said"), [(0, "0s"), (-5, "0s"), (59.9, "59s"), (125, "2m 05s"), (4200, "1h 10m")])
def test_durations(seconds: float, said: str) -> None:
    assert phrases.span(seconds) == said


@pytest.mark.parametrize(("count", "said"), [(41, "41 B"), (3_678_208, "3.5 MiB"), (812_000_000, "774 MiB"), (2**45, "32.0 TiB")])
def test_sizes(count: int, said: str) -> None:
    assert phrases.size(count) == said


@pytest.mark.parametrize(("moment", "said"), [
    (NOW, "14:02"), (NOW - 86400, "Fri 14:02"), (NOW - 20 * 86400, "1 Nov 14:02"), (None, "-"), (1e18, "-"),
])
def test_moments(moment: float | None, said: str) -> None:
    assert phrases.when(moment, NOW, UTC) == said


@pytest.mark.parametrize(("versions", "target", "said"), [
    ({"1": 12}, "", "1 ━━━━━━━━━━━━"),
    ({"1": 6, "2": 6}, "2", "2 ━━━━━───── 1"),
    ({"1": 999, "2": 1}, "2", "2 ━───────── 1"),
    ({"1": 1, "2": 999}, "2", "2 ━━━━━━━━━─ 1"),
    ({"1": 1, "2": 1, "3": 1}, "3", "3 ━━━─────1+1"[:0] + "3 ━━━───── 1+1"),
    ({}, "", "-"),
])
def test_the_bar_shows_every_version_that_has_a_server(versions: dict[str, int], target: str, said: str) -> None:
    pool = shapes.pool(story.pool("web", [], "1", versions=versions, image={"target": target}))
    assert plain(phrases.version_bar(pool, 14)) == said
    assert line_width(phrases.version_bar(pool, 14)) <= 14


def test_the_header_phrase_is_a_sentence() -> None:
    rollout = model().rollouts["web-r1"]
    assert plain(phrases.rollout_phrase(rollout, UTC)) == "web 1→2 rolling 5/10, eta 14:09"
    assert phrases.eta(rollout, UTC, ranged=True) == "eta 14:09, between 14:08 and 14:12"


def test_what_waits_for_a_person_comes_first() -> None:
    found = model()
    assert [rollout.id for rollout in found.active()] == ["edge-r1", "web-r1"]
    assert [trouble.name for trouble in found.troubles()] == ["edge-6", "edge", "edge-4", "web-2"]


def test_every_wait_has_a_reason_and_equal_ones_are_one_line() -> None:
    found = model()
    assert found.waits(found.rollouts["web-r1"]) == [("web-7 +3", "extra 1 of 1 used by web-6")]


def test_a_server_frame_replaces_its_row_and_the_counts() -> None:
    found = model()
    assert found.tally("edge").roots == {"read-only": 5, "writable": 1}
    found.frame({"frame": "server", "row": story.server("edge", 6, "6", 10.0)}, NOW)
    assert found.tally("edge").roots == {"read-only": 6}
    assert all(trouble.name != "edge-6" for trouble in found.troubles())
    found.frame({"frame": "gone", "kind": "server", "name": "edge-6"}, NOW)
    assert "edge-6" not in found.servers


def test_events_are_kept_once_and_in_order() -> None:
    found = model()
    late, twice = story.event(99, 90000, "remark", "late"), story.event(105, 420, "remark", "twice")
    found.add_events([twice, late, story.event(111, 0, "remark", "new")])
    assert [event.seq for event in found.events] == [99, *range(101, 112)]
    assert found.tip == 111


def test_partial_rollouts_are_laid_over_what_is_known() -> None:
    found = model(live.status())
    moved = 0
    for moment, rows in live.frames():
        for row in rows:
            found.frame(row, NOW + moment)
        moved = max(moved, found.moved(found.rollouts["web-r1"]))
    rollout = found.rollouts["web-r1"]
    assert rollout.cells == {"+": live.SERVERS}
    assert rollout.whole
    assert moved == live.SERVERS
    assert not found.incomplete


def test_a_part_of_an_unknown_rollout_is_known_to_be_a_part() -> None:
    found = model()
    row = story.rollout("db", [story.run("db-1", "b")], partial=True, counts={"booting": 1, "waiting": 2})
    found.frame({"frame": "rollout", "row": row}, NOW)
    assert found.incomplete == {"db-r1"}
    found.add_rollout(story.rollout("db", [story.run(f"db-{n}", ".") for n in (1, 2, 3)]), NOW)
    assert not found.incomplete


@pytest.mark.parametrize("row", [{}, {"name": 3}, {"name": "x", "servers": "no", "budget": 4, "image": []},
                                 {"id": "r", "servers": [None, {"cell": "zz"}], "eta_seconds": "soon", "counts": {"a": "b"}}])
def test_frames_of_a_wrong_shape_are_not_the_end(row: dict[str, Any]) -> None:
    found = model()
    for kind in ("server", "pool", "rollout", "event", "gone", "bye", "future", None):
        found.frame({"frame": kind, "row": row}, NOW)
    found.status({"pools": [row, None], "rollouts": [row], "you": {"name": 5}, "now": "yesterday"}, NOW)
    found.troubles()
    for rollout in found.newest():
        phrases.rollout_phrase(rollout, UTC)


def test_the_daemons_clock_may_be_wrong() -> None:
    found = ViewModel()
    found.status(story.status(), NOW + 3600)
    server = found.servers["db-1"]
    assert phrases.age(found.age_of(server, NOW + 3600)) == "2h"


def test_the_time_that_a_frame_was_on_its_way_moves_no_event() -> None:
    found = ViewModel()
    found.status(story.status(), NOW + 0.9)
    assert found.local(NOW) == NOW
    found.status(story.status(), NOW + 30)
    assert found.local(NOW) == NOW + 30


def test_a_reason_that_names_the_state_is_not_told_after_it() -> None:
    status = story.status()
    row = next(item for item in status["rollouts"] if item["state"] == "paused")
    row["reason"] = "paused by ana@pts/1"
    assert "paused by ana@pts/1" in [item.words for item in model(status).troubles()]


KEYMAP = Keymap.made({})


def refused(name: str, **at: Any) -> str:
    situation = Situation(**{"screen": "rollout", "armed": True, **at})
    key = KEYMAP.find(name, situation.screen)
    assert key is not None
    return why_not(key, situation)


def test_a_disabled_key_says_why() -> None:
    found = model()
    web, edge = found.rollouts["web-r1"], found.rollouts["edge-r1"]
    ended = shapes.rollout({**story.web_rollout(), "state": "done"}, NOW)
    assert refused("P", rollout=web) == ""
    assert refused("P", rollout=web, armed=False) == ""
    assert refused("X", rollout=web, armed=False) == ""
    assert "press A" in refused("P", rollout=edge, armed=False)
    assert "press A to arm for ten minutes, then u again" in refused("u", rollout=web, pool=found.pools["web"], armed=False)
    assert "no rollout under way" in refused("P", rollout=ended)
    assert "observer" in refused("P", rollout=web, role="observer")
    assert "does not answer (stale since 14:02)" in refused("P", rollout=web, live=False, stale_words="stale since 14:02")
    assert "read-only: the journal" in refused("P", rollout=web, daemon_read_only="the journal fails verification")
    assert refused("c", rollout=web) == "There is nothing to promote: web is rolling."
    assert not refused("u", rollout=edge, pool=found.pools["edge"])  # nothing was replaced, and yet its image can be rejected
    assert "no previous image" in refused("u", screen="fleet", pool=found.pools["ci"])
    assert "nothing to go back to" in refused("u", screen="servers", server=found.servers["ci-1"], pool=found.pools["ci"])


def test_words_of_keys_follow_the_situation() -> None:
    found = model()
    pause, hold = KEYMAP.find("P", "rollout"), KEYMAP.find("H", "servers")
    assert pause is not None
    assert hold is not None
    assert footer_words(pause, Situation("rollout", rollout=found.rollouts["edge-r1"])) == "resume"
    assert footer_words(hold, Situation("servers", server=found.servers["web-2"])) == "release"


@pytest.mark.parametrize(("environment", "wanted", "theme"), [
    ({"TERM": "xterm-256color"}, "", "dark"), ({"TERM": "xterm-256color", "COLORFGBG": "0;15"}, "", "light"),
    ({"TERM": "xterm"}, "", "ansi-dark"), ({"TERM": "linux", "COLORFGBG": "0;7"}, "", "ansi-light"),
    ({"TERM": "vt100"}, "", "mono"), ({"TERM": "xterm-256color", "NO_COLOR": "1"}, "light", "mono"),
    ({"TERM": "xterm-256color", "NO_COLOR": ""}, "light", "light"), ({"TERM": "xterm-256color"}, "colourblind", "colourblind"),
    ({"TERM": "xterm"}, "light", "light"), ({"TERM": "xterm"}, "pink", "ansi-dark"),
])
def test_the_theme_fits_the_terminal(environment: dict[str, str], wanted: str, theme: str) -> None:
    assert choose(environment, wanted) == theme


def test_every_theme_knows_every_tone_and_mono_has_no_colour() -> None:
    for name in THEMES:
        assert PALETTES[name].keys() == PALETTES["dark"].keys()
    for tone in PALETTES["mono"]:
        assert style("mono", tone).color is None
        assert style("mono", tone).bgcolor is None


def lightness(theme: str, tone: str, ground: bool = False) -> float:
    """Relative luminance as WCAG has it."""
    found = style(theme, tone).bgcolor if ground else style(theme, tone).color
    assert found is not None
    red, green, blue = ((part / 255) ** 2.2 for part in found.get_truecolor())
    return float(0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05)


@pytest.mark.parametrize("theme", ["dark", "light", "colourblind"])
def test_words_that_matter_can_be_read_in_every_theme_with_a_ground_of_its_own(theme: str) -> None:
    back = lightness(theme, "", ground=True)
    for tone in ("", "good", "warn", "bad", "title", "accent", "dim"):
        fore = lightness(theme, tone)
        assert max(fore, back) / min(fore, back) >= 4.5, tone


def test_good_warn_and_bad_differ_in_lightness_for_eyes_that_see_no_red_or_green() -> None:
    good, warn, bad = (lightness("colourblind", tone) for tone in ("good", "warn", "bad"))
    assert bad * 1.3 < good < warn / 1.3


@pytest.mark.parametrize(("environment", "ascii_only"), [
    ({}, True), ({"LANG": "C"}, True), ({"LANG": "de_DE.UTF-8"}, False), ({"LC_ALL": "C", "LANG": "C.UTF-8"}, True),
    ({"LC_CTYPE": "en_GB.utf8", "LANG": "C"}, False), ({"LANG": "C.UTF-8", "TERM": "linux"}, True),
])
def test_a_locale_without_utf_8_gets_ascii(environment: dict[str, str], ascii_only: bool) -> None:
    assert needs_ascii(environment) is ascii_only


def test_history_is_bounded_and_says_how_far_it_goes() -> None:
    found = ViewModel()
    found.add_events([story.event(seq, 1, "remark", "x") for seq in range(40_001, 41_001)])
    assert found.reach() == "last 1,000 of 41,000 events"
    while found.history_wanted:
        since = found.events[0].seq - 1001
        found.add_history([story.event(seq, 1, "remark", "x") for seq in range(since + 1, since + 1001)], since)
    assert len(found.events) == view_model.KEEP_EVENTS
    found.add_events([story.event(41_001, 1, "remark", "x")])
    assert found.reach() == "last 20,000 of 41,001 events"
    assert not found.history_wanted


def kept(version: str) -> list[dict[str, Any]]:
    return [{"incarnation": 1, "version": version, "until": story.at(-86400)}]


def one_pool(servers: list[dict[str, Any]], **more: Any) -> ViewModel:
    return model({**story.status(), "pools": [story.pool("web", servers, "1", **more)], "rollouts": []})


def test_only_a_server_that_is_elsewhere_can_return() -> None:
    servers = [story.server("web", n, "1", 60.0, retained=kept("2")) for n in (1, 2, 3)]
    servers += [story.server("web", 4, "2", 60.0, retained=kept("1")), story.server("web", 5, "2", 60.0)]
    found = one_pool(servers, image={"previous": "1"})
    assert found.tally("web").returnable == 1
    found.frame({"frame": "pool", "row": story.pool("web", [], "1", image={"previous": "2"})}, NOW)
    assert found.tally("web").returnable == 3


def test_a_pool_that_was_never_born_is_one_thing_to_do_and_not_a_row_of_faults() -> None:
    servers = [{**story.server("web", n, "", 0.0), "state": "absent", "health": {"state": "unknown", "words": ""}} for n in (1, 2, 3)]
    found = one_pool(servers, image={"stable": None}, versions={}, healthy=0)
    assert [(item.name, item.words, item.tone) for item in found.troubles()] == [("web", "no server was born yet: p plans the birth", "warn")]
    lost = one_pool(servers, versions={}, healthy=0)
    assert [item.name for item in lost.troubles()] == ["web-1", "web-2", "web-3"], "they served once"


def test_a_pool_left_mixed_and_a_held_server_need_a_look() -> None:
    servers = [story.server("web", 1, "1", 60.0), story.server("web", 2, "2", 60.0, held="disk test")]
    assert [(item.name, item.words) for item in one_pool(servers).troubles()] == [
        ("web", "several images and no rollout under way: 1 on 2, 1 on 1"), ("web-2", 'held: "disk test"')]
    assert [item.name for item in model().troubles()] == ["edge-6", "edge", "edge-4", "web-2"]


def test_a_rejected_version_is_never_offered() -> None:
    rejected = [{"version": "3", "reason": "panics"}]
    for newest, said in (("3", ""), (None, ""), ("1", ""), ("4", "4")):
        pool = shapes.pool(story.pool("web", [], "1", image={"newest": newest, "rejected": rejected}))
        assert phrases.offered(pool) == said


@pytest.mark.parametrize(("roots", "said"), [
    ({"read-only": 3, "unknown": 1}, "ro"), ({"read-only": 3, "overlay": 1}, "mixed"), ({"unknown": 2}, "?"),
])
def test_root_is_mixed_only_when_two_known_modes_differ(roots: dict[str, int], said: str) -> None:
    assert phrases.root_mode(shapes.pool(story.pool("web", [], "1", root="mixed")), roots) == said
