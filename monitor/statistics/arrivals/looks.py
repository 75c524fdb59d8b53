"""One look at all sources: which sent too little or too much, named as narrowly as can be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from monitor.statistics.arrivals.counts import log_at_least, log_none
from monitor.statistics.arrivals.days import Booleans
from monitor.statistics.arrivals.learning import learn
from monitor.statistics.arrivals.model import (
    HOURS_PER_DAY,
    ArrivalModel,
    Arrivals,
    Sources,
)
from monitor.statistics.arrivals.questions import AlarmBudget, Question, Tails, replay_tails
from monitor.statistics.arrivals.spans import Expectation, Side

#: Without any one of its parts a wider source must still be at odds to be named.
_CARRIED = 0.05
#: Fewer scans than this beyond what was expected are no storm, however unlikely.
LEAST_SURPLUS = 10.0
#: An alarm ends when the newest span in which so many were expected is ordinary again.
RECOVERY_EXPECTED = 5.0
_RECOVERY_HOURS = (1.0, 7.0 * HOURS_PER_DAY)
_ORDINARY_AGAIN = 0.05
#: One scan that a queue let go does not end a silence: so many must come, or this share.
_BACK, _BACK_SHARE = 3.0, 0.6
#: Hours ahead that are asked at once, by when a stop would be noticed; then as many, further apart.
_ASKED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A source whose arrivals make an alarm."""

    source: int
    #: the leaves that were judged: those of the source that are not in an alarm already
    leaves: Booleans
    question: Question
    p_value: float
    alpha: float
    #: hours at which it began, by the last arrival or by the best break in the last day
    since: float
    #: since then; on listed holidays less than on ordinary days
    expected: float
    received: float
    #: what the sources beside it were to send since then, and sent
    others_expected: float
    others_received: float


