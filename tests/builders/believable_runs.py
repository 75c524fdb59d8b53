"""Runs that are trained and promoted by rows alone: training and MLflow take minutes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from believable_scans import DIMENSION
from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor import datasets
from monitor.evaluating import DECIDE, MEASURE
from monitor.tables import DatasetRow
from registry import ledger
from registry.canonical import digest_of
from registry.database import Database
from registry.identities import SYSTEM, Identity
from registry.jobs import Job
from registry.outbox import OutboxItem
from registry.versions import ModelRow, VersionRow, ref
from retrain import approvals, plans, promotion, runs
from retrain.gates.outcome import GateOutcome
from retrain.states import RunState
from retrain.tables import GateOutcomeRow, RunRow


def register(
    session: Session,
    model: str,
    tier: str,
    *,
    base: int | None,
    data: Sequence[tuple[str, int, str | None]],
    by: str,
    at: datetime,
) -> VersionRow:
    """Register the next version of a model, without its files."""
    owner = session.get(ModelRow, model)
    if owner is None:
        owner = ModelRow(name=model, tier=tier, created_at=at)
        session.add(owner)
        session.flush()
    number = len(session.scalars(select(VersionRow).where(VersionRow.model == model)).all())
    name = f"{model}@{number + 1}"
    digest = digest_of(name)
    row = VersionRow(
        model=model,
        number=number + 1,
        tier=tier,
        origin="run" if base else "import",
        base=base,
        bundle_digest=digest,
        encoder_digest=digest_of([digest]),
        space=f"space of {name}",
        dimension=DIMENSION,
        card=_card(model, tier, data),
        artifact_uri="file:///nowhere",
        mlflow_run=digest[:32],
        mlflow_version=str(number + 1),
        created_at=at,
        created_by=by,
    )
    session.add(row)
    ledger.append(
        session,
        at=at,
        actor=row.created_by,
        kind="version.registered",
        subject=name,
        facts={"tier": tier, "bundle": digest},
        seals=[owner, row],
    )
    return row


def finish_training(
    database: Database, number: int, gates: Sequence[GateOutcome], *, at: datetime
) -> int:
    """Stand in for training and validation: a candidate, and what the gates said."""
    with database.transaction() as session:
        run = runs.require_run(session, number)
        training = session.get_one(DatasetRow, run.datasets[datasets.Purpose.TRAINING])
        if run.state == RunState.QUEUED:
            _advance(session, run, RunState.TRAINING, at)
        candidate = register(
            session,
            run.model,
            "task",
            base=run.base,
            data=[(training.description, training.scans, training.digest)],
            by=SYSTEM.name,
            at=at,
        )
        run.candidate = candidate.id
        _advance(session, run, RunState.VALIDATING, at + timedelta(minutes=6))
        rows = [
            GateOutcomeRow(
                run=run.id,
                name=outcome.name,
                outcome=outcome.outcome.value,
                sentence=outcome.sentence,
                detail=outcome.as_record(),
                decided_at=at + timedelta(minutes=8),
            )
            for outcome in gates
        ]
        session.add_all(rows)
        session.flush()
        ledger.append(
            session,
            at=at + timedelta(minutes=8),
            actor=SYSTEM.name,
            kind="gates.evaluated",
            subject=f"run {run.id}",
            facts={
                "candidate": str(ref(candidate)),
                "outcomes": {row.name: row.outcome for row in rows},
                "plan": plans.by_id(session, run.plan).digest,
            },
            seals=rows,
        )
        _advance(session, run, RunState.AWAITING_APPROVAL, at + timedelta(minutes=8))
        return candidate.id


def promote(database: Database, number: int, *, by: Identity, at: datetime) -> None:
    """Sign and promote, and let MLflow have been told."""
    with database.transaction() as session:
        run = runs.require_run(session, number)
        approvals.sign(
            session,
            run,
            approvals.Meaning.APPROVED,
            by=by,
            reason="gates and data read; a demonstration, no patient is treated by it",
            at=at,
        )
        promotion.promote(session, run, by=by, at=at)
        for item in session.scalars(select(OutboxItem)):
            item.delivered_at = at
        for job in session.scalars(select(Job).where(Job.state == "queued")):
            if job.kind not in {MEASURE, DECIDE}:
                job.state, job.finished_at = "done", at


def _advance(session: Session, run: RunRow, state: RunState, at: datetime) -> None:
    notes = {
        RunState.TRAINING: "trains in a process of its own",
        RunState.VALIDATING: "gates are evaluated",
        RunState.AWAITING_APPROVAL: "every gate passed",
    }
    runs.advance(session, run, state, note=notes[state], actor=SYSTEM.name, at=at)


def _card(model: str, tier: str, data: Sequence[tuple[str, int, str | None]]) -> dict[str, Any]:
    chest = tier == "task"
    return {
        "name": model,
        "tier": tier,
        "purpose": "finds pneumonia on frontal chest radiographs of children"
        if chest
        else "an encoder for any image",
        "intended_use": {
            "modalities": ["CR", "DX"] if chest else [],
            "body_parts": ["CHEST"] if chest else [],
            "views": ["AP", "PA"] if chest else [],
            "age_years": [1, 5] if chest else None,
            "unknown_age": "accept",
        },
        "not_for": ["any clinical use"] + (["adults"] if chest else []),
        "training_data": [
            {"digest": digest, "description": description, "scans": scans}
            for description, scans, digest in data
        ],
        "licence": "CC-BY-4.0" if chest else "Apache-2.0",
    }
