from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from registry.errors import TransitionError
from retrain.states import TRANSITIONS, RunState, has_ended, require_step

PAIRS = [(before, after) for before in RunState for after in RunState]


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_a_step_is_taken_if_and_only_if_the_table_has_it(
    before: RunState, after: RunState
) -> None:
    if after in TRANSITIONS[before]:
        require_step(before, after)
    else:
        with pytest.raises(TransitionError, match=f"{before} cannot become {after}"):
            require_step(before, after)


def test_every_state_is_in_the_table_and_can_be_reached() -> None:
    reached, queue = {RunState.PLANNED}, [RunState.PLANNED]
    while queue:
        for state in TRANSITIONS[queue.pop()] - reached:
            reached.add(state)
            queue.append(state)
    assert reached == set(TRANSITIONS) == set(RunState)


def test_promotion_is_only_reached_through_approval() -> None:
    into = {
        wanted: {state for state, following in TRANSITIONS.items() if wanted in following}
        for wanted in (RunState.PROMOTING, RunState.PROMOTED)
    }
    assert into == {
        RunState.PROMOTING: {RunState.AWAITING_APPROVAL},
        RunState.PROMOTED: {RunState.AWAITING_APPROVAL, RunState.PROMOTING},
    }


class RunLife(RuleBasedStateMachine):
    """Any order of requested steps: the table alone decides what becomes of a run."""

    def __init__(self) -> None:
        super().__init__()
        self.state = RunState.PLANNED
        self.ended = False

    @rule(wanted=st.sampled_from(list(RunState)))
    def ask_for(self, wanted: RunState) -> None:
        try:
            require_step(self.state, wanted)
        except TransitionError:
            return
        assert not self.ended
        self.state, self.ended = wanted, has_ended(wanted)

    @invariant()
    def an_end_is_final(self) -> None:
        assert has_ended(self.state) == self.ended


TestRunLife = RunLife.TestCase
TestRunLife.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
