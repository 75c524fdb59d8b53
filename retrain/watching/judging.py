"""One look at a measure: what labels say of a version in use, against what was promised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scipy.special import ndtri

from monitor.statistics.performance.independent_differences import (
    Bounded,
    independent_difference,
)
from monitor.statistics.performance.proportions import Proportion
from monitor.statistics.performance.spent_looks import LEAST_GROWTH, SpentLook, next_look
from registry.canonical import Json
from retrain.gates.measures import Measure
from retrain.gates.promises import LEVEL, Promise

#: A value that JSON cannot write, for a bound that nothing reaches.
_NO_BOUND = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """What was seen against one promise."""

    promise: Promise
    #: one-sided, of no fall below the promise; None where the look knew no more than the last
    p_value: float | None
    #: the looks so far at this promise, this one last
    looks: tuple[SpentLook, ...]

    @property
    def crossed(self) -> bool:
        """Whether the fall is shown at this look."""
        return self.p_value is not None and -float(ndtri(self.p_value)) >= self.looks[-1].bound

    def to_dict(self) -> dict[str, Json]:
        return {
            **self.promise.to_dict(),
            "limit": self.promise.limit,
            "p_value": self.p_value,
            "crossed": self.crossed,
            "looks": [
                {
                    "information": look.information,
                    "bound": look.bound if look.bound < float("inf") else _NO_BOUND,
                    "spent": look.spent,
                }
                for look in self.looks
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureLook:
    """One measure at one look."""

    measure: Measure
    #: of the class that it is measured on, with a label that counts
    patients: int
    needed: int
    #: None where there are none
    seen: Proportion | None
    against: tuple[Against, ...]
    #: which one it is of, where the task has several
    finding: str = ""

    @property
    def name(self) -> str:
        """The measure, and of which finding it is."""
        return f"{self.measure.value} of {self.finding}" if self.finding else self.measure.value

    @property
    def evaluable(self) -> bool:
        return self.seen is not None and self.patients >= self.needed and bool(self.against)

    @property
    def failed(self) -> bool:
        """Whether it lies below everything that was promised of it."""
        return self.evaluable and all(one.crossed for one in self.against)

    @property
    def limit(self) -> float | None:
        """The lowest limit that was promised; None where nothing was."""
        return min((one.promise.limit for one in self.against), default=None)

    def in_words(self) -> str:
        """Return what was seen, in a sentence without its full stop."""
        name = self.name
        if not self.against:
            return f"nothing was promised of {name}"
        promised = f"the gates promised {self.limit:.1%} or more"
        if self.seen is None or not self.evaluable:
            whose = "with" if self.measure is Measure.SENSITIVITY else "without"
            return (
                f"{name} cannot be evaluated: {self.patients} labelled patients {whose} "
                f"{self.finding or 'the finding'}, and the plan wants {self.needed}; {promised}"
            )
        found = self.seen
        return (
            f"{name} in use is {found.estimate:.1%} ({found.interval.low:.1%} to "
            f"{found.interval.high:.1%}; {self.patients} patients), and {promised}"
        )

    def to_dict(self) -> dict[str, Json]:
        found = self.seen
        return {
            "measure": self.name,
            "patients": self.patients,
            "needed": self.needed,
            "estimate": None if found is None else found.estimate,
            "low": None if found is None else found.interval.low,
            "high": None if found is None else found.interval.high,
            "limit": self.limit,
            "evaluable": self.evaluable,
            "failed": self.failed,
            "sentence": self.in_words(),
            "promises": [one.to_dict() for one in self.against],
        }


def look_at(
    measure: Measure,
    seen: Proportion | None,
    promises: Sequence[Promise],
    *,
    patients: int,
    needed: int,
    before: Mapping[str, Any] | None,
    spend: float,
    finding: str = "",
) -> MeasureLook:
    """Look once at one measure.

    Parameters
    ----------
    seen : the measure in use, or None where no label counts
    promises : all that was promised; the measure fails where it lies below each of them, since
        scans in use are a mixture of those that the locked sets stand for
    patients : that it rests on, in effective numbers where they are weighted
    needed : fewest of these, for the measure to be evaluable
    before : the measure's record at the look before this one
    spend : of the error rate, by now
    finding : which of several the measure is of
    """
    mine = [
        promise
        for promise in promises
        if (promise.measure, promise.finding) == (measure, finding)
    ]
    records = (before or {}).get("promises", [])
    known = {(one["of"], one["margin"]): one["looks"] for one in records}
    against = []
    for promise in mine:
        looks = _read(known.get((promise.of, promise.margin), []))
        if seen is None or patients < needed:
            against.append(Against(promise=promise, p_value=None, looks=looks))
        else:
            against.append(_against(promise, seen, looks, patients=patients, spend=spend))
    return MeasureLook(
        measure=measure,
        patients=patients,
        needed=needed,
        seen=seen,
        against=tuple(against),
        finding=finding,
    )


def _against(
    promise: Promise,
    seen: Proportion,
    looks: tuple[SpentLook, ...],
    *,
    patients: int,
    spend: float,
) -> Against:
    # By the variance that the promise goes with: that of what is seen grows as a measure falls,
    # and a look that knows more patients would seem to know less.
    least = promise.limit * (1.0 - promise.limit) / patients
    information = 1.0 / (least + _error(promise.measured) ** 2)
    if looks and information < looks[-1].information * (1.0 + LEAST_GROWTH):
        return Against(promise=promise, p_value=None, looks=looks)
    look = next_look(looks, information=information, spend=spend)
    fall = independent_difference(_corrected(seen), promise.measured, level=LEVEL)
    return Against(
        promise=promise, p_value=fall.p_greater(promise.margin), looks=(*looks, look)
    )


def _corrected(seen: Proportion) -> Proportion:
    """Return a proportion moved up by half an effective success, for continuity.

    Counts of some twenty patients are coarse and lean to the low side; without it, first looks
    reject too often.
    """
    half = 0.5 * seen.design_effect
    return replace(seen, successes=min(seen.successes + half, float(seen.scans)))


def _error(found: Bounded) -> float:
    """Return the standard error by the score interval, which no run of equal values makes 0."""
    low, high = found.bounds(1.0)
    return (high - low) / 2.0


def _read(records: Sequence[Mapping[str, Any]]) -> tuple[SpentLook, ...]:
    return tuple(
        SpentLook(
            information=one["information"],
            bound=float("inf") if one["bound"] is _NO_BOUND else one["bound"],
            spent=one["spent"],
        )
        for one in records
    )
