"""Lineage: what a version was made of, and what was made of it."""

from __future__ import annotations

from collections import deque

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.versions import VersionRow


def ancestors(session: Session, version: VersionRow) -> list[VersionRow]:
    """Return the bases behind a version, nearest first."""
    found: list[VersionRow] = []
    current = version
    while current.base is not None:
        current = session.get_one(VersionRow, current.base)
        found.append(current)
    return found


def descendants(session: Session, version: VersionRow) -> list[VersionRow]:
    """Return every version derived from this one, at any depth, breadth first."""
    found: list[VersionRow] = []
    queue = deque([version.id])
    while queue:
        children = session.scalars(
            select(VersionRow).where(VersionRow.base == queue.popleft()).order_by(VersionRow.id)
        ).all()
        found.extend(children)
        queue.extend(child.id for child in children)
    return found
