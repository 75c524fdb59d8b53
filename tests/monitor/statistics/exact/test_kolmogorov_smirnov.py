from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom, ks_2samp

from monitor.statistics.exact.kolmogorov_smirnov import CoordinateTest, kolmogorov_smirnov_test
from registry.errors import InsufficientDataError


@pytest.mark.parametrize("decimals", [7, 1, 0])
@pytest.mark.parametrize(("before", "after"), [(40, 23), (9, 30), (2, 2)])
def test_it_is_scipys_test_of_each_coordinate(before: int, after: int, decimals: int) -> None:
    rng = np.random.default_rng(3)
    # More coordinates than are sorted at once; few decimals give ties.
    reference = np.round(rng.normal(size=(before, 70)), decimals).astype(np.float32)
    window = np.round(rng.normal(size=(after, 70)) * 1.3, decimals).astype(np.float32)
    found = kolmogorov_smirnov_test(reference, window)
    expected = [
        ks_2samp(x, y, method="asymp") for x, y in zip(reference.T, window.T, strict=True)
    ]
    distances = np.array([one.statistic for one in expected])
    assert found.statistic == pytest.approx(distances.max(), abs=1e-12)
    assert distances[found.coordinate] == pytest.approx(distances.max(), abs=1e-12)
    least = min(one.pvalue for one in expected)
    assert found.p_value == pytest.approx(min(1.0, 70 * least), rel=1e-9)


def test_a_shift_of_one_coordinate_is_found_there() -> None:
    rng = np.random.default_rng(5)
    reference, window = rng.normal(size=(300, 90)), rng.normal(size=(60, 90))
    window[:, 71] += 1.2
    found = kolmogorov_smirnov_test(reference, window)
    assert found.coordinate == 71
    assert found.p_value < 1e-5


def test_scans_of_one_patient_share_one_weight() -> None:
    rng = np.random.default_rng(6)
    reference, window = rng.normal(size=(30, 4)), rng.normal(size=(12, 4)) + 0.4
    plain = kolmogorov_smirnov_test(reference, window)
    copies = rng.integers(1, 5, size=12)
    repeated = np.repeat(np.arange(12), copies)
    order = rng.permutation(len(repeated))
    found = kolmogorov_smirnov_test(
        reference, window[repeated][order], window_patients=repeated[order]
    )
    assert found.statistic == pytest.approx(plain.statistic, abs=1e-12)
    assert found.p_value == pytest.approx(plain.p_value, rel=1e-9)
    assert found.coordinate == plain.coordinate


def rejections(draw: Callable[[np.random.Generator], CoordinateTest], *, trials: int) -> int:
    rng = np.random.default_rng(7)
    return sum(draw(rng).p_value <= 0.05 for _ in range(trials))


def test_the_level_holds_with_and_without_several_scans_of_a_patient() -> None:
    def scans(rng: np.random.Generator, *, named: bool) -> CoordinateTest:
        names = np.repeat(np.arange(60), rng.integers(1, 9, size=60))
        own = rng.normal(size=(60, 2))[names]
        values = (own + 0.5 * rng.normal(size=own.shape)).astype(np.float32)
        before = names < 40
        return kolmogorov_smirnov_test(
            values[before],
            values[~before],
            reference_patients=names[before] if named else None,
            window_patients=names[~before] if named else None,
        )

    most = binom.isf(1e-3, 300, 0.05)
    assert rejections(lambda rng: scans(rng, named=True), trials=300) <= most
    assert rejections(lambda rng: scans(rng, named=False), trials=300) > 60
    single = rejections(
        lambda rng: kolmogorov_smirnov_test(rng.normal(size=(80, 2)), rng.normal(size=(60, 2))),
        trials=300,
    )
    # Conservative, yet not for want of looking.
    assert 2 <= single <= most


def test_one_patient_is_too_few() -> None:
    rng = np.random.default_rng(8)
    with pytest.raises(InsufficientDataError, match="patients of the window"):
        kolmogorov_smirnov_test(
            rng.normal(size=(5, 2)), rng.normal(size=(5, 2)), window_patients=["a"] * 5
        )
