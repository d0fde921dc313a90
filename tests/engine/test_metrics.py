"""What Prometheus is told: true of the fleet, well-formed whatever a server claims to run, and never more than the fleet file allows."""

from __future__ import annotations

import asyncio
import math
import os
import socket
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.core.events import EVENT_TYPES, Event
from fleet.core.lifecycle import ROLLOUT_STATES
from fleet.engine import metrics
from fleet.engine.exposition import Family, Page, number
from fleet.engine.tally import STEP_SECONDS, Histogram, Tally
from tests import exposition
from tests.clocks import run_virtual
from tests.engine.daemons import Home, until
from tests.exposition import Found
from tests.scenarios.stage import Stage, staged

DAY = 86_400.0
FLEET = """
[fleet]
name = "counted"
[images.web]
simulated = ["1", "2", "3-panics"]
[pools.web]
driver = "sim"
servers = 4
image = "web"
mode = "manual"
sim = { seed = 1, boot = "5s", faults = { "3-panics" = "never-healthy" } }
max_age = "7d"
[pools.web.rollout]
max_surge = 1
max_unavailable = 0
canaries = 1
min_healthy_time = "5s"
healthy_deadline = "30s"
"""


def play(story: Callable[[Stage, Callable[[], dict[str, Found]]], Awaitable[None]], fleet: str = FLEET) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            tally = Tally()
            async with staged(fleet, folder, on_event=tally.count) as stage:
                await stage.birth("1")
                await story(stage, lambda: exposition.read(metrics.page(stage.engine, tally, "0.1.0", 1.8e9, False)))

    run_virtual(run())


Look = Callable[[], dict[str, Found]]


# --- true of the fleet


def test_servers_by_version_and_state_and_their_ages() -> None:
    async def story(stage: Stage, look: Look) -> None:
        view, now = stage.view, stage.clock.now()
        assert view.observed is not None
        view.observed = replace(view.observed, incarnations=tuple(
            replace(seen, born_at=0.0 if seen.server == "web-4" else now - 5 * DAY) for seen in view.observed.incarnations))
        await stage.command("server.hold", server="web-4", why="mine")
        found = look()
        assert found["anew_servers"].samples == {("anew_servers", (("pool", "web"), ("state", "serving"), ("version", "1"))): 4.0}
        assert found["anew_servers_wanted"].value(pool="web") == found["anew_servers_available"].value(pool="web") == 4
        assert found["anew_servers_held"].value(pool="web") == 1
        ages = found["anew_server_age_seconds"].samples
        below = {dict(labels)["le"]: value for (name, labels), value in ages.items() if name.endswith("_bucket")}
        assert below["259200"] == 0 and below["604800"] == below["+Inf"] == 3, "one is from before anew, of unknown age"
        total = ages["anew_server_age_seconds_sum", (("pool", "web"),)]
        assert 3 * 5 * DAY <= total < 3 * (5 * DAY + 60)
        assert found["anew_pool_max_age_seconds"].value(pool="web") == 7 * DAY
        assert found["anew_daemon_start_time_seconds"].value() == 1.8e9
        assert found["anew_build_info"].value(version="0.1.0") == 1

    play(story)


