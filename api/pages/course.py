"""The course of an episode: what was done about it, step by step, as the ledger has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.pages import wording
from api.pages.states import Shape, State, Tone
from monitor.tables import EpisodeRow
from registry import ledger
from registry.ledger import Entry
from retrain import approvals, plans
from retrain.decisions import Action
from retrain.states import RunState
from retrain.tables import RunRow

_DONE = (Shape.CIRCLE, Tone.GOOD)
_BUSY = (Shape.CIRCLE, Tone.BUSY)
_OPEN = (Shape.RING, Tone.QUIET)
_PERSON = (Shape.TRIANGLE, Tone.WARN)
_STOPPED = (Shape.CROSS, Tone.ALERT)

#: Runs' entries that are shown, with their words and look.
_RUN_STEPS = {
    "run.queued": ("Run {run} has its labels and is queued", _DONE),
    "run.training": ("Run {run} trains a candidate", _DONE),
    "run.promoting": ("{version} serves at its first sites", _DONE),
    "run.promoted": ("{version} promoted", _DONE),
    "run.rejected": ("Run {run} rejected", _STOPPED),
    "run.failed": ("Run {run} failed", _STOPPED),
    "run.superseded": ("Run {run} ended", _OPEN),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CourseStep:
    """One thing that was done, or is to be done."""

    look: State
    text: str
    #: why, where the text does not say it
    why: str
    #: in UTC
    at: str
    link: str | None
    #: a person is waited for
    waits: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The steps of an episode under its plan."""

    #: number of the plan, if there is one
    plan: int | None
    steps: tuple[CourseStep, ...]


def course(session: Session, episode: EpisodeRow, model: str, *, now: datetime) -> Course:
    """Return what happened in an episode, and what is waited for."""
    runs = session.scalars(
        select(RunRow).where(RunRow.episode == episode.id).order_by(RunRow.id)
    ).all()
    told: list[tuple[int, datetime, CourseStep]] = []
    for subject, run in [
        (f"episode {episode.id}", None),
        *[(f"run {row.id}", row) for row in runs],
    ]:
        for entry in ledger.entries(session, subject=subject):
            step = _of_run(entry, run) if run is not None else _of_episode(entry)
            if step is not None:
                told.append((entry.sequence, entry.recorded_at, step))
    told.sort(key=lambda item: item[0])
    plan = plans.in_force(session, model)
    return Course(
        plan=plan.number if plan else None,
        steps=(*(step for *_, step in told), *_waiting(session, list(runs), now)),
    )


def _step(
    look: tuple[Shape, Tone],
    text: str,
    entry: Entry,
    *,
    why: str = "",
    link: str | None = None,
    waits: bool = False,
) -> CourseStep:
    shape, tone = look
    return CourseStep(
        look=State(word="", shape=shape, tone=tone),
        text=text,
        why=why,
        at=wording.minute(entry.recorded_at),
        link=link,
        waits=waits,
    )


def _of_episode(entry: Entry) -> CourseStep | None:
    facts = entry.facts
    match entry.kind:
        case "episode.opened":
            return _step(_DONE, f"Episode opened: {wording.cause_name(facts['cause'])}", entry)
        case "decision.made":
            return _decision(entry)
        case "episode.impact":
            return _step(_DONE, f"Labels judged the impact: {facts['impact']}", entry)
        case "episode.accepted":
            return _step(_DONE, "Change accepted", entry, why=facts["reason"])
        case "episode.closed":
            return _step(_DONE, "Episode closed", entry, why=facts["reason"])
    return None


def _decision(entry: Entry) -> CourseStep:
    facts: Mapping[str, Any] = entry.facts
    done = bool(facts["carried_out"])
    words = {
        Action.RESTRICT: ("Model restricted", "Restriction proposed"),
        Action.LABEL_REQUEST: ("Labels asked for", "Labels needed"),
        Action.RUN: ("Run permitted by the plan", "Run proposed"),
        Action.TICKET: ("Handed to a person", "Handed to a person"),
        Action.LIFT: ("Restriction to be lifted", "Restriction to be lifted by a person"),
        Action.LOG: ("Noted", "Noted"),
    }
    action = Action(facts["action"])
    text = words[action][0 if done else 1]
    look = _PERSON if action is Action.TICKET or not done else _DONE
    return _step(look, text, entry, why=facts["reason"])


def _of_run(entry: Entry, run: RunRow) -> CourseStep | None:
    link = f"/runs/{run.id}"
    if entry.kind == "gates.evaluated":
        outcomes = list(entry.facts["outcomes"].values())
        passed = sum(outcome == "passed" for outcome in outcomes)
        look = _DONE if passed == len(outcomes) else _STOPPED
        text = f"Run {run.id}: {passed} of {len(outcomes)} gates passed"
        return _step(look, text, entry, link=link)
    if entry.kind == "approval.approved":
        return _step(
            _DONE, f"Approved by {entry.actor}", entry, why=entry.facts["reason"], link=link
        )
    if entry.kind not in _RUN_STEPS:
        return None
    words, look = _RUN_STEPS[entry.kind]
    text = words.format(run=run.id, version=entry.facts.get("version", "Candidate"))
    ended = entry.kind in {"run.rejected", "run.failed", "run.superseded"}
    return _step(look, text, entry, why=entry.facts["note"] if ended else "", link=link)


def _waiting(session: Session, runs: list[RunRow], now: datetime) -> list[CourseStep]:
    steps: list[CourseStep] = []
    for run in runs:
        state = RunState(run.state)
        if state is RunState.AWAITING_APPROVAL:
            missing = approvals.approval_of(session, run, at=now).missing
            lacking = wording.counted(missing, "approval")
            text, look, waits = f"{lacking} needed", _PERSON, True
        elif state is RunState.AWAITING_LABELS:
            text, look, waits = f"Run {run.id} {run.note}", _PERSON, True
        elif state in {
            RunState.QUEUED,
            RunState.TRAINING,
            RunState.VALIDATING,
            RunState.SHADOW,
            RunState.PROMOTING,
        }:
            text, look, waits = f"Run {run.id} is {state.value}", _BUSY, False
        else:
            continue
        steps.append(
            CourseStep(
                look=State(word="", shape=look[0], tone=look[1]),
                text=text,
                why="",
                at="",
                link=f"/runs/{run.id}",
                waits=waits,
            )
        )
    return steps
