"""Attributes that scans no longer state, so that they are in none of their subgroups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from monitor.kept_answers import once
from monitor.subgroups import Attribute, stated_in, value_of
from monitor.tables import DatasetMember, ReferenceRow, ScanRow

# So many standard deviations above what would be expected is no accident.
_CLEARLY = 4.0


def no_longer_stated(
    session: Session,
    reference: ReferenceRow,
    scans: Sequence[ScanRow],
    attributes: Sequence[Attribute],
    *,
    floor: int,
) -> Iterator[str]:
    """Yield a sentence for each attribute that far fewer scans state than the reference's did.

    Parameters
    ----------
    floor : fewest scans in whose absence from a subgroup there is something to say
    """
    for attribute in attributes:
        unstated = sum(value_of(scan, attribute) is None for scan in scans)
        if unstated < floor:
            continue
        before = once(
            session,
            ("unstated", reference.dataset, attribute),
            partial(_share_unstated, session, reference.dataset, attribute),
        )
        expected = before * len(scans)
        if unstated - expected >= max(floor, _CLEARLY * expected**0.5):
            yield (
                f"{attribute.value.replace('_', ' ')}: {unstated} of {len(scans)} scans do not "
                f"state it, and {before:.0%} of the reference's: they are in none of its subgroups"
            )


def _share_unstated(session: Session, dataset: int, attribute: Attribute) -> float:
    scans, stated = session.execute(
        select(func.count(), func.count(stated_in(attribute)))
        .select_from(DatasetMember)
        .join(ScanRow, ScanRow.id == DatasetMember.scan)
        .where(DatasetMember.dataset == dataset)
    ).one()
    return float(1 - stated / scans)
