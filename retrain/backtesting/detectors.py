"""Detectors of a replay's streams: each in a process of its own, which runs ahead.

What a stream will be shown is what arrives, and that is known from the beginning. So a process
shows a detector all of it while the replay is still at its first weeks, and tells what the
detector came to after each scan; the replay takes that up when it has come so far. Should a
stream be shown anything else after all, or work within another budget, a detector in this
process sees everything again, and goes on.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from multiprocessing.connection import Connection

import numpy as np
import numpy.typing as npt
from sqlalchemy import select

from monitor.embeddings import STORED
from monitor.following import kept
from monitor.profiles import ReferenceProfile
from monitor.streams import StreamAlarm, StreamDetector
from monitor.tables import DatasetMember, PatientMergeRow, ReferenceRow, ScanRow, StreamRow
from registry.version_units import unit_of
from registry.versions import VersionRow
from retrain.backtesting.past import Past, Row
from retrain.backtesting.processes import WORTH_A_PROCESS, Processes
from retrain.backtesting.question import looks
from retrain.backtesting.scratch import Scratch
from retrain.backtesting.stream_process import (
    TAKEN,
    Showing,
    Shown,
    begun,
    freed,
    seen_one_by_one,
    work,
)

#: Deciding references, and so streams: one of each encoder.
_STREAMS = 2


class StreamProcesses:
    """Processes that wait for a stream whose detector they run ahead."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        # Begun early, they are there when the first streams begin.
        self._idle = [processes.begin(work) for _ in range(_STREAMS)]

    def connection(self) -> Connection:
        """Return the end of one that has nothing to do, or whose stream has ended."""
        while self._idle:
            connection = self._idle.pop()
            if freed(connection):
                return connection
        return self._processes.begin(work)

    def take_back(self, connection: Connection) -> None:
        """Take the end of one whose stream has ended."""
        self._idle.append(connection)


class Detectors:
    """Detectors of streams, never stored: a replay is continued by no other process."""

    def __init__(self, scratch: Scratch, processes: StreamProcesses | None = None) -> None:
        self._scratch, self._processes = scratch, processes
        #: by stream, with the budget that each works within
        self._known: dict[int, tuple[StreamDetector | RunAhead, int]] = {}

    def detector_of(
        self, row: StreamRow, profile: ReferenceProfile
    ) -> StreamDetector | RunAhead:
        known, budget = self._known.get(row.id, (None, 0))
        if known is None:
            known = self._begun(row, profile)
        elif budget != row.scans_between_false_alarms:
            seen = known.caught_up() if isinstance(known, RunAhead) else known
            known = kept.detector_of(
                StreamRow(
                    state=kept.packed(seen),
                    scans_between_false_alarms=row.scans_between_false_alarms,
                ),
                profile,
            )
        self._known[row.id] = known, row.scans_between_false_alarms
        return known

    def packed(self, detector: StreamDetector | RunAhead) -> bytes:  # noqa: ARG002
        return b""

    def _begun(self, row: StreamRow, profile: ReferenceProfile) -> StreamDetector | RunAhead:
        if self._processes is None:
            return kept.detector_of(row, profile)
        with self._scratch.database.reading() as session:
            reference = session.get_one(ReferenceRow, row.reference)
            version = session.get_one(VersionRow, reference.version)
            ended = select(StreamRow.id).where(
                StreamRow.id.in_(list(self._known)), StreamRow.ended_at.is_not(None)
            )
            for number in session.scalars(ended):
                self._forget(number, self._processes)
        vectors, patients = foreseen(self._scratch, row, reference, version)
        if len(vectors) < WORTH_A_PROCESS:
            return kept.detector_of(row, profile)
        showing = Showing(
            profile=self._scratch.profiles.directory(reference.profile_digest),
            scans_between_false_alarms=row.scans_between_false_alarms,
            burn_in=row.burn_in,
            seed=row.id,
            vectors=vectors,
            patients=patients,
        )
        return RunAhead(profile, showing, self._processes.connection())

    def _forget(self, stream: int, processes: StreamProcesses) -> None:
        """Forget the detector of a stream that has ended: its process may run another ahead."""
        detector, _ = self._known.pop(stream)
        connection = detector.given_up() if isinstance(detector, RunAhead) else None
        if connection is not None:
            processes.take_back(connection)


