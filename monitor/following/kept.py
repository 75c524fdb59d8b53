"""Streams as rows: which run, how one begins and ends, and its detector in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from monitor.following.budget import StreamBudget
from monitor.profiles import ReferenceProfile
from monitor.stream_files import pack_stream, unpack_stream
from monitor.streams import StreamAlarm, StreamDetector
from monitor.tables import ReferenceRow, ScanRow, StreamRow
from registry import ledger


class Detector(Protocol):
    """What following asks of a stream's detector, as `StreamDetector` describes it."""

    @property
    def scans(self) -> int: ...

    @property
    def alarms(self) -> tuple[StreamAlarm, ...]: ...

    @property
    def shifted(self) -> bool: ...

    @property
    def evidence(self) -> float: ...

    def update(
        self,
        batch: npt.NDArray[np.float32],
        patients: Sequence[str],
        *,
        space: str | None = None,
    ) -> object:
        """See the next scans."""
        ...


_Kept = TypeVar("_Kept", bound=Detector)


class KeepsDetectors(Protocol[_Kept]):
    """Where a stream's detector is between two looks; this module keeps it in the stream's row."""

    def detector_of(self, row: StreamRow, profile: ReferenceProfile) -> _Kept:
        """Return a stream's detector as it was left, within the row's budget."""
        ...

    def packed(self, detector: _Kept) -> bytes:
        """Return a detector as its row keeps it."""
        ...


def running(session: Session, monitor: str) -> list[StreamRow]:
    """Return a monitor's streams that have not ended, oldest first."""
    return list(
        session.scalars(
            select(StreamRow)
            .where(StreamRow.monitor == monitor, StreamRow.ended_at.is_(None))
            .order_by(StreamRow.id)
        )
    )


def begin(
    session: Session,
    monitor: str,
    reference: ReferenceRow,
    budget: StreamBudget,
    *,
    actor: str,
    at: datetime,
) -> StreamRow:
    """Begin a stream against a reference.

    The first begins with what was registered after the newest scan that came before the
    reference was accepted; one that takes the place of another begins now.
    """
    again = session.scalars(
        select(StreamRow.id).where(StreamRow.reference == reference.id).limit(1)
    ).first()
    newest = select(func.max(ScanRow.id))
    if again is None:
        newest = newest.where(ScanRow.arrived_at < reference.accepted_at)
    after = session.scalar(newest) or 0
    row = StreamRow(
        monitor=monitor,
        reference=reference.id,
        started_at=at,
        starts_after=after,
        newest_scan=after,
        scans=0,
        scans_between_false_alarms=budget.scans_between_false_alarms,
        scans_a_day=budget.scans_a_day,
        measured=budget.measured,
        burn_in=budget.burn_in,
        evidence=0.0,
        shifted=False,
        state=None,
        looked_at=at,
        counts={},
    )
    session.add(row)
    session.flush()
    ledger.append(
        session,
        at=at,
        actor=actor,
        kind="stream.began",
        subject=monitor,
        facts={
            "stream": row.id,
            "encoder": reference.encoder,
            "profile": reference.profile_digest,
            "scans_between_false_alarms": row.scans_between_false_alarms,
            "scans_a_day": row.scans_a_day,
            "measured": row.measured,
            "burn_in": row.burn_in,
        },
    )
    return row


def end(session: Session, row: StreamRow, *, reason: str, actor: str, at: datetime) -> None:
    """End a stream; its state is not needed any more."""
    row.ended_at, row.ended_reason, row.state = at, reason, None
    ledger.append(
        session,
        at=at,
        actor=actor,
        kind="stream.ended",
        subject=row.monitor,
        facts={"stream": row.id, "scans": row.scans, "reason": reason},
    )


def detector_of(row: StreamRow, profile: ReferenceProfile) -> StreamDetector:
    """Return a stream's detector as it was left, within the row's budget."""
    if row.state is None:
        return StreamDetector(
            profile,
            scans_between_false_alarms=row.scans_between_false_alarms,
            burn_in=row.burn_in,
            seed=row.id,
        )
    with TemporaryDirectory(prefix="driftward-stream-") as folder:
        unpack_stream(
            row.state,
            Path(folder),
            scans_between_false_alarms=row.scans_between_false_alarms,
        )
        return StreamDetector.load(Path(folder), profile)


def packed(detector: StreamDetector) -> bytes:
    """Return a detector as its row keeps it."""
    with TemporaryDirectory(prefix="driftward-stream-") as folder:
        detector.save(Path(folder))
        return pack_stream(Path(folder))
