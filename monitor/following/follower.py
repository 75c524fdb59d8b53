"""The job that follows scans: each deciding reference has a stream, each stream each scan once.

Whatever a batch of scans brings (the detector's state, which scans it saw, an alarm's episode
with its ledger entry, the end of a shift) enters in one transaction behind the job's fence. So
a worker that stops anywhere leaves the streams as they were before the batch, and the next one
sees the same scans again and comes to the same end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import insert
from sqlalchemy.orm import Session

from monitor.episodes.attributing import Attributor
from monitor.episodes.episode_evidence import AlarmEvidence, KnownOnset, gather
from monitor.evaluating import ask_for_decision
from monitor.evaluation import Evaluation, evaluate
from monitor.following import kept, shifts
from monitor.following.arranging import arrange
from monitor.following.incoming import Arrival, moments, next_arrivals
from monitor.following.shifts import JudgedShift, SeenShift
from monitor.monitors import Monitor, require_monitor
from monitor.references import ProfileStore
from monitor.streams import StreamAlarm
from monitor.tables import ReferenceRow, StreamRow, StreamScan
from monitor.windows import Window
from registry.clock import Clock
from registry.database import Database
from registry.errors import ConflictError
from registry.identities import SYSTEM
from registry.jobs import Claim, fence

FOLLOW = "follow"
#: Scans that one transaction deals with: each stores the whole state, some megabytes.
SCANS_PER_COMMIT = 512
#: Scans between two looks at whether there is an alarm, or a shift is over.
_STEP = 32
# Evidence below it is none: the logarithm of no wealth at all is no number.
_NO_EVIDENCE = -50.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """What a stream came to by some scans."""

    arrivals: Sequence[Arrival]
    raised: Sequence[tuple[SeenShift, JudgedShift]]
    #: numbers of alarms whose shift is over, and when each was seen to be
    over: Sequence[tuple[int, datetime]]


class Follower:
    """Shows streams the scans that came, and turns their alarms into episodes."""

    def __init__(
        self,
        database: Database,
        profiles: ProfileStore,
        clock: Clock,
        *,
        attributor: Attributor | None = None,
        detectors: kept.KeepsDetectors[Any] = kept,
    ) -> None:
        self._database = database
        self._profiles = profiles
        self._attributor = attributor
        self._detectors = detectors
        self._clock = clock

    def handle(self, claim: Claim) -> None:
        """Do the job `follow`: payload {monitor}. Done twice, it sees nothing twice."""
        self.follow(claim.payload["monitor"], claim=claim)

    def follow(self, monitor_name: str, *, claim: Claim | None = None) -> int:
        """Show a monitor's streams every scan that was embedded since; returns how many."""
        with self._database.transaction() as session:
            if claim is not None:
                fence(session, claim)
            monitor = require_monitor(session, monitor_name)
            streams = arrange(session, monitor, now=self._clock.now())
        return sum(self._follow(monitor_name, row.id, claim) for row in streams)

    def _follow(self, monitor_name: str, stream: int, claim: Claim | None) -> int:
        """Show one stream what it has not seen; returns how many scans it saw."""
        detector: kept.Detector | None = None
        seen = 0
        while True:
            now = self._clock.now()
            with self._database.reading() as session:
                monitor = require_monitor(session, monitor_name)
                row = session.get_one(StreamRow, stream)
                if row.ended_at is not None:
                    return seen
                reference = session.get_one(ReferenceRow, row.reference)
                arrivals = next_arrivals(
                    session,
                    row,
                    reference,
                    monitor.specification.model,
                    most=SCANS_PER_COMMIT,
                    now=now,
                )
                if arrivals:
                    if detector is None:
                        profile = self._profiles.load(reference.profile_digest)
                        detector = self._detectors.detector_of(row, profile)
                    step = self._see(session, monitor, row, reference, detector, arrivals, now)
            if detector is not None and arrivals:
                self._write(row, step, detector, claim, now)
                seen += sum(one.vector is not None for one in step.arrivals)
                if len(step.arrivals) < len(arrivals) or len(arrivals) == SCANS_PER_COMMIT:
                    continue
            # What came meanwhile is for the next look.
            self._judge_later(monitor_name, stream, claim)
            return seen

    def _see(
        self,
        session: Session,
        monitor: Monitor,
        row: StreamRow,
        reference: ReferenceRow,
        detector: kept.Detector,
        arrivals: Sequence[Arrival],
        now: datetime,
    ) -> _Step:
        """Show a detector scans until it has something to say; what they tell is read only."""
        before = detector.alarms
        done: list[Arrival] = []
        for start in range(0, len(arrivals), _STEP):
            done += _shown(detector, arrivals[start : start + _STEP], reference.space)
            if detector.alarms != before:
                break
        raised, over = [], []
        for place, alarm in enumerate(detector.alarms):
            old = before[place] if place < len(before) else None
            if old is None:
                seen = _seen_shift(session, row, reference, place, alarm, done, now)
                [until] = moments(
                    session, row, reference, [detector.scans - 1], just_seen=done, now=now
                )
                judged = self._judged(session, monitor, seen, until, detector.scans)
                raised.append((seen, judged))
            if alarm.recovered is not None and (old is None or old.recovered is None):
                [at] = moments(
                    session, row, reference, [alarm.recovered], just_seen=done, now=now
                )
                over.append((place, at))
        return _Step(arrivals=done, raised=raised, over=over)

    def _judged(
        self, session: Session, monitor: Monitor, seen: SeenShift, until: datetime, scans: int
    ) -> JudgedShift:
        """Judge the scans from a shift's onset on as a window, where they are enough.

        Parameters
        ----------
        until : when the newest that the stream has seen arrived
        scans : that it has seen
        """
        end = max(until, seen.onset) + timedelta(microseconds=1)
        judged = self._judged_since(session, monitor, seen.known_onset, end)
        if isinstance(judged, str):
            return JudgedShift(
                scans=scans - seen.first,
                evaluation=None,
                found=None,
                lacking="scan by scan a shift shows, and what it is cannot be told yet: "
                f"{judged}",
            )
        evaluation, found = judged
        if found.onset < seen.onset:
            # More scans are of the shift than the stream had dated into it.
            earlier = self._judged_since(session, monitor, found.dated, end)
            if not isinstance(earlier, str):
                evaluation, found = earlier
        return JudgedShift(
            scans=scans - seen.first, evaluation=evaluation, found=found, lacking=""
        )

    def _judged_since(
        self, session: Session, monitor: Monitor, known: KnownOnset, end: datetime
    ) -> tuple[Evaluation, AlarmEvidence] | str:
        """Judge the scans from an onset on, or return why there is no verdict on them."""
        window = Window(start=known.onset, end=end)
        evaluation = evaluate(session, self._profiles, monitor, window, now=self._clock.now())
        judged = [item.reference for item in evaluation.verdicts]
        if all(reference.id != known.reference for reference in judged):
            encoder = session.get_one(ReferenceRow, known.reference).encoder
            return next(
                (note for note in evaluation.notes if note.startswith(encoder)),
                "there is no verdict on the scans since",
            )
        found = gather(
            session, self._profiles, evaluation, attributor=self._attributor, known=known
        )
        return evaluation, found

    def _write(
        self,
        read: StreamRow,
        step: _Step,
        detector: kept.Detector,
        claim: Claim | None,
        now: datetime,
    ) -> None:
        """Store what a stream came to: all of it, or nothing."""
        state = self._detectors.packed(detector)
        with self._database.transaction() as session:
            if claim is not None:
                fence(session, claim)
            row = session.get_one(StreamRow, read.id, with_for_update=True)
            if row.newest_scan != read.newest_scan or row.ended_at is not None:
                raise ConflictError(
                    f"stream {row.id} of {row.monitor} was shown scans by another worker: "
                    "this one keeps nothing"
                )
            _write_scans(session, row, step.arrivals)
            row.state, row.looked_at = state, now
            row.shifted, row.evidence = detector.shifted, _evidence(detector)
            for seen, judged in step.raised:
                for episode in shifts.record(
                    session, row.monitor, seen, judged, actor=SYSTEM.name, at=now
                ):
                    ask_for_decision(session, episode)
            for place, at in step.over:
                shifts.end(
                    session,
                    row.monitor,
                    row.id,
                    reason="recovered: since "
                    f"{at:%Y-%m-%d %H:%M} UTC the scans are as before, one by one",
                    ended_at=at,
                    alarm=place,
                    actor=SYSTEM.name,
                    at=now,
                )

    def _judge_later(self, monitor_name: str, stream: int, claim: Claim | None) -> None:
        """Judge what was raised by few scans, where many more have come."""
        now = self._clock.now()
        with self._database.reading() as session:
            monitor = require_monitor(session, monitor_name)
            row = session.get_one(StreamRow, stream)
            reference = session.get_one(ReferenceRow, row.reference)
            scans, floor = row.scans, monitor.specification.floor
            waiting = []
            for episode, seen in shifts.to_judge(
                session, monitor_name, stream, scans=scans, floor=floor
            ):
                [until] = moments(session, row, reference, [scans - 1], now=now)
                judged = self._judged(session, monitor, seen, until, scans)
                waiting.append((episode.id, seen, judged))
        for number, seen, judged in waiting:
            if judged.found is None:
                continue
            with self._database.transaction() as session:
                if claim is not None:
                    fence(session, claim)
                still = {
                    (row.id, one.alarm): row
                    for row, one in shifts.to_judge(
                        session, monitor_name, stream, scans=scans, floor=floor
                    )
                }
                if (number, seen.alarm) not in still:
                    continue
                for episode in shifts.judge_later(
                    session,
                    still[number, seen.alarm],
                    seen,
                    judged,
                    actor=SYSTEM.name,
                    at=now,
                ):
                    ask_for_decision(session, episode)


