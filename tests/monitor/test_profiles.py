from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from monitor.profiles import ReferenceProfile
from registry.errors import (
    BadInputError,
    EmbeddingsError,
    InsufficientDataError,
    InsufficientReferenceError,
    IntegrityError,
    NotFoundError,
    SpaceMismatchError,
)

DIMENSION = 24
MIXING = np.random.default_rng(99).normal(size=(DIMENSION, DIMENSION)) / np.arange(
    1, DIMENSION + 1
)


def scans(n: int, *, seed: int, shift: float = 0.0, spread: float = 1.0) -> np.ndarray:
    """Scans of one heavy-tailed, anisotropic population, or of one moved along its axes."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, DIMENSION)) * np.exp(0.3 * rng.normal(size=(n, 1))) * spread
    return ((z + shift) @ MIXING.T + 7.0).astype(np.float32)


@pytest.fixture(scope="module")
def profile() -> ReferenceProfile:
    return ReferenceProfile.fit(scans(400, seed=1), seed=5, space="encoder-a")


def test_an_ordinary_window_is_no_drift(profile: ReferenceProfile) -> None:
    verdict = profile.check(scans(100, seed=2))
    assert verdict.p_value > 0.05
    assert verdict.scans == verdict.patients == 100
    assert not verdict.subsampled
    assert verdict.effect.low == 0.0
    assert verdict.seed == 5


def test_a_clear_shift_of_the_mean_is_found_measured_and_larger_than_the_smallest(
    profile: ReferenceProfile,
) -> None:
    verdict = profile.check(scans(100, seed=3, shift=0.4))
    assert verdict.p_value == pytest.approx(1 / 5001)
    # The reference's deviation is exp(0.3^2) = 1.094 along every axis.
    true = 0.4 * np.sqrt(DIMENSION) / 1.094
    # The deviations are estimated from 400 heavy-tailed scans.
    assert verdict.effect.value == pytest.approx(true, rel=0.25)
    assert 0.7 * true < verdict.effect.low < verdict.effect.value < verdict.effect.high
    assert verdict.effect.value > verdict.smallest_effect
    assert verdict.leading.startswith("whitened-mean")


def test_a_change_of_spread_alone_is_found_by_distances_and_variances(
    profile: ReferenceProfile,
) -> None:
    verdict = profile.check(scans(150, seed=4, spread=1.3))
    assert verdict.p_value < 0.001
    found = {name for name, one in verdict.detectors.items() if one.p_value < 0.001}
    assert {"log-mahalanobis-fine", "variances"} <= found
    assert verdict.detectors["whitened-mean-all"].p_value > 0.05


def test_a_larger_window_shows_smaller_shifts(profile: ReferenceProfile) -> None:
    small, large = (profile.check(scans(n, seed=6)).smallest_effect for n in (40, 200))
    assert large < 0.7 * small


def test_the_smallest_effect_is_found_with_its_power_and_half_of_it_is_not(
    profile: ReferenceProfile,
) -> None:
    smallest = profile.check(scans(80, seed=0)).smallest_effect
    power = {
        share: np.mean(
            [
                profile.check(scans(80, seed=100 + k, shift=share * unit)).p_value <= 0.05
                for k in range(100)
            ]
        )
        for unit in [smallest / np.sqrt(DIMENSION) * 1.094]
        for share in (1.0, 0.5)
    }
    # 80 % less three binomial deviations: other detectors add to the one it is based on.
    assert power[1.0] >= 0.68
    assert power[0.5] < 0.6


def test_a_verdict_names_every_detector_with_p_value_and_effect(
    profile: ReferenceProfile,
) -> None:
    detectors = profile.check(scans(60, seed=7)).detectors
    assert set(detectors) == {
        "whitened-mean-all",
        "fourier-mmd-narrow",
        "fourier-mmd-wide",
        "fourier-mmd-leading-narrow",
        "fourier-mmd-leading-wide",
        "fourier-mmd-whitened",
        "log-mahalanobis-fine",
        "log-mahalanobis-middle",
        "log-mahalanobis-coarse",
        "residual",
        "novelty",
        "variances",
        "occupancy",
        "occupancy-peak",
    }
    assert all(0 < one.p_value <= 1 and one.effect >= 0 for one in detectors.values())


def test_the_order_of_scans_does_not_matter(profile: ReferenceProfile) -> None:
    window = scans(60, seed=8)
    one, other = profile.check(window), profile.check(window[::-1])
    assert other.p_value == pytest.approx(one.p_value, rel=1e-2)
    assert other.effect.value == pytest.approx(one.effect.value, abs=1e-4)


def test_a_window_beyond_calibration_is_subsampled_always_the_same_way(
    profile: ReferenceProfile,
) -> None:
    window = scans(500, seed=9)
    verdict = profile.check(window)
    assert verdict.subsampled
    assert verdict.patients == 200
    assert profile.check(window) == verdict


def test_scan_weights_add_up_to_the_leading_squared_shift(profile: ReferenceProfile) -> None:
    window = scans(80, seed=10)
    window[:8] += 4.0 * MIXING[:, 0].astype(np.float32)
    verdict, weights = profile.check(window), profile.scan_weights(window)
    leading = verdict.detectors[verdict.leading]
    # The reference's own error is taken off the squared shift, and belongs to no scan.
    whole = leading.statistic * (1 / 80 + 1 / 400)
    g = next(i for i, m in enumerate(profile.portfolio.members) if m.name == verdict.leading)
    error = profile.portfolio.traces[g] * profile.portfolio.inverse_sizes[g]
    assert weights.sum() == pytest.approx(whole + error, rel=1e-4)
    assert weights[:8].mean() > 3 * weights[8:].mean()


def test_scan_scores_are_uniform_for_ordinary_scans_and_high_for_outliers(
    profile: ReferenceProfile,
) -> None:
    scores = profile.scan_scores(scans(2000, seed=11))
    # Uniform up to the errors of 2,000 scans and of the reference's 400.
    assert np.quantile(scores, [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.07)
    assert profile.scan_scores(scans(50, seed=12, spread=6.0)).min() > 0.95
    assert 0 < scores.min() < scores.max() < 1


def test_the_projection_is_onto_the_leading_principal_components(
    profile: ReferenceProfile,
) -> None:
    reference = scans(400, seed=1)
    projected = profile.project(reference)
    centred = reference - reference.mean(axis=0)
    _, singular, rows = np.linalg.svd(centred, full_matrices=False)
    assert np.abs(projected) == pytest.approx(np.abs(centred @ rows[:2].T), abs=1e-3)
    shares = singular[:2] ** 2 / np.square(singular).sum()
    assert profile.explained == pytest.approx(tuple(shares), rel=1e-4)


def clustered(patients: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Six scans of each patient, alike."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(patients, 6))
    x = np.repeat(own, 6, axis=0) + 0.6 * rng.normal(size=(6 * patients, 6))
    return x.astype(np.float32), np.repeat([f"patient-{k}" for k in range(patients)], 6)


def test_ignoring_patients_alarms_and_respecting_them_does_not() -> None:
    reference, names = clustered(200, seed=20)
    blind = ReferenceProfile.fit(reference, seed=1)
    aware = ReferenceProfile.fit(reference, names, seed=1)
    windows = [clustered(15, seed=21 + k) for k in range(60)]
    blind_alarms = np.mean([blind.check(x).p_value <= 0.05 for x, _ in windows])
    aware_alarms = np.mean([aware.check(x, ids).p_value <= 0.05 for x, ids in windows])
    assert blind_alarms > 0.6
    # 0.05 and four binomial deviations.
    assert aware_alarms <= 0.16
    assert aware.patients == 200
    assert aware.scans == 1200


WEEKS, EACH = 16, 25
#: of the variance of a scan along every axis
BETWEEN_WEEKS = 0.03


def moved_weeks(
    weeks: int, each: int, *, seed: int, ratio: float = BETWEEN_WEEKS, shift: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Scans of weeks, each moved by an offset of its own, and all along one axis."""
    rng = np.random.default_rng(seed)
    week = np.repeat(np.arange(weeks), each)
    offsets = 1.094 * np.sqrt(ratio) * rng.normal(size=(weeks, DIMENSION))
    offsets[:, 0] += shift
    moved = scans(len(week), seed=seed + 10_000) + offsets[week] @ MIXING.T
    return moved.astype(np.float32), week


