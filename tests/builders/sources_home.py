"""A home whose scans come from sources, and what came."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import yaml
from dicom_instances import as_file, gradient, radiograph
from killed_processes import kill_at
from sqlalchemy import func, select

from api.assembly import Driftward
from monitor.sources.catalogue import SourceStanding, apply_source, remove_source, standing_of
from monitor.sources.settings import parse_source
from monitor.sources.tables import SourceFileRow, SourceProgressRow
from monitor.tables import ScanRow
from registry import ledger

ACTOR = "ops"


def instance(number: int, **elements: Any) -> bytes:
    """Return an instance that no other number gives."""
    samples = gradient()
    samples[0, 0] = number
    uids = {
        "SOPInstanceUID": f"1.2.826.0.1.3680043.8.498.1.{number}",
        "StudyInstanceUID": f"1.2.826.0.1.3680043.8.498.2.{number // 3}",
        "SeriesInstanceUID": f"1.2.826.0.1.3680043.8.498.3.{number // 3}",
    }
    return as_file(radiograph(np.asarray(samples), **{**uids, **elements}))


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds; a minute is more than it may ever take."""
    latest = time.monotonic() + 60
    while not holds():
        if time.monotonic() > latest:
            raise AssertionError("it never came to hold")
        time.sleep(0.02)


@contextmanager
def running(home: SourcesHome, *names: str) -> Iterator[None]:
    """Follow sources in the background."""
    stop = threading.Event()
    thread = threading.Thread(
        target=home.driftward.followers.run_until, args=(stop, names), daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def followers_of(name: str) -> list[threading.Thread]:
    """Return the threads of this process that follow a source."""
    return [one for one in threading.enumerate() if one.name == f"source {name}"]


class SourcesHome:
    """An installation, seen from its sources."""

    def __init__(self, driftward: Driftward) -> None:
        self.driftward = driftward

    def apply(self, **keys: Any) -> None:
        specification = parse_source(yaml.safe_dump(keys), source="source.yaml")
        with self.driftward.database.transaction() as session:
            apply_source(session, specification, actor=ACTOR, at=self.driftward.clock.now())

    def remove(self, name: str) -> None:
        with self.driftward.database.transaction() as session:
            remove_source(session, name, actor=ACTOR, at=self.driftward.clock.now())

    def follow_once(self, *names: str) -> None:
        self.driftward.followers.follow_once(names, stop=threading.Event())

    def follow_and_be_killed(self, point: str, *, after: int = 0) -> None:
        """Follow every source once, in a process that is killed at a crash point."""
        settings = self.driftward.settings

        def follow() -> None:
            Driftward.open(settings).followers.follow_once((), stop=threading.Event())

        kill_at(point, follow, after=after)

    def standings(self) -> list[SourceStanding]:
        with self.driftward.database.reading() as session:
            names = session.scalars(select(SourceProgressRow.source)).all()
            return [standing_of(session, name) for name in names]

    def standing(self, name: str) -> SourceStanding:
        with self.driftward.database.reading() as session:
            return standing_of(session, name)

    def position(self, name: str) -> Mapping[str, Any]:
        with self.driftward.database.reading() as session:
            return session.get_one(SourceProgressRow, name).position

    @property
    def scans(self) -> int:
        with self.driftward.database.reading() as session:
            return session.scalar(select(func.count(ScanRow.id))) or 0

    @property
    def remembered_files(self) -> int:
        with self.driftward.database.reading() as session:
            return session.scalar(select(func.count(SourceFileRow.file))) or 0

    @property
    def quarantined(self) -> int:
        return len(self.driftward.quarantine.items())

    @property
    def ledger_is_valid(self) -> bool:
        with self.driftward.database.reading() as session:
            return ledger.verify(session).valid
