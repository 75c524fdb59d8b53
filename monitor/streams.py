"""A stream of scans, watched one by one within a false-alarm budget."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import numpy as np

from monitor.profiles import ReferenceProfile
from monitor.statistics.embeddings import (
    Embeddings,
    Floats,
    Integers,
    Singles,
    checked_embeddings,
)
from monitor.statistics.patients import Identifiers, Patients
from monitor.statistics.streams.recent import NOBODY
from monitor.statistics.streams.stakes import StreamLaw
from monitor.statistics.streams.watch import StreamAlarm, Watch
from monitor.statistics.threads import one_thread
from monitor.stream_files import read_stream, write_stream
from registry.errors import BadInputError, SpaceMismatchError

__all__ = ["StreamAlarm", "StreamDetector"]

#: the smallest budget for which calibration is shown
LEAST_BUDGET = 100
# Features are computed in blocks of so many scans, a scan's row in its block being its place
# in the stream: a matrix product's bits depend on the number of rows, and so do not depend
# on how the stream came in batches.
_BLOCK = 32


class StreamDetector:
    """The portfolio's sequential form: an alarm as early as its budget allows.

    The threshold follows from the budget in closed form; nothing is simulated, and no scan
    beyond the reference is needed (docs/decisions, and `monitor/statistics/streams/betting.py`).

    **Ordinary weeks that differ** would alarm sooner. With a burn-in the detector first
    learns, on scans that are taken for ordinary, how much of what an average shows is there
    by itself, and goes on learning it. A burn-in should span some of the weeks: five of them
    are enough where they have 200 scans.

    **One shift is one alarm.** After an alarm the stream is followed until the shift is over,
    and none is raised meanwhile; scans since the onset are taken out of what counts as
    ordinary. Over means two things together, so that a shift close to the threshold does not
    open and close by turns: the scans have moved back along the shift's own direction, so
    clearly that a lasting shift is taken for over no more than once in a budget (or the
    shift, measured with all scans since, shows no more); and nothing else is out of the
    ordinary, by the level that four ordinary scans in five stay below. A shift that turns
    into another keeps its alarm open. That it is over is no alarm and calls nobody, so it is
    no event of the same kind: it is written to the alarm that it closes
    (`StreamAlarm.recovered`), as an episode is closed and not opened by it.

    **Batches**: the same scans give the same alarms and the same state to the bit, in
    whatever batches they come, and so does a stream that was saved and loaded between two of
    them, on one machine with the pinned libraries.

    **Patients** are told apart by keyed digests of their identifiers, which are kept for the
    last 512 of them, beside sums of features; no identifier and no embedding is. A patient
    who comes back later counts as another one.

    Parameters
    ----------
    profile : of the reference
    scans_between_false_alarms : mean number of scans to a false alarm, 100 or more;
        `monitor.alarm_budget` turns plain words into it
    burn_in : scans at the beginning that raise no alarm, and are taken for ordinary
    seed : of the digests of patients; nothing is drawn

    Raises
    ------
    BadInputError
        If the budget is too small, or the burn-in negative.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> profile = ReferenceProfile.fit(rng.normal(size=(300, 6)), seed=1)
    >>> stream = StreamDetector(profile, scans_between_false_alarms=1000)
    >>> stream.update(rng.normal(size=(50, 6)))
    >>> alarm = stream.update(rng.normal(0.8, 1.0, size=(100, 6)))
    >>> 50 <= alarm.scan < 100, alarm.onset_low <= 50 <= alarm.onset_high
    (True, True)
    """

    def __init__(
        self,
        profile: ReferenceProfile,
        *,
        scans_between_false_alarms: int,
        burn_in: int = 0,
        seed: int = 0,
    ) -> None:
        if scans_between_false_alarms < LEAST_BUDGET:
            raise BadInputError(
                f"a budget of a false alarm in {scans_between_false_alarms} scans cannot be "
                f"kept: allow {LEAST_BUDGET} scans or more between two of them"
            )
        if burn_in < 0:
            raise BadInputError(f"a burn-in takes 0 scans or more, got {burn_in}")
        with one_thread():
            watch = Watch.start(
                StreamLaw.of(profile.portfolio),
                scans_between_false_alarms=scans_between_false_alarms,
                burn_in=burn_in,
            )
        self._take(profile, watch, seed)

    def _take(self, profile: ReferenceProfile, watch: Watch, seed: int) -> None:
        self.profile, self._watch, self.seed = profile, watch, seed

    @property
    def scans(self) -> int:
        """Scans seen so far."""
        return self._watch.scans

    @property
    def burning_in(self) -> bool:
        """Whether the stream is still in its burn-in."""
        return self._watch.scans < self._watch.burn_in

    @property
    def alarms(self) -> tuple[StreamAlarm, ...]:
        """All alarms so far, the oldest first."""
        return tuple(self._watch.alarms)

    @property
    def shifted(self) -> bool:
        """Whether the last alarm's shift lasts."""
        return self._watch.shift is not None

    @property
    def evidence(self) -> float:
        """How near an alarm is: the logarithm of the wealth over that of an alarm, below 0."""
        return self._watch.nearness

    def update(
        self,
        batch: Embeddings,
        patients: Identifiers | None = None,
        *,
        space: str | None = None,
    ) -> StreamAlarm | None:
        """See the next scans in the order of their arrival.

        Returns the alarm that they raise, or None; where a batch is so long that it raises
        several, the last (`alarms` has them all).

        Parameters
        ----------
        batch : float32, shape [n, d], n >= 1
        patients : [n] identifiers, all strings or all integers; without them, each scan
            counts as a patient of its own
        space : of the batch; None asserts nothing

        Raises
        ------
        SpaceMismatchError
            If the batch lies in another space than the reference.
        EmbeddingsError
            For no scans, NaN, infinities, or another dimension.
            The stream is then as it was before.
        """
        if space is not None and space != self.profile.space:
            raise SpaceMismatchError(
                f"the batch lies in space {space!r} and the reference in "
                f"{self.profile.space!r}: embed both with the same encoder and preprocessing"
            )
        singles = checked_embeddings(batch, what="batch", dimension=self.profile.dimension)
        keys = self._keys(patients, len(singles))
        raised = sum(alarm is not None for alarm in self._each(singles, keys))
        return self._watch.alarms[-1] if raised else None

    def course(
        self, batch: Embeddings, patients: Identifiers | None = None
    ) -> Iterator[StreamAlarm | None]:
        """See the next scans as `update` does, and yield after each the alarm that it raises.

        Between two of them the stream can be asked how it stands. Takes and raises what
        `update` does, when the first is asked for.
        """
        singles = checked_embeddings(batch, what="batch", dimension=self.profile.dimension)
        yield from self._each(singles, self._keys(patients, len(singles)))

    def _each(self, singles: Singles, keys: Integers) -> Iterator[StreamAlarm | None]:
        with one_thread():
            for start, features in self._blocks(singles):
                for i in range(len(features)):
                    yield self._watch.see(features[i], int(keys[start + i]))

    def save(self, directory: Path) -> None:
        """Write the stream's state, so that it goes on as if it had never stopped.

        What was saved before is replaced whole, or stays if the machine stops meanwhile.

        Raises
        ------
        StorageFullError
            If the disk is full.
        """
        write_stream(directory, self._watch, seed=self.seed, profile=_digest(self.profile))

    @classmethod
    def load(cls, directory: Path, profile: ReferenceProfile) -> StreamDetector:
        """Read what `save` wrote; the profile must be the one that the stream began with.

        Raises
        ------
        NotFoundError
            If the directory holds no stream.
        BadInputError
            If what it holds is not a stream that this version reads, or is another profile's.
        IntegrityError
            If the tensors are not those that were saved.
        """
        with one_thread():
            watch, seed = read_stream(
                directory, StreamLaw.of(profile.portfolio), profile=_digest(profile)
            )
        stream = cls.__new__(cls)
        stream._take(profile, watch, seed)
        return stream

    def _keys(self, patients: Identifiers | None, scans: int) -> Integers:
        """Return a digest of each scan's patient, [n]; `NOBODY` without identifiers."""
        if patients is None:
            return np.full(scans, NOBODY, dtype=np.int64)
        # Refuses what cannot be told apart.
        Patients.of(patients, scans=scans)
        secret = self.seed.to_bytes(16, "little", signed=True)
        digests = {
            one: int.from_bytes(
                blake2b(repr(one).encode(), digest_size=7, key=secret).digest(), "little"
            )
            for one in np.asarray(patients).tolist()
        }
        # 0 is nobody's.
        return np.array(
            [digests[one] + 1 for one in np.asarray(patients).tolist()], dtype=np.int64
        )

    def _blocks(self, singles: Singles) -> Iterator[tuple[int, Floats]]:
        """Yield the features [k, D] of scans [n, d], and where they begin."""
        law, start = self._watch.law, 0
        while start < len(singles):
            row = (self._watch.scans) % _BLOCK
            count = min(_BLOCK - row, len(singles) - start)
            block = np.zeros((_BLOCK, singles.shape[1]), dtype=np.float32)
            block[row : row + count] = singles[start : start + count]
            features = law.features(self.profile.portfolio, block)
            yield start, features[row : row + count].astype(np.float64)
            start += count


def _digest(profile: ReferenceProfile) -> str:
    """Return what tells a profile from others."""
    portfolio = profile.portfolio
    digest = blake2b(f"{profile.seed} {profile.space}".encode(), digest_size=16)
    for array in (portfolio.centre, portfolio.traces, portfolio.null.deviations):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
