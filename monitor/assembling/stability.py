"""Series and studies that a server said are complete, so that nobody need wait for silence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from monitor.assembling.tables import StableGroupRow


@dataclass(frozen=True, slots=True, kw_only=True)
class StableGroup:
    """A series, or a study, to which nothing comes any more; by pseudonyms."""

    site: str
    study: str
    series: str = ""  #: "" where the whole study is stable


def note_stable(session: Session, groups: Iterable[StableGroup], *, at: datetime) -> None:
    """Keep that groups are stable, in the caller's transaction.

    It holds for what arrived until now: an instance that comes later is waited
    for as ever.
    """
    for group in groups:
        session.merge(
            StableGroupRow(
                site=group.site, study=group.study, series=group.series, stated_at=at
            )
        )


def stable_since(
    session: Session, *, site: str, study: str, series: str | None
) -> datetime | None:
    """Return when it was last said that a series, or a study, is stable; None where never.

    Parameters
    ----------
    series : None for the study; of a series, what is said of its study holds, too
    """
    named = [""] if series is None else ["", series]
    return session.scalar(
        select(func.max(StableGroupRow.stated_at)).where(
            StableGroupRow.site == site,
            StableGroupRow.study == study,
            StableGroupRow.series.in_(named),
        )
    )
