"""How long stages take: histograms in the database, since who measures is not who serves them.

A worker may run on another machine than the pages, and is started anew at
will; what it measured is written in the transaction of what it did, so that
figures never go back, and never run ahead of what is there.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from monitor.tables import StageTimesRow

#: Upper bounds in seconds, of what takes moments and of what may take days.
_MOMENTS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_WAITS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 43200.0, 86400.0, 604800.0)


class Stage(Enum):
    """A stage of a scan's way, and the bounds of its histogram."""

    #: an instance by a source other than the DICOM port: from whole in memory to durable
    STORE = ("store", _MOMENTS)
    #: a scan, from the vault to what an encoder reads
    DECODE = ("decode", _MOMENTS)
    #: a scan's share of the forward passes in which it was embedded
    EMBED = ("embed", _MOMENTS)
    #: a scan, from its arrival to its embedding by the monitoring encoder
    LAG = ("lag", _WAITS)

    def __init__(self, key: str, bounds: tuple[float, ...]) -> None:
        self.key = key
        self.bounds = bounds


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """What was measured of one stage and subject."""

    subject: str  #: the source, or the monitor
    counts: tuple[int, ...]  #: in each interval of the stage's bounds, and beyond
    seconds: float  #: their sum


def observe(session: Session, stage: Stage, subject: str, seconds: Sequence[float]) -> None:
    """Count durations, in the caller's transaction.

    Parameters
    ----------
    subject : the source or monitor; never anything of a patient
    seconds : below 0 counts as 0: two clocks may differ
    """
    if not seconds:
        return
    row = _locked(session, stage, subject)
    counts = list(row.counts)
    if len(counts) != len(stage.bounds) + 1:
        # By a version with other bounds: a histogram that begins anew is one that was reset.
        counts, row.seconds = [0] * (len(stage.bounds) + 1), 0.0
    for one in seconds:
        counts[bisect_left(stage.bounds, one)] += 1
    row.counts = counts
    row.seconds += sum(max(0.0, one) for one in seconds)


def measured(session: Session, stage: Stage) -> Iterable[StageTimes]:
    """Yield what was measured of a stage, by subject."""
    rows = session.scalars(
        select(StageTimesRow)
        .where(StageTimesRow.stage == stage.key)
        .order_by(StageTimesRow.subject)
    )
    for row in rows:
        if len(row.counts) == len(stage.bounds) + 1:
            yield StageTimes(subject=row.subject, counts=tuple(row.counts), seconds=row.seconds)


def _locked(session: Session, stage: Stage, subject: str) -> StageTimesRow:
    wanted = (
        select(StageTimesRow)
        .where(StageTimesRow.stage == stage.key, StageTimesRow.subject == subject)
        .with_for_update()
    )
    row = session.scalars(wanted).one_or_none()
    if row is not None:
        return row
    try:
        with session.begin_nested():
            session.add(StageTimesRow(stage=stage.key, subject=subject, counts=[], seconds=0.0))
    except IntegrityError:
        pass  # another process measured the first of it meanwhile
    return session.scalars(wanted).one()