class RunAhead:
    """A detector that another process runs ahead, as it stands where the replay stands."""

    def __init__(
        self, profile: ReferenceProfile, showing: Showing, connection: Connection
    ) -> None:
        self._profile, self._showing = profile, showing
        self._connection = connection
        #: by the number of scans seen
        self._evidence: list[float] = []
        self._shifted: list[bool] = []
        self._alarms: list[tuple[int, tuple[StreamAlarm, ...]]] = [(0, ())]
        self._scans = 0
        #: takes over where the stream is shown something else
        self._own: StreamDetector | None = None
        connection.send(showing)

    @property
    def scans(self) -> int:
        return self._scans if self._own is None else self._own.scans

    @property
    def alarms(self) -> tuple[StreamAlarm, ...]:
        if not self._has_come(self._scans):
            return self.caught_up().alarms
        return next(some for seen, some in reversed(self._alarms) if seen <= self._scans)

    @property
    def shifted(self) -> bool:
        if not self._has_come(self._scans):
            return self.caught_up().shifted
        return self._shifted[self._scans]

    @property
    def evidence(self) -> float:
        if not self._has_come(self._scans):
            return self.caught_up().evidence
        return self._evidence[self._scans]

    def update(
        self,
        batch: npt.NDArray[np.float32],
        patients: Sequence[str],
        *,
        space: str | None = None,
    ) -> None:
        """See the next scans: those that were foreseen, or a detector here sees them."""
        part = slice(self._scans, self._scans + len(batch))
        if self._own is None and (
            space in {None, self._profile.space}
            and tuple(patients) == self._showing.patients[part]
            and np.array_equal(batch, self._showing.vectors[part])
        ):
            self._scans = part.stop
        else:
            self.caught_up().update(batch, patients, space=space)

    def given_up(self) -> Connection | None:
        """Return the end of its process, where it still has one; nothing is asked of it again."""
        return None if self._connection.closed else self._connection

    def caught_up(self) -> StreamDetector:
        """Return a detector in this process that has seen the same scans, and goes on."""
        if self._own is None:
            self._connection.close()
            part = slice(self._scans)
            whole = replace(
                self._showing,
                vectors=self._showing.vectors[part],
                patients=self._showing.patients[part],
            )
            self._own = begun(whole, self._profile)
            for _ in seen_one_by_one(self._own, whole.vectors, whole.patients):
                pass
        return self._own

    def _has_come(self, scans: int) -> bool:
        """Return whether the other process has told what came of so many scans."""
        while self._own is None and len(self._evidence) <= scans:
            try:
                told: Shown = self._connection.recv()
                self._connection.send(TAKEN)
            except (EOFError, BrokenPipeError, ConnectionResetError):
                return False  # it was ended, by whoever lacked memory
            self._evidence += told.evidence
            self._shifted += told.shifted
            self._alarms += told.alarms
        return self._own is None


def foreseen(
    scratch: Scratch, row: StreamRow, reference: ReferenceRow, version: VersionRow
) -> tuple[npt.NDArray[np.float16], tuple[str, ...]]:
    """Return the embeddings [n, d] and patients that a stream will be shown, as far as is known.

    They are in the order in which it will be shown them: look by look, and by their ids.
    """
    past = scratch.past
    unit = unit_of(version).value
    dataset = reference.dataset
    own = {
        member["scan"] for member in past.founded[DatasetMember] if member["dataset"] == dataset
    }
    merged = {
        (one["site"], one["merged"]): one["patient"] for one in past.founded[PatientMergeRow]
    }
    withdrawn = {one["scan"]: one["withdrawn_at"] for one in past.withdrawals}
    stored = scratch.vectors_in(version.space)
    after, since = row.starts_after, reference.accepted_at
    vectors: list[bytes] = []
    patients: list[str] = []
    for moment, scans in _by_look(past):
        for scan in scans:
            number = scan["id"]
            if (
                number <= after
                or scan["unit"] != unit
                or number in own
                or number in past.refusals
                or scan["arrived_at"] < since
                or withdrawn.get(number, moment) < moment
            ):
                continue
            if number not in stored:
                return _halves(vectors, version.dimension), tuple(patients)
            vectors.append(stored[number])
            site, patient = scan["site"], scan["patient"]
            patients.append(f"{site}/{merged.get((site, patient), patient)}")
    return _halves(vectors, version.dimension), tuple(patients)


def _by_look(past: Past) -> Iterator[tuple[datetime, list[Row]]]:
    """Yield the scans that are new at each look, by their ids; first what was there before."""
    yield past.question.since, list(past.founded[ScanRow])
    start = 0
    times = [scan["arrived_at"] for scan in past.scans]
    for moment in looks(past.question):
        end = bisect_left(times, moment)
        yield moment, sorted(past.scans[start:end], key=lambda scan: scan["id"])
        start = end


def _halves(vectors: Sequence[bytes], dimension: int) -> npt.NDArray[np.float16]:
    return np.frombuffer(b"".join(vectors), dtype=STORED).reshape(-1, dimension)
