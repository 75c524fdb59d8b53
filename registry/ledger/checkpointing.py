"""Checkpointing: signs what the ledger is now, and holds it against what was signed before.

Every checkpoint that lies in the folder is held against the ledger before
another is signed, so that the daily job finds a ledger that was cut or
rewritten, and a key never vouches for two histories.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from registry.clock import Clock
from registry.database import Database
from registry.errors import (
    CheckpointError,
    CheckpointKeyError,
    IntegrityError,
    RefusedError,
    SetupError,
)
from registry.identities import SYSTEM, Identity
from registry.jobs import Claim
from registry.ledger import checkpoints, record
from registry.ledger.checkpoint_keys import PublicKey, SigningKey
from registry.ledger.checkpoints import Checkpoint, ledger_origin, read_checkpoint
from registry.ledger.record import LedgerEntry
from registry.ledger.verification import ChainWalk, follow_entries, head_fault
from registry.new_files import write_new

#: The kind of job that signs one, and the ledger's words for what came of it.
CHECKPOINT = "sign checkpoint"
SIGNED, REFUSED = "checkpoint.signed", "checkpoint.refused"
NEW_KEY = "key.checkpoint_made"
SUFFIX = ".checkpoint"
#: Clocks of machines differ; by more than this, one of them is wrong.
CLOCKS_DIFFER = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCheckpoint:
    """A checkpoint as it was signed."""

    checkpoint: Checkpoint
    #: the signed note
    note: bytes
    #: by which key
    key: PublicKey
    #: where it was written; None if nowhere yet
    path: Path | None


class Checkpointer:
    """Signs checkpoints.

    Parameters
    ----------
    key : loads the private key, when it is needed
    folder : where they are kept, if anywhere: one that others cannot change, at best
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        key: Callable[[], SigningKey],
        folder: Path | None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._key = key
        self._folder = folder

    def handle(self, _claim: Claim) -> None:
        """Do the job `sign checkpoint`; doing it twice makes two that agree."""
        if self._folder is not None:
            self.sign(by=SYSTEM)

    def sign(self, *, by: Identity, out: Path | None = None) -> SignedCheckpoint:
        """Sign the ledger as it stands, write the checkpoint, and record that in the ledger.

        Parameters
        ----------
        out : the file to write; by default one in the folder, if there is one

        Raises
        ------
        CheckpointKeyError, CheckpointError
            If the key, or a checkpoint in the folder, cannot be used; this is recorded.
        IntegrityError
            If the ledger is broken, or is not that of an earlier checkpoint: nothing
            is signed, nor written to it.
        RefusedError
            If it is empty.
        SetupError
            If the file cannot be written.
        """
        try:
            key = self._key()
            earlier = self._earlier(key.public)
        except (CheckpointKeyError, CheckpointError) as error:
            record_refusal(self._database, error, action="sign", by=by, at=self._clock.now())
            raise
        checkpoint = self._stand(earlier)
        note = checkpoints.sign(checkpoint, key)
        path = self._write(checkpoint, note, out)
        with self._database.transaction() as session:
            record.append(
                session,
                at=self._clock.now(),
                actor=by.name,
                kind=SIGNED,
                subject=checkpoint.origin,
                facts={
                    "size": checkpoint.size,
                    "root": checkpoint.root.hex(),
                    "key": key.public.fingerprint,
                    "kept": path is not None,
                },
            )
        return SignedCheckpoint(checkpoint=checkpoint, note=note, key=key.public, path=path)

    def _earlier(self, key: PublicKey) -> list[Checkpoint]:
        """Return the checkpoints in the folder that this key signed over this ledger."""
        if self._folder is None:
            return []
        with self._database.reading() as session:
            origin = ledger_origin(session)
        found = []
        for path, note in notes_in(self._folder):
            try:
                found.append(read_checkpoint(note, [key], source=str(path)))
            except CheckpointError as error:
                if error.problem != checkpoints.UNKNOWN_SIGNER:
                    raise
        return [one for one in found if one.origin == origin] if origin else []

    def _stand(self, earlier: Sequence[Checkpoint]) -> Checkpoint:
        walk = ChainWalk(checkpoints=earlier, rooted=True)
        with self._database.reading() as session:
            fault = (
                follow_entries(session, walk)
                or walk.rewritten
                or walk.missing()
                or head_fault(session, walk)
            )
            origin = ledger_origin(session)
        if fault is not None:
            raise IntegrityError(
                f"nothing was signed, for the ledger does not stand: entry {fault.sequence}: "
                f"{fault.problem}"
            )
        if origin is None or walk.tree is None:
            raise RefusedError("the ledger is empty: there is nothing to sign")
        return Checkpoint(
            origin=origin,
            size=walk.count,
            root=walk.tree.root(),
            at=self._clock.now().replace(microsecond=0),
        )

    def _write(self, checkpoint: Checkpoint, note: bytes, out: Path | None) -> Path | None:
        if out is None and self._folder is not None:
            out = self._folder / f"{checkpoint.size:012}-{checkpoint.at:%Y%m%dT%H%M%SZ}{SUFFIX}"
        if out is None:
            return None
        try:
            write_new(out, note, mode=0o644)
        except FileExistsError:
            if out.read_bytes() != note:
                raise SetupError(f"{out} exists: a checkpoint is never overwritten") from None
        except OSError as error:
            raise SetupError(
                f"the checkpoint {out} cannot be written ({error.strerror}): give a folder "
                "that is there and can be written"
            ) from None
        return out


