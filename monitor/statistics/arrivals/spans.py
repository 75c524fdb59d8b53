"""Spans of time: what was expected of a source and of the others in them, and what came."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from monitor.statistics.arrivals.days import Tally
from monitor.statistics.arrivals.model import ArrivalModel, Arrivals, Booleans
from monitor.statistics.embeddings import Floats

#: Whole days before a silence from which it is told what kind of days these are.
_DAYS_BEFORE = 3


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
        return self._summed(self.model.hourly(self.arrivals.calendar))

    @cached_property
    def _at_rest(self) -> Floats:
        return self._summed(self.model.hourly(self.arrivals.calendar, at_rest=True))

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
        """Return arrivals that ordinary days would bring between times in hours."""
        return self._between(self._expected, leaves, start, end)

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
        return Tally(
            received=self.received(own.leaves, start, end),
            expected=self.expected(own.leaves, *counted),
            at_rest=self._between(self._at_rest, own.leaves, *counted),
            others_received=self.received(others.leaves, *days),
            others_expected=self.expected(others.leaves, *days),
            others_at_rest=self._between(self._at_rest, others.leaves, *days),
            burst=own.burst,
            spread=own.spread,
            others_burst=others.burst,
            others_spread=others.spread,
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
        if others.leaves.any():
            beside, since, until = others, starts, ends
        else:
            beside = own
            since, until = (np.minimum(edge, start[:, None]) for edge in (starts, ends))
        return Tally(
            received=np.zeros(len(start)),
            expected=self.expected(own.leaves, *counted),
            at_rest=self._between(self._at_rest, own.leaves, *counted),
            others_received=self.received(beside.leaves, since, until),
            others_expected=self.expected(beside.leaves, since, until),
            others_at_rest=self._between(self._at_rest, beside.leaves, since, until),
            burst=own.burst,
            spread=own.spread,
            others_burst=beside.burst,
            others_spread=beside.spread,
        )

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