def test_a_rollout_from_its_start_to_its_end() -> None:
    async def story(stage: Stage, look: Look) -> None:
        assert look()["anew_rollout_active"].value(pool="web") == 0
        assert look()["anew_rollout_state"].value(pool="web", state="done") == 1, "the birth"
        await stage.command("rollout.start", plan={"to": "2"})
        await stage.until(lambda: stage.last.state == "awaiting-promotion", what="the canary is good")
        found = look()
        states = {state: found["anew_rollout_state"].value(pool="web", state=state) for state in ROLLOUT_STATES}
        assert [state for state, value in states.items() if value] == ["awaiting-promotion"]
        assert found["anew_rollout_progress_ratio"].value(pool="web") == 0.25
        assert found["anew_rollout_servers"].value(pool="web", step="waiting") == 3
        assert found["anew_rollout_servers"].value(pool="web", step="serving") == 1
        assert "anew_rollout_eta_seconds" not in found, "it stands until a person decides"
        await stage.command("rollout.promote", rollout=stage.last.id)
        await stage.until(lambda: stage.last.state == "rolling", what="it rolls")
        assert look()["anew_rollout_eta_seconds"].value(pool="web") > 0
        await stage.settle()
        found = look()
        assert found["anew_rollout_active"].value(pool="web") == 0
        assert found["anew_rollouts_started_total"].value(pool="web", kind="rollout") == 1
        assert found["anew_rollouts_started_total"].value(pool="web", kind="birth") == 1
        assert found["anew_rollouts_started_total"].value(pool="web", kind="rollback") == 0, "told before the first of them"
        assert found["anew_rollouts_ended_total"].value(pool="web", kind="rollout", state="done") == 1
        assert found["anew_rollouts_ended_total"].value(pool="web", kind="rollout", state="failed") == 0
        booted = found["anew_step_duration_seconds"].samples["anew_step_duration_seconds_count", (("pool", "web"), ("step", "booting"))]
        assert booted == 8, "four at the birth, four in the rollout"
        waited = found["anew_step_duration_seconds"].samples["anew_step_duration_seconds_sum", (("pool", "web"), ("step", "proving"))]
        assert waited >= 8 * 5.0, "nobody proves itself in less than min_healthy_time"
        assert found["anew_incarnations_retained"].value(pool="web") == 4
        assert found["anew_journal_events_total"].value() == stage.state.seq

    play(story)


def test_failures_are_counted() -> None:
    async def story(stage: Stage, look: Look) -> None:
        await stage.command("rollout.start", plan={"to": "3-panics"})
        await stage.until(lambda: stage.last.state == "paused", what="the canary failed")
        found = look()
        assert found["anew_step_failures_total"].value(pool="web", step="proving") == 1
        assert found["anew_rollout_failures"].value(pool="web") == 1
        assert found["anew_rollout_state"].value(pool="web", state="paused") == 1
        await stage.command("rollout.abort", rollout=stage.last.id)
        await stage.settle()
        assert look()["anew_rollouts_ended_total"].value(pool="web", kind="rollout", state="aborted") == 1

    play(story)


def test_a_new_image_is_due() -> None:
    async def story(stage: Stage, look: Look) -> None:
        await stage.clock.sleep(30.0)
        assert look()["anew_pool_due"].value(pool="web") == 1, "2 is newer than 1"
        await stage.command("rollout.start", plan={"to": "2", "overrides": {"canaries": "0"}})
        await stage.settle()
        await stage.clock.sleep(30.0)
        assert look()["anew_pool_due"].value(pool="web") == 0

    play(story)


# --- whatever a server claims

VERSIONS = st.text(max_size=200) | st.sampled_from(['a"b', "a\\", "a\nb", 'a"} 1\nanew_servers{pool="web', "\x1b[31m", "\u202e", "\ud800", "", "(others)", "é", "日本"])


def test_hostile_versions_are_labels_and_nothing_else() -> None:
    async def story(stage: Stage, look: Look) -> None:
        @settings(max_examples=300, deadline=None)
        @given(versions=st.lists(VERSIONS, min_size=4, max_size=4))
        def claimed(versions: list[str]) -> None:
            _claim(stage, versions)
            found = look()["anew_servers"].samples
            assert sum(found.values()) == 4, "nobody is counted twice or forgotten"
            assert all(dict(labels)["pool"] == "web" and dict(labels)["state"] == "serving" for _, labels in found)

        claimed()

    play(story)


