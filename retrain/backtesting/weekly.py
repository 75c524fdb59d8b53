"""How well each policy read the span, week by week, on the same labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from monitor.performance.performance import Performance
from monitor.statistics.performance.discrimination import estimate_auc
from monitor.statistics.performance.proportions import Interval, proportion
from registry.canonical import Json
from registry.errors import InsufficientDataError
from retrain.backtesting.labelled import LabelledSpan
from retrain.backtesting.stored_reading import Heads
from retrain.gates.limits import Margins

WEEK = timedelta(weeks=1)
LEVEL = 0.95
MEASURES = ("auc", "sensitivity", "specificity")
#: Measures are written with so many digits.
DIGITS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A measure with its 95 % interval by patient."""

    estimate: float
    low: float
    high: float

    @classmethod
    def of(cls, estimate: float, interval: Interval) -> Figure:
        return cls(
            estimate=round(estimate, DIGITS),
            low=round(interval.low, DIGITS),
            high=round(interval.high, DIGITS),
        )

    def to_dict(self) -> Json:
        return [self.estimate, self.low, self.high]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeekFigures:
    """What one week's labelled scans say of a policy."""

    start: datetime
    scans: int
    positives: int
    #: None where a week has too few labels of a class
    figures: Mapping[str, Figure | None]

    def to_dict(self) -> dict[str, Json]:
        return {
            "start": self.start.isoformat(),
            "scans": self.scans,
            "positives": self.positives,
            **{name: one.to_dict() if one else None for name, one in self.figures.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """What no measure may fall below: the reference's, less the plan's margins there."""

    auc: float
    sensitivity: float
    specificity: float

    @classmethod
    def of(cls, reference: Performance, margins: Margins) -> Floor:
        return cls(
            auc=round(reference.area.estimate - margins.auc, DIGITS),
            sensitivity=round(
                reference.point.sensitivity.estimate - margins.sensitivity, DIGITS
            ),
            specificity=round(
                reference.point.specificity.estimate - margins.specificity, DIGITS
            ),
        )

    def to_dict(self) -> dict[str, Json]:
        return {name: getattr(self, name) for name in MEASURES}

    def below(self, week: WeekFigures) -> bool:
        """Return whether a measure's estimate lies below."""
        return any(
            one is not None and one.estimate < getattr(self, name)
            for name, one in week.figures.items()
        )

    def surely_below(self, week: WeekFigures) -> bool:
        """Return whether a measure's whole interval does."""
        return any(
            one is not None and one.high < getattr(self, name)
            for name, one in week.figures.items()
        )


def weekly(
    span: LabelledSpan, task: str, serving: Sequence[tuple[datetime, Heads]]
) -> tuple[list[WeekFigures], WeekFigures]:
    """Measure what served, by weeks of the span and over all of it.

    Each scan is read by the heads that served when it arrived.

    Parameters
    ----------
    serving : heads with the time from which they served, in order; the first from the start
    """
    scores = np.zeros(len(span.scans))
    called = np.zeros(len(span.scans), dtype=bool)
    for place, (since, heads) in enumerate(serving):
        until = serving[place + 1][0] if place + 1 < len(serving) else span.until
        rows = span.places(since, until)
        if len(rows):
            scores[rows], threshold = heads.scores(span.embeddings[rows], task)
            called[rows] = scores[rows] >= threshold
    weeks = [
        _figures(span, scores, called, span.places(start, end), start)
        for start, end in _weeks(span)
    ]
    whole = span.places(span.since, span.until)
    return weeks, _figures(span, scores, called, whole, span.since)


def _weeks(span: LabelledSpan) -> Iterator[tuple[datetime, datetime]]:
    start = span.since
    while start < span.until:
        yield start, min(start + WEEK, span.until)
        start += WEEK


def _figures(
    span: LabelledSpan,
    scores: npt.NDArray[np.float64],
    called: npt.NDArray[np.bool_],
    places: npt.NDArray[np.int64],
    start: datetime,
) -> WeekFigures:
    rows = places[span.judged[places]]
    truth = span.truth[rows] if len(rows) else np.zeros(0, dtype=bool)
    patients = [span.patients[row] for row in rows.tolist()]
    found: dict[str, Figure | None] = dict.fromkeys(MEASURES)
    if len(rows):
        try:
            area = estimate_auc(scores[rows], truth, patients, level=LEVEL)
            found["auc"] = Figure.of(area.estimate, area.interval)
        except InsufficientDataError:
            pass
    for name, right, of_class in (
        ("sensitivity", called[rows], truth),
        ("specificity", ~called[rows], ~truth),
    ):
        chosen = np.flatnonzero(of_class)
        if len(chosen):
            share = proportion(
                right[chosen], [patients[one] for one in chosen.tolist()], level=LEVEL
            )
            found[name] = Figure.of(share.estimate, share.interval)
    return WeekFigures(
        start=start,
        scans=len(rows),
        positives=int(np.count_nonzero(truth)),
        figures=found,
    )
