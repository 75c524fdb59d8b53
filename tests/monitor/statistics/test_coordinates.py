from __future__ import annotations

import numpy as np
import pytest

from monitor.statistics.coordinates import Frame
from monitor.statistics.subspace import Subspace
from monitor.statistics.whitening import Moments

SHAPING = np.array([False, True])


@pytest.fixture(scope="module")
def scans() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    group = rng.integers(0, 2, size=300)
    x = rng.normal(size=(300, 9)) @ rng.normal(size=(9, 9)) + 30.0
    x[group == 1] *= 1.0 + 0.5 * np.arange(9) / 9
    return x.astype(np.float32), group


def frame_of(x: np.ndarray, group: np.ndarray, *, size: int = 6) -> Frame:
    moments = Moments.of(x, group)
    return Frame(
        basis=moments.basis(np.array([True, True])),
        subspace=Subspace.of(moments, SHAPING, size=size),
    )


def test_centred_and_principal_scans_belong_to_the_whole_reference(
    scans: tuple[np.ndarray, np.ndarray],
) -> None:
    x, group = scans
    at = frame_of(x, group).coordinates(x)
    centred = x - x.mean(axis=0, dtype=np.float64)
    unit = np.sqrt(np.square(centred).sum(axis=1).mean())
    assert at.centred == pytest.approx(centred / unit, abs=1e-5)
    _, _, rows = np.linalg.svd(centred, full_matrices=False)
    assert np.abs(at.principal) == pytest.approx(np.abs(centred @ rows.T) / unit, abs=1e-4)


def test_leading_coordinates_are_standardised_over_the_shaping_scans(
    scans: tuple[np.ndarray, np.ndarray],
) -> None:
    x, group = scans
    leading = frame_of(x, group).coordinates(x).leading.astype(np.float64)
    own, other = leading[group == 1], leading[group == 0]
    assert own.mean(axis=0) == pytest.approx(np.zeros(6), abs=1e-4)
    assert own.T @ own / len(own) == pytest.approx(np.eye(6), abs=1e-3)
    assert np.abs(other.T @ other / len(other) - np.eye(6)).max() > 0.1


def test_outside_is_the_squared_error_of_reconstructing_a_scan(
    scans: tuple[np.ndarray, np.ndarray],
) -> None:
    x, group = scans
    frame = frame_of(x, group)
    own = x[group == 1].astype(np.float64)
    mean = own.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(own.T, bias=True))
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = vectors[:, : int(np.argmax(np.cumsum(values) / values.sum() >= 0.65)) + 1]
    reconstructed = mean + (x - mean) @ kept @ kept.T
    errors = np.square(x - reconstructed).sum(axis=1)
    assert 1 <= kept.shape[1] < 6
    assert frame.coordinates(x).outside * frame.basis.unit**2 == pytest.approx(errors, rel=1e-3)


def test_a_scan_is_seen_alike_alone_and_among_others(
    scans: tuple[np.ndarray, np.ndarray],
) -> None:
    x, group = scans
    frame = frame_of(x, group)
    alone, among = frame.coordinates(x[7:8]), frame.coordinates(x)
    assert alone.leading[0] == pytest.approx(among.leading[7], abs=1e-5)
    assert alone.outside[0] == pytest.approx(among.outside[7], rel=1e-4)


def test_scans_at_absurd_distances_have_finite_coordinates(
    scans: tuple[np.ndarray, np.ndarray],
) -> None:
    x, group = scans
    far = np.full((1, 9), 3e38, dtype=np.float32)
    at = frame_of(x, group).coordinates(far)
    for part in (at.centred, at.principal, np.square(at.leading), at.outside):
        assert np.isfinite(part).all()
