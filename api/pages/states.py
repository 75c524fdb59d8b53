"""States as people see them: a shape, a word and a tone, always together."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from monitor.episodes.episodes import EpisodeState
from registry.runtimes import RuntimeState
from retrain.gates.outcome import Outcome
from retrain.states import RunState
from retrain.watching.states import WatchState


class Shape(StrEnum):
    """A glyph; each is told from the others without its colour."""

    CIRCLE = "circle"
    RING = "ring"
    TRIANGLE = "triangle"
    DIAMOND = "diamond"
    SQUARE = "square"
    CROSS = "cross"


class Tone(StrEnum):
    """A colour's meaning; `ALERT` is for what needs a person, and nothing else."""

    GOOD = "good"
    WARN = "warn"
    ALERT = "alert"
    BUSY = "busy"
    QUIET = "quiet"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a state looks like."""

    word: str
    shape: Shape
    tone: Tone


IN_USE = State(word="In use", shape=Shape.CIRCLE, tone=Tone.GOOD)
RESTRICTED = State(word="Restricted", shape=Shape.TRIANGLE, tone=Tone.WARN)
EPISODE_OPEN = State(word="Episode open", shape=Shape.DIAMOND, tone=Tone.ALERT)
SUSPENDED = State(word="Suspended", shape=Shape.SQUARE, tone=Tone.ALERT)
RECALLED = State(word="Recalled", shape=Shape.SQUARE, tone=Tone.ALERT)
NOT_SERVING = State(word="Not serving", shape=Shape.RING, tone=Tone.QUIET)
MONITORING = State(word="Monitoring encoder", shape=Shape.RING, tone=Tone.QUIET)

EPISODES = {
    EpisodeState.OPEN: State(word="Open", shape=Shape.DIAMOND, tone=Tone.ALERT),
    EpisodeState.ACCEPTED: State(word="Accepted", shape=Shape.CIRCLE, tone=Tone.GOOD),
    EpisodeState.CLOSED: State(word="Closed", shape=Shape.RING, tone=Tone.QUIET),
}

RUNS = {
    RunState.PLANNED: State(word="Planned", shape=Shape.RING, tone=Tone.QUIET),
    RunState.AWAITING_LABELS: State(
        word="Awaiting labels", shape=Shape.TRIANGLE, tone=Tone.WARN
    ),
    RunState.QUEUED: State(word="Queued", shape=Shape.RING, tone=Tone.BUSY),
    RunState.TRAINING: State(word="Training", shape=Shape.CIRCLE, tone=Tone.BUSY),
    RunState.VALIDATING: State(word="Validating", shape=Shape.CIRCLE, tone=Tone.BUSY),
    RunState.SHADOW: State(word="Shadow", shape=Shape.CIRCLE, tone=Tone.BUSY),
    RunState.AWAITING_APPROVAL: State(
        word="Awaiting approval", shape=Shape.DIAMOND, tone=Tone.ALERT
    ),
    RunState.PROMOTING: State(word="Promoting", shape=Shape.CIRCLE, tone=Tone.BUSY),
    RunState.PROMOTED: State(word="Promoted", shape=Shape.CIRCLE, tone=Tone.GOOD),
    RunState.REJECTED: State(word="Rejected", shape=Shape.CROSS, tone=Tone.WARN),
    RunState.FAILED: State(word="Failed", shape=Shape.CROSS, tone=Tone.ALERT),
    RunState.SUPERSEDED: State(word="Superseded", shape=Shape.SQUARE, tone=Tone.QUIET),
}

GATES = {
    Outcome.PASSED: State(word="Passed", shape=Shape.CIRCLE, tone=Tone.GOOD),
    Outcome.FAILED: State(word="Failed", shape=Shape.CROSS, tone=Tone.ALERT),
    Outcome.NOT_EVALUABLE: State(word="Not evaluable", shape=Shape.TRIANGLE, tone=Tone.WARN),
}

WATCHES = {
    WatchState.WATCHING: State(word="Watching", shape=Shape.CIRCLE, tone=Tone.BUSY),
    WatchState.PASSED: State(word="Passed", shape=Shape.CIRCLE, tone=Tone.GOOD),
    WatchState.FAILED: State(word="Failed", shape=Shape.CROSS, tone=Tone.ALERT),
    WatchState.NOT_EVALUABLE: State(word="Not evaluable", shape=Shape.TRIANGLE, tone=Tone.WARN),
    WatchState.CUT_SHORT: State(word="Cut short", shape=Shape.SQUARE, tone=Tone.QUIET),
}


RUNTIMES = {
    RuntimeState.ATTESTED: State(word="Attested", shape=Shape.CIRCLE, tone=Tone.GOOD),
    RuntimeState.PENDING: State(word="Pending", shape=Shape.TRIANGLE, tone=Tone.WARN),
    RuntimeState.WRONG: State(word="Runs another", shape=Shape.CROSS, tone=Tone.ALERT),
    RuntimeState.SILENT: State(word="Silent", shape=Shape.DIAMOND, tone=Tone.ALERT),
}
STAGE_REACHED = State(word="Serves", shape=Shape.CIRCLE, tone=Tone.GOOD)
STAGE_AHEAD = State(word="To come", shape=Shape.RING, tone=Tone.QUIET)


def passed(state: State) -> State:
    """Return what a state looks like once it lies behind."""
    return State(word=state.word, shape=Shape.CIRCLE, tone=Tone.GOOD)


def episode_state(state: str) -> State:
    """Return what an episode's state looks like."""
    return EPISODES[EpisodeState(state)]


def run_state(state: str) -> State:
    """Return what a run's state looks like."""
    return RUNS[RunState(state)]


def gate_state(outcome: str) -> State:
    """Return what a gate's outcome looks like."""
    return GATES[Outcome(outcome)]


def watch_state(state: str) -> State:
    """Return what a watch's state looks like."""
    return WATCHES[WatchState(state)]