@dataclass(frozen=True, kw_only=True)
class ArrivalWatch:
    """Everything that a look needs: what is ordinary, in studies and in scans, and the budget.

    Too few is asked of studies, which come one by one; too many of scans.
    """

    studies: ArrivalModel
    scans: ArrivalModel
    tails: dict[Question, Tails]
    budget: AlarmBudget

    @classmethod
    def learn(
        cls, studies: Arrivals, scans: Arrivals, sources: Sources, budget: AlarmBudget
    ) -> ArrivalWatch:
        """Learn from past weeks; `studies` are the scans that began a study.

        Raises
        ------
        InsufficientDataError
            If no leaf was watched for two weeks.
        """
        models = {True: learn(studies, sources), False: learn(scans, sources)}
        past = {
            True: Expectation(model=models[True], arrivals=studies.on(holidays=False)),
            False: Expectation(model=models[False], arrivals=scans.on(holidays=False)),
        }
        return cls(
            studies=models[True],
            scans=models[False],
            tails={
                question: replay_tails(question, past[question.missing])
                for question in Question
            },
            budget=budget,
        )

    @property
    def sources(self) -> Sources:
        return self.studies.sources

    def at(self, now: float, studies: Arrivals, scans: Arrivals) -> Look:
        """Look at arrivals up to `now`, in hours of their calendar."""
        return Look(
            watch=self,
            now=now,
            studies=Expectation(model=self.studies, arrivals=studies),
            scans=Expectation(model=self.scans, arrivals=scans),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """A span that a question asks about."""

    question: Question
    start: float
    end: float
    alpha: float


@dataclass(frozen=True, kw_only=True)
class Look:
    """Arrivals as they stand at one moment."""

    watch: ArrivalWatch
    now: float
    studies: Expectation
    scans: Expectation

    def findings(self, *, in_alarm: Booleans, on_the_hour: bool = True) -> list[Finding]:
        """Return new alarms, widest sources first.

        Parameters
        ----------
        in_alarm : leaves that an open alarm covers; they are neither judged nor held against
        on_the_hour : ask what is asked once an hour, too
        """
        found: list[Finding] = []
        without = in_alarm.copy()
        while (finding := self._first(without, on_the_hour)) is not None:
            found.append(finding)
            without |= finding.leaves
        return found

    def _first(self, without: Booleans, on_the_hour: bool) -> Finding | None:
        sources = self.watch.sources
        candidates = [
            finding
            for source in range(len(sources))
            if self._stands_for_itself(source, without)
            for finding in self._of(source, without, on_the_hour)
        ]
        candidates.sort(key=lambda one: (sources.levels[one.source], one.p_value / one.alpha))
        return next((one for one in candidates if self._carried(one, without)), None)

    def _stands_for_itself(self, source: int, without: Booleans) -> bool:
        """Return whether a source has leaves to be judged, and not those of one part alone."""
        leaves = self.watch.sources.members[source] & ~without
        return bool(leaves.any()) and all(
            np.any(leaves & ~self.watch.sources.members[part])
            for part in self.watch.sources.children(source)
        )

    def _of(self, source: int, without: Booleans, on_the_hour: bool) -> Iterator[Finding]:
        for span in self._spans(source, without, on_the_hour):
            expectation = self._expectation(span.question)
            own = expectation.side(source, without=without)
            if not _worth_judging(expectation, own, span):
                continue
            others = expectation.others(source, without=without)
            log_p = self._log_p(span, own, others)
            log_p = float(self.watch.tails[span.question].corrected(np.array(log_p), source))
            if log_p <= np.log(span.alpha):
                yield self._finding(source, own, others, span, float(np.exp(log_p)))

    def _spans(self, source: int, without: Booleans, on_the_hour: bool) -> Iterator[_Span]:
        leaves = self.watch.sources.members[source] & ~without
        for question in Question:
            if question in {Question.FEW, Question.MANY} and not on_the_hour:
                continue
            start = self.now - question.hours
            overnight = False
            if question is Question.SILENT:
                start = self.last_arrival(leaves)
                calendar = self.studies.arrivals.calendar
                overnight = bool(calendar.day_of(self.now) > calendar.day_of(start))
            yield _Span(
                question=question,
                start=max(0.0, start),
                end=self.now,
                alpha=self.watch.budget.alpha(
                    question,
                    self.watch.sources,
                    source,
                    clumps_a_week=self._expectation(question).model.clumps_a_week(leaves),
                    overnight=overnight,
                ),
            )

    def last_arrival(self, leaves: Booleans) -> float:
        """Return when leaves last sent a scan, in hours; 0 if they never did."""
        times = self.scans.arrivals.of(leaves)
        before = int(np.searchsorted(times, self.now, side="right"))
        return float(times[before - 1]) if before else 0.0

    def _expectation(self, question: Question) -> Expectation:
        return self.studies if question.missing else self.scans

    def _log_p(self, span: _Span, own: Side, others: Sequence[Side]) -> float:
        """Return the log p-value of a span, given those of the others who excuse it most."""
        return max(self._given(span, own, one) for one in others)

    def _given(self, span: _Span, own: Side, others: Side) -> float:
        expectation = self._expectation(span.question)
        shared = expectation.model.shared
        start, end = np.array([span.start]), np.array([span.end])
        if span.question is Question.SILENT:
            return float(expectation.silence(own, others, start, end).too_few(shared)[0])
        tally = expectation.within(own, others, start, end, missing=span.question.missing)
        tail = tally.too_few if span.question.missing else tally.too_many
        return float(tail(shared)[0])

    def _carried(self, finding: Finding, without: Booleans) -> bool:
        """Return whether a source would still stand out without any one of its parts."""
        expectation = self._expectation(finding.question)
        others = expectation.others(finding.source, without=without)
        start = finding.since
        if finding.question is not Question.SILENT:
            start = self.now - finding.question.hours
        span = _Span(
            question=finding.question, start=max(0.0, start), end=self.now, alpha=finding.alpha
        )
        for part in self.watch.sources.children(finding.source):
            rest = finding.leaves & ~self.watch.sources.members[part]
            if np.array_equal(rest, finding.leaves):
                continue
            if self._log_p(span, expectation.together(rest), others) > np.log(_CARRIED):
                return False
        return True

    def _finding(
        self, source: int, own: Side, others: Sequence[Side], span: _Span, p_value: float
    ) -> Finding:
        nearest = others[0].leaves
        expectation = self._expectation(span.question)
        since = span.start
        if span.question is not Question.SILENT:
            since = self._break(expectation, own.leaves, span)
        return Finding(
            source=source,
            leaves=own.leaves,
            question=span.question,
            p_value=p_value,
            alpha=span.alpha,
            since=since,
            expected=float(expectation.expected(own.leaves, since, self.now)),
            # A silence begins with the last arrival, which is not part of it.
            received=0.0
            if span.question is Question.SILENT
            else float(expectation.received(own.leaves, since, self.now)),
            others_expected=float(expectation.expected(nearest, since, self.now)),
            others_received=float(expectation.received(nearest, since, self.now)),
        )

    def _break(self, expectation: Expectation, leaves: Booleans, span: _Span) -> float:
        """Return the hour from which on counts fit least, by a Poisson likelihood ratio."""
        steps = np.arange(1.0, max(1.0, span.end - span.start) + 0.5)
        starts = np.maximum(span.end - steps, 0.0)
        expected = np.maximum(expectation.expected(leaves, starts, span.end), 1e-9)
        received = expectation.received(leaves, starts, span.end)
        ratio = received * np.log(np.maximum(received, 1e-9) / expected) - received + expected
        wanted = received < expected if span.question.missing else received > expected
        return float(starts[np.where(wanted, ratio, -1.0).argmax()])

    def recovered(self, source: int, leaves: Booleans, question: Question) -> bool:
        """Return whether leaves in an alarm are ordinary again."""
        expectation = self._expectation(question)
        own = expectation.together(leaves)
        others = expectation.others(source, without=leaves)
        shortest, longest = _RECOVERY_HOURS
        starts = self.now - np.arange(shortest, longest + 1)
        starts = starts[starts >= 0]
        if not len(starts):
            return False
        enough = expectation.expected(leaves, starts, self.now) >= RECOVERY_EXPECTED
        start = float(starts[int(enough.argmax())] if enough.any() else starts[-1])
        span = _Span(question=question, start=start, end=self.now, alpha=1.0)
        if question.missing:
            back = min(
                _BACK, _BACK_SHARE * float(expectation.expected(leaves, start, self.now))
            )
            if expectation.received(leaves, start, self.now) < back:
                return False
        asked = replace(span, question=Question.FEW if question.missing else Question.MANY)
        return bool(self._log_p(asked, own, others) > np.log(_ORDINARY_AGAIN))

    def hours_until_noticed(self, source: int, *, in_alarm: Booleans) -> float:
        """Return after how many hours a source that stops now would make an alarm.

        With the others as on an ordinary day on which rather little comes, on listed holidays
        as on one at rest; infinite if not within the calendar.

        Parameters
        ----------
        in_alarm : leaves that an open alarm covers; they are neither judged nor held against
        """
        expectation = self.studies
        own = expectation.side(source, without=in_alarm)
        calendar = expectation.arrivals.calendar
        ahead = np.arange(np.floor(self.now) + 1, len(calendar))
        overnight = calendar.day_of(ahead) > calendar.day_of(self.now)
        clumps = expectation.model.clumps_a_week(own.leaves)
        by_day, past_midnight = (
            self.watch.budget.alpha(
                Question.SILENT,
                self.watch.sources,
                source,
                clumps_a_week=clumps,
                overnight=lasts,
            )
            for lasts in (False, True)
        )
        log_alpha = np.log(np.where(overnight, past_midnight, by_day))
        # The others only ever excuse, so before this hour nothing can be noticed.
        expected = expectation.ordinary(own.leaves, *own.certain(np.array(self.now), ahead))
        alone = log_none(expected, own.burst, 0.0) <= log_alpha
        place = int(alone.argmax()) if alone.any() else len(ahead)
        step = 1
        while place < len(ahead):
            asked = np.arange(place, min(place + _ASKED * step, len(ahead)), step)
            log_p = np.max(
                [
                    expectation.ahead(own, one, self.now, ahead[asked]).too_few(
                        expectation.model.shared
                    )
                    for one in expectation.others(source, without=in_alarm)
                ],
                axis=0,
            )
            log_p = self.watch.tails[Question.SILENT].corrected(log_p, source)
            noticed = log_p <= log_alpha[asked]
            if noticed.any():
                return float(ahead[asked[noticed.argmax()]] - self.now)
            place, step = int(asked[-1]) + step, 2 * step
        return float("inf")


def _worth_judging(expectation: Expectation, own: Side, span: _Span) -> bool:
    """Return whether a span could make an alarm; the others only ever excuse."""
    expected = float(expectation.ordinary(own.leaves, span.start, span.end))
    threshold = float(np.log(span.alpha))
    if span.question.missing:
        # P(no more than were received) >= P(none) >= exp(-expected).
        return -expected <= threshold
    received = float(expectation.received(own.leaves, span.start, span.end))
    if received - expected < LEAST_SURPLUS:
        return False
    return float(log_at_least(received, expected, own.burst, own.spread)) <= threshold
