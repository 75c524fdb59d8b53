"""What a stored result and a label say of the finding that a task looks for."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.tables import ResultRow
from registry.versions import VersionRow

#: What a label's value is where the finding is there, of results that do not say which class it is.
PRESENT = 1


def score(probabilities: Sequence[float], finding: int | None) -> float:
    """Return the probability of the finding: of its class, or of the last.

    >>> score([0.7, 0.2, 0.1], 0), score([0.4, 0.6], None)
    (0.7, 0.6)
    """
    return float(probabilities[-1 if finding is None else finding])


def is_there(value: int, finding: int | None) -> bool:
    """Return whether a label's value says that the finding is there.

    >>> is_there(0, 0), is_there(2, 0), is_there(1, None)
    (True, False, True)
    """
    return value == (PRESENT if finding is None else finding)


def finding_of(session: Session, *, model: str, task: str) -> int | None:
    """Return which class a model's newest result of a task looks for, None if it does not say."""
    return session.scalars(
        select(ResultRow.finding)
        .join(VersionRow, VersionRow.id == ResultRow.version)
        .where(VersionRow.model == model, ResultRow.task == task)
        .order_by(ResultRow.id.desc())
        .limit(1)
    ).first()
