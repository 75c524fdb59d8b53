"""What a champion says of scans, and what readers said of them before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
from monitored_history import ANCHOR, History
from scipy.special import expit

from monitor import references
from monitor.datasets import members
from monitor.labels import Label, Provenance, attach
from monitor.tables import ResultRow
from registry import ledger


def readings(seed: int, scans: int, *, prevalence: float) -> tuple[list[float], list[int]]:
    """Probabilities of a calibrated champion, and the truth; its classes stay as they are."""
    rng = np.random.default_rng(seed)
    truth = rng.random(scans) < prevalence
    margin = np.where(truth, 1.2, -1.2) + 1.2 * rng.normal(size=scans)
    return expit(1.5 * margin).tolist(), truth.astype(int).tolist()


def read_reference(
    history: History, probabilities: Sequence[float], truth: Sequence[int]
) -> None:
    """Let the champion have read the reference, and readers have labelled it before."""
    with history.database.transaction() as session:
        dataset = references.deciding(session, "chest")[0].dataset
        rows = members(session, dataset)[: len(probabilities)]
        results = [
            ResultRow(
                batch=9_000,
                scan=row.id,
                version=history.champion.id,
                task="pneumonia",
                probabilities=[1 - value, value],
                threshold=0.5,
                delivery="delivered",
                created_at=ANCHOR,
            )
            for row, value in zip(rows, probabilities, strict=True)
        ]
        session.add_all(results)
        ledger.append(
            session,
            at=ANCHOR,
            actor="test",
            kind="scans.read",
            subject="chest",
            facts={},
            batches=[(ResultRow, 9_000)],
        )
        attach(
            session,
            [
                Label(
                    line=number,
                    instance=row.instance,
                    task="pneumonia",
                    value=value,
                    provenance=Provenance.READER,
                    reader="reader",
                    signed_at=ANCHOR - timedelta(days=1),
                )
                for number, (row, value) in enumerate(zip(rows, truth, strict=True))
            ],
            site="site",
            actor="test",
            at=ANCHOR,
        )