def _write_scans(session: Session, row: StreamRow, arrivals: Sequence[Arrival]) -> None:
    """Write that a stream has dealt with these scans."""
    counts, stream, scans = dict(row.counts), row.id, row.scans
    seen: list[dict[str, int | None]] = []
    for one in arrivals:
        number = None
        if one.vector is not None:
            number, scans = scans, scans + 1
        if one.odd is not None:
            counts[one.odd.value] = counts.get(one.odd.value, 0) + 1
        seen.append({"stream": stream, "scan": one.scan, "number": number})
    if seen:
        session.execute(insert(StreamScan), seen)
    row.scans = scans
    row.newest_scan = max(row.newest_scan, *(one.scan for one in arrivals))
    row.counts = counts
    session.flush()


def _shown(
    detector: kept.Detector, arrivals: Sequence[Arrival], space: str
) -> Sequence[Arrival]:
    """Show a detector some arrivals, those that are passed over left out."""
    batch = [(one.vector, one.patient) for one in arrivals if one.vector is not None]
    if not batch:
        return arrivals
    vectors = np.stack([vector for vector, _ in batch])
    patients = [patient for _, patient in batch]
    detector.update(vectors, patients, space=space)
    return arrivals


def _seen_shift(
    session: Session,
    row: StreamRow,
    reference: ReferenceRow,
    place: int,
    alarm: StreamAlarm,
    just_seen: Sequence[Arrival],
    now: datetime,
) -> SeenShift:
    """Return an alarm that was raised by one of the scans just seen."""
    low, onset, high = moments(
        session,
        row,
        reference,
        [alarm.onset_low, alarm.onset, alarm.onset_high],
        just_seen=just_seen,
        now=now,
    )
    seen = [one.scan for one in just_seen if one.vector is not None]
    return SeenShift(
        stream=row.id,
        alarm=place,
        encoder=reference.encoder,
        reference=reference.id,
        scan=seen[alarm.scan - row.scans],
        number=alarm.scan,
        scans=alarm.scan - alarm.onset + 1,
        onset=onset,
        onset_low=min(low, onset),
        onset_high=max(high, onset),
        leading=alarm.leading,
        scans_between_false_alarms=row.scans_between_false_alarms,
        raised_at=now,
    )


def _evidence(detector: kept.Detector) -> float:
    with np.errstate(divide="ignore"):
        return max(_NO_EVIDENCE, min(0.0, detector.evidence))
