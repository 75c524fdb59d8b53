"""What is asked of arrivals at each look, and how small a p-value must be to make an alarm.

The budget is a number of false alarms a quarter, over all sources and all looks. It is divided
evenly over the levels of the tree and over a level's sources, and then over the questions:

- *silent*: nothing came since the last arrival. A silence that lasts is one event however often
  it is looked at, so its share is divided by the silences that begin in a quarter, and not by
  looks: with T the first moment at which the p-value is at most a, P(the silence lasts until T)
  is at most a. Half of the share goes to silences that end before midnight, of which there are
  as many as clumps of arrivals, half to those that last past it, at most one a day.
- *few*, *surge*, *many*: too few over the last day, too many over the last hour or day. Their
  shares are divided by the looks of a quarter (Bonferroni), which holds however the spans
  overlap.

A model's far tail is never quite true, so the past's own p-values correct it: beyond exp(-3)
their log p-values fall off by a slope, 1 for a true model, which is estimated from the past
weeks (Hill 1975, Annals of Statistics 3:1163-1174) and shrunk over the sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from monitor.statistics.arrivals.counts import log_at_least, log_at_most
from monitor.statistics.arrivals.model import HOURS_PER_DAY, Sources
from monitor.statistics.arrivals.spans import Expectation, Side
from monitor.statistics.embeddings import Floats

WEEKS_A_QUARTER = 13
DAYS_A_QUARTER = 7 * WEEKS_A_QUARTER
HOURS_A_QUARTER = HOURS_PER_DAY * DAYS_A_QUARTER

#: -log p from which on the past corrects the tail, and below which the model is believed.
_TAIL = 3.0
#: Beyond this an incident hides among the past weeks, which is worth no more than that.
_FURTHEST = 14.0
#: Exceedances that all sources together, and the pooled value, weigh.
_POOLED_WEIGHT, _OWN_WEIGHT = 20.0, 30.0


class Question(StrEnum):
    """What is asked of a source."""

    SILENT = "silent"
    FEW = "few"
    SURGE = "surge"
    MANY = "many"

    @property
    def missing(self) -> bool:
        """Whether it asks for arrivals that did not come."""
        return self in {Question.SILENT, Question.FEW}

    @property
    def hours(self) -> float:
        """The span that it looks back on; a silence has none."""
        return {Question.SURGE: 1.0}.get(self, float(HOURS_PER_DAY))


_SHARES = {Question.SILENT: 0.5, Question.FEW: 0.15, Question.SURGE: 0.2, Question.MANY: 0.15}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tails:
    """How the far tail of each source's p-values differs from the model's."""

    #: log of how many times as often as it should exp(-3) is undercut, at least 0, [S]
    excess: Floats
    #: by which log p-values fall off beyond, at most 1, [S]
    slope: Floats

    def corrected(self, log_p: Floats, source: int) -> Floats:
        """Return log p-values of a source, made larger where the past says so."""
        beyond = -log_p - _TAIL
        found = self.excess[source] - _TAIL - self.slope[source] * beyond
        return np.where(beyond > 0, np.maximum(np.minimum(found, -_TAIL), log_p), log_p)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmBudget:
    """False alarms a quarter, over all sources and looks."""

    false_alarms: float
    looks_an_hour: float

    def of(self, sources: Sources, source: int) -> float:
        """Return a source's share of it."""
        same = int((sources.levels == sources.levels[source]).sum())
        return self.false_alarms / (len(np.unique(sources.levels)) * same)

    def alpha(
        self,
        question: Question,
        sources: Sources,
        source: int,
        *,
        clumps_a_week: float,
        overnight: bool = False,
    ) -> float:
        """Return the p-value that makes an alarm.

        Parameters
        ----------
        clumps_a_week : of arrivals that the source is expected to send
        overnight : a silence has lasted past midnight
        """
        share = self.of(sources, source) * _SHARES[question]
        if question is Question.SILENT:
            silences = DAYS_A_QUARTER if overnight else clumps_a_week * WEEKS_A_QUARTER
            return min(0.05, share / 2 / max(silences, 1.0))
        looks = HOURS_A_QUARTER * (self.looks_an_hour if question is Question.SURGE else 1.0)
        return min(0.05, share / looks)


def replay_tails(question: Question, past: Expectation) -> Tails:
    """Return the tails of a question, as past weeks would have answered it."""
    sources = past.model.sources
    beyond, number, units = [], np.zeros(len(sources)), np.zeros(len(sources))
    for source in range(len(sources)):
        own, others = past.side(source), past.others(source)
        values, units[source] = _replayed(question, past, own, others)
        far = np.minimum(-values[-values > _TAIL], _FURTHEST) - _TAIL
        number[source] = len(far)
        beyond.append(float(far.sum()))
    totals = np.array(beyond)
    should = units * np.exp(-_TAIL)
    pooled = (number.sum() + _POOLED_WEIGHT) / (totals.sum() + _POOLED_WEIGHT)
    rate = (number.sum() + _POOLED_WEIGHT) / (should.sum() + _POOLED_WEIGHT)
    slope = (number + _OWN_WEIGHT) / (totals + _OWN_WEIGHT / pooled)
    excess = (number + _OWN_WEIGHT * rate) / (should + _OWN_WEIGHT)
    return Tails(slope=np.minimum(slope, 1.0), excess=np.log(np.maximum(excess, 1.0)))


def _replayed(
    question: Question, past: Expectation, own: Side, others: Sequence[Side]
) -> tuple[Floats, float]:
    """Return a source's past log p-values, the unremarkable left out, and how many there were."""
    if question is Question.SILENT:
        times = past.times(own.leaves)
        start, end = times[:-1], times[1:]
        # P(none) is at least exp(-expected), whatever the variance.
        telling = past.expected(own.leaves, start, end) > _TAIL
        units = (
            len(start)
            * past.model.clumps_a_week(own.leaves)
            / max(float(past.model.weekly[own.leaves].sum()), 1e-9)
        )
        if not telling.any():
            return np.empty(0), units
        tallies = [past.silence(own, one, start[telling], end[telling]) for one in others]
        return np.max([one.too_few(past.model.shared) for one in tallies], axis=0), units
    if question is Question.SURGE:
        edges = np.arange(len(past.arrivals.calendar) + 1, dtype=np.float64)
    else:
        edges = past.arrivals.calendar.midnights
    start, end = edges[:-1], edges[1:]
    tail = log_at_most if question.missing else log_at_least
    alone = tail(
        past.received(own.leaves, start, end),
        past.expected(own.leaves, start, end),
        own.burst,
        own.spread,
    )
    # The others only ever excuse, so what is unremarkable alone stays so.
    telling = alone < -_TAIL
    if not telling.any():
        return np.empty(0), float(len(start))
    shared = past.model.shared
    tallies = [
        past.within(own, one, start[telling], end[telling], missing=question.missing)
        for one in others
    ]
    values = [
        one.too_few(shared) if question.missing else one.too_many(shared) for one in tallies
    ]
    return np.max(values, axis=0), float(len(start))
