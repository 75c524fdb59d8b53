"""The keys of pseudonyms: rotated, listed, and dropped when they are no longer needed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from monitor.intake.durable_files import sync_folder
from monitor.intake.keys import Keyring, load_keyring, save_keyring
from monitor.intake.remembered import RememberedSurrogates
from monitor.tables import LabelRow, LookUpRow, PseudonymKeyRow, ScanRow
from registry import crash_points, ledger
from registry.clock import Clock
from registry.database import Database
from registry.errors import ConflictError, HomeError, NotFoundError, RefusedError
from registry.identities import Identity, Role

SUBJECT = "pseudonym keys"
#: Columns that may hold tokens of texts, by the kind of token.
_TOKENS: dict[str, InstrumentedAttribute[Any]] = {
    "manufacturer": ScanRow.manufacturer,
    "model": ScanRow.scanner_model,
    "software": ScanRow.software_version,
    "station": ScanRow.station,
    "protocol": ScanRow.protocol,
    "reader": LabelRow.reader,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyStanding:
    """How a key stands; nothing of the key itself."""

    number: int
    #: None for the key that `init` made
    made_at: datetime | None
    newest: bool
    #: patients whose surrogates can be found by this key alone
    patients: int
    dropped_at: datetime | None


def revision(session: Session) -> int:
    """Return how often keys were made or dropped; in a transaction, nobody changes it meanwhile."""
    ledger.wait_turn(session)
    return _revision(session)


class PseudonymKeys:
    """The keys of one installation, for one process; safe for several threads."""

    def __init__(self, database: Database, path: Path) -> None:
        self._database = database
        self._path = path
        self._lock = threading.Lock()
        self._current: RememberedSurrogates | None = None

    def current(self) -> RememberedSurrogates:
        """Return what gives surrogates under the keys as this process knows them.

        Raises
        ------
        HomeError
            If the key file cannot be used, or lacks a key that the database knows.
        """
        with self._lock:
            if self._current is None:
                self._current = self._loaded()
            return self._current

    def reload(self, known: int | None = None) -> None:
        """Forget the keys, or only those of the revision `known`: they are read at the next use."""
        with self._lock:
            if known is None or (self._current is not None and self._current.revision == known):
                self._current = None

    def rotate(self, *, reason: str, by: Identity, clock: Clock) -> int:
        """Make a new key, under which everything is looked up from now on; return its number.

        The new key is in a file beside the old one before the database knows
        of it, and takes the old one's place afterwards: a crash in between is
        made good by whoever reads the keys next.

        Raises
        ------
        NotPermittedError
        HomeError
            If the keys cannot be used as they are.
        """
        by.require(Role.ADMIN, "rotate keys")
        with _alone(self._path.parent):
            keyring = self._settled()
            rotated = keyring.with_new_key()
            save_keyring(self._pending, rotated)
            crash_points.reach("keys: beside the old ones")
            now = clock.now()
            with self._database.transaction() as session:
                revision(session)
                rows = {row.number: row for row in session.scalars(select(PseudonymKeyRow))}
                if max(rows, default=1) != keyring.newest.number:
                    raise ConflictError("the keys were changed meanwhile: try again")
                tokens = _tokens_in_use(session)
                until_batch = session.scalar(select(func.max(ScanRow.batch))) or 0
                replaced = rows.get(keyring.newest.number)
                if replaced is None:
                    replaced = PseudonymKeyRow(number=keyring.newest.number)
                    session.add(replaced)
                replaced.tokens, replaced.until_batch = tokens, until_batch
                made = PseudonymKeyRow(number=rotated.newest.number, made_at=now, tokens=[])
                session.add(made)
                ledger.append(
                    session,
                    at=now,
                    actor=by.name,
                    kind="key.rotated",
                    subject=SUBJECT,
                    facts={"number": made.number, "reason": reason},
                    seals=[replaced, made],
                )
            crash_points.reach("keys: known to the database")
            self._settled()
        with self._lock:
            self._current = None
        return made.number

    def standings(self) -> list[KeyStanding]:
        """Return how each key stands, oldest first."""
        keyring = load_keyring(self._path)
        with self._database.reading() as session:
            rows = list(
                session.scalars(select(PseudonymKeyRow).order_by(PseudonymKeyRow.number))
            )
            if not rows:
                number = keyring.newest.number
                patients = session.scalar(select(func.count(ScanRow.patient.distinct()))) or 0
                return [
                    KeyStanding(
                        number=number,
                        made_at=None,
                        newest=True,
                        patients=patients,
                        dropped_at=None,
                    )
                ]
            return [
                KeyStanding(
                    number=row.number,
                    made_at=row.made_at,
                    newest=row.number == rows[-1].number,
                    patients=0 if row.dropped_at else _patients_of(session, row),
                    dropped_at=row.dropped_at,
                )
                for row in rows
            ]

    def orphans(self, number: int) -> int:
        """Return how many patients would be strangers when they come again without a key.

        Raises
        ------
        NotFoundError
            If there is no such key.
        RefusedError
            If it is the newest key, or an older one than it is still held.
        """
        with self._database.reading() as session:
            return _patients_of(session, self._droppable(session, number))

    def drop(self, number: int, *, reason: str, by: Identity, clock: Clock) -> int:
        """Destroy an older key; what only it could find is found no more. Return `orphans`.

        Rows and files keep their surrogates: without the key nobody can tell
        any more whose they are.

        Raises
        ------
        NotPermittedError, NotFoundError, RefusedError
            As `orphans` does.
        """
        by.require(Role.ADMIN, "drop keys")
        now = clock.now()
        with _alone(self._path.parent):
            self._settled()
            with self._database.transaction() as session:
                revision(session)
                row = self._droppable(session, number)
                orphans = _patients_of(session, row)
                for look_up in session.scalars(
                    select(LookUpRow).where(LookUpRow.key == number)
                ):
                    session.delete(look_up)
                row.dropped_at = now
                ledger.append(
                    session,
                    at=now,
                    actor=by.name,
                    kind="key.dropped",
                    subject=SUBJECT,
                    facts={"number": number, "orphaned_patients": orphans, "reason": reason},
                    seals=[row],
                )
            crash_points.reach("keys: dropped in the database")
            self._settled()
        with self._lock:
            self._current = None
        return orphans

    @property
    def _pending(self) -> Path:
        return self._path.with_name(f"{self._path.name}.next")

    def _loaded(self) -> RememberedSurrogates:
        with _alone(self._path.parent):
            keyring = self._settled()
            with self._database.reading() as session:
                rows = list(session.scalars(select(PseudonymKeyRow)))
                found = _revision(session)
        return RememberedSurrogates(
            self._database,
            keyring,
            revision=found,
            tokens={row.number: frozenset(row.tokens) for row in rows},
        )

    def _settled(self) -> Keyring:
        """Bring the key file in line with the database, and return its keys."""
        with self._database.reading() as session:
            rows = list(session.scalars(select(PseudonymKeyRow)))
        newest = max((row.number for row in rows), default=1)
        keyring = load_keyring(self._path)
        if keyring.newest.number < newest and self._pending.exists():
            pending = load_keyring(self._pending)
            if pending.newest.number == newest:
                self._pending.replace(self._path)
                sync_folder(self._path.parent)
                keyring = pending
        if keyring.newest.number != newest:
            raise HomeError(
                f"key file {self._path} has key {keyring.newest.number} as its newest, and the "
                f"database knows key {newest}: restore both from the same backup"
            )
        dropped = {row.number for row in rows if row.dropped_at is not None}
        if dropped & {key.number for key in keyring.keys}:
            keyring = keyring.without(dropped)
            save_keyring(self._path, keyring)
        lost = {row.number for row in rows} - dropped - {key.number for key in keyring.keys}
        if lost:
            raise HomeError(
                f"key file {self._path} lacks key {min(lost)}, which the database still knows as "
                "held: restore both from the same backup"
            )
        return keyring

    def _droppable(self, session: Session, number: int) -> PseudonymKeyRow:
        held = session.scalars(
            select(PseudonymKeyRow)
            .where(PseudonymKeyRow.dropped_at.is_(None))
            .order_by(PseudonymKeyRow.number)
        ).all()
        row = next((row for row in held if row.number == number), None)
        if row is None:
            raise NotFoundError(
                f"no older key {number} is held: `driftward key list` shows them"
            )
        if row.number == held[-1].number:
            raise RefusedError(
                f"key {number} is the newest: `driftward key rotate` makes another first"
            )
        if row.number != held[0].number:
            raise RefusedError(
                f"key {held[0].number} is older than key {number}, and still held: drop it first"
            )
        return row


def _revision(session: Session) -> int:
    made, dropped = session.execute(
        select(func.count(PseudonymKeyRow.number), func.count(PseudonymKeyRow.dropped_at))
    ).one()
    return int(made + dropped)


def _tokens_in_use(session: Session) -> list[str]:
    return sorted(
        text
        for kind, column in _TOKENS.items()
        for text in session.scalars(select(column).where(_is_token(column, kind)).distinct())
        if text is not None
    )


def _is_token(column: InstrumentedAttribute[Any], kind: str) -> ColumnElement[bool]:
    return column.like(f"{kind}-________")


def _patients_of(session: Session, row: PseudonymKeyRow) -> int:
    """Count the patients that only this key finds: its own, without a look-up of a newer key."""
    since = session.scalar(
        select(func.max(PseudonymKeyRow.until_batch)).where(PseudonymKeyRow.number < row.number)
    )
    first = func.min(ScanRow.batch)
    of_key = select(ScanRow.patient).group_by(ScanRow.patient).having(first > (since or 0))
    if row.until_batch is not None:
        of_key = of_key.having(first <= row.until_batch)
    made = of_key.subquery()
    looked_up_later = exists().where(
        LookUpRow.surrogate == made.c.patient, LookUpRow.key > row.number
    )
    own = session.scalar(select(func.count()).select_from(made).where(~looked_up_later)) or 0
    re_keyed = (
        session.scalar(
            select(func.count(LookUpRow.digest)).where(
                LookUpRow.key == row.number, LookUpRow.kind.in_(("patient", "patient of study"))
            )
        )
        or 0
    )
    return own + re_keyed


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time change the keys."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise HomeError(
            f"key folder {folder} cannot be read ({error.strerror}): restore it from a backup"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
