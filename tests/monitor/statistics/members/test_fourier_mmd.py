from __future__ import annotations

import numpy as np
import pytest

from monitor.statistics.coordinates import Coordinates
from monitor.statistics.distances import median_distance
from monitor.statistics.members.fourier_mmd import FourierMMD, Space
from monitor.statistics.patients import Patients

PRECISIONS = np.array([1.0, 2.0, 5.0, 0.5], dtype=np.float32)


@pytest.fixture
def at() -> Coordinates:
    """Scans whose coordinates differ between the spaces."""
    rng = np.random.default_rng(5)
    centred, principal, leading = (
        rng.normal(size=(12, size)).astype(np.float32) for size in (4, 4, 6)
    )
    return seen(centred, principal, leading)


def seen(centred: np.ndarray, principal: np.ndarray, leading: np.ndarray) -> Coordinates:
    outside = np.ones(len(centred))
    return Coordinates(centred=centred, principal=principal, leading=leading, outside=outside)


def member(
    space: Space, *, size: int = 40_000, bandwidth: float = 1.7, doubled: bool = False
) -> FourierMMD:
    dimension = 3 if space is Space.LEADING else 4
    rng = np.random.default_rng(6)
    return FourierMMD(
        name="mmd",
        space=space,
        frequencies=rng.standard_normal((dimension, size), dtype=np.float32),
        bandwidth=bandwidth,
        weight=1.0,
        doubled=doubled,
        precisions=PRECISIONS if space is Space.WHITENED else None,
    )


def plain_points(at: Coordinates, space: Space) -> np.ndarray:
    if space is Space.RAW:
        return at.centred.astype(np.float64)
    if space is Space.LEADING:
        return at.leading[:, :3].astype(np.float64)
    white = at.principal.astype(np.float64) * PRECISIONS
    return np.array([2.0 * row / np.linalg.norm(row) for row in white])


@pytest.mark.parametrize("doubled", [False, True])
@pytest.mark.parametrize("space", list(Space))
def test_inner_products_of_features_approach_the_gaussian_kernel_of_the_space(
    at: Coordinates, space: Space, doubled: bool
) -> None:
    features = member(space, doubled=doubled).features(at).astype(np.float64)
    x = plain_points(at, space)
    distances = np.square(x[:, None] - x[None]).sum(axis=-1)
    sigma = 0.85 if doubled else 1.7
    # The error of a mean of 40,000 cosines: one in 200, four deviations.
    assert features @ features.T == pytest.approx(np.exp(-distances / (2 * sigma**2)), abs=0.02)


@pytest.mark.parametrize("space", list(Space))
def test_features_are_cosines_and_sines_of_projections(at: Coordinates, space: Space) -> None:
    phases = plain_points(at, space) @ member(space, size=8).frequencies / 0.9
    # Members of one space share its waves, whichever comes first.
    for doubled in (True, False):
        one = member(space, size=8, bandwidth=0.9, doubled=doubled)
        features = one.features(at)
        own = 2.0 * phases if doubled else phases
        assert features == pytest.approx(
            np.hstack([np.cos(own), np.sin(own)]) / np.sqrt(8), abs=1e-5
        )
        assert features.shape == (12, one.size)
        assert np.linalg.norm(features, axis=1) == pytest.approx(1.0, abs=1e-6)


def test_spaces_do_not_share_waves(at: Coordinates) -> None:
    together = {space: member(space, size=8).features(at) for space in Space}
    for space, features in together.items():
        alone = seen(at.centred, at.principal, at.leading)
        assert np.array_equal(features, member(space, size=8).features(alone))


def test_the_whitened_space_knows_directions_and_no_lengths(at: Coordinates) -> None:
    one = member(Space.WHITENED, size=8)
    longer = seen(at.centred, at.principal * np.float32(7.0), at.leading)
    assert one.features(longer) == pytest.approx(one.features(at), abs=1e-5)
    centre = seen(at.centred, np.zeros_like(at.principal), at.leading)
    assert np.isfinite(one.features(centre)).all()


def test_only_leading_directions_bend_to_their_scans_and_only_whitening_uses_the_fit(
    at: Coordinates,
) -> None:
    assert [member(space).split for space in Space] == [False, True, False]
    assert [member(space).whitened for space in Space] == [0, 0, 4]
    for space in (Space.RAW, Space.WHITENED):
        one = member(space, size=8)
        left_out = one.left_out_features(at, Patients.of(None, scans=12), 12)
        assert np.array_equal(left_out, one.features(at))


def test_the_median_distance_is_over_pairs_of_different_scans() -> None:
    x = np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]], dtype=np.float32)
    assert median_distance(x) == 5.0
    assert median_distance(np.zeros((5, 2), dtype=np.float32)) == 1.0
