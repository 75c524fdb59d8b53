"""Spans of time: what was expected of a source and of the others in them, and what came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from monitor.statistics.arrivals.days import Booleans, Tally
from monitor.statistics.arrivals.model import ArrivalModel, Arrivals
from monitor.statistics.embeddings import Floats

#: Whole days before a silence from which it is told what kind of days these are.
_DAYS_BEFORE = 3
#: Standard deviations below the mean of what the others are taken to send on a day to come: on one
#: in four they send less.
_RATHER_LITTLE = 0.67


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Some leaves taken together."""

    leaves: Booleans
    burst: float
    spread: float
    evenness: float

    def certain(self, start: Floats, end: Floats) -> tuple[Floats, Floats]:
        """Return spans as far as an hour's arrivals must have come in them.

        A batch that comes in one minute of its hour may have come before the span began, or
        may still come; arrivals that spread over the hour come in proportion.
        """
        return (
            np.ceil(start) - self.evenness * (np.ceil(start) - start),
            np.floor(end) + self.evenness * (end - np.floor(end)),
        )

    def possible(self, start: Floats, end: Floats) -> tuple[Floats, Floats]:
        """Return spans as far as an hour's arrivals may have come in them."""
        return (
            np.floor(start) + self.evenness * (start - np.floor(start)),
            np.ceil(end) - self.evenness * (np.ceil(end) - end),
        )


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """Arrivals beside what a model expects of them.

    Hours that are not watched count on neither side.
    """

    model: ArrivalModel
    arrivals: Arrivals

    @cached_property
    def _expected(self) -> Floats:
        if self.arrivals.holidays is None:
            return self._ordinary
        expected = self.model.expected(self.arrivals.calendar, self.arrivals.holidays)
        return self._summed(expected)

    @cached_property
    def _ordinary(self) -> Floats:
        return self._summed(self.model.hourly(self.arrivals.calendar))

    @cached_property
    def _at_rest(self) -> Floats:
        return self._summed(self.model.hourly(self.arrivals.calendar, at_rest=True))

    @cached_property
    def _kept(self) -> Floats:
        """Arrivals where listed holidays are kept as days at rest, and other days as ordinary."""
        listed = self.arrivals.holidays
        if listed is None:
            return self._ordinary
        calendar = self.arrivals.calendar
        rest = self.model.hourly(calendar, at_rest=True)
        return self._summed(np.where(listed, rest, self.model.hourly(calendar)))

    @cached_property
    def _listed_hours(self) -> Floats | None:
        """Hours of listed holidays before each hour, [H + 1, L]."""
        listed = self.arrivals.holidays
        if listed is None or not listed.any():
            return None
        return np.concatenate([np.zeros((1, listed.shape[1])), np.cumsum(listed, axis=0)])

    @cached_property
    def _alike(self) -> Sequence[Booleans]:
        """Leaves by their listed holidays, each bool [L]."""
        leaves = self.arrivals.watched.shape[1]
        if self.arrivals.holidays is None:
            return (np.ones(leaves, dtype=np.bool_),)
        _, alike = np.unique(self.arrivals.holidays, axis=1, return_inverse=True)
        return [alike == group for group in range(int(alike.max()) + 1)]

    def _summed(self, hourly: Floats) -> Floats:
        """Return expected arrivals before each hour, [H + 1, L]."""
        return np.concatenate(
            [np.zeros((1, hourly.shape[1])), np.cumsum(hourly * self.arrivals.watched, axis=0)]
        )

    @cached_property
    def _counted(self) -> Booleans:
        """Which arrivals fell into a watched hour, [n]."""
        found: Booleans = self.arrivals.watched[
            self.arrivals.times.astype(np.int64), self.arrivals.leaf
        ]
        return found

    def side(self, source: int, *, without: Booleans | None = None) -> Side:
        """Return a source, `without` some leaves."""
        members = self.model.sources.members[source]
        leaves = members if without is None else members & ~without
        whole = bool(np.array_equal(leaves, members))
        return self.together(leaves, source if whole else None)

    def others(self, source: int, *, without: Booleans | None = None) -> tuple[Side, ...]:
        """Return what a source is held against, `without` some leaves: each may excuse it.

        First what is beside it at its site, then everything else in the fleet. A site has
        days of its own; what empties the fleet shows in the fleet with less doubt. Where
        nothing is beside it, one side without leaves.
        """
        sources = self.model.sources
        outside = ~sources.members[source]
        wanted = [sources.others[source], outside]
        if without is not None:
            wanted = [leaves & ~without for leaves in wanted]
        site, fleet = wanted
        if not site.any() or np.array_equal(site, fleet):
            return (self.together(fleet),)
        return self.together(site), self.together(fleet)

    def together(self, leaves: Booleans, source: int | None = None) -> Side:
        """Return leaves as one side; `source` if they are exactly one's."""
        if not leaves.any():
            return Side(leaves=leaves, burst=1.0, spread=0.0, evenness=1.0)
        return Side(
            leaves=leaves,
            burst=self.model.burst(leaves, source),
            spread=self.model.spread(leaves, source),
            evenness=self.model.even(leaves, source),
        )

    def times(self, leaves: Booleans) -> Floats:
        """Return when leaves sent something in a watched hour, rising."""
        key = leaves.tobytes()
        if key not in self._times:
            counted = leaves[self.arrivals.leaf] & self._counted
            self._times[key] = self.arrivals.times[counted]
        return self._times[key]

    @cached_property
    def _times(self) -> dict[bytes, Floats]:
        """What `times` found already."""
        return {}

    def expected(self, leaves: Booleans, start: npt.ArrayLike, end: npt.ArrayLike) -> Floats:
        """Return arrivals to be expected between times in hours: on listed holidays fewer."""
        return self._between(self._expected, leaves, start, end)

    def ordinary(self, leaves: Booleans, start: npt.ArrayLike, end: npt.ArrayLike) -> Floats:
        """Return arrivals that ordinary days would bring between times in hours."""
        return self._between(self._ordinary, leaves, start, end)

    def kept(self, leaves: Booleans, start: npt.ArrayLike, end: npt.ArrayLike) -> Floats:
        """Return arrivals between times in hours where listed holidays are days at rest."""
        return self._between(self._kept, leaves, start, end)

    def on_holiday(self, leaves: Booleans, start: Floats, end: Floats) -> Booleans:
        """Return which spans touch a listed holiday of any of some leaves."""
        if self._listed_hours is None:
            return np.zeros(np.broadcast_shapes(start.shape, end.shape), dtype=np.bool_)
        found: Booleans = self._between(self._listed_hours, leaves, start, end) > 0
        return found

    def received(self, leaves: Booleans, start: npt.ArrayLike, end: npt.ArrayLike) -> Floats:
        """Return arrivals between times in hours, half-open."""
        times = self.times(leaves)
        found = np.searchsorted(times, end) - np.searchsorted(times, start)
        return np.asarray(found, dtype=np.float64)

    def within(
        self, own: Side, others: Side, start: Floats, end: Floats, *, missing: bool
    ) -> Tally:
        """Return the tally of spans of a day or less, [n], each taken as one day.

        Parameters
        ----------
        missing : too few is asked, so that less is expected where a batch may lie beyond the
            span's ends; else too many, and more
        """
        days = (start[:, None], end[:, None])
        counted = own.certain(*days) if missing else own.possible(*days)
        received = self.received(own.leaves, start, end)
        return self._tally(
            received, own, counted, others, days, self.on_holiday(own.leaves, *days)
        )

    def silence(self, own: Side, others: Side, start: Floats, end: Floats) -> Tally:
        """Return the tally of spans, [n], in which a source sent nothing, day by day.

        The others count from some days before, so that a week in which everybody sends less
        is known by the morning on which a source's silence begins in it. Where there are no
        others, what the source itself sent until it fell silent stands in for them.
        """
        calendar = self.arrivals.calendar
        before = np.maximum(calendar.day_of(start) - _DAYS_BEFORE, 0)
        starts, ends = self.by_day(np.minimum(calendar.midnights[before], start), end)
        silent = np.maximum(starts, start[:, None]), np.maximum(ends, start[:, None])
        # Midnights are whole hours, so only the span's own ends move.
        counted = own.certain(*silent)
        beside, days = others, (starts, ends)
        if not others.leaves.any():
            beside = own
            days = np.minimum(starts, start[:, None]), np.minimum(ends, start[:, None])
        holidays = self.on_holiday(own.leaves, starts, ends)
        return self._tally(np.zeros(len(start)), own, counted, beside, days, holidays)

    def ahead(self, own: Side, others: Side, now: float, ends: Floats) -> Tally:
        """Return the tally of silences of a source that begin now, [n], day by day.

        Until now, with which the arrivals must end, the others count as they were; from then
        on they send rather little for an ordinary day, or for a day at rest where it is listed
        as a holiday.
        """
        starts = np.full(len(ends), now)
        tally = self.silence(own, others, starts, ends)
        if not others.leaves.any():
            return tally
        before = np.maximum(self.arrivals.calendar.day_of(now) - _DAYS_BEFORE, 0)
        first = np.minimum(self.arrivals.calendar.midnights[before], starts)
        edges = (np.maximum(edge, now) for edge in self.by_day(first, ends))
        mean = self.kept(others.leaves, *edges)
        deviation = np.sqrt(others.burst * mean + others.spread * mean**2)
        to_come = np.maximum(mean - _RATHER_LITTLE * deviation, 0.0)
        return replace(tally, others_received=tally.others_received + to_come)

    def _tally(
        self,
        received: Floats,
        own: Side,
        counted: tuple[Floats, Floats],
        others: Side,
        days: tuple[Floats, Floats],
        holidays: Booleans,
    ) -> Tally:
        """Return the tally of what a source received, [n], beside the others by day, [n, D].

        On a day that is listed as a holiday for the source, only those of the others count
        for whom it is one, too; and the other way about.
        """
        others_received, others_expected, others_at_rest = np.zeros((3, *holidays.shape))
        for alike in self._alike:
            leaves = others.leaves & alike
            if leaves.any():
                counts = self.on_holiday(leaves, *days) == holidays
                others_received += counts * self.received(leaves, *days)
                others_expected += counts * self.ordinary(leaves, *days)
                others_at_rest += counts * self._resting(leaves, days, holidays)
        return Tally(
            received=received,
            expected=self.ordinary(own.leaves, *counted),
            at_rest=self._resting(own.leaves, counted, holidays),
            others_received=others_received,
            others_expected=others_expected,
            others_at_rest=others_at_rest,
            burst=own.burst,
            spread=own.spread,
            others_burst=others.burst,
            others_spread=others.spread,
            holidays=holidays,
        )

    def _resting(
        self, leaves: Booleans, days: tuple[Floats, Floats], holidays: Booleans
    ) -> Floats:
        """Return what days at rest would bring; of a listed day, its listed hours and leaves."""
        resting = self._between(self._at_rest, leaves, *days)
        if holidays.any():
            resting = np.where(holidays, self.kept(leaves, *days), resting)
        return resting

    def by_day(self, start: Floats, end: Floats) -> tuple[Floats, Floats]:
        """Return each span cut at local midnights, [n, D]; days after its end are empty."""
        calendar = self.arrivals.calendar
        first = calendar.day_of(start)
        longest = int((calendar.day_of(end) - first).max()) + 1 if len(start) else 1
        day = np.minimum(first[:, None] + np.arange(longest + 1), len(calendar.midnights) - 1)
        edges = np.clip(calendar.midnights[day], start[:, None], end[:, None])
        return edges[:, :-1], edges[:, 1:]

    @staticmethod
    def _between(
        summed: Floats, leaves: Booleans, start: npt.ArrayLike, end: npt.ArrayLike
    ) -> Floats:
        line = summed[:, leaves].sum(axis=1)
        hours = np.arange(len(line), dtype=np.float64)
        before, after = (
            np.asarray(np.interp(np.asarray(edge, dtype=np.float64), hours, line))
            for edge in (start, end)
        )
        found: Floats = np.maximum(after - before, 0.0)
        return found
