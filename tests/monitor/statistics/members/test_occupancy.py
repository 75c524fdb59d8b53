from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import chisquare

from monitor.statistics.coordinates import Coordinates
from monitor.statistics.members.occupancy import Cells, Occupancy, count_cells
from monitor.statistics.patients import Patients

# Corners of a square within reach of the origin, so that no scan is drawn in.
CORNERS = np.array([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]], dtype=np.float32)


def seen(principal: np.ndarray) -> Coordinates:
    """Scans of which only the principal coordinates are asked."""
    principal = principal.astype(np.float32)
    nothing = np.full_like(principal, np.nan)
    return Coordinates(
        centred=nothing, principal=principal, leading=nothing, outside=nothing[:, 0]
    )


def clustered(x: np.ndarray, count: int, *, seed: int = 0) -> Cells:
    """Cells along all directions, whose standard deviations are one."""
    return Cells.of(seen(x), ones(x.shape[1]), count=count, rng=np.random.default_rng(seed))


def ones(count: int) -> np.ndarray:
    return np.ones(count, dtype=np.float32)


def blobs(counts: list[int], *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scans close around corners, and the corner of each."""
    rng = np.random.default_rng(seed)
    corner = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    near = CORNERS[corner] + 0.05 * rng.normal(size=(len(corner), 2))
    return near.astype(np.float32), corner


@pytest.mark.parametrize("seed", range(12))
def test_separated_kinds_of_scans_each_get_a_cell_even_where_they_are_rare(seed: int) -> None:
    x, corner = blobs([120, 60, 15, 5], seed=seed)
    cells = clustered(x, 4, seed=seed)
    found = cells.one_hot(seen(x)).argmax(axis=1)
    # One cell to each corner, and one corner to each cell.
    assert len({(int(a), int(b)) for a, b in zip(corner, found, strict=True)}) == 4
    for c, count in enumerate((120, 60, 15, 5)):
        cell = found[corner == c][0]
        assert cells.centres[cell] == pytest.approx(x[corner == c].mean(axis=0), abs=1e-5)
        # Two scans are added to each cell.
        assert cells.shares[cell] == pytest.approx((count + 2) / 208)


def test_every_scan_falls_into_the_cell_of_its_nearest_centre() -> None:
    rng = np.random.default_rng(1)
    x = 0.5 * rng.normal(size=(300, 4)).astype(np.float32)
    cells = clustered(x, 6)
    new = 0.3 * rng.normal(size=(80, 4)).astype(np.float32)
    wide = np.hstack([new, rng.normal(size=(80, 3)).astype(np.float32)])
    one_hot = cells.one_hot(seen(wide))
    assert one_hot.sum(axis=1).tolist() == [1.0] * 80
    assert one_hot.argmax(axis=1).tolist() == cdist(new, cells.centres).argmin(axis=1).tolist()
    assert cells.shares.sum() == pytest.approx(1.0)


def test_no_cell_is_spent_on_a_single_far_scan() -> None:
    x, corner = blobs([60, 60, 60, 60], seed=3)
    far = np.array([[500.0, 400.0]], dtype=np.float32)
    cells = clustered(np.vstack([x, far]), 4)
    found = cells.one_hot(seen(x)).argmax(axis=1)
    assert len({(int(a), int(b)) for a, b in zip(corner, found, strict=True)}) == 4
    # It lies where its direction leaves the reach.
    assert cells.one_hot(seen(far)).argmax() == found[corner == 0][0]


def test_clusters_are_as_tight_as_the_best_of_many_plain_runs() -> None:
    rng = np.random.default_rng(7)
    x = 0.4 * rng.normal(size=(200, 3)).astype(np.float32)
    x += 0.6 * rng.choice([-1, 1], size=(200, 3)).astype(np.float32)
    lengths = np.linalg.norm(x, axis=1)
    near = x * np.minimum(1.0, 1.2 * np.sqrt(3) / lengths)[:, None]

    def lloyd(centres: np.ndarray) -> float:
        for _ in range(50):
            cell = cdist(near, centres).argmin(axis=1)
            kept = [k for k in range(len(centres)) if np.any(cell == k)]
            centres = np.stack([near[cell == k].mean(axis=0) for k in kept])
        return float(cdist(near, centres, "sqeuclidean").min(axis=1).sum())

    best = min(lloyd(near[rng.permutation(200)[:8]]) for _ in range(30))
    centres = clustered(x, 8, seed=1).centres
    assert cdist(near, centres, "sqeuclidean").min(axis=1).sum() < 1.05 * best


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((40, 3)),
        np.repeat([[1.0, 2.0, 0.5]], 40, axis=0),
        np.repeat(np.eye(3), [38, 1, 1], axis=0),
    ],
    ids=["nothing", "one-scan-often", "three-scans"],
)
def test_duplicates_do_not_break_the_search(x: np.ndarray) -> None:
    cells = clustered(x, 4)
    assert np.isfinite(cells.centres).all()
    assert cells.shares.min() > 0
    assert cells.shares.sum() == pytest.approx(1.0)
    found = cells.one_hot(seen(x)).argmax(axis=1)
    different = np.unique(x, axis=0)
    assert len(np.unique(found)) == len(different)
    for one in different:
        assert len(np.unique(found[(x == one).all(axis=1)])) == 1


def test_no_scans_have_no_indicators() -> None:
    x, _ = blobs([10, 10, 10, 10], seed=0)
    cells = clustered(x, 4)
    assert cells.one_hot(seen(np.empty((0, 2)))).shape == (0, 4)


def test_the_squared_shift_is_pearsons_chi_squared_over_the_scans() -> None:
    cells = Cells(precisions=ones(2), centres=CORNERS, shares=np.array([0.5, 0.3, 0.15, 0.05]))
    member = Occupancy(name="occupancy", cells=cells, weight=1.0)
    counts = [40, 35, 15, 10]
    x, _ = blobs(counts, seed=2)
    shift = member.features(seen(x)).mean(axis=0, dtype=np.float64) - np.sqrt(cells.shares)
    pearson = chisquare(counts, 100 * cells.shares).statistic
    assert shift @ shift == pytest.approx(pearson / 100, rel=1e-5)


def test_peaked_features_are_bare_indicators_whose_means_are_shares() -> None:
    cells = Cells(precisions=ones(2), centres=CORNERS, shares=np.full(4, 0.25))
    member = Occupancy(name="occupancy-peak", cells=cells, weight=1.0, peaked=True)
    x, corner = blobs([40, 35, 15, 10], seed=2)
    features = member.features(seen(x))
    assert features.shape == (100, member.size)
    assert np.array_equal(features, np.eye(4)[corner])
    patients = Patients.of(None, scans=100)
    # The reference's shares are those of all its scans.
    assert not member.split
    assert np.array_equal(member.left_out_features(seen(x), patients, 100), features)


def test_cells_are_as_many_as_asked_for_however_few_scans_differ() -> None:
    points = np.repeat(np.random.default_rng(0).normal(size=(3, 4)), 20, axis=0)
    cells = clustered(points, 8, seed=1)
    assert cells.centres.shape == (8, 4)
    assert cells.shares.sum() == pytest.approx(1.0)
    assert np.all(cells.shares > 0)


@pytest.mark.parametrize("kinds", [4, 6, 10, 16])
def test_there_are_as_many_cells_as_kinds_of_scans(kinds: int) -> None:
    rng = np.random.default_rng(kinds)
    centres = rng.choice([-1.0, 1.0], size=(kinds, 12))
    x = centres[rng.integers(kinds, size=1200)] + 0.25 * rng.normal(size=(1200, 12))
    counted = count_cells(
        seen(x), np.arange(1200) % 5 < 2, ones(12), most=24, rng=np.random.default_rng(0)
    )
    assert counted == kinds
    assert count_cells(seen(x), np.arange(1200) < 600, ones(12), most=8, rng=rng) <= 8
    # So few scans still get the least number.
    assert count_cells(seen(x), np.arange(1200) < 600, ones(12), most=1, rng=rng) == 4


def test_cells_are_found_in_standard_deviations_not_in_lengths() -> None:
    x, corner = blobs([40, 40, 40, 40], seed=4)
    stretched = x * np.array([100.0, 0.01])
    cells = Cells.of(
        seen(stretched),
        np.array([0.01, 100.0], dtype=np.float32),
        count=4,
        rng=np.random.default_rng(0),
    )
    found = cells.one_hot(seen(stretched)).argmax(axis=1)
    assert len({(int(a), int(b)) for a, b in zip(corner, found, strict=True)}) == 4
