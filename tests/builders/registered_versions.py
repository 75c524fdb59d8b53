"""Versions as rows, for tests that need no bundle."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from registry import ledger
from registry.versions import ModelRow, VersionRow, ref


def add_version(
    session: Session, number: int, now: datetime, base: int | None = None
) -> VersionRow:
    model = session.get(ModelRow, "pneumonia")
    if model is None:
        model = ModelRow(name="pneumonia", tier="task", created_at=now)
        session.add(model)
        session.flush()
    row = VersionRow(
        model="pneumonia",
        number=number,
        tier="task",
        origin="import",
        base=base,
        bundle_digest=f"{number:064x}",
        encoder_digest="e",
        space=f"space-{number}",
        dimension=8,
        card={"training_data": []},
        artifact_uri="file:///nowhere",
        mlflow_run="run",
        created_at=now,
        created_by="test",
    )
    session.add(row)
    ledger.append(
        session,
        at=now,
        actor="test",
        kind="version.registered",
        subject=str(ref(row)),
        facts={},
        seals=[model, row],
    )
    return row