@pytest.fixture(scope="module")
def weekly() -> ReferenceProfile:
    reference, week = moved_weeks(WEEKS, EACH, seed=80)
    return ReferenceProfile.fit(reference, weeks=week, seed=6, space="encoder-a")


def test_the_weeks_own_part_of_the_variance_is_learnt(weekly: ReferenceProfile) -> None:
    effects = weekly.portfolio.weeks
    assert effects is not None
    assert effects.weeks == WEEKS
    names = [member.name for member in weekly.portfolio.members]
    ratio = effects.ratios[names.index("whitened-mean-all")]
    # With its standard error added; of 16 weeks and 24 directions about a tenth.
    assert 0.7 * BETWEEN_WEEKS < ratio < 1.7 * BETWEEN_WEEKS
    # What weeks do not move is not excused either.
    assert effects.ratios[names.index("variances")] < 0.5 * BETWEEN_WEEKS


def test_ordinary_weeks_are_a_shift_and_no_alarm(weekly: ReferenceProfile) -> None:
    verdicts = [
        weekly.check(moved_weeks(1, 100, seed=200 + k)[0], space="encoder-a") for k in range(30)
    ]
    assert np.mean([verdict.p_value <= 0.05 for verdict in verdicts]) > 0.8
    # 0.05 and four binomial deviations.
    assert np.mean([verdict.alarm_p_value <= 0.05 for verdict in verdicts]) <= 0.21


