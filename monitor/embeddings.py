"""Stored embeddings: float16 rows in the database, read back as float32 arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import compress

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from monitor import parts
from monitor.assembling.counting import not_withdrawn
from monitor.statistics.embeddings import row_digests
from monitor.tables import DatasetMember, EmbeddingRow, ScanRow
from monitor.windows import Window

STORED = np.dtype("<f2")
_WEEK = timedelta(weeks=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedScans:
    """Scans with their embeddings by one version, in the order of the scans' ids."""

    scans: tuple[ScanRow, ...]
    #: float32, [n, d]
    vectors: npt.NDArray[np.float32]
    #: of each scan: a patient of one site is not one of another
    patients: tuple[str, ...]
    #: scans beside these that were left out, as their embeddings are no numbers
    unusable: int = 0

    @classmethod
    def of(cls, scans: Sequence[ScanRow], vectors: npt.NDArray[np.float32]) -> EmbeddedScans:
        return cls(
            scans=tuple(scans),
            vectors=vectors,
            patients=tuple([f"{scan.site}/{scan.person}" for scan in scans]),
        )

    def __len__(self) -> int:
        return len(self.scans)

    def weeks(self, since: datetime) -> list[int]:
        """Return the number of the week, from a time on, in which each scan arrived."""
        return [(scan.arrived_at - since) // _WEEK for scan in self.scans]

    def shared(self) -> int:
        """Return how many scans have the very embedding of another patient's scan.

        Images of two patients never have by themselves: such scans are blank, or test patterns,
        or one image under several names.
        """
        patients: dict[int, set[str]] = {}
        digests = row_digests(self.vectors).tolist()
        for digest, patient in zip(digests, self.patients, strict=True):
            patients.setdefault(digest, set()).add(patient)
        return sum(len(patients[digest]) > 1 for digest in digests)

    def where(self, keep: Sequence[bool]) -> EmbeddedScans:
        """Return the scans for which `keep` holds."""
        return EmbeddedScans(
            scans=tuple(compress(self.scans, keep)),
            vectors=self.vectors[np.asarray(keep, dtype=bool)],
            patients=tuple(compress(self.patients, keep)),
        )

    def ordered(self, order: Sequence[int]) -> EmbeddedScans:
        """Return the scans in another order, by their places."""
        return EmbeddedScans(
            scans=tuple([self.scans[place] for place in order]),
            vectors=self.vectors[order],
            patients=tuple([self.patients[place] for place in order]),
        )


def to_bytes(vector: npt.NDArray[np.float32]) -> bytes:
    """Return an embedding as it is stored; what is larger than that can say is infinite."""
    with np.errstate(over="ignore"):
        return vector.astype(STORED).tobytes()


def in_window(session: Session, version: int, window: Window) -> EmbeddedScans:
    """Return what arrived in a window and was embedded by a version.

    Scans whose embeddings are no numbers are left out and counted: one may be larger than what
    is stored can say, and would keep all others from being judged.
    """
    found = _read(
        session,
        version,
        ScanRow.arrived_at >= window.start,
        ScanRow.arrived_at < window.end,
        *parts.of_arrivals(session, EmbeddingRow.scan, since=window.start, until=window.end),
        not_withdrawn(),
    )
    usable: list[bool] = np.asarray(np.isfinite(found.vectors).all(axis=1)).tolist()
    if all(usable):
        return found
    return replace(found.where(usable), unusable=usable.count(False))


def in_dataset(session: Session, version: int, dataset: int) -> EmbeddedScans:
    """Return a dataset's scans that were embedded by a version."""
    chosen = select(DatasetMember.scan).where(DatasetMember.dataset == dataset)
    return _read(session, version, ScanRow.id.in_(chosen))


def _read(session: Session, version: int, *conditions: ColumnElement[bool]) -> EmbeddedScans:
    rows = session.execute(
        select(ScanRow, EmbeddingRow.vector)
        .join(EmbeddingRow, EmbeddingRow.scan == ScanRow.id)
        .where(EmbeddingRow.version == version, *conditions)
        .order_by(ScanRow.id)
    ).all()
    vectors = np.array([np.frombuffer(vector, dtype=STORED) for _, vector in rows])
    return EmbeddedScans.of(
        [scan for scan, _ in rows], np.atleast_2d(vectors).astype(np.float32)
    )
