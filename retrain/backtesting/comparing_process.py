"""A process that lets the policies beside the plan run, while the replay runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from monitor.statistics.threads import one_thread
from monitor.tables import ScanRow
from registry.bundles.bundle import Bundle
from registry.bundles.heads import Floats
from registry.database import Database
from registry.versions import VersionRow
from retrain.backtesting.comparison import Comparison, compare
from retrain.backtesting.labelled import LabelledSpan
from retrain.backtesting.past import read_past
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

    #: the installation's, and the digest of its ledger's newest entry when the replay read it
    database: str
    head: str | None
    question: Question
    #: of the replay's scratch installation: another one is made in it
    folder: Path
    profiles: Path
    #: of the first champion
    heads: Heads
    hours: Mapping[Strategy, float]


class ComparedBeside:
    """A comparison that is made in another process."""

    def __init__(self, processes: Processes, to_compare: ToCompare) -> None:
        self._connection = processes.begin(work)
        self._connection.send(to_compare)

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
    try:
        connection.send(_compared(connection.recv()))
    except _NotStoredError:
        connection.send(None)


def _compared(asked: ToCompare) -> Comparison | None:
    database = Database(asked.database)
    with database.reading() as session:
        past = read_past(session, asked.question)
    database.dispose()
    if past.head != asked.head:
        return None  # something came since, of which the replay does not know
    with one_thread():
        reader = StoredReader(
            past.champion, past.vectors(), open_bundle=_opened, embed=_embedded
        )
        reader.learn(past.champion, asked.heads)
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
