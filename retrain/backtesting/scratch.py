"""A scratch installation: at each moment of a replay it holds what the real one held then.

So the code that watches, decides, gates and promotes can be the product's own, and can see no
label and no scan before its time.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import Dialect, event, select
from sqlalchemy.orm import Session
from sqlalchemy.types import TypeEngine

from monitor.assembling.tables import ScanMemberRow, WithdrawnScanRow
from monitor.kept_answers import KEPT, KeptAnswers
from monitor.references import ProfileStore
from monitor.tables import (
    EmbeddingRow,
    LabelRow,
    RefusalRow,
    ResultRow,
    ScanRow,
    SubgroupReferenceRow,
)
from monitor.windows import Window
from registry import ledger, serving
from registry.clock import ReplayClock
from registry.database import Base, Database
from registry.identities import SYSTEM
from registry.jobs import Claim
from registry.serving import Champion, Reign
from registry.versions import VersionRow
from retrain import plans
from retrain.backtesting.past import Past, Row, table_of
from retrain.backtesting.stored_reading import StoredReader, as_array
from retrain.plans import AppliedPlan

_PREFIX = "backtest-"
#: Age at which a scratch installation is nobody's any more.
_STALE_SECONDS = 86_400
#: Scans whose results are computed at once.
_TOGETHER = 4096
_CACHE_KB = 128 * 1024


class Scratch:
    """The scratch installation of one replay."""

    def __init__(
        self, folder: Path, past: Past, reader: StoredReader, *, profiles: Path
    ) -> None:
        self.past, self.reader = past, reader
        self.clock = ReplayClock(past.question.since)
        self._kept = KeptAnswers()
        self.database = _throwaway(folder / "scratch.db", self._kept)
        self.profiles = ProfileStore(_borrowed(folder / "profiles", profiles, past))
        #: by space
        self._vectors: dict[str, Mapping[int, bytes]] = {}
        #: of an instance: what it is part of
        self._made_of: dict[int, list[int]] = {}
        for rows in past.members.values():
            for row in rows:
                self._made_of.setdefault(row["member"], []).append(row["scan"])
        self._scans = _Coming(past.scans, "arrived_at")
        self._labels = _Coming(past.labels, "arrived_at")
        self._withdrawals = _Coming(past.withdrawals, "withdrawn_at")
        self.plan = self._found()
        _analyse(self.database)

    @property
    def model(self) -> str:
        return self.past.question.monitor.specification.model

    @property
    def task(self) -> str:
        return self.past.question.monitor.specification.task

    def vectors_in(self, space: str) -> Mapping[int, bytes]:
        """Return the embeddings in a space, by scan, as they are stored."""
        if space == self.past.champion.space:
            return self.reader.vectors
        if space not in self._vectors:
            self._vectors[space] = {
                scan: row["vector"]
                for scan, rows in self.past.embeddings.items()
                for row in rows
                if row["space"] == space
            }
        return self._vectors[space]

    def deliver(self) -> int:
        """Let everything come that came before now; returns how many labels did.

        Scans are read when they arrive, by whichever version serves.
        """
        now = self.clock.now()
        scans, labels = self._scans.before(now), self._labels.before(now)
        with self.database.transaction() as session:
            version = serving.require_champion(session, self.model)
            _insert(session, ScanRow, scans)
            _insert(session, ScanMemberRow, _of(self.past.members, scans))
            _insert(session, RefusalRow, _of(self.past.refusals, scans))
            _insert(session, EmbeddingRow, _of(self.past.embeddings, scans))
            arrived = [scan["id"] for scan in scans]
            if version.id == self.past.champion.id:
                _insert(session, ResultRow, _of(self.past.results, scans))
                # A later version read these; the first champion would have read them so.
                arrived = [scan for scan in arrived if scan not in self.past.results]
                self._store_results(session, version, arrived)
            else:
                self._store_embeddings(session, version, arrived)
                self._store_results(session, version, arrived)
            _insert(session, LabelRow, labels)
            _insert(session, WithdrawnScanRow, self._withdrawals.before(now))
        self._kept.forget(self._about(label["scan"] for label in labels))
        return len(labels)

    def _about(self, scans: Iterable[int]) -> Iterator[int]:
        """Yield scans, and the series and studies of which they are instances."""
        for scan in scans:
            yield scan
            yield from self._made_of.get(scan, ())

    def embed(
        self,
        monitor_name: str,  # noqa: ARG002
        *,
        window: Window | None = None,  # noqa: ARG002
        extra: Sequence[VersionRow] = (),
        only: Sequence[int] | None = None,
        claim: Claim | None = None,  # noqa: ARG002
    ) -> int:
        """Let versions read some scans besides; whatever arrives was read as it came."""
        done = 0
        for version in extra:
            with self.database.transaction() as session:
                known = set(
                    session.scalars(
                        select(EmbeddingRow.scan).where(EmbeddingRow.version == version.id)
                    )
                )
                fresh = [scan for scan in only or () if scan not in known]
                self._store_embeddings(session, version, fresh)
                self._store_results(session, version, fresh)
                done += len(fresh)
        return done

    def _store_embeddings(
        self, session: Session, version: VersionRow, scans: Sequence[int]
    ) -> None:
        """Store that a version made in the replay embeds as the first champion did."""
        vectors = self.reader.vectors
        rows = [
            {
                "batch": 0,
                "scan": scan,
                "version": version.id,
                "space": version.space,
                "vector": vectors[scan],
            }
            for scan in scans
            if scan in vectors
        ]
        _insert(session, EmbeddingRow, rows)

    def _store_results(
        self, session: Session, version: VersionRow, scans: Sequence[int]
    ) -> None:
        vectors, now = self.reader.vectors, self.clock.now()
        seen = [scan for scan in scans if scan in vectors]
        task = self.reader.task(version, self.task)
        for start in range(0, len(seen), _TOGETHER):
            part = seen[start : start + _TOGETHER]
            said = self.reader.read(
                version, as_array([vectors[one] for one in part]), self.task
            )
            rows = [
                {
                    "batch": 0,
                    "scan": scan,
                    "version": version.id,
                    "task": self.task,
                    "probabilities": probabilities,
                    "finding": None if task.positive is None else task.column,
                    "threshold": task.threshold,
                    "delivery": "delivered",
                    "created_at": now,
                }
                for scan, probabilities in zip(part, said.tolist(), strict=True)
            ]
            _insert(session, ResultRow, rows)
        self._kept.forget(seen)

    def _found(self) -> AppliedPlan:
        past, question = self.past, self.past.question
        with self.database.transaction() as session:
            for table, rows in past.founded.items():
                _insert(session, table, rows)
            known = past.founded[ScanRow]
            _insert(session, EmbeddingRow, _of(past.embeddings, known))
            _insert(session, ResultRow, _of(past.results, known))
            _insert(session, WithdrawnScanRow, self._withdrawals.before(question.since))
            for kind, subject, at in past.moves:
                ledger.append(
                    session, at=at, actor=SYSTEM.name, kind=kind, subject=subject, facts={}
                )
            place = {"model": self.model, "deployment": serving.EVERYWHERE}
            served = {"version": past.champion.id, "since": past.served_since}
            session.add(Champion(**place, **served))
            session.add(Reign(**place, **served, reason="as it was"))
            return plans.put_into_force(
                session,
                question.rehearsed,
                # YAML reads JSON.
                json.dumps(question.rehearsed.model_dump(mode="json")),
                actor=SYSTEM.name,
                at=question.since,
            )


class _Coming:
    """Rows in the order of a time of theirs, taken as that time comes."""

    def __init__(self, rows: Sequence[Row], key: str) -> None:
        self._rows, self._key, self._taken = rows, key, 0

    def before(self, now: datetime) -> Sequence[Row]:
        """Take the rows from before a time that were not taken yet."""
        start = self._taken
        while self._taken < len(self._rows) and self._rows[self._taken][self._key] < now:
            self._taken += 1
        return self._rows[start : self._taken]


@contextmanager
def scratch_folder(work: Path) -> Iterator[Path]:
    """Make a folder that is gone afterwards, readable by its owner alone."""
    work.mkdir(parents=True, exist_ok=True)
    for left in work.glob(f"{_PREFIX}*"):
        # Of a replay that was killed; one that runs takes minutes.
        if time.time() - left.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(prefix=_PREFIX, dir=work) as folder:
        yield Path(folder)


def _throwaway(path: Path, kept: KeptAnswers) -> Database:
    """Make a database that nobody needs after a power cut."""
    database = Database(f"sqlite:///{path}", info={KEPT: kept})

    @event.listens_for(database.engine, "connect")
    def hurry(connection: Any, _record: object) -> None:
        # Half a year is some hundred megabytes: read once, its pages stay. Its rows refer to what
        # the installation checked.
        fast = ("synchronous=OFF", "foreign_keys=OFF", "temp_store=MEMORY")
        for pragma in (*fast, f"cache_size=-{_CACHE_KB}"):
            connection.execute(f"PRAGMA {pragma}")

    Base.metadata.create_all(database.engine)
    return database


def _analyse(database: Database) -> None:
    """Let SQLite know how many rows its indexes tell apart.

    Unasked it takes a version's rows for few, and to find a window's embeddings it would go through
    all that the version ever made.
    """
    with database.engine.begin() as connection:
        connection.exec_driver_sql("ANALYZE")
    # A connection reads what was found when it is opened.
    database.engine.dispose()


def _borrowed(folder: Path, profiles: Path, past: Past) -> Path:
    """Return a folder of profiles in which those of the references lie, and new ones may."""
    folder.mkdir()
    wanted = {reference.profile_digest for reference in past.references}
    wanted |= {row["profile_digest"] for row in past.founded[SubgroupReferenceRow]}
    for digest in sorted(filter(None, wanted)):
        # One that is gone is missed by name where it is asked for.
        if (profiles / digest).is_dir():
            (folder / digest).symlink_to((profiles / digest).resolve())
    return folder


def _of(by_scan: Mapping[int, Sequence[Row]], scans: Iterable[Row]) -> list[Row]:
    return [row for scan in scans for row in by_scan.get(scan["id"], ())]


def _insert(session: Session, table: type[Base], rows: Sequence[Row]) -> None:
    """Insert rows that have the same columns; those that lack are left to the database."""
    if not rows:
        return
    connection = session.connection()
    columns = table_of(table).columns
    # Column by column, and by the driver: SQLAlchemy looks at each value of each row anew.
    stored = [_stored(columns[name].type, rows, name, connection.dialect) for name in rows[0]]
    into = ", ".join(f'"{name}"' for name in rows[0])
    values = ", ".join("?" for _ in rows[0])
    connection.exec_driver_sql(
        f'INSERT INTO "{columns[next(iter(rows[0]))].table.name}" ({into}) VALUES ({values})',  # noqa: S608
        list(zip(*stored, strict=True)),
    )


def _stored(
    kind: TypeEngine[Any], rows: Sequence[Row], name: str, dialect: Dialect
) -> list[Any]:
    """Return a column of rows as the driver stores it."""
    stored = kind.dialect_impl(dialect).bind_processor(dialect)
    if stored is None:
        return [row[name] for row in rows]
    return [stored(row[name]) for row in rows]
