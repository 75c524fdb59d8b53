from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2

from monitor.profiles import ReferenceProfile
from monitor.statistics.streams.recovery import Recovery
from monitor.streams import StreamAlarm, StreamDetector
from registry.errors import (
    BadInputError,
    EmbeddingsError,
    IntegrityError,
    NotFoundError,
    SpaceMismatchError,
)

DIMENSION = 12
MIXING = np.random.default_rng(98).normal(size=(DIMENSION, DIMENSION)) / np.arange(
    1, DIMENSION + 1
)


def scans(n: int, *, seed: int, shift: float = 0.0, spread: float = 1.0) -> np.ndarray:
    """Scans of one heavy-tailed, anisotropic population, or of one moved along its axes."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, DIMENSION)) * np.exp(0.2 * rng.normal(size=(n, 1))) * spread
    return ((z + shift) @ MIXING.T + 3.0).astype(np.float32)


@pytest.fixture(scope="module")
def profile() -> ReferenceProfile:
    return ReferenceProfile.fit(scans(600, seed=1), seed=5, space="encoder-a")


def started(profile: ReferenceProfile, *, budget: int = 1000, **kept: int) -> StreamDetector:
    return StreamDetector(profile, scans_between_false_alarms=budget, **kept)


def fed(stream: StreamDetector, batch: np.ndarray, *sizes: int, patients=None) -> list:
    """Feed a stream in batches of these sizes in turn; return its alarms."""
    start, turn = 0, 0
    while start < len(batch):
        end = start + sizes[turn % len(sizes)]
        stream.update(batch[start:end], None if patients is None else patients[start:end])
        start, turn = end, turn + 1
    return list(stream.alarms)


def state(stream: StreamDetector, folder: Path) -> tuple[bytes, str]:
    """The bytes that the stream is saved as."""
    stream.save(folder)
    (tensors,) = folder.glob("*.safetensors")
    return tensors.read_bytes(), (folder / "stream.json").read_text()


def test_a_shift_alarms_soon_and_says_since_when_and_who_sees_it(
    profile: ReferenceProfile,
) -> None:
    stream = started(profile)
    assert stream.update(scans(200, seed=2)) is None
    alarm = stream.update(scans(200, seed=3, shift=0.7))
    assert alarm is not None
    assert 200 <= alarm.scan < 250
    assert alarm.onset_low <= 200 <= alarm.onset_high
    assert abs(alarm.onset - 200) <= 10
    assert alarm.leading[0].startswith(("whitened-mean", "fourier-mmd"))
    assert stream.shifted
    assert alarm.recovered is None


def test_a_change_of_spread_is_seen_by_distances(profile: ReferenceProfile) -> None:
    stream = started(profile)
    fed(stream, scans(100, seed=4), 100)
    (alarm,) = fed(stream, scans(200, seed=5, spread=1.5), 200)
    assert 100 <= alarm.scan < 160
    assert {"log-mahalanobis-fine", "log-mahalanobis-middle"} & set(alarm.leading)


def test_one_shift_is_one_alarm_which_is_closed_when_the_scans_are_as_before(
    profile: ReferenceProfile,
) -> None:
    stream = started(profile)
    fed(stream, scans(150, seed=6), 50)
    fed(stream, scans(1500, seed=7, shift=0.5), 50)
    assert len(stream.alarms) == 1
    assert stream.shifted
    fed(stream, scans(500, seed=8), 50)
    (alarm,) = stream.alarms
    assert not stream.shifted
    assert 1650 < alarm.recovered < 2150
    # A second shift is another alarm.
    fed(stream, scans(200, seed=9, shift=-0.7), 50)
    assert len(stream.alarms) == 2
    assert stream.alarms[0] == alarm
    assert stream.alarms[1].onset_low <= 2150 <= stream.alarms[1].onset_high


def test_a_shift_that_turns_into_another_stays_one_alarm(profile: ReferenceProfile) -> None:
    stream = started(profile)
    fed(stream, scans(150, seed=10), 50)
    fed(stream, scans(400, seed=11, shift=0.7), 50)
    fed(stream, scans(600, seed=12, spread=1.6), 50)
    assert len(stream.alarms) == 1
    assert stream.shifted


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_batches_do_not_matter_to_the_bit(
    profile: ReferenceProfile, tmp_path: Path, shift: float
) -> None:
    batch = np.concatenate([scans(90, seed=13), scans(171, seed=14, shift=shift)])
    patients = np.repeat(np.arange(100, 187), 3)
    whole, parts, singly = (started(profile, burn_in=50) for _ in range(3))
    fed(whole, batch, len(batch), patients=patients)
    fed(parts, batch, 1, 7, 32, 40, patients=patients)
    fed(singly, batch, 1, patients=patients)
    saved = state(whole, tmp_path / "whole")
    assert saved == state(parts, tmp_path / "parts")
    assert saved == state(singly, tmp_path / "singly")
    assert bool(whole.alarms) == (shift > 0)


def test_a_course_can_be_looked_at_after_each_scan(profile: ReferenceProfile) -> None:
    batch = np.concatenate([scans(30, seed=21), scans(70, seed=22, shift=1.5)])
    stream, one_by_one = started(profile), started(profile)
    raised = []
    for number, alarm in enumerate(stream.course(batch)):
        expected = one_by_one.update(batch[number : number + 1])
        assert (stream.scans, stream.evidence) == (number + 1, one_by_one.evidence)
        assert (alarm is None) == (expected is None)
        raised += [] if alarm is None else [number]
    assert len(raised) == 1
    assert stream.alarms == one_by_one.alarms


@pytest.mark.parametrize("stop", [37, 151, 290, 395, 560])
def test_a_stream_that_was_saved_goes_on_to_the_bit(
    profile: ReferenceProfile, tmp_path: Path, stop: int
) -> None:
    """In its burn-in, in a round, in a shift, while it fades, and after that."""
    batch = np.concatenate(
        [scans(200, seed=15), scans(140, seed=16, shift=0.9), scans(260, seed=17)]
    )
    # Some come twice, and some of these at once.
    patients = [f"p{one}" for one in np.random.default_rng(0).integers(0, 3000, 300)]
    patients = np.repeat(patients, 2)
    through, stopped = (started(profile, burn_in=100, seed=3) for _ in range(2))
    fed(through, batch, 50, patients=patients)
    fed(stopped, batch[:stop], 41, patients=patients[:stop])
    stopped.save(tmp_path / "stream")
    resumed = StreamDetector.load(tmp_path / "stream", profile)
    assert resumed.scans == stop
    assert resumed.burning_in == (stop < 100)
    fed(resumed, batch[stop:], 23, patients=patients[stop:])
    assert state(through, tmp_path / "a") == state(resumed, tmp_path / "b")
    assert through.alarms
    assert through.alarms[0].recovered is not None


def test_a_killed_process_leaves_a_whole_state_behind(
    profile: ReferenceProfile, tmp_path: Path
) -> None:
    profile.save(tmp_path / "profile")
    np.save(tmp_path / "scans.npy", scans(4000, seed=18))
    program = (
        "import sys, numpy as np; from pathlib import Path\n"
        "from monitor.profiles import ReferenceProfile\n"
        "from monitor.streams import StreamDetector\n"
        "folder = Path(sys.argv[1]); batch = np.load(folder / 'scans.npy')\n"
        "profile = ReferenceProfile.load(folder / 'profile')\n"
        "stream = StreamDetector(profile, scans_between_false_alarms=1000, burn_in=3000)\n"
        "for i in range(0, len(batch), 5):\n"
        "    stream.update(batch[i:i + 5]); stream.save(folder / 'stream')\n"
        "    print(stream.scans, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as child:
        assert child.stdout is not None
        for _ in range(5):
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)
    stream = StreamDetector.load(tmp_path / "stream", profile)
    assert stream.burning_in
    assert stream.scans >= 25
    same = started(profile, burn_in=3000)
    fed(same, scans(4000, seed=18)[: stream.scans], 64)
    assert state(stream, tmp_path / "a") == state(same, tmp_path / "b")


def test_null_streams_keep_their_budget(profile: ReferenceProfile) -> None:
    """Scans to an alarm, added up over streams, over alarms: about the budget of 250.

    Single references have budgets of their own, so eight of them are averaged over; the mean
    of 250 is inflated by their spread and bounded as a gamma variable's.
    """
    budget, watched, alarms = 250, 0, 0
    for k in range(8):
        own = ReferenceProfile.fit(scans(500, seed=100 + k), seed=k)
        for j in range(3):
            stream = started(own, budget=budget)
            batch = scans(1000, seed=1000 + 10 * k + j)
            for start in range(0, len(batch), 125):
                if stream.update(batch[start : start + 125]):
                    break
            watched += stream.alarms[0].scan + 1 if stream.alarms else len(batch)
            alarms += len(stream.alarms)
    # 99.9 % of sums of exponential times lie within these, for 24 streams.
    low, high = (watched * 2 / chi2.ppf(q, 2 * alarms) for q in (0.9995, 0.0005))
    assert low < budget * 1.2
    assert high > budget * 0.8


def test_scans_of_one_patient_in_a_row_do_not_shorten_the_time_to_an_alarm(
    profile: ReferenceProfile,
) -> None:
    """Forty copies of each patient, told so, raise no alarm; untold they do at once."""
    rng = np.random.default_rng(19)
    patients = np.repeat(np.arange(12), 40)
    batch = scans(12, seed=20)[patients] + rng.normal(0, 1e-3, (480, DIMENSION))
    told, untold = started(profile), started(profile)
    assert not fed(told, batch.astype(np.float32), 96, patients=patients)
    assert fed(untold, batch.astype(np.float32), 96)


def test_a_patient_who_comes_back_between_others_is_not_compared_with_himself(
    profile: ReferenceProfile,
) -> None:
    """Twenty patients in turn, each a hundred times: told so, they are few and no shift."""
    patients = np.tile(np.arange(20), 40)
    rng = np.random.default_rng(21)
    batch = scans(20, seed=22)[patients] + rng.normal(0, 1e-3, (800, DIMENSION))
    told, untold = started(profile), started(profile)
    assert not fed(told, batch.astype(np.float32), 160, patients=patients)
    assert fed(untold, batch.astype(np.float32), 160)


def test_a_burn_in_raises_no_alarm_and_learns_what_is_ordinary(
    profile: ReferenceProfile,
) -> None:
    stream = started(profile, burn_in=400)
    assert not fed(stream, scans(400, seed=23, shift=0.5), 50)
    assert not stream.burning_in
    # What the burn-in had is ordinary now, and the reference itself a shift from it.
    assert not fed(stream, scans(150, seed=24, shift=0.5), 50)
    assert fed(stream, scans(300, seed=25, shift=-0.5), 50)


def test_evidence_rises_towards_an_alarm(profile: ReferenceProfile) -> None:
    stream = started(profile)
    stream.update(scans(60, seed=26))
    before = stream.evidence
    stream.update(scans(20, seed=27, shift=0.7))
    assert before < stream.evidence < 0.0


def test_a_shift_that_fades_into_what_weeks_differ_by_is_over() -> None:
    """Scans half as far out as the shift so far never add to the evidence of its end."""
    recovery = Recovery.start(
        np.array([20.0, 0.0, 0.0]), 40.0, trace=0.01, spread=0.01, inverse_size=0.0
    )
    scans_since = 0
    while not recovery.over(5000):
        recovery.see(0.51 * recovery.shifted / recovery.mass, 1.0)
        assert recovery.evidence == 0.0
        scans_since += 1
        assert scans_since < 200
    # A mean of half the length takes three times as many scans as the shift had.
    assert scans_since > 100
    assert recovery.squared_shift > 0.0


@pytest.mark.parametrize("alike", [False, True])
def test_patients_who_come_again_and_again_while_a_shift_lasts_do_not_blind_the_stream(
    profile: ReferenceProfile, alike: bool
) -> None:
    """A phantom, or one patient's number given to many, is scanned every hour."""
    stream = started(profile)
    stream.update(scans(60, seed=10))
    assert stream.update(scans(100, seed=50, shift=1.5))
    few = scans(5, seed=20)
    for number in range(60):
        again = np.repeat(few[:1], 5, axis=0) if alike and number % 7 == 3 else few
        stream.update(again, [f"phantom {i}" for i in range(5)])
        assert np.isfinite(stream.evidence)
    averages = stream._watch.bets.averages
    assert (averages.total >= averages.reference).all()
    # Ordinary patients, some of whom come back while it is told that the shift is over.
    for number in range(6):
        stream.update(scans(40, seed=30 + number), [f"patient {i % 30}" for i in range(40)])
        assert np.isfinite(stream.evidence)
    stream.update(scans(600, seed=29))
    assert not stream.shifted
    assert stream.update(scans(500, seed=40, shift=1.5))


