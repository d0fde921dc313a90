"""For any pool, settings, faults and commands the promises hold at every step, and once faults stop the rollout ends."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.clocks import run_virtual
from tests.engine.chaos import Order, Play, VerbFault, perform

EXAMPLES = 60
AMOUNTS = st.sampled_from(["0", "1", "2", "3", "25%", "50%"])
VERBS = st.sampled_from(["stage", "birth", "commit", "retire", "revive", "observe", "probe"])
OUTCOMES = st.sampled_from(["transient", "permanent", "hang", "lost", "done-then-hang"])
COMMANDS = st.sampled_from(["pause", "resume", "promote", "rollback", "abort", "start", "restart"])
TIMES = st.floats(0.0, 12.0).map(lambda value: round(value, 2))


@st.composite
def verb_faults(draw: st.DrawFn) -> VerbFault:
    verb, outcome = draw(VERBS), draw(OUTCOMES)
    if verb in ("observe", "probe") or (verb == "stage" and "hang" in outcome):
        outcome = "transient"
    return VerbFault(verb, outcome, draw(st.integers(1, 12)), draw(st.integers(1, 3)))  # type: ignore[arg-type]


@st.composite
def plays(draw: st.DrawFn, calm: bool = False) -> Play:
    servers = draw(st.integers(1, 8))
    kind = draw(st.sampled_from(["", "", "data", "in-place"]))
    data = kind == "data"
    surge = "0" if kind else draw(AMOUNTS)
    unavailable = draw(AMOUNTS.filter(lambda text: surge != "0" or text not in ("0", "0%")))
    numbered = st.builds(lambda word, number: f"{word} {number}", st.sampled_from(["hold", "release"] if calm else ["hold", "release", "kill"]),
                         st.integers(1, servers))
    orders = st.builds(Order, TIMES, st.one_of(COMMANDS, numbered))
    return Play(
        servers=servers, surge=surge, unavailable=unavailable, data=data, in_place=kind == "in-place",
        canaries=draw(st.sampled_from(["0", "1", "25%"])), promotion=draw(st.sampled_from(["manual", "auto"])),
        order=draw(st.sampled_from(["oldest", "name", "newest"])), max_failures=draw(st.integers(0, 2)),
        on_failure=draw(st.sampled_from(["pause", "rollback"])),
        fault=draw(st.sampled_from(["", "", "", "never-healthy", "never-boots", "dies-after 1s", "dies-after 20s", "writable-root"])),
        jitter=draw(st.sampled_from([0.0, 0.3, 0.9])), seed=draw(st.integers(1, 1000)), retain=draw(st.sampled_from(["0s", "20s", "5m"])),
        faults=() if calm else tuple(draw(st.lists(verb_faults(), max_size=3))), orders=tuple(draw(st.lists(orders, max_size=6))),
        cure=draw(st.sampled_from(["rollback", "resume", "abort"])))


BOUNDED = settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


@BOUNDED
@given(plays(calm=True))
def test_any_command_at_any_time_keeps_every_promise(play: Play) -> None:
    run_virtual(perform(play), seed=play.seed)


@BOUNDED
@given(plays())
def test_any_fault_at_any_time_keeps_every_promise(play: Play) -> None:
    run_virtual(perform(play), seed=play.seed)
