from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import interp1d
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from scipy.stats import norm

from monitor.statistics.coordinates import Coordinates
from monitor.statistics.distances import squared_distances
from monitor.statistics.members.novelty import Novelty, log_nearest
from monitor.statistics.patients import Patients


def seen(leading: np.ndarray) -> Coordinates:
    """Scans of which only the leading coordinates are asked."""
    return Coordinates(
        centred=leading, principal=leading, leading=leading, outside=np.ones(len(leading))
    )


@pytest.fixture
def points() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    return (
        rng.normal(size=(50, 6)).astype(np.float32),
        rng.normal(size=(20, 4)).astype(np.float32),
    )


def test_squared_distances_are_those_of_scipy(points: tuple[np.ndarray, np.ndarray]) -> None:
    x, landmarks = points
    expected = cdist(x[:, :4], landmarks, "sqeuclidean")
    assert squared_distances(x[:, :4], landmarks) == pytest.approx(expected, abs=1e-4)


def test_the_score_is_the_nearest_landmark_along_its_own_directions(
    points: tuple[np.ndarray, np.ndarray],
) -> None:
    x, landmarks = points
    nearest, _ = cKDTree(landmarks).query(x[:, :4])
    assert log_nearest(seen(x), landmarks) == pytest.approx(2 * np.log(nearest), abs=1e-3)


def test_a_copy_of_a_landmark_is_nearer_than_anything_else_and_finite(
    points: tuple[np.ndarray, np.ndarray],
) -> None:
    x, landmarks = points
    copies = log_nearest(seen(landmarks), landmarks)
    assert np.isfinite(copies).all()
    assert copies.max() < log_nearest(seen(x), landmarks).min()


def test_features_are_those_of_the_rank_among_held_out_scores(
    points: tuple[np.ndarray, np.ndarray],
) -> None:
    x, landmarks = points
    scores = np.sort(np.random.default_rng(5).normal(size=49))
    member = Novelty(name="novelty", landmarks=landmarks, scores=scores, weight=1.0)
    features = member.features(seen(x))
    assert features.shape == (50, member.size)
    between = interp1d(scores, np.arange(1, 50), bounds_error=False, fill_value=(1, 49))
    smallest = cdist(x[:, :4].astype(np.float64), landmarks).min(axis=1)
    for row, distance in zip(features, smallest, strict=True):
        # Nearer than usual is no news: the place of the middle one.
        rank = float(between(max(2 * np.log(distance), scores[24]))) / 50
        u = 2 * rank - 1
        expected = [
            norm.ppf(rank),
            0.4 * np.sqrt(5) * (3 * u**2 - 1) / 2,
            0.2 * np.sqrt(7) * (5 * u**3 - 3 * u) / 2,
        ]
        assert row == pytest.approx(expected, abs=1e-5)


def test_scans_of_the_fit_are_seen_as_new_ones_are(
    points: tuple[np.ndarray, np.ndarray],
) -> None:
    x, landmarks = points
    member = Novelty(
        name="novelty", landmarks=landmarks, scores=np.array([-1.0, 1.0]), weight=1.0
    )
    patients = Patients.of(None, scans=50)
    at = seen(x)
    assert member.split
    assert np.array_equal(member.left_out_features(at, patients, 50), member.features(at))
