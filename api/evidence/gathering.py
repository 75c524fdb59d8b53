"""Everything that an evidence pack says of one run, read from one snapshot of the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from api.pages.shadowed import ShadowPanel, shadow_panel
from monitor import references
from monitor.tables import DatasetRow, EpisodeRow, PerformanceRow, VerdictRow
from registry import ledger, recalls
from registry.ledger import Entry
from registry.runtimes import AttestationRow
from registry.serving import Reign
from registry.versions import VersionRow, ref
from retrain import plans, runs, staging
from retrain.history.provenance import approvals_until, trained_on
from retrain.plans import AppliedPlan
from retrain.staging import Stage
from retrain.tables import DecisionRow, GateOutcomeRow, RunRow
from retrain.watching.showing import of_run, told

#: Of the entries about a model as a whole, those that belong to a change of it.
_ABOUT_THE_MODEL = (
    "rollback.",
    "suspension.",
    "restriction.",
    "lift.",
    "model.",
    "attestation.",
    "runtime.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """What a clinical runtime said that it runs."""

    row: AttestationRow
    #: the version of that digest; None where none has it
    version: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of a run and of its candidate."""

    run: RunRow
    issued_at: datetime
    plan: AppliedPlan
    base: str
    champion_before: str | None
    candidate: VersionRow | None
    candidate_name: str | None
    #: why the candidate must not be used, if it was recalled
    recalled: str | None
    episode: EpisodeRow | None
    decisions: Sequence[DecisionRow]
    #: of all scans against the unbroken reference, oldest first
    verdicts: Sequence[VerdictRow]
    #: of all labelled scans, with the version that was measured, oldest first
    performance: Sequence[tuple[PerformanceRow, str]]
    datasets: Sequence[tuple[str, DatasetRow]]
    #: of the candidate and of each version behind it
    training: Sequence[dict[str, Any]]
    gates: Sequence[GateOutcomeRow]
    signatures: Sequence[dict[str, Any]]
    reigns: Sequence[Reign]
    #: over the candidate's first weeks in use, oldest first
    watches: Sequence[Mapping[str, Any]]
    #: of its promotion, the last one everywhere; each with when it was entered
    stages: Sequence[Stage]
    #: its candidate beside the champion; None where it never was
    shadow: ShadowPanel | None
    #: of clinical runtimes, while its candidate was to serve there, oldest first
    attestations: Sequence[Attested]
    #: what was tried of it and refused, oldest first
    refusals: Sequence[Entry]
    #: of the run, its episode, its candidate and its plan
    entries: Sequence[Entry]
    verification: ledger.Verification

    @property
    def reasons(self) -> list[str]:
        """Return why the episode's cause is what it is said to be."""
        if self.episode is None:
            return []
        return list(self.episode.evidence.get("diagnosis", {}).get("reasons", []))


def gather(session: Session, number: int, *, at: datetime) -> Evidence:
    """Return the evidence of a run.

    Raises
    ------
    NotFoundError
        If there is no such run.
    """
    run = runs.require_run(session, number)
    candidate = session.get(VersionRow, run.candidate) if run.candidate else None
    episode = session.get(EpisodeRow, run.episode) if run.episode else None
    plan = plans.by_id(session, run.plan)
    flag = recalls.flag_of(session, candidate) if candidate else None
    entries = _entries(session, run, candidate, plan)
    return Evidence(
        run=run,
        issued_at=at,
        plan=plan,
        base=str(ref(session.get_one(VersionRow, run.base))),
        champion_before=_name(session, run.champion_before),
        candidate=candidate,
        candidate_name=_name(session, run.candidate),
        recalled=flag.in_words() if flag else None,
        episode=episode,
        decisions=_decisions(session, episode),
        verdicts=_verdicts(session, episode),
        performance=_performance(session, episode),
        datasets=[
            (purpose, session.get_one(DatasetRow, dataset))
            for purpose, dataset in run.datasets.items()
        ],
        training=trained_on(session, candidate) if candidate else [],
        gates=runs.gate_outcomes(session, run.id),
        signatures=approvals_until(session, run, at),
        reigns=[]
        if candidate is None
        else session.scalars(
            select(Reign).where(Reign.version == candidate.id).order_by(Reign.id)
        ).all(),
        watches=[told(session, row) for row in of_run(session, run.id)],
        stages=staging.stages_of(session, run) if run.candidate is not None else (),
        shadow=shadow_panel(session, run, now=at),
        attestations=_attestations(session, candidate),
        refusals=[entry for entry in entries if entry.kind.endswith(".refused")],
        entries=entries,
        verification=ledger.verify(session),
    )


def _name(session: Session, version: int | None) -> str | None:
    return None if version is None else str(ref(session.get_one(VersionRow, version)))


def _decisions(session: Session, episode: EpisodeRow | None) -> Sequence[DecisionRow]:
    if episode is None:
        return []
    return session.scalars(
        select(DecisionRow).where(DecisionRow.episode == episode.id).order_by(DecisionRow.id)
    ).all()


def _verdicts(session: Session, episode: EpisodeRow | None) -> Sequence[VerdictRow]:
    trend = references.trend(session, episode.monitor) if episode else None
    if trend is None:
        return []
    return session.scalars(
        select(VerdictRow)
        .where(VerdictRow.reference == trend.id, VerdictRow.subgroup == "")
        .order_by(VerdictRow.end)
    ).all()


def _performance(
    session: Session, episode: EpisodeRow | None
) -> Sequence[tuple[PerformanceRow, str]]:
    if episode is None:
        return []
    rows = session.execute(
        select(PerformanceRow, VersionRow)
        .join(VersionRow, VersionRow.id == PerformanceRow.version)
        .where(PerformanceRow.monitor == episode.monitor, PerformanceRow.subgroup == "")
        .order_by(PerformanceRow.end, PerformanceRow.id)
    ).all()
    # Measured anew as labels come: the newest measurement of a window counts.
    newest = {(row.start, row.end, row.finding): (row, version) for row, version in rows}
    return [
        (row, f"{ref(version)}, {row.finding}" if row.finding else str(ref(version)))
        for row, version in newest.values()
    ]


def _attestations(session: Session, candidate: VersionRow | None) -> list[Attested]:
    if candidate is None:
        return []
    rows = session.scalars(
        select(AttestationRow)
        .where(
            or_(AttestationRow.champion == candidate.id, AttestationRow.version == candidate.id)
        )
        .order_by(AttestationRow.id)
    )
    return [Attested(row=row, version=_name(session, row.version)) for row in rows]


def _entries(
    session: Session, run: RunRow, candidate: VersionRow | None, plan: AppliedPlan
) -> list[Entry]:
    subjects = [f"run {run.id}"]
    if run.episode is not None:
        subjects.append(f"episode {run.episode}")
    if candidate is not None:
        subjects.append(str(ref(candidate)))
    found = [
        entry for subject in subjects for entry in ledger.entries(session, subject=subject)
    ]
    found += [
        entry
        for entry in ledger.entries(session, kind="plan.applied", subject=run.model)
        if entry.facts.get("digest") == plan.digest
    ]
    # What names the model alone: a rollback that was refused, a runtime that attested.
    found += [
        entry
        for entry in ledger.entries(session, subject=run.model)
        if entry.recorded_at >= run.created_at and entry.kind.startswith(_ABOUT_THE_MODEL)
    ]
    return sorted(
        {entry.sequence: entry for entry in found}.values(), key=lambda one: one.sequence
    )
