"""Where a shift is: the smallest subgroup that carries it, if one does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from monitor.profiles import Verdict
from monitor.subgroups import Subgroup

#: False-discovery rate at which subgroups count as moved in one window.
MOVED_LEVEL = 0.01
#: Up to this adjusted p-value a subgroup shows something, by chance or not.
SHOWN_LEVEL = 0.05
#: A subgroup that is shifted by less than this share of another's shift stood still beside it;
#: one that shows something, by less than the second.
STILL_LENGTH, STILL_LENGTH_SHOWN = 0.5, 0.25
#: Subgroups vary in size: one that is this much less sensitive than another is heard.
LEAST_SENSITIVITY = 1.25
#: Share of the scans outside a subgroup that must have stood still for it to carry the shift.
STILL_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class SubgroupVerdict:
    """A verdict on one subgroup, its p-values adjusted for how many were tested."""

    subgroup: Subgroup
    #: ids of its scans
    scans: frozenset[int]
    verdict: Verdict
    profile_digest: str
    #: whose reference scans it was compared with; None for all
    compared_with: Subgroup | None
    #: of this window alone
    adjusted_p_value: float
    #: of this window with those before it
    persistence_p_value: float
    adjusted_persistence_p_value: float
    #: start of the first of the windows that persisted
    onset: datetime

    @property
    def moved(self) -> bool:
        return self.adjusted_p_value <= MOVED_LEVEL

    def would_have_shown(self, other: SubgroupVerdict) -> bool:
        """Return whether it had enough scans to show what another subgroup shows.

        It had if it could show the other's effect, or was about as sensitive as the other was:
        not every shift has an effect on the mean, in which sensitivity is measured.
        """
        shown = other.verdict
        return self.verdict.smallest_effect <= max(
            shown.effect.value, LEAST_SENSITIVITY * shown.smallest_effect
        )

    def stood_still_beside(self, other: SubgroupVerdict) -> bool:
        """Return whether it shifted far less than another subgroup that moved.

        By the detector that sees the other's shift most clearly, whose statistic is the squared
        length of a shift over its scale without one, and so grows with the patients. No
        significance alone would take one still subgroup in twenty for moved; and would take
        what a few scans hardly show for still.
        """
        leading = other.verdict.leading
        own = self.verdict.detectors.get(leading)
        shows = self.adjusted_p_value <= SHOWN_LEVEL
        if own is None:
            return not shows
        as_far = (
            other.verdict.detectors[leading].statistic
            * self.verdict.patients
            / other.verdict.patients
        )
        length = STILL_LENGTH_SHOWN if shows else STILL_LENGTH
        return own.statistic < length**2 * as_far


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a shift is, and how that is known."""

    #: None where no subgroup alone carries it
    carrier: SubgroupVerdict | None
    reason: str

    @property
    def subgroup(self) -> Subgroup | None:
        return self.carrier.subgroup if self.carrier else None


def locate(
    tested: Sequence[SubgroupVerdict],
    *,
    scans: int,
    new_values: Mapping[Subgroup, str] = MappingProxyType({}),
) -> Place:
    """Return the smallest subgroup that moved while those apart from it stood still.

    Standing still takes more than no significance: a subgroup counts only if it had enough
    scans to show an effect of the same size and was shifted far less, and such subgroups must
    make up most of the scans outside. Where they do not, because the others send few scans, a
    new value of an equipment tag that a subgroup's scans have, and they alone, tells as much.

    Parameters
    ----------
    tested : every subgroup of one window that was tested
    scans : in the window
    new_values : in words, what the scans of a subgroup, and no others, have that is new
    """
    if not tested:
        return Place(carrier=None, reason="no subgroup had enough scans to be tested")
    moved = sorted(
        (item for item in tested if item.moved),
        key=lambda item: (len(item.scans), len(item.subgroup.terms)),
    )
    for item in moved:
        apart = [other for other in tested if not other.scans & item.scans]
        able = [other for other in apart if other.would_have_shown(item)]
        heard = frozenset[int]().union(*(other.scans for other in able))
        outside = scans - len(item.scans)
        if (
            outside > 0
            and all(other.stood_still_beside(item) for other in able)
            and not any(other.moved for other in apart)
            and len(heard) >= STILL_SHARE * outside
        ):
            return Place(
                carrier=item,
                reason=f"only {item.subgroup} moved (adjusted p = "
                f"{item.adjusted_p_value:.2g}); {_listed(able)}, with enough scans to show "
                "such a shift, did not",
            )
    for item in moved:
        apart = [other for other in tested if not other.scans & item.scans]
        if item.subgroup in new_values and not any(other.moved for other in apart):
            outside = scans - len(item.scans)
            rest = (
                f"of the other {outside} too few could be tested"
                if outside
                else "no others came"
            )
            return Place(
                carrier=item,
                reason=f"{item.subgroup} moved (adjusted p = {item.adjusted_p_value:.2g}), and "
                f"its scans alone have {new_values[item.subgroup]}; {rest}",
            )
    if not moved:
        return Place(carrier=None, reason=f"none of {len(tested)} subgroups moved by itself")
    if all(item.moved for item in tested):
        return Place(carrier=None, reason=f"all of {len(tested)} tested subgroups moved")
    return Place(
        carrier=None,
        reason=f"{len(moved)} of {len(tested)} tested subgroups moved, and no single one of "
        f"them carries it: {_listed(moved)}",
    )


def _listed(items: Sequence[SubgroupVerdict], *, most: int = 4) -> str:
    names = [str(item.subgroup) for item in items[:most]]
    if len(items) > most:
        names.append(f"{len(items) - most} more")
    return ", ".join(names)
