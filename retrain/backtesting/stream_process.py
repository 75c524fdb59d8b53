"""A process that shows a stream's detector scans, and tells what it came to after each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import numpy.typing as npt

from monitor.profiles import ReferenceProfile
from monitor.streams import StreamAlarm, StreamDetector

#: Scans of which is told at once, and how often that is told before any of it is taken.
_TOLD_TOGETHER = 512
_AHEAD = 4
#: What is said to a process that has been given a showing.
TAKEN, END = "taken", "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Showing:
    """A stream from its beginning, and the scans that it is shown."""

    #: directory of its reference's profile
    profile: Path
    scans_between_false_alarms: int
    burn_in: int
    seed: int
    #: as they are stored, [n, d]
    vectors: npt.NDArray[np.float16]
    #: [n]
    patients: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a detector came to, after each of some scans."""

    #: how near an alarm is
    evidence: list[float]
    #: whether the last alarm's shift lasts
    shifted: list[bool]
    #: all alarms so far, where one was raised or its shift ended: by the scans seen by then
    alarms: list[tuple[int, tuple[StreamAlarm, ...]]]


def work(connection: Connection) -> None:
    """Take showings, and tell of each what is asked for, until the other side hangs up.

    Whoever asks says `TAKEN` for each answer, so that none runs far ahead of what is needed; and
    `END` where no more is needed, which is sent back: what comes then is of the next showing.
    """
    while True:
        asked: Showing | str = connection.recv()
        if asked == END or (isinstance(asked, Showing) and _ended(connection, asked)):
            connection.send(END)


def _ended(connection: Connection, showing: Showing) -> bool:
    """Tell what a showing comes to; return whether it was ended before that."""
    ahead = 0
    for told in shown(showing):
        connection.send(told)
        ahead += 1
        while ahead == _AHEAD or connection.poll():
            if connection.recv() == END:
                return True
            ahead -= 1
    return False


def freed(connection: Connection) -> bool:
    """End the showing that a process is at, so that it takes another; False if it is gone."""
    try:
        connection.send(END)
        while connection.recv() != END:
            pass
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return False
    return True


def shown(showing: Showing) -> Iterator[Shown]:
    """Show a new detector its scans; yield what it comes to, some hundred scans at a time.

    The first entry is of the detector that has seen nothing.
    """
    detector = begun(showing, ReferenceProfile.load(showing.profile))
    before: tuple[StreamAlarm, ...] = ()
    evidence, shifted = [detector.evidence], [detector.shifted]
    for start in range(0, len(showing.vectors), _TOLD_TOGETHER):
        part = slice(start, start + _TOLD_TOGETHER)
        changed = []
        for _ in seen_one_by_one(detector, showing.vectors[part], showing.patients[part]):
            with np.errstate(divide="ignore"):
                evidence.append(detector.evidence)
            shifted.append(detector.shifted)
            if detector.alarms != before:
                before = detector.alarms
                changed.append((detector.scans, before))
        yield Shown(evidence=evidence, shifted=shifted, alarms=changed)
        evidence, shifted = [], []


def begun(showing: Showing, profile: ReferenceProfile) -> StreamDetector:
    """Return a showing's detector, which has seen nothing yet."""
    return StreamDetector(
        profile,
        scans_between_false_alarms=showing.scans_between_false_alarms,
        burn_in=showing.burn_in,
        seed=showing.seed,
    )


def seen_one_by_one(
    detector: StreamDetector, vectors: npt.NDArray[np.float16], patients: tuple[str, ...]
) -> Iterator[None]:
    """Show a detector scans, and let whoever asks look at it after each."""
    if len(vectors):
        for _ in detector.course(vectors.astype(np.float32), patients):
            yield