def notes_in(place: Path) -> list[tuple[Path, bytes]]:
    """Return the checkpoint in a file, or all of those in a folder, by name.

    Raises
    ------
    CheckpointError
        If something cannot be read, or a folder is not there.
    """
    try:
        paths = [place]
        if place.is_dir():
            paths = sorted(path for path in place.iterdir() if path.suffix == SUFFIX)
        found = []
        for path in paths:
            with path.open("rb") as file:
                found.append((path, file.read(checkpoints.LARGEST + 1)))
    except OSError as error:
        raise CheckpointError(
            f"{place} cannot be read ({error.strerror}): give a checkpoint, or a folder of them",
            problem=checkpoints.UNREADABLE,
        ) from None
    return found


def trusted_checkpoints(
    session: Session,
    places: Sequence[Path],
    keys: Sequence[PublicKey],
    *,
    own: PublicKey | None,
    now: datetime,
) -> list[Checkpoint]:
    """Return the checkpoints in files and folders, if each can be used on this ledger.

    Parameters
    ----------
    keys : one of which signed each
    own : the key of this installation, if it is known: what that signed under another
        origin means that the first entry was rewritten

    Raises
    ------
    CheckpointError
        If one cannot be read, was made in the future, or for another ledger.
    """
    origin = ledger_origin(session)
    found = []
    for path, note in (one for place in places for one in notes_in(place)):
        checkpoint = read_checkpoint(note, keys, source=str(path))
        if checkpoint.at > now + CLOCKS_DIFFER:
            raise CheckpointError(
                f"{path} was signed at {checkpoint.at:%Y-%m-%d %H:%M:%S} UTC, which is in the "
                f"future: it is {now:%Y-%m-%d %H:%M:%S} UTC here; set the clock that is wrong",
                problem=checkpoints.FUTURE,
            )
        if checkpoint.origin != origin and (own is None or own not in keys):
            raise CheckpointError(
                f"{path} was signed over {checkpoint.origin}, and this ledger is {origin}: it is "
                "another installation's, or this ledger was rewritten from its first entry on",
                problem=checkpoints.OTHER_LEDGER,
            )
        found.append(checkpoint)
    if not found:
        raise CheckpointError(
            f"there is no checkpoint in {', '.join(map(str, places))}: give a file that "
            "`driftward audit checkpoint` wrote, or a folder of them",
            problem=checkpoints.UNREADABLE,
        )
    return found


def record_refusal(
    database: Database,
    error: CheckpointError | CheckpointKeyError,
    *,
    action: str,
    by: Identity,
    at: datetime,
) -> None:
    """Record that a key or a checkpoint was refused; of its content, the problem's code alone.

    Where the database can only be read, as an auditor's copy may be, nothing is.
    """
    try:
        with database.transaction() as session:
            record.append(
                session,
                at=at,
                actor=by.name,
                kind=REFUSED,
                subject=ledger_origin(session) or "ledger",
                facts={"action": action, "problem": error.problem},
            )
    except SetupError:
        return


def record_new_key(database: Database, key: PublicKey, *, by: Identity, at: datetime) -> None:
    """Record that a key of checkpoints was made."""
    with database.transaction() as session:
        record.append(
            session,
            at=at,
            actor=by.name,
            kind=NEW_KEY,
            subject="checkpoint key",
            facts={"key": key.fingerprint},
        )


def newest_signed_at(session: Session) -> datetime | None:
    """Return when a checkpoint was last signed, or None if none was."""
    moment: datetime | None = session.scalar(
        select(func.max(LedgerEntry.recorded_at)).where(LedgerEntry.kind == SIGNED)
    )
    return moment
