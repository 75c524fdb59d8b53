"""A worker that is killed while it embeds what storescu sends, and what is then there."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dicom_instances import as_file, radiograph
from dicom_programs import program
from first_champion import put_into_use
from preloaded_workers import expire_leases, start_worker
from running_receiver import SITE, RunningReceiver, new_home, receiving
from sqlalchemy import func, select
from tiny_bundles import TASK, finding, tiny_bundle

from api.assembly import Driftward
from api.settings import Settings
from monitor.monitors import MonitorSpecification, apply_monitor
from monitor.tables import EmbeddingRow, RefusalRow, ResultRow, ScanRow
from registry.versions import Origin, register
from retrain.scheduling import tick

#: In the order in which a batch of scans passes them.
EMBED_POINTS = ("embed: read", "embed: before the commit", "embed: committed")
SENDERS = 3
FILES_EACH = 5
_ROOT = "1.2.826.0.1.3680043.8.498.6"
_STORED = "Received Store Response (Success)"
_KILLED = -9
_ANCHOR = datetime(2026, 3, 2, tzinfo=UTC)
_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingCrash:
    """What one crash left, of all that was sent to the home so far."""

    acknowledged: int
    scans: int
    #: embeddings of the last that was sent, when the worker was killed
    embedded_before: int
    #: scans that both versions have embedded once, and of which the champion has one result
    read_once: int
    refused: int
    #: rows, files and ledger agree
    whole: bool

    @property
    def sound(self) -> bool:
        """Return whether every acknowledged instance is there, and was read, exactly once."""
        exactly = self.acknowledged == self.scans == self.read_once
        return exactly and not self.refused and self.whole


class EmbeddingHome:
    """A home that receives and embeds, and whose worker is killed again and again."""

    def __init__(self, root: Path, receiver: RunningReceiver) -> None:
        self._root, self._receiver = root, receiver
        self._driftward = receiver.driftward
        self._sent = 0
        self._acknowledged = 0

    def crash(self, point: str, *, after: int) -> EmbeddingCrash:
        """Kill a worker at a point while storescu sends, and let another one go on."""
        home = self._driftward.settings.home
        embedded = self._count(EmbeddingRow)
        armed = {"DRIFTWARD_CRASH_AT": point, "DRIFTWARD_CRASH_AFTER": str(after)}
        senders = [self._send(FILES_EACH) for _ in range(SENDERS)]
        worker = start_worker(home, drain=False, environment=armed)
        latest = time.monotonic() + _SECONDS
        while worker.exitcode is None and time.monotonic() < latest:
            tick(self._driftward.database, self._driftward.clock)
            if all(sender.poll() is not None for sender in senders):
                senders.append(self._send(1))
            worker.join(0.1)
        assert worker.exitcode == _KILLED, f"not killed at {point!r}: {worker.exitcode}"
        before = self._count(EmbeddingRow) - embedded
        for sender in senders:
            said = sender.communicate(timeout=_SECONDS)[0]
            self._acknowledged += said.count(_STORED)
        expire_leases(self._driftward.database)
        tick(self._driftward.database, self._driftward.clock)
        resumed = start_worker(home)
        resumed.join(_SECONDS)
        assert resumed.exitcode == 0
        return self._found(before)

    def _found(self, embedded_before: int) -> EmbeddingCrash:
        with self._driftward.database.reading() as session:
            twice = Counter(session.scalars(select(EmbeddingRow.scan)))
            once = Counter(session.scalars(select(ResultRow.scan)))
        try:
            self._receiver.require_whole()
            whole = True
        except AssertionError:
            whole = False
        return EmbeddingCrash(
            acknowledged=self._acknowledged,
            scans=self._count(ScanRow),
            embedded_before=embedded_before,
            # A constraint forbids two rows of one version.
            read_once=sum(twice[scan] == 2 and once[scan] == 1 for scan in twice),
            refused=self._count(RefusalRow),
            whole=whole,
        )

    def _count(self, table: type) -> int:
        with self._driftward.database.reading() as session:
            return session.scalar(select(func.count()).select_from(table)) or 0

    def _send(self, count: int) -> subprocess.Popen[str]:
        numbers = range(self._sent, self._sent + count)
        files = write_files(self._root / "sent", numbers)
        self._sent += count
        port = str(self._receiver.port)
        return subprocess.Popen(
            [program("storescu"), "-v", "-aec", "DRIFTWARD", "127.0.0.1", port, *files],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def write_files(folder: Path, numbers: range) -> list[Path]:
    """Write radiographs of as many patients, and return their files."""
    folder.mkdir(exist_ok=True)
    files = []
    for number in numbers:
        ds = radiograph(SOPInstanceUID=f"{_ROOT}.{number + 1}", PatientID=f"{number}")
        files.append(folder / f"{number}.dcm")
        files[-1].write_bytes(as_file(ds))
    return files


@contextmanager
def embedding_home(root: Path) -> Iterator[EmbeddingHome]:
    """Receive into a home with a monitor."""
    with receiving(home_with_a_monitor(root), "--site", SITE) as receiver:
        yield EmbeddingHome(root, receiver)


def home_with_a_monitor(root: Path) -> Path:
    """Found a home with an encoder, a champion and a monitor of it."""
    home = new_home(root / "home")
    driftward = Driftward.open(Settings(home=home))
    with driftward.database.transaction() as session:
        _, champion = (
            register(
                session,
                bundle,
                model=name,
                base=None,
                origin=Origin.IMPORT,
                artifact_uri=bundle.root.as_uri(),
                mlflow_run="none",
                actor="test",
                at=_ANCHOR,
            )
            for name, bundle in (
                ("general", tiny_bundle(root / "general")),
                (TASK, tiny_bundle(root / TASK, tasks=[finding()], seed=1)),
            )
        )
        put_into_use(session, champion, at=_ANCHOR)
        apply_monitor(
            session,
            MonitorSpecification.model_validate(
                {
                    "name": "chest",
                    "model": TASK,
                    "task": TASK,
                    "monitoring_encoder": "general@1",
                    "window_hours": 84,
                    "anchor": _ANCHOR,
                    "alpha_per_week": 0.005,
                    "subgroup_attributes": [],
                    "floor": 20,
                }
            ),
            actor="test",
            at=_ANCHOR,
        )
    driftward.database.dispose()
    return home
