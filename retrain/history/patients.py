"""Which versions saw a patient, and what erasing the patient would do to each."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from monitor.datasets import Purpose
from monitor.tables import (
    DatasetMember,
    DatasetRow,
    EmbeddingRow,
    ReferenceRow,
    ResultRow,
    ScanRow,
)
from registry import lineage, serving
from registry.versions import VersionRow, ref
from retrain.tables import RunRow


class Sight(StrEnum):
    """How a version saw a patient."""

    TRAINED = "trained on"
    INHERITED = "derived from one trained on"
    JUDGED = "judged by"
    REFERENCE = "has in its reference"
    READ = "read"


#: What erasing a patient's scans would mean for a version that saw them so.
ON_ERASURE = {
    Sight.TRAINED: (
        "its weights stay as they are and hold what they learnt; its training data are no longer "
        "whole, so that the run cannot be repeated; to be rid of it, train anew without the "
        "patient and recall this version"
    ),
    Sight.INHERITED: "as for the version that it was derived from",
    Sight.JUDGED: (
        "its weights never saw the patient; the gates' outcomes stay on record, and cannot be "
        "computed again from the same locked set"
    ),
    Sight.REFERENCE: (
        "the reference's profile stays as it was computed; build a new reference to leave the "
        "patient out"
    ),
    Sight.READ: "its results and embeddings of the patient go with the scans; nothing else changes",
}
_LEARNT = (Purpose.TRAINING.value, Purpose.UNLABELLED.value, Purpose.SELECTION.value)
_LOCKED = (Purpose.LOCKED_REFERENCE.value, Purpose.LOCKED_DRIFTED.value)


def versions_that_saw(session: Session, patient: str) -> dict[str, Any]:
    """Return every version that saw a patient, how, and what erasure does to each.

    Parameters
    ----------
    patient : pseudonym, after merges
    """
    scans = select(ScanRow.id).where(ScanRow.person == patient)
    sights: dict[int, set[Sight]] = {}

    def note(versions: list[int], sight: Sight) -> None:
        for version in versions:
            sights.setdefault(version, set()).add(sight)

    datasets = session.execute(
        select(DatasetRow.id, DatasetRow.digest, DatasetRow.purpose)
        .join(DatasetMember, DatasetMember.dataset == DatasetRow.id)
        .where(DatasetMember.scan.in_(scans))
        .distinct()
    ).all()
    learnt = {digest for _, digest, purpose in datasets if purpose in _LEARNT}
    locked = {number for number, _, purpose in datasets if purpose in _LOCKED}
    everything = list(session.scalars(select(VersionRow).order_by(VersionRow.id)))
    trained = [
        version
        for version in everything
        if learnt & {data.get("digest") for data in version.card.get("training_data", [])}
    ]
    note([version.id for version in trained], Sight.TRAINED)
    for version in trained:
        derived = [one.id for one in lineage.descendants(session, version)]
        note(
            [one for one in derived if Sight.TRAINED not in sights.get(one, ())],
            Sight.INHERITED,
        )
    note(
        [
            run.candidate
            for run in session.scalars(select(RunRow).where(RunRow.candidate.is_not(None)))
            if run.candidate is not None and locked & set(run.datasets.values())
        ],
        Sight.JUDGED,
    )
    references = [number for number, _, purpose in datasets if purpose == Purpose.REFERENCE]
    note(
        list(
            session.scalars(
                select(ReferenceRow.version).where(ReferenceRow.dataset.in_(references))
            )
        ),
        Sight.REFERENCE,
    )
    for table in (ResultRow, EmbeddingRow):
        note(
            list(
                session.scalars(select(table.version).where(table.scan.in_(scans)).distinct())
            ),
            Sight.READ,
        )
    champions = {one.id for one in serving.champions(session)}
    return {
        "scans": session.scalar(select(func.count()).select_from(scans.subquery())) or 0,
        "versions": [
            {
                "version": str(ref(version)),
                "serves": version.id in champions,
                "saw": [sight for sight in Sight if sight in sights[version.id]],
                "on_erasure": [
                    ON_ERASURE[sight] for sight in Sight if sight in sights[version.id]
                ],
            }
            for version in everything
            if version.id in sights
        ],
    }