def test_a_shift_of_several_bands_is_an_alarm_and_one_within_the_band_is_none(
    weekly: ReferenceProfile,
) -> None:
    ordinary = weekly.check(moved_weeks(1, 100, seed=300)[0]).ordinary_effect
    assert ordinary is not None

    def alarms(bands: float) -> float:
        # In deviations of a scan along the axis.
        shift = 1.094 * bands * ordinary
        return float(
            np.mean(
                [
                    weekly.check(
                        moved_weeks(1, 100, seed=310 + k, ratio=0.0, shift=shift)[0]
                    ).alarm_p_value
                    <= 0.01
                    for k in range(10)
                ]
            )
        )

    assert alarms(3.0) == 1.0
    assert alarms(0.3) == 0.0


def test_the_differences_of_several_weeks_even_out(weekly: ReferenceProfile) -> None:
    window, week = moved_weeks(5, 20, seed=400)
    one, several = weekly.check(window), weekly.check(window, weeks=week)
    assert one.ordinary_effect is not None
    assert several.ordinary_effect is not None
    # A window of five equal weeks holds a fifth of a week's variance, and the reference its own.
    assert several.ordinary_effect / one.ordinary_effect == pytest.approx(
        np.sqrt((1 / 5 + 1 / WEEKS) / (1 + 1 / WEEKS))
    )
    assert several.p_value == one.p_value
    assert several.alarm_p_value < one.alarm_p_value


def test_weeks_of_a_window_count_by_their_shares_of_scans(weekly: ReferenceProfile) -> None:
    window, _ = moved_weeks(1, 100, seed=401)
    ordinary = {
        ends: weekly.check(
            window, weeks=np.repeat(["w1", "w2"], [ends, 100 - ends])
        ).ordinary_effect
        for ends in (50, 90)
    }
    assert ordinary[90] / ordinary[50] == pytest.approx(
        np.sqrt((0.82 + 1 / WEEKS) / (0.5 + 1 / WEEKS))
    )
    assert weekly.check(window, weeks=["w1"] * 100) == weekly.check(window)