def test_copies_of_one_image_are_scans_as_others_are(
    profile: ReferenceProfile, tmp_path: Path
) -> None:
    copies = np.full((40, DIMENSION), 0.5, dtype=np.float32)
    together, one_by_one = started(profile), started(profile)
    together.update(copies)
    for copy in copies:
        one_by_one.update(copy[None])
    assert together.alarms  # blank images are a shift
    assert state(together, tmp_path / "a") == state(one_by_one, tmp_path / "b")


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda batch: np.where(np.arange(DIMENSION) == 3, np.nan, batch), EmbeddingsError),
        (lambda batch: batch[:, :-1], EmbeddingsError),
        (lambda batch: batch[:0], EmbeddingsError),
        (lambda batch: batch[0], EmbeddingsError),
    ],
    ids=["nan", "dimension", "empty", "one row"],
)
def test_bad_batches_are_refused_and_leave_the_stream_as_it_was(
    profile: ReferenceProfile, tmp_path: Path, spoil, error
) -> None:
    stream = started(profile)
    stream.update(scans(10, seed=28))
    before = state(stream, tmp_path / "before")
    with pytest.raises(error):
        stream.update(spoil(scans(8, seed=29)))
    assert state(stream, tmp_path / "after") == before


def test_another_space_or_wrong_patients_are_refused(profile: ReferenceProfile) -> None:
    stream = started(profile)
    with pytest.raises(SpaceMismatchError, match="same encoder"):
        stream.update(scans(8, seed=30), space="encoder-b")
    with pytest.raises(EmbeddingsError, match="one identifier for each"):
        stream.update(scans(8, seed=30), [1, 2])
    assert stream.scans == 0
    stream.update(scans(8, seed=30), space="encoder-a")
    assert stream.scans == 8


