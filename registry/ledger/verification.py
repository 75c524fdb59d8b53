"""Verification: whether the ledger, what it seals, and what was signed of it still agree.

The entries are read once, in order, and a bounded number of them is in memory:
what they seal is put aside in a temporary database, with which the tables are
compared afterwards, row by row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from json.encoder import encode_basestring

from sqlalchemy import String, select, type_coerce
from sqlalchemy.orm import Session

from registry.canonical import to_json
from registry.database import Base
from registry.ledger import append_only, sealed_rows
from registry.ledger.checkpoints import Checkpoint
from registry.ledger.fault import LedgerFault
from registry.ledger.merkle import MerkleTree
from registry.ledger.record import GENESIS, Form, LedgerEntry, LedgerHead, chain, sealed_tables
from registry.ledger.sealed_rows import PutAside

CHUNK = 10_000
#: a text as JSON has it
_quoted = encode_basestring
_FORM = _quoted(Form.JCS.value)


#: Writers take their time and then wait for their turn: less than this is no clock set back.
PATIENCE = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetBack:
    """An entry that is dated before one that it follows: the clock was set back, or was wrong."""

    sequence: int
    by: timedelta

    def in_words(self) -> str:
        """Return it as a sentence without its full stop."""
        return (
            f"entry {self.sequence} is dated {self.by} before one that it follows: the clock was "
            "set back, or had been wrong"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What a verification found."""

    #: entries that follow from each other
    entries: int
    #: digest of the newest of them
    head: str
    #: the first fault, in the order of the ledger
    fault: LedgerFault | None
    #: triggers that should refuse changes, and are not there as they were made
    unguarded: tuple[str, ...] = ()
    #: checkpoints that the entries were compared with
    checkpoints: int = 0
    #: the largest step back of time, which breaks nothing; None where there was none
    set_back: SetBack | None = None

    @property
    def valid(self) -> bool:
        return self.fault is None and not self.unguarded

    @property
    def problem(self) -> str | None:
        """What is wrong, in a sentence that names the first bad entry; None if nothing is."""
        if self.fault is not None:
            return f"entry {self.fault.sequence}: {self.fault.problem}"
        if self.unguarded:
            return (
                f"the entries hold, but triggers that guard them are missing or were changed: "
                f"{', '.join(self.unguarded)}"
            )
        return None


class ChainWalk:
    """Follows entries in their order, and compares their tree with checkpoints on the way."""

    def __init__(
        self,
        *,
        checkpoints: Sequence[Checkpoint] = (),
        start: int = 0,
        previous: str = GENESIS,
        rooted: bool = False,
    ) -> None:
        """Begin behind entry `start`, whose digest is `previous`.

        A tree is kept where it is asked for (`rooted`), or checkpoints need it.
        """
        self.count = start
        self.previous = previous
        self.tree = MerkleTree() if checkpoints or rooted else None
        self._checkpoints = sorted(checkpoints, key=lambda one: one.size)
        self._next = 0
        self._agreed = 0
        #: the first disagreement with a checkpoint
        self.rewritten: LedgerFault | None = None
        self.set_back: SetBack | None = None
        self._latest = ""
        self._compare()

    def follow(self, sequence: int, canonical: bytes, digest: str) -> str | None:
        """Take the next entry in; returns what is wrong with it, or None."""
        if sequence != self.count + 1:
            return f"entry {self.count + 1} is missing"
        if chain(self.previous, canonical) != digest:
            return "the entry was changed: its digest does not follow from the one before"
        self.count, self.previous = sequence, digest
        if self.tree is not None:
            self.tree.append(canonical)
            self._compare()
        return None

    def note_time(self, sequence: int, at: str) -> None:
        """Look whether an entry's time, as canonical JSON has it, lies behind what came before."""
        if at >= self._latest:
            self._latest = at
            return
        by = datetime.fromisoformat(self._latest) - datetime.fromisoformat(at)
        if by > PATIENCE and (self.set_back is None or by > self.set_back.by):
            self.set_back = SetBack(sequence=sequence, by=by)

    def missing(self) -> LedgerFault | None:
        """Return the fault if a checkpoint was signed over more entries than came."""
        if not self._checkpoints or self._checkpoints[-1].size <= self.count:
            return None
        newest = self._checkpoints[-1]
        return LedgerFault(
            sequence=self.count + 1,
            problem=(
                f"entries {self.count + 1} to {newest.size} are missing: they were there when "
                f"the checkpoint of {newest.at:%Y-%m-%d %H:%M:%S} UTC was signed"
            ),
        )

    def _compare(self) -> None:
        while (
            self._next < len(self._checkpoints)
            and self._checkpoints[self._next].size == self.count
        ):
            checkpoint = self._checkpoints[self._next]
            self._next += 1
            if self.tree is not None and checkpoint.root == self.tree.root():
                self._agreed = checkpoint.size
            elif self.rewritten is None:
                first = self._agreed + 1
                span = (
                    f"entry {first} is"
                    if first == self.count
                    else (f"one or more of the entries {first} to {self.count} are")
                )
                self.rewritten = LedgerFault(
                    sequence=first,
                    problem=(
                        f"the chain was rewritten: {span} not what was there when the "
                        f"checkpoint of {checkpoint.at:%Y-%m-%d %H:%M:%S} UTC was signed"
                    ),
                )


