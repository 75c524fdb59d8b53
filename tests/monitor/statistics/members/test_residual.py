from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import interp1d
from scipy.stats import norm

from monitor.statistics.coordinates import Coordinates
from monitor.statistics.members.residual import Residual, log_residuals
from monitor.statistics.patients import Patients


def seen(outside: np.ndarray) -> Coordinates:
    """Scans of which only the length outside is asked."""
    nothing = np.zeros((len(outside), 1), dtype=np.float32)
    return Coordinates(centred=nothing, principal=nothing, leading=nothing, outside=outside)


def test_scores_are_logarithms_of_squared_distances() -> None:
    outside = np.array([1e-6, 0.5, 3.0])
    assert log_residuals(seen(outside)) == pytest.approx(np.log(outside))


@pytest.mark.parametrize("outside", [0.0, -1e-9])
def test_a_scan_in_the_subspace_has_a_finite_lowest_score(outside: float) -> None:
    # Rounding may leave a length just below zero.
    scores = log_residuals(seen(np.array([outside, 1e-20])))
    assert np.isfinite(scores).all()
    assert scores[0] < scores[1]


def test_features_are_those_of_the_rank_among_held_out_scores() -> None:
    rng = np.random.default_rng(0)
    outside = rng.chisquare(4.0, size=30)
    scores = np.sort(np.log(rng.chisquare(4.0, size=99)))
    member = Residual(name="residual", scores=scores, weight=1.0)
    features = member.features(seen(outside))
    between = interp1d(scores, np.arange(1, 100), bounds_error=False, fill_value=(1, 99))
    assert features.shape == (30, member.size)
    for row, value in zip(features, np.log(outside), strict=True):
        rank = float(between(value)) / 100
        u = 2 * rank - 1
        expected = [
            norm.ppf(rank),
            0.4 * np.sqrt(5) * (3 * u**2 - 1) / 2,
            0.2 * np.sqrt(7) * (5 * u**3 - 3 * u) / 2,
        ]
        assert row == pytest.approx(expected, abs=1e-5)


def test_scans_of_the_fit_are_seen_as_new_ones_are() -> None:
    member = Residual(name="residual", scores=np.array([-1.0, 0.0]), weight=1.0)
    at = seen(np.array([0.2, 5.0]))
    patients = Patients.of(None, scans=2)
    assert member.split
    assert np.array_equal(member.left_out_features(at, patients, 2), member.features(at))