def test_without_weeks_a_verdict_says_nothing_of_them(profile: ReferenceProfile) -> None:
    window = scans(60, seed=90)
    verdict = profile.check(window)
    assert verdict.week_p_value is None
    assert verdict.ordinary_effect is None
    assert verdict.alarm_p_value == verdict.p_value
    assert profile.check(window, weeks=[1, 2] * 30) == verdict


def test_patients_seen_in_two_weeks_belong_to_both() -> None:
    rng = np.random.default_rng(7)
    week = np.repeat(np.arange(12), 40)
    # A third of the scans are second visits, of patients of the week before.
    names = np.arange(480)
    returning = np.flatnonzero((np.arange(480) % 40 < 13) & (week > 0))
    names[returning] -= 27
    x = scans(480, seed=91)
    x[returning] = 0.7 * (x[returning - 27] - 7.0) + 0.7 * (x[returning] - 7.0) + 7.0
    order = rng.permutation(480)
    profile = ReferenceProfile.fit(x[order], names[order], weeks=week[order], seed=1)
    effects = profile.portfolio.weeks
    assert profile.patients == 480 - len(returning)
    assert effects is not None
    assert effects.weeks == 12
    # No more than the standard errors of members that are seen on three fifths of the scans.
    assert np.median(effects.ratios) < 0.01
    assert effects.ratios.max() < 0.05
    p_values = [profile.check(scans(80, seed=500 + k)).alarm_p_value for k in range(20)]
    assert np.mean(np.array(p_values) <= 0.05) <= 0.2


@pytest.mark.parametrize(
    ("scans_of_week", "patients_of_week", "heard"),
    [
        ([58] * 7, [58] * 7, 7),
        ([50] * 6 + [19] * 10, [50] * 6 + [19] * 10, 6),
        # Twenty scans of four patients are a week of four patients.
        ([20] * 30, [20] * 7 + [4] * 23, 7),
    ],
    ids=["few-weeks", "small-weeks", "few-patients"],
)
def test_a_reference_of_too_few_or_too_small_weeks_is_refused(
    scans_of_week: list[int], patients_of_week: list[int], heard: int
) -> None:
    weeks = np.repeat(np.arange(len(scans_of_week)), scans_of_week)
    names = np.concatenate(
        [
            1000 * k + np.arange(count) % patients
            for k, (count, patients) in enumerate(
                zip(scans_of_week, patients_of_week, strict=True)
            )
        ]
    )
    with pytest.raises(
        InsufficientReferenceError,
        match=f"weeks of at least 20 patients in the reference: need at least 8, got {heard}",
    ):
        ReferenceProfile.fit(scans(len(weeks), seed=1), names, weeks=weeks)


@pytest.mark.parametrize("weeks", [[1, 2], [0.5] * 60, [["w"]] * 60])
def test_weeks_that_do_not_fit_the_scans_are_refused_by_name(
    weekly: ReferenceProfile, weeks: list[object]
) -> None:
    with pytest.raises(EmbeddingsError, match="week identifiers"):
        weekly.check(scans(60, seed=3), weeks=weeks)  # type: ignore[arg-type]
    with pytest.raises(EmbeddingsError, match="week identifiers"):
        ReferenceProfile.fit(scans(400, seed=3), weeks=weeks)  # type: ignore[arg-type]


def test_a_profile_that_knows_weeks_is_kept_whole(
    weekly: ReferenceProfile, tmp_path: Path
) -> None:
    weekly.save(tmp_path / "one")
    loaded = ReferenceProfile.load(tmp_path / "one")
    loaded.save(tmp_path / "two")
    for name in ("profile.json", "profile.safetensors"):
        one, two = ((tmp_path / where / name).read_bytes() for where in ("one", "two"))
        assert one == two
    window, week = moved_weeks(2, 40, seed=402)
    verdict = weekly.check(window, weeks=week)
    assert verdict.week_p_value is not None
    assert loaded.check(window, weeks=week) == verdict
    assert loaded.check(window) == weekly.check(window)