def verify(
    session: Session,
    tables: Iterable[type[Base]] | None = None,
    *,
    checkpoints: Sequence[Checkpoint] = (),
) -> Verification:
    """Verify the chain, the rows that it seals, and the triggers that guard it.

    A row is compared with its newest seal, so the sequence named is that of the
    entry that last vouched for it. A row that no entry seals is named at the
    sequence after the newest. Where the chain itself is broken, rows are not
    looked at: nothing vouches for them.

    Parameters
    ----------
    tables : whose rows are compared; by default every sealed table
    checkpoints : signed over this ledger (`registry.ledger.checkpoints.read_checkpoint`)
    """
    walk = ChainWalk(checkpoints=checkpoints)
    unguarded = tuple(append_only.missing(session.connection()))

    def found(fault: LedgerFault | None) -> Verification:
        return Verification(
            entries=walk.count,
            head=walk.previous,
            fault=fault,
            unguarded=unguarded,
            checkpoints=len(checkpoints),
            set_back=walk.set_back,
        )

    with PutAside() as aside:
        broken = follow_entries(session, walk, aside)
        # Whatever a rewritten entry says of rows, a checkpoint says that it was rewritten.
        if broken is not None:
            return found(min(filter(None, (broken, walk.rewritten)), key=_sequence))
        faults = [walk.rewritten, walk.missing() or head_fault(session, walk)]
        checked = sealed_tables() if tables is None else tables
        faults += [
            fault
            for table in checked
            for fault in sealed_rows.faults(session, table, aside, entries=walk.count)
        ]
    return found(min(filter(None, faults), key=_sequence, default=None))


def follow_entries(
    session: Session, walk: ChainWalk, aside: PutAside | None = None
) -> LedgerFault | None:
    """Walk every entry that is stored, putting its seals aside; returns the first fault."""
    for sequence, at, actor, kind, subject, canonical, digest in stored_entries(session):
        problem = walk.follow(sequence, canonical, digest)
        if problem is not None:
            return LedgerFault(sequence=min(sequence, walk.count + 1), problem=problem)
        if _says(canonical, sequence, at, actor, kind, subject):
            walk.note_time(sequence, at)
            continue
        body = json.loads(canonical)
        stored = {
            "sequence": sequence,
            "at": at,
            "actor": actor,
            "kind": kind,
            "subject": subject,
        }
        wrong = [name for name, value in stored.items() if body[name] != value]
        if wrong:
            return LedgerFault(
                sequence=sequence,
                problem=f"the entry's {wrong[0]} was changed beside its record",
            )
        walk.note_time(sequence, at)
        if aside is not None and ("seals" in body or "batches" in body):
            aside.put(
                sequence,
                Form(body.get("form", Form.FIRST)),
                body.get("seals", {}),
                body.get("batches", []),
            )
    return None


def stored_entries(
    session: Session, *, first: int = 1, last: int | None = None
) -> Iterator[tuple[int, str, str, str, str, bytes, str]]:
    """Read entries in their order, a bounded number at once.

    Yields sequence, time as canonical JSON has it, actor, kind, subject, canonical
    bytes and digest.
    """
    query = (
        select(
            LedgerEntry.sequence,
            # As the driver has it: to make a time of SQLite's text and text of that again would
            # take a quarter of the time of a verification.
            type_coerce(LedgerEntry.recorded_at, String()),
            LedgerEntry.actor,
            LedgerEntry.kind,
            LedgerEntry.subject,
            LedgerEntry.canonical,
            LedgerEntry.digest,
        )
        .order_by(LedgerEntry.sequence)
        .execution_options(yield_per=CHUNK)
    )
    if first > 1:
        query = query.where(LedgerEntry.sequence >= first)
    if last is not None:
        query = query.where(LedgerEntry.sequence <= last)
    for sequence, at, actor, kind, subject, canonical, digest in session.execute(query):
        yield sequence, _moment(at), actor, kind, subject, canonical, digest


def _says(
    canonical: bytes, sequence: int, at: str, actor: str, kind: str, subject: str
) -> bool:
    """Say whether an entry that seals nothing has what its columns say, without parsing it.

    What canonical JSON without seals begins and ends with follows from the
    columns: keys are sorted, and no text within can hold a bare quotation mark.
    """
    end = (
        f',"form":{_FORM},"kind":{_quoted(kind)},"sequence":{sequence},'
        f'"subject":{_quoted(subject)}}}'
    )
    if not canonical.endswith(end.encode()):
        return False
    begin = f'{{"actor":{_quoted(actor)},"at":"{at}","facts":{{'
    return canonical.startswith(begin.encode())


def _moment(stored: str | datetime) -> str:
    """Return a stored time, SQLite's text or PostgreSQL's time, as canonical JSON has it."""
    if isinstance(stored, str):
        return f"{stored[:10]}T{stored[11:]}+00:00"
    return str(to_json(stored))


def head_fault(session: Session, walk: ChainWalk) -> LedgerFault | None:
    """Return the fault if the head, which every writer moves on, names another newest entry."""
    head = session.get(LedgerHead, 1)
    sequence, digest = (head.sequence, head.digest) if head else (0, GENESIS)
    if (sequence, digest) == (walk.count, walk.previous):
        return None
    if sequence < walk.count:
        return LedgerFault(
            sequence=sequence + 1, problem="the ledger's head was set back behind this entry"
        )
    return LedgerFault(sequence=walk.count + 1, problem="the newest entries are missing")


def _sequence(fault: LedgerFault) -> int:
    return fault.sequence
