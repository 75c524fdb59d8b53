"""What gates promise of a version in use: from which measure, by which margin, it may not fall.

A gate that passes says that a candidate loses no more than a margin against something that was
measured on a locked set. That, and not the candidate's own estimate, is what its first weeks in
use are held to: an estimate that let it pass tends to be a lucky one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from monitor.statistics.performance.proportions import Interval, Proportion
from registry.canonical import Json
from registry.errors import InsufficientDataError
from retrain.gates.classes import Finding
from retrain.gates.impact import Change
from retrain.gates.limits import GateLimits, Margins
from retrain.gates.measures import CO_PRIMARY, Measure, estimate
from retrain.gates.results import PairedResults, Results

LEVEL = 0.95
#: Where a gate's record keeps its promises.
FIGURE = "promised"


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """A measure that, in use, is not to lie below `measured` by more than `margin`."""

    measure: Measure
    #: whose measure on which set, for a sentence
    of: str
    measured: Proportion
    margin: float
    #: which finding it is of, where the task has several
    finding: str = ""

    @property
    def limit(self) -> float:
        """The lower limit that the margin promised."""
        return max(0.0, self.measured.estimate - self.margin)

    def to_dict(self) -> dict[str, Json]:
        found = self.measured
        return {
            "measure": self.measure.value,
            "of": self.of,
            "margin": self.margin,
            "estimate": found.estimate,
            "successes": found.successes,
            "scans": found.scans,
            "patients": found.patients,
            "design_effect": found.design_effect,
            "low": found.interval.low,
            "high": found.interval.high,
            **({"finding": self.finding} if self.finding else {}),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Promise:
        return cls(
            measure=Measure(record["measure"]),
            of=record["of"],
            margin=record["margin"],
            finding=record.get("finding", ""),
            measured=Proportion(
                successes=record["successes"],
                scans=record["scans"],
                patients=record["patients"],
                design_effect=record["design_effect"],
                interval=Interval(low=record["low"], high=record["high"], level=LEVEL),
            ),
        )


def of_first_version(
    results: Results, limits: GateLimits, *, finding: str = ""
) -> list[Promise]:
    """Return what a model's first version is held to: itself on the reference."""
    of = "the version on the reference"
    return _held_to(results, limits.reference_margins, of=of, finding=finding)


def on_reference(
    reference: PairedResults, limits: GateLimits, *, finding: str = ""
) -> list[Promise]:
    """Return what non-inferiority promises: the champion on the reference."""
    of = "the champion before it on the reference"
    return _held_to(reference.of_champion, limits.reference_margins, of=of, finding=finding)


def where_it_drifted(finding: Finding, limits: GateLimits, *, name: str = "") -> list[Promise]:
    """Return what is promised where it drifted, by what the drift did to each measure.

    Kept, it is the champion's there, and gained, that on the reference. To be better than what
    the drift had broken would promise little: of a lost measure it is the candidate's own.
    """
    held_to = {
        Change.LOST: (finding.drifted.of_candidate, "the version where it drifted"),
        Change.KEPT: (finding.drifted.of_champion, "the champion before it where it drifted"),
        Change.GAINED: (
            finding.reference.of_champion,
            "the champion before it on the reference",
        ),
    }
    found = []
    for measure in CO_PRIMARY:
        results, of = held_to[finding.impact.of(measure)]
        found += _held_to(
            results, limits.drifted_margins, of=of, finding=name, measures=(measure,)
        )
    return found


def recorded(promises: Sequence[Promise]) -> dict[str, Json]:
    """Return promises as a gate's record keeps them."""
    return {FIGURE: [promise.to_dict() for promise in promises]}


def read(detail: Mapping[str, Any]) -> list[Promise]:
    """Return what one gate's record promises."""
    figures = detail.get("figures") or {}
    return [Promise.from_dict(record) for record in figures.get(FIGURE, [])]


def _held_to(
    results: Results,
    margins: Margins,
    *,
    of: str,
    finding: str,
    measures: Sequence[Measure] = CO_PRIMARY,
) -> list[Promise]:
    found = []
    for measure in measures:
        try:
            measured = cast("Proportion", estimate(measure, results, level=LEVEL))
        except InsufficientDataError:
            continue  # the gate says so itself
        found.append(
            Promise(
                measure=measure,
                of=of,
                measured=measured,
                margin=margins.of(measure),
                finding=finding,
            )
        )
    return found