def test_saved_twice_gives_the_same_bytes_and_loaded_the_same_verdicts(
    profile: ReferenceProfile, tmp_path: Path
) -> None:
    profile.save(tmp_path / "one")
    loaded = ReferenceProfile.load(tmp_path / "one")
    loaded.save(tmp_path / "two")
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["profile.json", "profile.safetensors"]
    for name in files:
        one, two = ((tmp_path / where / name).read_bytes() for where in ("one", "two"))
        assert hashlib.sha256(one).hexdigest() == hashlib.sha256(two).hexdigest()
    window = scans(70, seed=30)
    assert loaded.check(window) == profile.check(window)
    assert (loaded.space, loaded.seed, loaded.kernels) == ("encoder-a", 5, profile.kernels)
    assert np.array_equal(loaded.scan_scores(window), profile.scan_scores(window))
    assert loaded.persistence_p_value([0.04, 0.03], [70, 70]) == profile.persistence_p_value(
        [0.04, 0.03], [70, 70]
    )


def test_what_is_not_a_profile_is_refused(profile: ReferenceProfile, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="holds no profile"):
        ReferenceProfile.load(tmp_path)
    profile.save(tmp_path)
    facts = json.loads((tmp_path / "profile.json").read_text())
    (tmp_path / "profile.json").write_text(json.dumps({**facts, "format": 99}))
    with pytest.raises(BadInputError, match="format 99"):
        ReferenceProfile.load(tmp_path)
    (tmp_path / "profile.json").write_text("[]")
    with pytest.raises(BadInputError, match="does not describe a profile"):
        ReferenceProfile.load(tmp_path)
    (tmp_path / "profile.json").write_text(
        json.dumps({key: value for key, value in facts.items() if key != "ridges"})
    )
    with pytest.raises(BadInputError, match="whole profile"):
        ReferenceProfile.load(tmp_path)


def test_tensors_of_another_profile_are_found(
    profile: ReferenceProfile, tmp_path: Path
) -> None:
    profile.save(tmp_path)
    path = tmp_path / "profile.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError):
        ReferenceProfile.load(tmp_path)


def test_the_bits_do_not_depend_on_the_threads_offered(tmp_path: Path) -> None:
    # In processes of their own: the number is read when the library is loaded.
    script = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from monitor.profiles import ReferenceProfile\n"
        "x = np.random.default_rng(0).normal(size=(500, 160)).astype(np.float32)\n"
        "weeks = np.repeat(np.arange(9), 40)\n"
        "profile = ReferenceProfile.fit(x[:360], weeks=weeks, seed=3)\n"
        "profile.save(Path(sys.argv[1]))\n"
        "print(repr(profile.check(x[360:])))\n"
    )
    verdicts = []
    for threads in ("1", "4"):
        environment = os.environ | dict.fromkeys(
            ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads
        )
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / threads)],
            env=environment,
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        verdicts.append(done.stdout)
    assert verdicts[0] == verdicts[1]
    saved = {(tmp_path / n / "profile.safetensors").read_bytes() for n in ("1", "4")}
    assert len(saved) == 1


def test_a_limit_set_outside_changes_nothing(profile: ReferenceProfile) -> None:
    window = scans(90, seed=31)
    with threadpool_limits(limits=2):
        two = profile.check(window)
    assert two == profile.check(window)


def test_other_seeds_give_other_draws_and_close_p_values() -> None:
    reference, window = scans(300, seed=40), scans(60, seed=41)
    p = [ReferenceProfile.fit(reference, seed=seed).check(window).p_value for seed in (1, 2)]
    assert p[0] != p[1]
    assert p[0] == pytest.approx(p[1], abs=0.15)


def test_windows_of_another_space_are_never_compared(profile: ReferenceProfile) -> None:
    window = scans(60, seed=50)
    assert profile.check(window, space="encoder-a").p_value > 0
    with pytest.raises(SpaceMismatchError, match="'encoder-b'"):
        profile.check(window, space="encoder-b")


