"""A process that lets the policies beside the plan run, while the replay runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from monitor.statistics.threads import one_thread
from monitor.tables import ScanRow
from registry.bundles.bundle import Bundle
from registry.bundles.heads import Floats
from registry.database import Database
from registry.versions import VersionRow
from retrain.backtesting.collecting import collected_rarely
from retrain.backtesting.comparison import Comparison, compare
from retrain.backtesting.labelled import LabelledSpan
from retrain.backtesting.past import Past, read_past
from retrain.backtesting.processes import Processes
from retrain.backtesting.question import Question
from retrain.backtesting.scratch import Scratch
from retrain.backtesting.stored_reading import Heads, StoredReader
from retrain.change_plan import Strategy

#: Whoever replays waits for detectors first.
_NICER = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ToCompare:
    """What a process must be told to compare policies by itself."""

    #: the installation's
    database: str
    question: Question
    #: of the replay's scratch installation: another one is made in it
    folder: Path
    profiles: Path
    hours: Mapping[Strategy, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class AsRead:
    """What the replay found when it read the past, which the other process does meanwhile."""

    #: digest of the ledger's newest entry
    head: str | None
    #: of the first champion
    heads: Heads


class ComparedBeside:
    """A comparison that is made in another process."""

    def __init__(self, processes: Processes, to_compare: ToCompare) -> None:
        self._connection = processes.begin(work)
        self._connection.send(to_compare)

    def go_on(self, read: AsRead) -> None:
        """Let it be made of the past that was read here, too."""
        # One that was ended is noticed when it is asked.
        with suppress(BrokenPipeError, ConnectionResetError):
            self._connection.send(read)

    def comparison(self) -> Comparison | None:
        """Wait for it; None where it could not be made there."""
        try:
            found: Comparison | None = self._connection.recv()
        except (EOFError, ConnectionResetError):
            return None  # it was ended, by whoever lacked memory
        return found


class _NotStoredError(Exception):
    """Something has to be read that only the replay's own process can read."""


def work(connection: Connection) -> None:
    """Take what is to be compared, and send the comparison; None where it cannot be made."""
    os.nice(_NICER)
    asked: ToCompare = connection.recv()
    with collected_rarely():
        database = Database(asked.database)
        with database.reading() as session:
            past = read_past(session, asked.question)
        database.dispose()
        try:
            connection.send(_compared(asked, past, connection.recv()))
        except _NotStoredError:
            connection.send(None)


def _compared(asked: ToCompare, past: Past, read: AsRead) -> Comparison | None:
    if past.head != read.head:
        return None  # something came in between, of which one of the two does not know
    with one_thread():
        reader = StoredReader(
            past.champion, past.vectors(), open_bundle=_opened, embed=_embedded
        )
        reader.learn(past.champion, read.heads)
        folder = asked.folder / "beside"
        folder.mkdir()
        scratch = Scratch(folder, past, reader, profiles=asked.profiles)
        try:
            scratch.clock.at = asked.question.until
            scratch.deliver()
            return compare(scratch, LabelledSpan.of(scratch), asked.hours)
        finally:
            scratch.database.dispose()


def _opened(_version: VersionRow) -> Bundle:
    raise _NotStoredError


def _embedded(_version: VersionRow, _scans: Sequence[ScanRow]) -> Floats:
    raise _NotStoredError
