"""A monitored model whose scanners send scans by the hour: rows as intake would leave them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
from monitored_history import found
from sqlalchemy import func, select

from monitor.monitors import apply_monitor, require_monitor
from monitor.silence.alarms import all_alarms, newest_look
from monitor.silence.settings import SilenceSettings
from monitor.silence.watch import WATCH_ARRIVALS, SilenceWatcher
from monitor.tables import ArrivalLookRow, MonitorRow, ScanRow, SilenceAlarmRow
from registry import ledger
from registry.clock import ReplayClock
from registry.database import Database
from registry.jobs import JobQueue, enqueue
from registry.worker import Worker
from retrain.scheduling import tick

#: A Monday.
START = datetime(2026, 1, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
MONITOR = "chest"

#: Share of a day's scans in each hour.
HOURS = np.array(
    [1, 1, 1, 1, 1, 1, 2, 6, 12, 14, 14, 13, 10, 11, 13, 12, 9, 6, 4, 3, 3, 2, 2, 1]
)
WEEKEND = np.array([1.0] * 5 + [0.5, 0.35])


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """One scanner as its scans name it."""

    site: str
    model: str | None
    station: str | None
    #: studies on a working day
    daily: float


NORTH_A = Station(site="north", model="DRX", station="a1", daily=60)
NORTH_B = Station(site="north", model="DRX", station="b2", daily=40)
SOUTH_C = Station(site="south", model="DX-D", station="c3", daily=50)
THREE = (NORTH_A, NORTH_B, SOUTH_C)


class ScannerHistory:
    """A database into which scanners send, watched by ticks and a worker."""

    def __init__(
        self,
        database: Database,
        stations: Sequence[Station] = THREE,
        *,
        seed: int = 1,
        settings: SilenceSettings | None = None,
    ) -> None:
        with database.reading() as session:
            new = session.get(MonitorRow, MONITOR) is None
            arrived = session.scalar(select(func.max(ScanRow.arrived_at)))
            self._numbers = session.scalar(select(func.max(ScanRow.id))) or 0
        if new:
            found(database)
        self.database = database
        # An existing history goes on at the next midnight.
        self.clock = ReplayClock(
            START
            if arrived is None
            else arrived.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        )
        self.stations = list(stations)
        self.rng = np.random.default_rng(seed)
        if new or settings is not None:
            self.apply(settings or SilenceSettings(learn_weeks=4))
        self.restart()

    def restart(self) -> None:
        """Let a new worker take over, which remembers nothing."""
        self.watcher = SilenceWatcher(self.database, self.clock)
        self.worker = Worker(JobQueue(self.database), {WATCH_ARRIVALS: self.watcher.handle})

    def apply(self, settings: SilenceSettings | None) -> None:
        with self.database.transaction() as session:
            monitor = require_monitor(session, MONITOR)
            specification = monitor.specification.model_copy(update={"silence": settings})
            apply_monitor(session, specification, actor="test", at=self.clock.now())

    def live(
        self,
        hours: float,
        *,
        without: Sequence[Station] = (),
        factor: float = 1.0,
        looks: float | None = None,
    ) -> None:
        """Let scans come for so many hours, and look every `looks` hours if that is given."""
        step = looks or hours
        passed = 0.0
        while passed < hours - 1e-9:
            now = self.clock.now()
            for station in self.stations:
                if station not in without:
                    self.receive(station, self.times(station, now, step, factor))
            self.clock.at = now + step * HOUR
            passed += step
            if looks is not None:
                self.look()

    def look(self) -> None:
        """Let the worker look, as if a tick had asked it to."""
        with self.database.transaction() as session:
            enqueue(
                session,
                kind=WATCH_ARRIVALS,
                key=f"{WATCH_ARRIVALS}/{MONITOR}",
                payload={"monitor": MONITOR},
                again=True,
            )
        self.worker.drain()

    def tick(self) -> None:
        """Tick, and let the worker do what that queued."""
        tick(self.database, self.clock)
        self.worker.drain()

    def receive(
        self,
        station: Station,
        times: Iterable[datetime],
        *,
        stated: bool = True,
        study: str | None = None,
    ) -> None:
        """Store scans, each of a study and patient of its own unless `study` is given."""
        times = list(times)
        if not times:
            return
        with self.database.transaction() as session:
            batch = (session.scalar(select(func.max(ScanRow.batch))) or 0) + 1
            for at in times:
                self._numbers += 1
                name = f"{self._numbers}"
                session.add(
                    ScanRow(
                        batch=batch,
                        site=station.site,
                        patient=f"patient-{name}",
                        study=study or f"study-{name}",
                        series=f"series-{name}",
                        instance=f"instance-{name}",
                        vault_digest=f"vault-{name}",
                        pixel_digest=f"pixels-{name}",
                        modality="DX",
                        view="AP",
                        manufacturer="Maker",
                        scanner_model=station.model,
                        software_version="1.0",
                        station=station.station if stated else None,
                        arrived_at=at,
                    )
                )
            ledger.append(
                session,
                at=self.clock.now(),
                actor="test",
                kind="scans.received",
                subject=station.site,
                facts={"scans": len(times)},
                batches=[(ScanRow, batch)],
            )

    def alarms(self) -> list[SilenceAlarmRow]:
        """Return every alarm, oldest first."""
        with self.database.reading() as session:
            return all_alarms(session, MONITOR)[::-1]

    @property
    def seen(self) -> ArrivalLookRow:
        with self.database.reading() as session:
            row = newest_look(session, MONITOR)
        assert row is not None
        return row

    def times(
        self, station: Station, start: datetime, hours: float, factor: float = 1.0
    ) -> list[datetime]:
        """Draw when a scanner sends in a span, by the hour of its week."""
        found: list[datetime] = []
        share: npt.NDArray[np.float64] = HOURS / HOURS.sum()
        at, end = start, start + hours * HOUR
        while at < end:
            until = min(end, at.replace(minute=0, second=0, microsecond=0) + HOUR)
            mean = station.daily * share[at.hour] * WEEKEND[at.weekday()]
            count = self.rng.poisson(mean * factor * ((until - at) / HOUR))
            found += [at + (until - at) * float(part) for part in self.rng.random(count)]
            at = until
        return sorted(found)