@pytest.mark.parametrize("options", [{"budget": 99}, {"burn_in": -1}])
def test_impossible_settings_are_refused(profile: ReferenceProfile, options) -> None:
    with pytest.raises(BadInputError):
        started(profile, **options)


def test_no_identifier_is_saved(profile: ReferenceProfile, tmp_path: Path) -> None:
    stream = started(profile)
    names = [f"patient-{k}" for k in range(30)]
    stream.update(scans(30, seed=31), names)
    tensors, facts = state(stream, tmp_path)
    assert b"patient-" not in tensors
    assert "patient-" not in facts


def test_a_damaged_or_foreign_state_is_refused(
    profile: ReferenceProfile, tmp_path: Path
) -> None:
    with pytest.raises(NotFoundError):
        StreamDetector.load(tmp_path, profile)
    stream = started(profile)
    stream.update(scans(20, seed=32))
    stream.save(tmp_path)
    other = ReferenceProfile.fit(scans(300, seed=33), seed=5, space="encoder-a")
    with pytest.raises(BadInputError, match="another profile"):
        StreamDetector.load(tmp_path, other)
    (tensors,) = tmp_path.glob("*.safetensors")
    content = tensors.read_bytes()
    tensors.write_bytes(content[:-8] + b"\0\0\0\0\0\0\0\1")
    with pytest.raises(IntegrityError):
        StreamDetector.load(tmp_path, profile)
    tensors.unlink()
    with pytest.raises(NotFoundError, match="whole stream"):
        StreamDetector.load(tmp_path, profile)
    facts = json.loads((tmp_path / "stream.json").read_text())
    (tmp_path / "stream.json").write_text(json.dumps({**facts, "format": 99}))
    with pytest.raises(BadInputError, match="format 99"):
        StreamDetector.load(tmp_path, profile)
    (tmp_path / "stream.json").write_text("{")
    with pytest.raises(BadInputError, match="does not describe"):
        StreamDetector.load(tmp_path, profile)


def test_an_alarm_is_never_in_an_invalid_state() -> None:
    right = {
        "scan": 9, "onset": 4, "onset_low": 2, "onset_high": 6, "leading": ("a",),
        "recovered": None,
    }  # fmt: skip
    StreamAlarm(**right)
    for wrong in ({"onset": 7}, {"onset_low": 5}, {"onset_high": 10}, {"recovered": 9}):
        with pytest.raises(ValueError, match=r"onset|over"):
            StreamAlarm(**{**right, **wrong})
