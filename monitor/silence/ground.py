"""What a look at arrivals stands on: which sources are known, new or gone, and what is learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np
import numpy.typing as npt

from monitor.silence.alarms import SilenceState, leaves_of
from monitor.silence.arrivals import (
    Arrived,
    Key,
    NamedSources,
    SiteClock,
    hours_of,
    local_midnight,
    named_sources,
)
from monitor.silence.settings import SilenceSettings
from monitor.statistics.arrivals.learning import enough
from monitor.statistics.arrivals.model import Arrivals, Calendar
from monitor.subgroups import Attribute
from monitor.tables import SilenceAlarmRow

Booleans = npt.NDArray[np.bool_]

#: Beyond now, so that it can be said when a stop would be noticed.
_AHEAD_HOURS = 240
#: A source that sent something so soon in the learnt span was there from its beginning.
_EARLY_HOURS = 72.0
#: More sources than this are not watched one by one.
MOST_SOURCES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Arrivals of the sources that can be judged, and what is to be said of the rest."""

    clock: SiteClock
    #: hours since the clock's origin
    now: float
    #: the last local midnight, in whole hours: what came before it is learnt from
    midnight: int
    #: None while nothing can be judged yet
    named: NamedSources | None
    #: those not seen for long enough yet, with the hour of their first scan
    new: dict[Key, float]
    #: those that sent nothing for long, with the hour of their last scan
    gone: dict[Key, float]
    #: known sources beyond those that are watched one by one
    beyond: int
    calendar: Calendar
    #: of `named` sources' scans: hours, leaf, and whether it begins a study
    times: npt.NDArray[np.float64]
    leaf: npt.NDArray[np.int64]
    begins_study: Booleans
    #: hours to be learnt from, and those that count in a look, bool [H, L]
    learnt_from: Booleans
    counted: Booleans
    #: hours of listed holidays, bool [H, L]; None where none is listed
    holidays: Booleans | None
    #: of every source: hours and place, for those that are new
    all_times: npt.NDArray[np.float64]
    all_keys: npt.NDArray[np.int64]
    keys: tuple[Key, ...]

    @property
    def learnt_days(self) -> int:
        """Whole days that were seen before today."""
        return int(self.calendar.day_of(float(self.midnight)))

    def arrivals(self, *, studies: bool) -> Arrivals:
        """Return what a look counts: scans, or those that begin a study."""
        chosen = self.begins_study if studies else np.ones_like(self.begins_study)
        return Arrivals(
            calendar=self.calendar,
            times=self.times[chosen],
            leaf=self.leaf[chosen],
            watched=self.counted,
            holidays=self.holidays,
        )

    def past(self, *, studies: bool) -> Arrivals:
        """Return what is learnt from: whole days before today."""
        chosen = self.times < self.midnight
        if studies:
            chosen &= self.begins_study
        return Arrivals(
            calendar=Calendar(
                cell=self.calendar.cell[: self.midnight],
                day=self.calendar.day[: self.midnight],
            ),
            times=self.times[chosen],
            leaf=self.leaf[chosen],
            watched=self.learnt_from[: self.midnight],
            holidays=None if self.holidays is None else self.holidays[: self.midnight],
        )

    def holidays_among(self, leaves: Booleans, start: float, end: float) -> list[date]:
        """Return the days between two hours that are listed as holidays for any of some leaves."""
        if self.holidays is None:
            return []
        hours = hours_of(start, end, len(self.holidays))
        listed = self.holidays[hours, :][:, leaves].any(axis=1)
        days = np.unique(self.calendar.day[hours][listed])
        return [date.fromordinal(int(day)) for day in days]

    def times_of(self, key: Key) -> npt.NDArray[np.float64]:
        """Return the hours of a source's scans, known or new, rising."""
        found: npt.NDArray[np.float64] = self.all_times[self.all_keys == self.keys.index(key)]
        return found


def learnt_since(
    now: datetime, settings: SilenceSettings, alarms: Sequence[SilenceAlarmRow]
) -> datetime:
    """Return from when on scans are read: as long before an open alarm as before a calm day.

    Listed holidays teach nothing of ordinary days, so they are not counted.
    """
    begun = [row.since for row in alarms if row.state == SilenceState.OPEN]
    midnight = local_midnight(min([now, *begun]), settings.zone)
    days = settings.calendar.days_before(
        midnight.astimezone(settings.zone).date(), ordinary=7 * settings.learn_weeks
    )
    return local_midnight(midnight - timedelta(days=days) + timedelta(hours=3), settings.zone)


