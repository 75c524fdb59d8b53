"""A shift that begins while another one lasts: told by the scans that open episodes do not explain.

Compared as a whole, windows stay shifted for as long as any part of them is, and no subgroup
stands out once two have moved. So the scans of open episodes' places are set aside, and what is
left is asked again whether it moved, under the budget that a window has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from monitor.evaluation import QUIET_LEVEL, Evaluation, ReferenceVerdict, benjamini_hochberg
from monitor.localising import Place, SubgroupVerdict, locate
from monitor.subgroups import Subgroup
from monitor.tables import EpisodeRow


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedShift:
    """A shift at a place, with the verdicts on what of the window may speak of it."""

    item: ReferenceVerdict
    place: Place
    p_value: float
    #: subgroups apart from the place that moved with it
    moved_with: tuple[Subgroup, ...] = ()
    #: places whose scans were set aside
    apart_from: tuple[Subgroup, ...] = ()


def explained_by(rows: Sequence[EpisodeRow]) -> tuple[Subgroup, ...] | None:
    """Return the places that open episodes explain; None where one of them has no sure place.

    What streams alone saw is placed by few scans, and placed anew while more come.
    """
    places: list[Subgroup] = []
    for row in rows:
        if row.subgroup is None or row.evidence.get("alpha") is None:
            return None
        places.append(Subgroup.parse(row.subgroup))
        places += [Subgroup.parse(text) for text in row.evidence.get("moved_with", [])]
    return tuple(places)


def further_shift(evaluation: Evaluation, rows: Sequence[EpisodeRow]) -> PlacedShift | None:
    """Return a shift of this window that is none of the open episodes', or None.

    Its persistence is held against the window's whole budget, half of which is the subgroups'.
    It did not begin with an open episode's: a place was named because what is apart from it
    stood still.

    Parameters
    ----------
    rows : every open episode of the monitor
    """
    places = explained_by(rows)
    if not places:
        return None
    found = [
        (item, part)
        for item in evaluation.deciding
        for part in _apart(item, places)
        if part.verdict.alarm_p_value <= QUIET_LEVEL
    ]
    if not found:
        return None
    item, strongest = min(found, key=lambda pair: pair[1].adjusted_persistence_p_value)
    p_value = _of_all(evaluation, strongest)
    if p_value > evaluation.alpha:
        return None
    return _placed(item, places, strongest, p_value)


def lasting_shift(
    evaluation: Evaluation, row: EpisodeRow, rows: Sequence[EpisodeRow]
) -> PlacedShift | None:
    """Return what a window shows of one open episode where others are open besides, or None.

    Parameters
    ----------
    row : the episode; one whose place is known
    rows : every open episode of the monitor
    """
    others = explained_by([one for one in rows if one.id != row.id]) or ()
    found = [
        (replace(item, subgroups=tuple(parts)), part)
        for item in evaluation.deciding
        for parts in [list(_apart(item, others))]
        for part in parts
        if str(part.subgroup) == row.subgroup and part.verdict.alarm_p_value <= QUIET_LEVEL
    ]
    if not found:
        return None
    item, own = min(found, key=lambda pair: pair[1].adjusted_persistence_p_value)
    p_value = _of_all(evaluation, own)
    if p_value > evaluation.alpha:
        return None
    place = Place(carrier=own, reason=row.evidence["place"])
    return PlacedShift(item=item, place=place, p_value=p_value)


def _of_all(evaluation: Evaluation, part: SubgroupVerdict) -> float:
    """Return a subgroup's persistence over both halves of the budget and every reference."""
    return min(1.0, 2.0 * part.adjusted_persistence_p_value * len(evaluation.deciding))


def _apart(item: ReferenceVerdict, places: Sequence[Subgroup]) -> Iterator[SubgroupVerdict]:
    """Yield the tested subgroups none of whose scans is of a place, adjusted among themselves."""
    inside = {scan.id for scan in item.scans if any(place.holds(scan) for place in places)}
    left = [part for part in item.subgroups if not part.scans & inside]
    now = benjamini_hochberg([part.verdict.alarm_p_value for part in left])
    lasting = benjamini_hochberg([part.persistence_p_value for part in left])
    for part, adjusted, adjusted_persistence in zip(left, now, lasting, strict=True):
        yield replace(
            part,
            adjusted_p_value=adjusted,
            adjusted_persistence_p_value=adjusted_persistence,
        )


def _placed(
    item: ReferenceVerdict,
    places: Sequence[Subgroup],
    strongest: SubgroupVerdict,
    p_value: float,
) -> PlacedShift:
    """Place a shift among the scans that are left: where it alone is, or where most of it is."""
    left = tuple(_apart(item, places))
    outside = tuple(
        scan for scan in item.scans if not any(place.holds(scan) for place in places)
    )
    moved = [part for part in left if part.moved] or [strongest]
    place = locate(left, scans=len(outside))
    aside = ", ".join(str(one) for one in places)
    carrier = place.carrier or max(moved, key=lambda part: len(part.scans))
    reason = (
        f"apart from {aside}, whose shift is known, {place.reason}"
        if place.carrier
        else f"apart from {aside}, whose shift is known, {place.reason}; most of the scans "
        f"that moved are of {carrier.subgroup}"
    )
    others = tuple(part.subgroup for part in moved if not part.scans & carrier.scans)
    return PlacedShift(
        item=replace(item, scans=outside, subgroups=left),
        place=Place(carrier=carrier, reason=reason),
        p_value=p_value,
        moved_with=others,
        apart_from=tuple(places),
    )
