"""The job that looks at arrivals: every few minutes, for each monitor that watches silence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from monitor.monitors import Monitor, require_monitor
from monitor.silence import alarms as stored
from monitor.silence.alarms import Closing, Opening, SilenceState
from monitor.silence.arrivals import (
    Arrived,
    NamedSources,
    came_late,
    local_midnight,
    read_arrived,
    stamped_ahead,
)
from monitor.silence.ground import Ground, learnt_since, prepare
from monitor.silence.judging import Judging
from monitor.silence.report import learning_document, look_document
from monitor.silence.settings import SilenceSettings
from monitor.statistics.arrivals.looks import ArrivalWatch
from monitor.statistics.arrivals.questions import AlarmBudget
from monitor.statistics.threads import one_thread
from monitor.tables import ArrivalLookRow, ScanRow, SilenceAlarmRow
from registry.canonical import Json
from registry.clock import Clock
from registry.database import Database
from registry.identities import SYSTEM
from registry.jobs import Claim, fence

WATCH_ARRIVALS = "watch arrivals"
#: From a scan's arrival to its row: what takes longer came late.
STORING = timedelta(minutes=5)


def look_is_due(session: Session, monitor: Monitor, *, now: datetime) -> bool:
    """Return whether it is time for another look."""
    settings = monitor.specification.silence
    if settings is None:
        return bool(stored.open_alarms(session, monitor.name))
    newest = stored.newest_look(session, monitor.name)
    if newest is None or now < newest.looked_at:
        return True
    return now - newest.looked_at >= timedelta(minutes=settings.look_every_minutes)


@dataclass(slots=True)
class _Memory:
    """What one monitor's looks share, and any look can find anew."""

    past_key: tuple[object, ...] = ()
    past: Arrived | None = None
    watch_key: tuple[object, ...] = ()
    watch: ArrivalWatch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What one look comes to."""

    openings: Sequence[Opening] = ()
    closings: Sequence[Closing] = ()
    newest_scan: int = 0
    document: dict[str, Json] = field(default_factory=dict)


class SilenceWatcher:
    """Looks at arrivals, and opens and closes silence alarms."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._memory: dict[str, _Memory] = {}

    def handle(self, claim: Claim) -> None:
        """Do the job `watch arrivals`: payload {monitor}. A job that comes twice looks once."""
        now = self._clock.now()
        with self._database.reading() as session:
            monitor = require_monitor(session, claim.payload["monitor"])
            due = look_is_due(session, monitor, now=now)
        if due:
            self.look(monitor.name, claim=claim)

    def look(self, monitor_name: str, *, claim: Claim | None = None) -> None:
        """Look once; alarms and what was seen enter together."""
        now = self._clock.now()
        with one_thread(), self._database.reading() as session:
            monitor = require_monitor(session, monitor_name)
            alarms = stored.all_alarms(session, monitor.name)
            settings = monitor.specification.silence
            if settings is None:
                seen = _unwatched(alarms)
            else:
                seen = self._see(session, monitor, settings, alarms, now)
        with self._database.transaction() as session:
            if claim is not None:
                fence(session, claim)
            self._write(session, monitor, seen, now)

    def _see(
        self,
        session: Session,
        monitor: Monitor,
        settings: SilenceSettings,
        alarms: Sequence[SilenceAlarmRow],
        now: datetime,
    ) -> _Seen:
        since = learnt_since(now, settings, alarms)
        newest = stored.newest_look(session, monitor.name)
        notes = _notes(session, settings, newest, now)
        arrived = self._arrived(session, monitor, settings, since=since, now=now)
        ground = prepare(arrived, alarms, settings, since=since, now=now)
        if ground is None or ground.named is None:
            still_open = [row for row in alarms if row.state == SilenceState.OPEN]
            return _Seen(
                closings=[
                    Closing(
                        alarm=row.id, reason="cannot be judged any longer: nothing is learnt"
                    )
                    for row in still_open
                ],
                newest_scan=arrived.newest_scan,
                document=learning_document(ground, settings, notes),
            )
        watch = self._watch(monitor, settings, ground, ground.named, alarms)
        judging = Judging(
            ground=ground,
            named=ground.named,
            watch=watch,
            settings=settings,
            alarms=[row for row in alarms if row.state == SilenceState.OPEN],
            on_the_hour=newest is None
            or newest.looked_at.replace(minute=0, second=0, microsecond=0)
            != now.replace(minute=0, second=0, microsecond=0),
        )
        openings, closings = judging.changes()
        return _Seen(
            openings=openings,
            closings=closings,
            newest_scan=arrived.newest_scan,
            document=look_document(judging, openings, closings, notes),
        )

    def _arrived(
        self,
        session: Session,
        monitor: Monitor,
        settings: SilenceSettings,
        *,
        since: datetime,
        now: datetime,
    ) -> Arrived:
        """Return what arrived until now; days before today are read once a day."""
        memory = self._memory.setdefault(monitor.name, _Memory())
        midnight = local_midnight(now, settings.zone)
        key = (monitor.digest, midnight, since)
        late = memory.past is not None and came_late(
            session, after_scan=memory.past.newest_scan, before=midnight
        )
        if memory.past is None or memory.past_key != key or late:
            memory.past_key = key
            memory.past = read_arrived(
                session, monitor, settings.attributes, since=since, until=midnight
            )
            memory.watch = None
        return read_arrived(
            session,
            monitor,
            settings.attributes,
            since=midnight,
            until=now,
            before=memory.past,
        )

    def _watch(
        self,
        monitor: Monitor,
        settings: SilenceSettings,
        ground: Ground,
        named: NamedSources,
        alarms: Sequence[SilenceAlarmRow],
    ) -> ArrivalWatch:
        """Return what is learnt from the days before today, learnt once a day."""
        memory = self._memory[monitor.name]
        key = (
            named.leaves,
            tuple((row.id, row.state, row.accepted) for row in alarms),
            memory.past_key,
        )
        if memory.watch is None or memory.watch_key != key:
            memory.watch_key = key
            memory.watch = ArrivalWatch.learn(
                ground.past(studies=True),
                ground.past(studies=False),
                named.sources,
                AlarmBudget(
                    false_alarms=settings.false_alarms_per_quarter,
                    looks_an_hour=60 / settings.look_every_minutes,
                ),
            )
        return memory.watch

    def _write(self, session: Session, monitor: Monitor, seen: _Seen, now: datetime) -> None:
        for closing in seen.closings:
            row = session.get_one(SilenceAlarmRow, closing.alarm)
            if row.state == SilenceState.OPEN:  # a person may have closed it meanwhile
                stored.close_alarm(
                    session, row, reason=closing.reason, actor=SYSTEM.name, at=now
                )
        still_open = stored.open_alarms(session, monitor.name)
        for opening in seen.openings:
            doubles = [
                row
                for row in still_open
                if row.id not in opening.absorbs and stored.covers(row, opening.leaves)
            ]
            if not doubles:
                stored.open_alarm(session, monitor.name, opening, actor=SYSTEM.name, at=now)
        look = stored.newest_look(session, monitor.name)
        if look is None:
            look = ArrivalLookRow(monitor=monitor.name)
            session.add(look)
        look.looked_at, look.newest_scan = now, seen.newest_scan
        look.document = seen.document