def test_as_many_versions_as_servers_are_not_as_many_lines() -> None:
    async def story(stage: Stage, look: Look) -> None:
        before = sum(len(family.samples) for family in look().values())
        _claim(stage, [str(number) if number > 40 else "common" for number in range(100)])
        found = look()
        named = {dict(labels)["version"]: value for (_, labels), value in found["anew_servers"].samples.items()}
        assert len(named) <= metrics.MAX_VERSIONS + 1
        assert named["common"] == 41 and named["(others)"] == 100 - 41 - (metrics.MAX_VERSIONS - 1)
        assert sum(named.values()) == 100
        assert sum(len(family.samples) for family in found.values()) <= before + metrics.MAX_VERSIONS

    play(story, FLEET.replace("servers = 4", "servers = 100").replace('boot = "5s"', 'boot = "1s"').replace("max_surge = 1", 'max_surge = "100%"'))


def _claim(stage: Stage, versions: list[str]) -> None:
    """The servers say that they run these."""
    view = stage.view
    assert view.observed is not None
    said = dict(zip(view.pool.server_names, versions, strict=True))
    view.observed = replace(view.observed, incarnations=tuple(replace(seen, version=said[seen.server]) for seen in view.observed.incarnations))


# --- the format


def test_escapes_are_those_of_the_format() -> None:
    page = Page([Family("a_b", "gauge", 'a \\ and a\nnew line and a "quote"', ("x",))])
    page.add("a_b", 1, 'a"b\\c\nd')
    assert page.text() == '# HELP a_b a \\\\ and a\\nnew line and a "quote"\n# TYPE a_b gauge\na_b{x="a\\"b\\\\c\\nd"} 1\n'


@pytest.mark.parametrize(("value", "said"), [(0, "0"), (-0.0, "0"), (1, "1"), (True, "1"), (1.5, "1.5"), (1e300, "1e+300"), (math.inf, "+Inf"), (-math.inf, "-Inf"),
                                             (math.nan, "NaN"), (1_800_000_000.25, "1800000000.25"), (1e-7, "1e-07")])
def test_numbers(value: float, said: str) -> None:
    assert number(value) == said
    assert math.isnan(float(said)) if math.isnan(value) else float(said) == value


@settings(deadline=None)
@given(values=st.lists(st.floats(min_value=0, max_value=1e9), max_size=50))
def test_a_histogram_counts_each_value_at_every_bound_that_it_does_not_exceed(values: list[float]) -> None:
    counted = Histogram(STEP_SECONDS)
    for value in values:
        counted.add(value)
    page = Page([Family("took_seconds", "histogram", "How long.")])
    page.histogram("took_seconds", counted)
    found = exposition.read(page.text())["took_seconds"].samples
    for bound in STEP_SECONDS:
        assert found["took_seconds_bucket", (("le", number(bound)),)] == sum(value <= bound for value in values)
    assert found["took_seconds_count", ()] == len(values)


@pytest.mark.parametrize("wrong", [
    "a 1\n", "# HELP a x\n# TYPE a gauge\na 1", "# HELP a x\n# TYPE a gauge\na{b=\"\n\"} 1\n", '# HELP a x\n# TYPE a gauge\na{b="1"} 1\na{b="1"} 2\n',
    "# HELP a x\n# TYPE a counter\na 1\n", "# HELP a x\n# TYPE a gauge\na one\n", '# HELP a x\n# TYPE a gauge\na{b="\\x"} 1\n',
    '# HELP a x\n# TYPE a histogram\na_bucket{le="1"} 2\na_bucket{le="+Inf"} 1\na_sum 1\na_count 1\n', "# TYPE a gauge\na 1\n"])
def test_the_reader_of_these_tests_refuses_what_is_wrong(wrong: str) -> None:
    with pytest.raises(AssertionError):
        exposition.read(wrong)


