"""The tables: every path can be walked to its end, and nothing else can be walked at all."""

from __future__ import annotations

from itertools import product

import pytest

from fleet.core.errors import BrokenMachine
from fleet.core.lifecycle import (
    BACKWARD,
    CELLS,
    ENDED,
    ENDS,
    FORWARD,
    PATHS,
    ROLLOUT_STATES,
    ROLLOUT_TRANSITIONS,
    SETTLED,
    STEP_DEADLINES,
    VERBS,
    diagrams,
    may,
    move,
    next_step,
)


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_walked_from_waiting_to_its_end(path: str) -> None:
    step, walked = "waiting", []
    while step not in SETTLED:
        step = next_step(path, step)
        walked.append(step)
    assert walked == [*PATHS[path], ENDS[path]]


def test_every_path_leads_forward_or_backward_and_every_step_has_a_verb_a_cell_and_a_deadline() -> None:
    assert set(PATHS) == FORWARD | BACKWARD == set(ENDS)
    steps = {step for path in PATHS.values() for step in path}
    assert steps == set(VERBS)
    assert steps <= set(CELLS) and set(ENDS.values()) <= SETTLED <= set(CELLS)
    assert steps - {"proving"} == set(STEP_DEADLINES)


@pytest.mark.parametrize(("path", "step"), [
    ("birth", "draining"), ("keep-old", "booting"), ("clear", "serving"), ("no-path", "waiting"), ("create-first", "stopping"), ("birth", "")])
def test_a_step_that_is_not_on_the_path_is_a_broken_machine(path: str, step: str) -> None:
    with pytest.raises(BrokenMachine):
        next_step(path, step)


def test_a_rollout_moves_only_along_the_table() -> None:
    causes = {cause for _, cause in ROLLOUT_TRANSITIONS}
    for state, cause in product(ROLLOUT_STATES, causes):
        assert may(state, cause) == ((state, cause) in ROLLOUT_TRANSITIONS)
        if may(state, cause):
            assert move(state, cause) in ROLLOUT_STATES
        else:
            with pytest.raises(BrokenMachine, match=state):
                move(state, cause)


def test_an_ended_rollout_never_moves_and_every_other_one_can_end() -> None:
    assert not [state for state, _ in ROLLOUT_TRANSITIONS if state in ENDED]
    for start in set(ROLLOUT_STATES) - ENDED:
        reached = {start}
        while more := {after for (state, _), after in ROLLOUT_TRANSITIONS.items() if state in reached} - reached:
            reached |= more
        assert reached & ENDED, start


def test_the_diagrams_show_every_transition_and_every_path() -> None:
    page = diagrams()
    for (state, cause), after in ROLLOUT_TRANSITIONS.items():
        assert f"{state} --> {after}: {cause}" in page
    assert all(f"`{path}`" in page for path in PATHS)
