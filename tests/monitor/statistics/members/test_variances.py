from __future__ import annotations

import numpy as np
import pytest

from monitor.statistics.coordinates import Coordinates
from monitor.statistics.members.variances import Variances
from monitor.statistics.patients import Patients

MEMBER = Variances(name="variances", directions=5, weight=1.0)


def seen(leading: np.ndarray) -> Coordinates:
    """Scans of which only the leading coordinates are asked."""
    leading = leading.astype(np.float32)
    return Coordinates(
        centred=leading, principal=leading, leading=leading, outside=np.ones(len(leading))
    )


def test_features_are_squares_cut_at_three_deviations() -> None:
    leading = np.random.default_rng(0).normal(size=(40, 7)) * 2.0
    features = MEMBER.features(seen(leading))
    assert features.shape == (40, MEMBER.size)
    for i, j in np.ndindex(40, 5):
        square = min(float(leading[i, j]) ** 2, 9.0)
        assert features[i, j] == pytest.approx((square - 1.0) / np.sqrt(5), abs=1e-5)
    assert np.abs(leading).max() > 3.0


def test_the_shift_is_the_root_mean_square_change_of_variance() -> None:
    rng = np.random.default_rng(1)
    before = np.clip(rng.normal(size=(500, 5)), -1.4, 1.4)
    factors = np.array([0.5, 0.8, 1.0, 1.3, 2.0])
    after = before * np.sqrt(factors)
    one, other = (
        MEMBER.features(seen(part)).mean(axis=0, dtype=np.float64) for part in (before, after)
    )
    change = np.mean(np.square(after), axis=0) - np.mean(np.square(before), axis=0)
    length = MEMBER.scale * np.linalg.norm(other - one)
    assert length == pytest.approx(np.sqrt(np.mean(change**2)), rel=1e-4)


def test_a_far_scan_is_one_vote_and_the_coordinates_stay() -> None:
    leading = np.full((3, 5), 1e9, dtype=np.float32)
    at = seen(leading)
    assert MEMBER.features(at) == pytest.approx(8.0 / np.sqrt(5))
    assert at.leading.min() == np.float32(1e9)


def test_scans_of_the_fit_are_seen_as_new_ones_are() -> None:
    assert MEMBER.split
    assert MEMBER.whitened == 0
    at = seen(np.random.default_rng(2).normal(size=(6, 5)))
    patients = Patients.of(None, scans=6)
    assert np.array_equal(MEMBER.left_out_features(at, patients, 6), MEMBER.features(at))