def _unwatched(alarms: Sequence[SilenceAlarmRow]) -> _Seen:
    return _Seen(
        closings=[
            Closing(alarm=row.id, reason="the monitor watches silence no longer")
            for row in alarms
            if row.state == SilenceState.OPEN
        ],
        document={"state": "off"},
    )


def _notes(
    session: Session, settings: SilenceSettings, newest: ArrivalLookRow | None, now: datetime
) -> list[str]:
    """Return what else is to be said of a look: clocks, late scans, looks that were missed."""
    notes: list[str] = []
    ahead = stamped_ahead(session, now=now)
    if ahead:
        notes.append(
            f"{ahead} scans are stamped after now and count only once their time has come: "
            "a clock is, or was, wrong"
        )
    if newest is None:
        return notes
    if now < newest.looked_at:
        notes.append(
            f"the look before this one is stamped {newest.looked_at:%Y-%m-%d %H:%M} UTC, "
            "after now: a clock was wrong"
        )
    gap = now - newest.looked_at
    if gap > 2 * timedelta(minutes=settings.look_every_minutes):
        notes.append(
            f"nobody looked from {newest.looked_at:%Y-%m-%d %H:%M} to {now:%Y-%m-%d %H:%M} "
            "UTC: no worker ran, or it was busy"
        )
    newest_stored = session.scalar(select(func.max(ScanRow.id))) or 0
    if newest_stored > newest.newest_scan:
        late = came_late(
            session, after_scan=newest.newest_scan, before=newest.looked_at - STORING
        )
        if late:
            notes.append(
                f"{late} scans were stored since the last look under times before it: they "
                "count where they belong"
            )
    return notes
