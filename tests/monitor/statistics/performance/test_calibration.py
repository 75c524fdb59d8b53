import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, logit

from monitor.statistics.performance.calibration import (
    calibration_line,
    expected_calibration_error,
    fit_temperature,
    reliability_curve,
)
from registry.errors import BadInputError, InsufficientDataError


def _readings(
    seed: int, scans: int = 400, *, spread: float = 1.5
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that mean what they say, and the truth drawn from them."""
    rng = np.random.default_rng(seed)
    probabilities = expit(0.8 + spread * rng.normal(size=scans))
    return probabilities, rng.random(scans) < probabilities


def test_intercept_and_slope_agree_with_statsmodels_and_its_cluster_sandwich() -> None:
    probabilities, truth = _readings(0)
    patients = np.arange(400) // 3
    log_odds = logit(probabilities)
    found = calibration_line(probabilities, truth, patients, level=0.95)

    def expected(design: np.ndarray, offset: np.ndarray | None) -> tuple[float, float]:
        model = sm.GLM(
            truth.astype(float), design, family=sm.families.Binomial(), offset=offset
        )
        # Statsmodels' small-sample factor is G/(G-1) * (N-1)/(N-K); ours is G/(G-1).
        fit = model.fit(cov_type="cluster", cov_kwds={"groups": patients}, tol=1e-12)
        shrink = np.sqrt((400 - design.shape[1]) / 399)
        return fit.params[-1], fit.bse[-1] * shrink

    for coefficient, (value, error) in (
        (found.intercept, expected(np.ones((400, 1)), log_odds)),
        (found.slope, expected(sm.add_constant(log_odds), None)),
    ):
        assert coefficient.estimate == pytest.approx(value, abs=1e-7)
        half = (coefficient.interval.high - coefficient.interval.low) / 2
        assert half == pytest.approx(1.959964 * error, rel=1e-5)


@pytest.mark.parametrize(("factor", "shift"), [(1.0, 0.0), (2.0, 0.0), (0.5, 0.0), (1.0, -0.7)])
def test_the_line_finds_what_was_done_to_honest_probabilities(
    factor: float, shift: float
) -> None:
    honest, truth = _readings(1, scans=20_000)
    found = calibration_line(expit(factor * logit(honest) + shift), truth, level=0.99)
    assert 1 / factor in found.slope.interval
    if factor == 1.0:
        assert -shift in found.intercept.interval


def test_the_intervals_of_intercept_and_slope_cover_at_their_level() -> None:
    found = [calibration_line(*_readings(seed, scans=150), level=0.9) for seed in range(250)]
    for coefficients, value in (
        ([one.intercept for one in found], 0.0),
        ([one.slope for one in found], 1.0),
    ):
        covered = np.mean([value in one.interval for one in coefficients])
        assert abs(covered - 0.9) <= 3 * np.sqrt(0.09 / 250) + 0.01


def test_saturated_probabilities_still_have_a_line() -> None:
    probabilities, truth = _readings(2)
    probabilities = np.where(
        probabilities > 0.9, 1.0, np.where(probabilities < 0.1, 0.0, probabilities)
    )
    found = calibration_line(probabilities, truth, level=0.95)
    assert 0.0 < found.slope.estimate < 0.5
    assert np.isfinite([found.slope.interval.low, found.intercept.interval.high]).all()


@pytest.mark.parametrize(
    ("probabilities", "truth", "what"),
    [
        ([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], "overlap"),
        ([0.1, 0.2, 0.8, 0.9], [1, 1, 0, 0], "overlap"),
        ([0.1, 0.5, 0.5, 0.9], [0, 0, 1, 1], "overlap"),
        ([0.4, 0.4, 0.4, 0.4], [0, 1, 0, 1], "overlap"),
        ([0.1, 0.2, 0.8, 0.9], [1, 1, 1, 1], "without the finding"),
        ([0.1, 0.2, 0.8, 0.9], [0, 0, 0, 0], "with the finding"),
        ([], [], "scans for a calibration"),
    ],
)
def test_a_line_that_does_not_exist_is_refused_with_its_reason(
    probabilities: list[float], truth: list[int], what: str
) -> None:
    with pytest.raises(InsufficientDataError, match=what):
        calibration_line(probabilities, np.array(truth, dtype=int), level=0.95)


def test_logits_are_not_taken_for_probabilities() -> None:
    with pytest.raises(BadInputError, match="not logits"):
        calibration_line([-2.0, 3.0], [0, 1], level=0.95)


def test_the_reliability_curve_and_the_error_are_what_the_bins_say() -> None:
    probabilities = np.array([0.1, 0.2, 0.3, 0.6, 0.7, 0.8])
    truth = np.array([0, 0, 1, 1, 0, 1])
    low, high = reliability_curve(probabilities, truth, bins=2, level=0.95)
    assert (low.predicted, low.observed.successes, low.observed.scans) == (
        pytest.approx(0.2),
        1,
        3,
    )
    assert (high.predicted, high.observed.successes) == (pytest.approx(0.7), 2)
    found = expected_calibration_error(
        probabilities, truth, bins=2, level=0.9, resamples=50, seed=0
    )
    expected = 0.5 * abs(0.2 - 1 / 3) + 0.5 * abs(0.7 - 2 / 3)
    assert found.estimate == pytest.approx(expected)


def test_equal_probabilities_are_never_parted() -> None:
    probabilities = np.array([0.5] * 8 + [0.9, 0.95])
    curve = reliability_curve(probabilities, np.ones(10), bins=5, level=0.95)
    assert [one.observed.scans for one in curve] == [8, 2]


@settings(max_examples=50)
@given(seed=st.integers(0, 10_000), bins=st.integers(1, 20), scans=st.integers(4, 60))
def test_the_interval_of_the_error_holds_it_within_0_and_1(
    seed: int, bins: int, scans: int
) -> None:
    probabilities, truth = _readings(seed, scans=scans)
    found = expected_calibration_error(
        probabilities, truth, bins=bins, level=0.9, resamples=20, seed=seed
    )
    assert found.estimate in found.interval
    assert found.interval.low >= 0.0
    assert found.interval.high <= 1.0
    curve = reliability_curve(probabilities, truth, bins=bins, level=0.9)
    assert sum(one.observed.scans for one in curve) == scans
    assert len(curve) == found.bins


@pytest.mark.parametrize("gap", [0.0, 0.1])
def test_the_interval_of_the_error_covers_the_true_one(gap: float) -> None:
    rng = np.random.default_rng(9)
    low, high = [], []
    for seed in range(100):
        honest = expit(0.8 + 1.5 * rng.normal(size=300))
        truth = rng.random(300) < honest
        # Every probability is too near to 0: so is every bin, and by the mean of this.
        shown = np.maximum(honest - gap, 0.0)
        found = expected_calibration_error(
            shown, truth, bins=8, level=0.9, resamples=60, seed=seed
        )
        low.append(found.interval.low <= np.mean(honest - shown))
        high.append(found.interval.high >= np.mean(honest - shown))
    # One side's 95 %, less three binomial standard errors of 100 simulations.
    assert min(np.mean(low), np.mean(high)) >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 100)


def test_an_error_is_resampled_by_patient_and_reproducible() -> None:
    probabilities, truth = _readings(3, scans=60)
    patients = np.tile(np.arange(60), 4)
    arguments = {"bins": 5, "level": 0.9, "resamples": 400, "seed": 1}
    once = expected_calibration_error(probabilities, truth, **arguments)
    tiled = np.tile(probabilities, 4), np.tile(truth, 4)
    by_patient = expected_calibration_error(*tiled, patients, **arguments)
    by_scan = expected_calibration_error(*tiled, **arguments)
    assert by_patient.estimate == pytest.approx(once.estimate)
    assert by_patient.interval.low == pytest.approx(once.interval.low)
    assert by_patient.interval.high == pytest.approx(once.interval.high)
    assert by_scan.interval.high - by_scan.interval.low < 0.8 * (
        once.interval.high - once.interval.low
    )


@pytest.mark.parametrize("classes", [2, 4])
def test_the_temperature_is_the_likeliest_one(classes: int) -> None:
    rng = np.random.default_rng(6)
    logits = rng.normal(size=(500, classes)) * 3
    shares = np.exp(log_softmax(logits / 2.5, axis=1))
    labels = np.array([rng.choice(classes, p=row) for row in shares])

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(scaled[np.arange(500), labels].sum())

    expected = np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(expected, rel=1e-4)
    assert found == pytest.approx(2.5, rel=0.2)
    assert fit_temperature(2 * logits, labels) == pytest.approx(2 * found, rel=1e-6)


def test_a_fitted_temperature_gives_slope_1_to_a_sigmoid() -> None:
    probabilities, truth = _readings(7, spread=1.2)
    sharpened = 3.0 * logit(probabilities)
    pairs = np.stack([np.zeros_like(sharpened), sharpened], axis=1)
    temperature = fit_temperature(pairs, truth.astype(int))
    assert (
        1.0
        in calibration_line(expit(sharpened / temperature), truth, level=0.95).slope.interval
    )


@pytest.mark.parametrize(
    ("logits", "labels", "error"),
    [
        ([[2.0, -1.0], [-1.0, 2.0]], [0, 1], InsufficientDataError),
        ([[2.0, -1.0], [-1.0, 2.0]], [1, 0], InsufficientDataError),
        (np.empty((0, 2)), [], InsufficientDataError),
        ([[2.0, -1.0]], [2], BadInputError),
        ([[2.0, -1.0]], [0.5], BadInputError),
        ([[2.0]], [0], BadInputError),
        ([[2.0, np.nan]], [0], BadInputError),
    ],
)
def test_logits_without_a_likeliest_temperature_are_refused(
    logits: object, labels: object, error: type[Exception]
) -> None:
    with pytest.raises(error):
        fit_temperature(logits, labels)  # type: ignore[arg-type]
