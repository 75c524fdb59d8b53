"""The page of one run: how far it is, what the gates said, who signed, what it read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy.orm import Session

from api.pages import states, wording
from api.pages.deployed import StagedPanel, staged_panel
from api.pages.gate_table import GateTable, gate_table
from api.pages.requested import RequestPanel, request_panel
from api.pages.shadowed import ShadowPanel, shadow_panel
from api.pages.states import State
from api.pages.watched import WatchPanel, watch_panels_of_run
from monitor.tables import DatasetRow
from registry import ledger
from registry.access.signing_in import Proof
from registry.identities import Role
from registry.versions import VersionRow, ref
from retrain import approvals, plans, runs, staging
from retrain.gates.outcome import Outcome
from retrain.states import RunState, has_ended
from retrain.tables import GateOutcomeRow, RunRow
from retrain.training import progress_of
from retrain.workspace import Progress

#: The road of a run on which nothing goes wrong.
ROAD = (
    RunState.PLANNED,
    RunState.AWAITING_LABELS,
    RunState.QUEUED,
    RunState.TRAINING,
    RunState.VALIDATING,
    RunState.SHADOW,
    RunState.AWAITING_APPROVAL,
    RunState.PROMOTING,
    RunState.PROMOTED,
)
#: States in which a page looks again by itself.
MOVING = frozenset({RunState.QUEUED, RunState.TRAINING, RunState.VALIDATING})

_PROOFS = {
    Proof.PASSWORD.value: "with a password",
    Proof.TOKEN.value: "with a token",
    Proof.OPERATING_SYSTEM.value: "as the user of the machine",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Milestone:
    """One state of a run: passed, present, or still to come."""

    state: State
    at: str | None
    present: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureLine:
    """One signature."""

    by: str
    meaning: str
    reason: str
    at: str
    #: what the signer showed, in words; empty where that was not kept
    proof: str
    seen: str
    #: why it does not count, where it does not
    why_not: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetLine:
    """One set of scans that a run read."""

    purpose: str
    scans: int
    patients: int
    description: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCourse:
    """The part of a run's page that moves."""

    run: int
    state: State
    moving: bool
    milestones: tuple[Milestone, ...]
    progress: Progress | None
    #: of training, 0 to 100
    percent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """Everything on a run's page."""

    id: int
    model: str
    headline: str
    note: str
    episode: int | None
    strategy: str
    base: str
    candidate: str | None
    champion_before: str | None
    plan: int
    authority: str
    people: int
    #: that may sign
    role: Role
    missing: int
    #: digest of all that a signature now would be bound to
    seen: str
    #: gates that are not evaluable, and that who signs must decide
    left_to_people: tuple[str, ...]
    awaiting_approval: bool
    ended: bool
    course: RunCourse
    gates: GateTable
    signatures: tuple[SignatureLine, ...]
    datasets: tuple[DatasetLine, ...]
    #: None where it asked for no labels
    request: RequestPanel | None
    #: None where it is promoted everywhere at once
    staged: StagedPanel | None
    #: None where its candidate never read beside the champion
    shadow: ShadowPanel | None
    #: over its candidate's first weeks in use, newest first
    watches: tuple[WatchPanel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLine:
    """One run in the list of all."""

    id: int
    model: str
    state: State
    strategy: str
    base: str
    candidate: str | None
    episode: int | None
    note: str
    changed: str


def run_lines(session: Session) -> list[RunLine]:
    """Return every run, newest first."""
    return [
        RunLine(
            id=row.id,
            model=row.model,
            state=states.run_state(row.state),
            strategy=row.strategy,
            base=_name(session, row.base) or "–",
            candidate=_name(session, row.candidate),
            episode=row.episode,
            note=row.note,
            changed=wording.moment(row.changed_at),
        )
        for row in runs.all_runs(session)
    ]


def run_page(session: Session, work: Path, run: int, *, now: datetime) -> RunPage:
    """Return a run's page.

    Raises
    ------
    NotFoundError
    """
    row = runs.require_run(session, run)
    plan = plans.by_id(session, row.plan)
    gates = runs.gate_outcomes(session, run)
    state = RunState(row.state)
    approval = approvals.approval_of(session, row, at=now)
    return RunPage(
        id=row.id,
        model=row.model,
        headline=_headline(session, row, gates, approval.missing),
        note=row.note,
        episode=row.episode,
        strategy=row.strategy,
        base=_name(session, row.base) or "–",
        candidate=_name(session, row.candidate),
        champion_before=_name(session, row.champion_before),
        plan=plan.number,
        authority=plan.plan.authority.value,
        people=plan.plan.approval.people,
        role=plan.plan.approval.role,
        missing=approval.missing,
        seen=approval.seen,
        left_to_people=tuple(approvals.left_to_people(session, row)),
        awaiting_approval=state is RunState.AWAITING_APPROVAL,
        ended=has_ended(state),
        course=_course(session, work, row),
        gates=gate_table([gate.detail for gate in gates]),
        signatures=tuple(
            SignatureLine(
                by=one.signature.printed_name or one.signature.by,
                meaning=one.signature.meaning,
                reason=one.signature.reason,
                at=wording.moment(one.signature.signed_at),
                proof=_PROOFS.get(one.signature.proof or "", ""),
                seen=one.signature.seen,
                why_not=one.why_not,
            )
            for one in approval.standings
        ),
        datasets=_datasets(session, row),
        request=request_panel(session, row),
        shadow=shadow_panel(session, row, now=now),
        watches=watch_panels_of_run(session, row.id),
        staged=staged_panel(session, row, now=now) if row.candidate is not None else None,
    )


def run_course(session: Session, work: Path, run: int) -> RunCourse:
    """Return what moves on a run's page, and nothing that costs more.

    Raises
    ------
    NotFoundError
    """
    return _course(session, work, runs.require_run(session, run))


def _course(session: Session, work: Path, row: RunRow) -> RunCourse:
    state = RunState(row.state)
    progress = progress_of(work, row.id) if state is RunState.TRAINING else None
    return RunCourse(
        run=row.id,
        state=states.run_state(row.state),
        moving=state in MOVING,
        milestones=_milestones(session, row),
        progress=progress,
        percent=_percent(progress),
    )


def _name(session: Session, version: int | None) -> str | None:
    return str(ref(session.get_one(VersionRow, version))) if version is not None else None


def _headline(
    session: Session, row: RunRow, gates: Sequence[GateOutcomeRow], missing: int
) -> str:
    candidate = _name(session, row.candidate) or "the candidate"
    lacking = wording.counted(missing, "approval")
    refused = any(gate.outcome != Outcome.PASSED for gate in gates)
    left = ", ".join(approvals.left_to_people(session, row))
    passed = (
        f"is refused by no gate, with {left} left to who signs" if left else "passed every gate"
    )
    match RunState(row.state):
        case RunState.PROMOTED:
            text = f"{candidate} {passed} and is promoted"
        case RunState.AWAITING_APPROVAL if missing:
            text = f"{candidate} {passed}; {lacking} needed"
        case RunState.AWAITING_APPROVAL:
            text = f"{candidate} is approved and can be promoted"
        case RunState.REJECTED if refused:
            text = f"{candidate} did not pass its gates"
        case RunState.SHADOW:
            text = f"{candidate} {passed} and reads beside the champion"
        case RunState.AWAITING_LABELS | RunState.PROMOTING as state:
            subject = candidate if state is RunState.PROMOTING else f"Run {row.id}"
            text = f"{subject} {row.note.partition(':')[0]}"
        case RunState.TRAINING:
            text = f"Run {row.id} trains a candidate for {row.model}"
        case RunState.FAILED:
            text = f"Run {row.id} failed"
        case RunState.REJECTED | RunState.SUPERSEDED as state:
            text = f"Run {row.id} was {state.value}"
        case state:
            text = f"Run {row.id} is {state.value}"
    return text


def _milestones(session: Session, row: RunRow) -> tuple[Milestone, ...]:
    """Return the states that a run was in, then those that are still ahead of it."""
    reached: dict[RunState, datetime] = {}
    for entry in ledger.entries(session, subject=f"run {row.id}"):
        word = entry.kind.removeprefix("run.").replace("_", " ")
        if entry.kind.startswith("run.") and word in set(RunState):
            reached[RunState(word)] = entry.recorded_at
    present = RunState(row.state)
    passed = [
        Milestone(
            state=states.RUNS[state] if state is present else states.passed(states.RUNS[state]),
            at=wording.moment(at),
            present=state is present,
        )
        for state, at in reached.items()
    ]
    if has_ended(present) or present not in ROAD:
        return tuple(passed)
    rules = plans.by_id(session, row.plan).plan
    left_out = set()
    if not rules.shadow_days or row.champion_before is None:
        left_out.add(RunState.SHADOW)
    if not staging.is_staged(row, rules):
        left_out.add(RunState.PROMOTING)
    ahead = [state for state in ROAD[ROAD.index(present) + 1 :] if state not in left_out]
    return (
        *passed,
        *(Milestone(state=states.RUNS[state], at=None, present=False) for state in ahead),
    )


def _percent(progress: Progress | None) -> int:
    return 0 if progress is None else round(100 * progress.share)


def _datasets(session: Session, row: RunRow) -> tuple[DatasetLine, ...]:
    lines = []
    for purpose, number in row.datasets.items():
        dataset = session.get_one(DatasetRow, number)
        lines.append(
            DatasetLine(
                purpose=purpose,
                scans=dataset.scans,
                patients=dataset.patients,
                description=dataset.description,
                digest=dataset.digest,
            )
        )
    return tuple(lines)
