"""Named places where a test can have the process killed, as a power cut would.

Nothing is armed unless an installation is told to be (`DRIFTWARD_CRASH_AT`);
then the process ends with SIGKILL at that place: no handler runs, no buffer
is flushed, no lock is given back. Or it is stopped there with SIGSTOP
(`DRIFTWARD_CRASH_BY=stop`), as a machine that is suspended is, until
somebody continues it.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from sqlalchemy import event

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

#: Every crash point, in the order in which scans, runs and changes of the champion pass them.
POINTS = (
    "receive: data set complete",
    "receive: de-identified",
    "folder: picked up",
    "source: fetched",
    "scans: in the vault",
    "scans: before the commit",
    "scans: committed",
    "receive: acknowledged",
    "source: position kept",
    "assemble: in the vault",
    "assemble: before the commit",
    "embed: read",
    "embed: before the commit",
    "embed: committed",
    "keys: beside the old ones",
    "keys: known to the database",
    "keys: dropped in the database",
    "train: begun",
    "train: data prepared",
    "train: trained",
    "train: bundle assembled",
    "train: in MLflow",
    "train: before the commit",
    "train: committed",
    "validate: begun",
    "validate: gates evaluated",
    "validate: before the commit",
    "validate: committed",
    "shadow: before the commit",
    "shadow: committed",
    "approve: before the commit",
    "approve: committed",
    "promote: before the commit",
    "promote: committed",
    "enter stage: before the commit",
    "enter stage: committed",
    "outbox: version made",
    "outbox: told",
    "outbox: before the commit",
    "outbox: committed",
    "reference: embedded",
    "reference: frozen",
    "reference: fitted",
    "reference: before the commit",
    "reference: committed",
    "roll back: before the commit",
    "roll back: committed",
    "undo rollback: before the commit",
    "undo rollback: committed",
    "watch: before the commit",
)


class _Armed:
    point: str | None = None
    passes_left = 0
    signal = signal.SIGKILL


def arm(point: str, *, after: int = 0, by: signal.Signals = signal.SIGKILL) -> None:
    """Have this process killed, or stopped, when it reaches a point.

    Parameters
    ----------
    after : how often the point is passed unharmed before
    by : SIGKILL or SIGSTOP

    Raises
    ------
    ValueError
        If there is no such point.
    """
    if point not in POINTS:
        raise ValueError(f"there is no crash point {point!r}: {', '.join(POINTS)}")
    _Armed.point, _Armed.passes_left, _Armed.signal = point, after, by


def reach(point: str) -> None:
    """Pass a point, or end there where it is armed."""
    if _Armed.point == point:
        if _Armed.passes_left == 0:
            _Armed.point = None  # who is continued passes it from now on
            os.kill(os.getpid(), _Armed.signal)
        _Armed.passes_left -= 1


def reach_around_commit(session: Session, step: str) -> None:
    """Reach `step: before the commit` and `step: committed` when the transaction ends.

    For a step whose caller holds the transaction; one that is rolled back reaches neither.
    """
    event.listen(
        session, "before_commit", lambda _: reach(f"{step}: before the commit"), once=True
    )
    event.listen(session, "after_commit", lambda _: reach(f"{step}: committed"), once=True)
