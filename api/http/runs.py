"""Runs: how far they are, what their gates said, who signed."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel
from sqlalchemy.orm import Session

from api.http.access import READ
from api.http.installation import Installation
from api.http.numbers import Number
from monitor.tables import DatasetRow
from registry.versions import VersionRow, ref
from retrain import approvals, plans, runs
from retrain.tables import RunRow
from retrain.training import progress_of

router = APIRouter(prefix="/api/v1/runs", tags=["runs"])


class Run(BaseModel):
    """One training execution."""

    id: int
    model: str
    episode: int | None
    #: number of the plan under which it was made
    plan: int
    state: str
    note: str
    strategy: str
    base: str
    champion_before: str | None
    candidate: str | None
    seed: int
    created_at: AwareDatetime
    changed_at: AwareDatetime


class Gate(BaseModel):
    """What one gate said."""

    name: str
    #: passed, failed, not_evaluable
    outcome: str
    sentence: str
    detail: dict[str, Any]
    decided_at: AwareDatetime


class Signature(BaseModel):
    """One signature, bound to the digest of what was seen."""

    by: str
    meaning: str
    reason: str
    seen: str
    signed_at: AwareDatetime


class Dataset(BaseModel):
    """A frozen set of scans that a run read."""

    purpose: str
    digest: str
    description: str
    scans: int
    patients: int


class Progress(BaseModel):
    """How far training has come."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float | None
    selection_auc: float | None


class RunInFull(Run):
    """A run with everything that an approver sees."""

    progress: Progress | None
    gates: list[Gate]
    signatures: list[Signature]
    #: approvals of what stands now that are still missing
    missing_approvals: int
    datasets: list[Dataset]


@router.get("", summary="List runs", dependencies=[READ])
def list_runs(
    driftward: Installation,
    model: Annotated[str | None, Query(description="Only this model's.")] = None,
    state: Annotated[str | None, Query(description="Only in this state.")] = None,
) -> list[Run]:
    """Return runs, newest first."""
    with driftward.database.reading() as session:
        return [
            Run(**_facts(session, row))
            for row in runs.all_runs(session, model)
            if state is None or row.state == state
        ]


@router.get("/{number}", summary="Show a run", dependencies=[READ])
def show_run(number: Number, driftward: Installation) -> RunInFull:
    """Return one run: state, progress, gates, signatures and data."""
    progress = progress_of(driftward.home.work, number)
    with driftward.database.reading() as session:
        row = runs.require_run(session, number)
        return RunInFull(
            **_facts(session, row),
            progress=Progress.model_validate(progress, from_attributes=True)
            if progress
            else None,
            gates=[
                Gate(
                    name=gate.name,
                    outcome=gate.outcome,
                    sentence=gate.sentence,
                    detail=gate.detail,
                    decided_at=gate.decided_at,
                )
                for gate in runs.gate_outcomes(session, number)
            ],
            signatures=[
                Signature(
                    by=item.by,
                    meaning=item.meaning,
                    reason=item.reason,
                    seen=item.seen,
                    signed_at=item.signed_at,
                )
                for item in approvals.signatures(session, number)
            ],
            missing_approvals=approvals.missing(session, row),
            datasets=[_dataset(session, *item) for item in row.datasets.items()],
        )


def _facts(session: Session, row: RunRow) -> dict[str, Any]:
    def name(version: int | None) -> str | None:
        return str(ref(session.get_one(VersionRow, version))) if version is not None else None

    return {
        "id": row.id,
        "model": row.model,
        "episode": row.episode,
        "plan": plans.by_id(session, row.plan).number,
        "state": row.state,
        "note": row.note,
        "strategy": row.strategy,
        "base": name(row.base),
        "champion_before": name(row.champion_before),
        "candidate": name(row.candidate),
        "seed": row.seed,
        "created_at": row.created_at,
        "changed_at": row.changed_at,
    }


def _dataset(session: Session, purpose: str, number: int) -> Dataset:
    row = session.get_one(DatasetRow, number)
    return Dataset(
        purpose=purpose,
        digest=row.digest,
        description=row.description,
        scans=row.scans,
        patients=row.patients,
    )