def test_sizes_below_the_floors_are_refused(profile: ReferenceProfile) -> None:
    with pytest.raises(InsufficientReferenceError, match="at least 200, got 199"):
        ReferenceProfile.fit(scans(199, seed=0))
    with pytest.raises(InsufficientReferenceError, match="got 2"):
        ReferenceProfile.fit(scans(400, seed=0), [0, 1] * 200)
    with pytest.raises(InsufficientDataError, match="scans in the window: need at least 20"):
        profile.check(scans(19, seed=0))
    with pytest.raises(InsufficientDataError, match="patients in the window"):
        profile.check(scans(40, seed=0), ["one"] * 40)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_broken_embeddings_never_give_a_verdict(
    profile: ReferenceProfile, value: float
) -> None:
    broken = scans(300, seed=0)
    broken[7, 3] = value
    with pytest.raises(EmbeddingsError, match="1 of the reference's 300"):
        ReferenceProfile.fit(broken)
    for ask in (profile.check, profile.scan_scores, profile.scan_weights, profile.project):
        with pytest.raises(EmbeddingsError, match="1 of the window's 300"):
            ask(broken)


def test_a_window_of_copies_is_judged_where_that_is_asked(profile: ReferenceProfile) -> None:
    for distinct in (0, 5, 20):
        window = np.concatenate(
            [
                scans(distinct, seed=7),
                np.full((60 - distinct, DIMENSION), 0.5, dtype=np.float32),
            ]
        )
        with pytest.raises(EmbeddingsError, match=r"are the same|are copies"):
            profile.check(window)
        assert profile.check(window, copies=True).p_value < 0.001
        # Of one patient they are one unit, and say little.
        with pytest.raises(InsufficientDataError):
            profile.check(window, ["one"] * 60, copies=True)
        assert np.isfinite(profile.scan_weights(window)).all()
        assert np.isfinite(profile.project(window)).all()


def test_constant_embeddings_and_other_dimensions_are_refused(
    profile: ReferenceProfile,
) -> None:
    with pytest.raises(EmbeddingsError, match="are the same"):
        ReferenceProfile.fit(np.ones((300, 4), dtype=np.float32))
    with pytest.raises(EmbeddingsError, match="are the same"):
        profile.check(np.ones((30, DIMENSION), dtype=np.float32))
    with pytest.raises(EmbeddingsError, match="the reference 24"):
        profile.check(scans(30, seed=0)[:, :5])


def test_scans_at_absurd_distances_are_a_shift_and_no_overflow(
    profile: ReferenceProfile,
) -> None:
    window = scans(60, seed=60)
    window[:30] = 1e37
    verdict = profile.check(window)
    assert verdict.p_value == pytest.approx(1 / 5001)
    assert all(np.isfinite(one.statistic) for one in verdict.detectors.values())


def test_dead_and_duplicated_dimensions_do_no_harm() -> None:
    def with_dead(x: np.ndarray) -> np.ndarray:
        return np.hstack([x, x[:, :3], np.zeros((len(x), 4), dtype=np.float32)])

    profile = ReferenceProfile.fit(with_dead(scans(300, seed=70)), seed=2)
    assert profile.check(with_dead(scans(80, seed=71))).p_value > 0.01
    assert profile.check(with_dead(scans(80, seed=72, shift=0.5))).p_value < 0.001


def test_what_is_handed_in_stays_as_it_is() -> None:
    reference, window, week = scans(300, seed=73), scans(60, seed=74), np.arange(300) // 30
    before = [part.copy() for part in (reference, window, week)]
    profile = ReferenceProfile.fit(reference, weeks=week, seed=1)
    profile.check(window, np.arange(60) // 2)
    profile.check(window)
    profile.scan_weights(window)
    for part, copy in zip((reference, window, week), before, strict=True):
        assert np.array_equal(part, copy)


def test_a_profile_does_not_change(profile: ReferenceProfile) -> None:
    with pytest.raises(AttributeError):
        profile.seed = 3  # type: ignore[misc]
    assert replace(profile, space="encoder-b").space == "encoder-b"
