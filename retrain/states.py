"""The states of a run, and the steps between them."""

from __future__ import annotations

from enum import StrEnum

from registry.errors import TransitionError


class RunState(StrEnum):
    PLANNED = "planned"
    AWAITING_LABELS = "awaiting labels"
    QUEUED = "queued"
    TRAINING = "training"
    VALIDATING = "validating"
    SHADOW = "shadow"
    AWAITING_APPROVAL = "awaiting approval"
    #: serves at the sites of the plan's first stages, and not everywhere yet
    PROMOTING = "promoting"
    PROMOTED = "promoted"
    REJECTED = "rejected"
    FAILED = "failed"
    SUPERSEDED = "superseded"


#: Each state with the states that may follow it; nothing follows an end state.
TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    RunState.PLANNED: frozenset(
        {RunState.AWAITING_LABELS, RunState.QUEUED, RunState.REJECTED, RunState.SUPERSEDED}
    ),
    RunState.AWAITING_LABELS: frozenset(
        {RunState.QUEUED, RunState.REJECTED, RunState.SUPERSEDED}
    ),
    RunState.QUEUED: frozenset(
        {RunState.TRAINING, RunState.REJECTED, RunState.FAILED, RunState.SUPERSEDED}
    ),
    RunState.TRAINING: frozenset(
        {RunState.VALIDATING, RunState.REJECTED, RunState.FAILED, RunState.SUPERSEDED}
    ),
    RunState.VALIDATING: frozenset(
        {
            RunState.SHADOW,
            RunState.AWAITING_APPROVAL,
            RunState.REJECTED,
            RunState.FAILED,
            RunState.SUPERSEDED,
        }
    ),
    RunState.SHADOW: frozenset(
        {RunState.AWAITING_APPROVAL, RunState.REJECTED, RunState.FAILED, RunState.SUPERSEDED}
    ),
    RunState.AWAITING_APPROVAL: frozenset(
        {RunState.PROMOTING, RunState.PROMOTED, RunState.REJECTED, RunState.SUPERSEDED}
    ),
    RunState.PROMOTING: frozenset({RunState.PROMOTED, RunState.SUPERSEDED}),
    RunState.PROMOTED: frozenset(),
    RunState.REJECTED: frozenset(),
    RunState.FAILED: frozenset(),
    RunState.SUPERSEDED: frozenset(),
}


def require_step(before: RunState, after: RunState) -> None:
    """Refuse a step that the table does not have.

    Raises
    ------
    TransitionError
        Naming the steps that exist.
    """
    if after not in TRANSITIONS[before]:
        steps = ", ".join(sorted(TRANSITIONS[before])) or "none: it has ended"
        raise TransitionError(f"a run that is {before} cannot become {after}; it can: {steps}")


def has_ended(state: RunState) -> bool:
    """Return whether nothing follows this state."""
    return not TRANSITIONS[state]
