"""A shift that begins while another one lasts: told by the scans that open episodes do not explain.

Compared as a whole, windows stay shifted for as long as any part of them is, and no subgroup
stands out once two have moved. So the scans of open episodes' places are set aside, and what is
left is asked again whether it moved, under the budget that a window has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from monitor.evaluation import Evaluation, ReferenceVerdict, benjamini_hochberg, shows
from monitor.localising import Place, SubgroupVerdict, locate
from monitor.subgroups import Subgroup
from monitor.tables import EpisodeRow


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedShift:
    """One of several shifts, with the verdicts on what of the window may speak of it."""

    #: the open episode's, by id; None for one that has none yet
    episode: int | None
    item: ReferenceVerdict
    place: Place
    p_value: float
    #: subgroups apart from the place that moved with it
    moved_with: tuple[Subgroup, ...] = ()
    #: places whose scans were set aside
    apart_from: tuple[Subgroup, ...] = ()


def several_shifts(
    evaluation: Evaluation, rows: Sequence[EpisodeRow]
) -> list[PlacedShift] | None:
    """Return what an alarm shows of each shift, if there is more than one; None if not.

    Parameters
    ----------
    rows : every open episode of the monitor
    """
    places = _explained_by(rows)
    if not places:
        return None
    further = _further(evaluation, places)
    if len(rows) == 1 and further is None:
        return None
    found = [further, *(_lasting(evaluation, row, rows) for row in rows)]
    return [one for one in found if one is not None]


def _explained_by(rows: Sequence[EpisodeRow]) -> tuple[Subgroup, ...] | None:
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


def _further(evaluation: Evaluation, places: Sequence[Subgroup]) -> PlacedShift | None:
    """Return a shift of this window that is none of the open episodes', or None.

    Its persistence is held against the window's whole budget, half of which is the subgroups'.
    It did not begin with an open episode's: a place was named because what is apart from it
    stood still.
    """
    found = [
        (item, part)
        for item in (_without(item, places) for item in evaluation.deciding)
        for part in item.subgroups
        if shows(part.verdict)
    ]
    if not found:
        return None
    item, strongest = min(found, key=lambda pair: pair[1].adjusted_persistence_p_value)
    p_value = _of_all(evaluation, strongest)
    if p_value > evaluation.alpha:
        return None
    return _placed(item, places, strongest, p_value)


def _lasting(
    evaluation: Evaluation, row: EpisodeRow, rows: Sequence[EpisodeRow]
) -> PlacedShift | None:
    """Return what a window shows of one open episode's shift where there are others, or None."""
    others = _explained_by([one for one in rows if one.id != row.id]) or ()
    found = [
        (item, part)
        for item in (_without(item, others) for item in evaluation.deciding)
        for part in item.subgroups
        if str(part.subgroup) == row.subgroup and shows(part.verdict)
    ]
    if not found:
        return None
    item, own = min(found, key=lambda pair: pair[1].adjusted_persistence_p_value)
    p_value = _of_all(evaluation, own)
    if p_value > evaluation.alpha:
        return None
    place = Place(carrier=own, reason=row.evidence["place"])
    return PlacedShift(episode=row.id, item=item, place=place, p_value=p_value)


def _of_all(evaluation: Evaluation, part: SubgroupVerdict) -> float:
    """Return a subgroup's persistence over both halves of the budget and every reference."""
    return min(1.0, 2.0 * part.adjusted_persistence_p_value * len(evaluation.deciding))


def _without(item: ReferenceVerdict, places: Sequence[Subgroup]) -> ReferenceVerdict:
    """Return the scans of no place, and the subgroups of these alone, adjusted among themselves."""
    outside = tuple(
        scan for scan in item.scans if not any(place.holds(scan) for place in places)
    )
    ids = {scan.id for scan in outside}
    left = [part for part in item.subgroups if part.scans <= ids]
    now = benjamini_hochberg([part.verdict.alarm_p_value for part in left])
    lasting = benjamini_hochberg([part.persistence_p_value for part in left])
    return replace(
        item,
        scans=outside,
        subgroups=tuple(
            replace(
                part,
                adjusted_p_value=adjusted,
                adjusted_persistence_p_value=adjusted_persistence,
            )
            for part, adjusted, adjusted_persistence in zip(left, now, lasting, strict=True)
        ),
    )


def _placed(
    item: ReferenceVerdict,
    places: Sequence[Subgroup],
    strongest: SubgroupVerdict,
    p_value: float,
) -> PlacedShift:
    """Place a shift among the scans that are left: where it alone is, or where most of it is."""
    moved = [part for part in item.subgroups if part.moved] or [strongest]
    place = locate(item.subgroups, scans=len(item.scans))
    carrier = place.carrier or max(moved, key=lambda part: len(part.scans))
    aside = ", ".join(str(one) for one in places)
    reason = f"apart from {aside}, whose shift is known, {place.reason}"
    if place.carrier is None:
        reason += f"; most of the scans that moved are of {carrier.subgroup}"
    return PlacedShift(
        episode=None,
        item=item,
        place=Place(carrier=carrier, reason=reason),
        p_value=p_value,
        moved_with=tuple(part.subgroup for part in moved if not part.scans & carrier.scans),
        apart_from=tuple(places),
    )