def test_the_reference_reader_takes_it_too() -> None:
    parser = pytest.importorskip("prometheus_client.parser")

    async def story(stage: Stage, look: Look) -> None:
        _claim(stage, ['a"b\\c', "a\nb", "日本", "1"])
        text = metrics.page(stage.engine, Tally(), "0.1.0", 1.8e9, False)
        theirs = {family.name: family for family in parser.text_string_to_metric_families(text)}
        ours = exposition.read(text)
        assert {name.removesuffix("_total") for name in ours} == set(theirs)
        for name, found in ours.items():
            samples = theirs[name.removesuffix("_total")].samples
            assert {(one.name, tuple(sorted(one.labels.items()))): one.value for one in samples} == found.samples

    play(story)


# --- counters are the journal's


def test_a_tally_of_any_rows_stays_bounded_and_never_fails() -> None:
    tally = Tally()
    for seq in range(2_000):
        for kind in ("step-begun", "step-done", "step-failed", "rollout-started", "rollout-ended", "server-unhealthy", *EVENT_TYPES, "of-a-later-release"):
            data = {"op": str(seq % 50), "step": f"step-{seq}", "kind": f"kind-{seq}", "state": f"state-{seq}", "seconds": 1.0} if seq % 2 else {}
            tally.count(Event(seq, float(seq), kind, "engine", "web", "web-1", "r-1", data, "", ""))
    assert len(tally.ended) + len(tally.started) + len(tally.steps) + len(tally.step_failures) + len(tally._open) + len(tally._kinds) < 60
    assert sum(tally.started.values()) == 4_000


def test_time_without_a_daemon_is_no_step_that_took_long() -> None:
    tally = Tally()

    def row(at: float, kind: str, **data: object) -> None:
        tally.count(Event(1, at, kind, "engine", "web", "web-1", "r-1", data, "", ""))

    row(0.0, "step-begun", op="a", step="booting")
    row(3600.0, "daemon-started", epoch=2, version="1")
    row(3604.0, "step-done", op="a", step="booting", facts={})
    row(3605.0, "step-begun", op="b", step="booting")
    row(9000.0, "daemon-blind", seconds=5000.0)
    row(9006.0, "step-done", op="b", step="booting", facts={})
    assert tally.steps["web", "booting"].sum == 10.0
    assert tally.blind == 5000.0


# --- a real daemon


def test_a_real_daemon_tells_it_over_its_socket_and_counts_on_after_kill_9(home: Home) -> None:
    home.roll("1", overrides={"canaries": "0", "max_surge": "3"})
    until(lambda: home.ended() == "done", "the birth")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(home.folder / "s"))
        sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: anew\r\nConnection: close\r\n\r\n")
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n" in head
    first = exposition.read(body.decode())
    assert set(first) >= {"anew_servers", "anew_server_age_seconds", "anew_step_duration_seconds", "anew_rollouts_ended_total"}
    assert first["anew_rollouts_ended_total"].value(pool="web", kind="birth", state="done") == 1
    home.kill()
    home.start()
    again = exposition.read(home.client.text("/metrics"))
    assert again["anew_step_duration_seconds"].samples == first["anew_step_duration_seconds"].samples
    assert again["anew_rollouts_ended_total"].samples == first["anew_rollouts_ended_total"].samples
    assert again["anew_journal_events_total"].value() > first["anew_journal_events_total"].value()
    assert again["anew_daemon_start_time_seconds"].value() >= first["anew_daemon_start_time_seconds"].value()
    assert str(os.getuid()) not in {value for family in again.values() for _, labels in family.samples for _, value in labels}


def test_every_family_is_told_by_some_page() -> None:
    """A family that nothing ever fills would be a promise in docs/metrics.md that is not kept."""
    told: set[str] = set()

    async def story(stage: Stage, look: Look) -> None:
        await stage.command("rollout.start", plan={"to": "2", "overrides": {"canaries": "0"}})
        await stage.until(lambda: stage.last.state == "rolling", what="it rolls")
        told.update(look())
        await asyncio.sleep(0)

    play(story)
    assert told == {family.name for family in metrics.FAMILIES}