def prepare(
    arrived: Arrived,
    alarms: Sequence[SilenceAlarmRow],
    settings: SilenceSettings,
    *,
    since: datetime,
    now: datetime,
) -> Ground | None:
    """Return the ground of a look, or None where nothing arrived yet.

    Parameters
    ----------
    alarms : of the monitor, open and closed: their hours teach nothing
    since : from when on scans were read
    """
    if not len(arrived.at):
        return None
    first_scan = datetime.fromtimestamp(float(arrived.at[0]), tz=settings.zone)
    clock = SiteClock.from_midnight(max(since, first_scan), settings.zone)
    at_now = clock.hours(now)
    midnight = round(clock.hours(local_midnight(now, settings.zone)))
    calendar = clock.calendar(int(np.ceil(at_now)) + _AHEAD_HOURS)
    times = np.clip((arrived.at - clock.origin.timestamp()) / 3600.0, 0.0, len(calendar) - 1e-6)
    first, last = _first_and_last(times, arrived.key, len(arrived.keys))
    counted, learnt = _watched(arrived, alarms, clock, first, len(calendar), at_now)
    in_alarm = {
        leaf for row in alarms if row.state == SilenceState.OPEN for leaf in leaves_of(row)
    }
    silent = at_now - last > settings.retired_after_days * 24
    holidays = _listed(arrived, settings, calendar)
    ordinary = learnt if holidays is None else learnt & ~holidays
    before_today = np.arange(len(calendar))[:, None] < midnight
    seen = enough(calendar.weeks(ordinary & before_today))
    kept = np.array([key in in_alarm for key in arrived.keys], dtype=np.bool_)
    known = np.flatnonzero(seen & (~silent | kept))
    busiest = np.bincount(arrived.key, minlength=len(arrived.keys))[known]
    chosen = np.sort(known[np.argsort(-busiest, kind="stable")[:MOST_SOURCES]])
    named = None
    leaf_of = np.full(len(arrived.keys), -1, dtype=np.int64)
    columns = chosen
    if len(chosen):
        named = named_sources([arrived.keys[n] for n in chosen], settings.attributes)
        place = {key: n for n, key in enumerate(arrived.keys)}
        columns = np.array([place[key] for key in named.leaves], dtype=np.int64)
        leaf_of[columns] = np.arange(len(columns))
    of_known = leaf_of[arrived.key] >= 0
    return Ground(
        clock=clock,
        now=at_now,
        midnight=midnight,
        named=named,
        new={arrived.keys[n]: float(first[n]) for n in np.flatnonzero(~seen & ~silent)},
        gone={arrived.keys[n]: float(last[n]) for n in np.flatnonzero(silent & ~kept)},
        beyond=len(known) - len(chosen),
        calendar=calendar,
        times=times[of_known],
        leaf=leaf_of[arrived.key][of_known],
        begins_study=arrived.begins_study[of_known],
        learnt_from=learnt[:, columns],
        counted=counted[:, columns],
        holidays=None if holidays is None else holidays[:, columns],
        all_times=times,
        all_keys=arrived.key,
        keys=arrived.keys,
    )


def _first_and_last(
    times: npt.NDArray[np.float64], key: npt.NDArray[np.int64], keys: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    first, last = np.full(keys, np.inf), np.full(keys, -np.inf)
    np.minimum.at(first, key, times)
    np.maximum.at(last, key, times)
    return first, last


def _listed(arrived: Arrived, settings: SilenceSettings, calendar: Calendar) -> Booleans | None:
    """Return which hours of each source are of listed holidays, [H, K], or None if none is."""
    days, place = np.unique(calendar.day, return_inverse=True)
    dates = [date.fromordinal(int(day)) for day in days]
    if not any(day in settings.calendar.by_day for day in dates):
        return None
    sites: list[str | None] = [None] * len(arrived.keys)
    if Attribute.SITE in settings.attributes:
        column = settings.attributes.index(Attribute.SITE)
        sites = [key[column] for key in arrived.keys]
    by_day = np.array(
        [[settings.calendar.is_listed(day, site) for site in sites] for day in dates],
        dtype=np.bool_,
    )
    found: Booleans = by_day[place]
    return found


def _watched(
    arrived: Arrived,
    alarms: Sequence[SilenceAlarmRow],
    clock: SiteClock,
    first: npt.NDArray[np.float64],
    hours: int,
    now: float,
) -> tuple[Booleans, Booleans]:
    """Return which hours of each source count in a look, and which are learnt from, [H, K]."""
    begins = np.where(first <= _EARLY_HOURS, 0.0, first)
    counted = np.arange(hours)[:, None] >= np.floor(begins)[None, :]
    learnt = counted.copy()
    place = {key: n for n, key in enumerate(arrived.keys)}
    for row in alarms:
        columns = [place[leaf] for leaf in leaves_of(row) if leaf in place]
        if not columns:
            continue
        since = clock.hours(row.since)
        if row.accepted:
            before = hours_of(0.0, since, hours)
            counted[before, columns] = learnt[before, columns] = False
        elif row.closed_at is not None:
            over = hours_of(since, clock.hours(row.closed_at), hours)
            counted[over, columns] = learnt[over, columns] = False
        else:
            learnt[hours_of(since, now, hours), columns] = False
    return counted, learnt
