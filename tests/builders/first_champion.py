"""A version in use without a run that made it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from registry import serving
from registry.versions import VersionRow


def put_into_use(session: Session, version: VersionRow, *, at: datetime) -> None:
    """Make a version its model's first champion everywhere."""
    serving.move_champion(
        session,
        version,
        expected=None,
        reason="test",
        kind="champion.promoted",
        actor="test",
        at=at,
    )
