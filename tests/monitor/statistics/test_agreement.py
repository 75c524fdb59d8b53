from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.inter_rater import fleiss_kappa as fleiss_of_statsmodels

from monitor.statistics.agreement import cohen_kappa, fleiss_kappa
from registry.errors import BadInputError, InsufficientDataError


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_cohens_kappa_is_that_of_statsmodels(seed: int, classes: int) -> None:
    table = np.random.default_rng(seed).integers(0, 40, size=(classes, classes))
    assert cohen_kappa(table) == pytest.approx(cohens_kappa(table).kappa, rel=1e-12)


@pytest.mark.parametrize("readers", [2, 3, 7])
@pytest.mark.parametrize("seed", range(4))
def test_fleiss_kappa_is_that_of_statsmodels(seed: int, readers: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(readers, [0.5, 0.3, 0.2], size=60)
    assert fleiss_kappa(counts) == pytest.approx(fleiss_of_statsmodels(counts), rel=1e-12)


def test_fleiss_kappa_of_the_example_in_the_encyclopaedia() -> None:
    # Fourteen readers, ten subjects, five classes: 0.20993.
    counts = np.array(
        [
            [0, 0, 0, 0, 14],
            [0, 2, 6, 4, 2],
            [0, 0, 3, 5, 6],
            [0, 3, 9, 2, 0],
            [2, 2, 8, 1, 1],
            [7, 7, 0, 0, 0],
            [3, 2, 6, 3, 0],
            [2, 5, 3, 2, 2],
            [6, 5, 2, 1, 0],
            [0, 2, 2, 3, 7],
        ]
    )
    assert fleiss_kappa(counts) == pytest.approx(0.20993, abs=5e-6)


def test_where_all_always_say_the_same_kappa_is_undefined() -> None:
    assert cohen_kappa(np.array([[9, 0], [0, 0]])) is None
    assert fleiss_kappa(np.array([[3, 0], [3, 0]])) is None


def test_tables_that_are_none_are_refused() -> None:
    with pytest.raises(BadInputError, match="square"):
        cohen_kappa(np.zeros((2, 3), dtype=np.int64))
    with pytest.raises(InsufficientDataError):
        cohen_kappa(np.zeros((2, 2), dtype=np.int64))
    with pytest.raises(BadInputError, match="as many readers"):
        fleiss_kappa(np.array([[2, 0], [1, 2]]))
    with pytest.raises(InsufficientDataError):
        fleiss_kappa(np.array([[1, 0]]))
    with pytest.raises(InsufficientDataError):
        fleiss_kappa(np.zeros((0, 2), dtype=np.int64))
