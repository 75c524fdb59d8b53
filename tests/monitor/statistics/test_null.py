from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from monitor.statistics.null import FoldGrams, NullTable
from monitor.statistics.patients import Patients
from monitor.statistics.two_sample import Dependence, Layout, PatientSums

LAYOUT = Layout(edges=np.array([0, 2, 5]))
WEIGHTS = np.array([1.0, 2.0])


def some_sums(count: int, *, most: int = 4, seed: int = 0) -> PatientSums:
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(count), rng.integers(1, most + 1, size=count))
    features = rng.normal(size=(len(codes), 5)).astype(np.float32)
    patients = Patients.of(codes, scans=len(codes))
    return PatientSums.of(features, patients, Dependence(correlations=np.array([0.1, 0.5])))


def test_a_draw_is_the_two_sample_double_sum_of_a_random_split() -> None:
    sums = some_sums(9)
    grams = FoldGrams.of(sums, LAYOUT)
    drawn = grams.draw(3, draws=4, rng=np.random.default_rng(5))
    order = np.argsort(np.random.default_rng(5).random((4, 9)), axis=1)
    centred = sums.about(sums.mean).sums.astype(np.float64)

    def mean_product(one: np.ndarray, other: np.ndarray, columns: slice) -> float:
        pairs = [(i, j) for i, j in product(one, other) if i != j]
        total = sum(centred[i, columns] @ centred[j, columns] for i, j in pairs)
        return float(total / sum(sums.masses[i] * sums.masses[j] for i, j in pairs))

    for b, (g, columns) in product(range(4), enumerate((slice(0, 2), slice(2, 5)))):
        window, rest = order[b, :3], order[b, 3:]
        squared = (
            mean_product(window, window, columns)
            + mean_product(rest, rest, columns)
            - 2 * mean_product(window, rest, columns)
        )
        inverse = sum(
            sums.spreads[part, g].sum() / sums.masses[part].sum() ** 2
            for part in (window, rest)
        )
        assert drawn[b, g] == pytest.approx(squared / inverse, rel=1e-4, abs=1e-5)


def test_draws_have_mean_zero() -> None:
    grams = FoldGrams.of(some_sums(60, most=1), LAYOUT)
    drawn = grams.draw(20, draws=4000, rng=np.random.default_rng(1))
    errors = drawn.std(axis=0) / np.sqrt(4000)
    assert np.all(np.abs(drawn.mean(axis=0)) < 4 * errors)


def test_forms_are_inner_products_of_signed_sums_without_their_trace() -> None:
    sums = some_sums(8)
    grams = FoldGrams.of(sums, LAYOUT)
    forms = grams.forms(groups=3, draws=2, rng=np.random.default_rng(2))
    signs = np.random.default_rng(2).integers(0, 2, size=(6, 8)).reshape(2, 3, 8) * 2 - 1
    centred = sums.about(sums.mean).sums.astype(np.float64)
    for b, (g, columns) in product(range(2), enumerate((slice(0, 2), slice(2, 5)))):
        vectors = signs[b] @ centred[:, columns]
        trace = np.square(centred[:, columns]).sum()
        expected = (vectors @ vectors.T - trace * np.eye(3)) / trace
        assert forms[b, :, :, g] == pytest.approx(expected, abs=1e-5)


@pytest.fixture(scope="module")
def table() -> NullTable:
    folds = [FoldGrams.of(some_sums(50, most=1, seed=k), LAYOUT) for k in range(5)]
    return NullTable.draw(folds, weights=WEIGHTS, draws=2000, rng=np.random.default_rng(3))


def test_sizes_end_at_half_of_the_smallest_fold(table: NullTable) -> None:
    assert table.sizes.tolist() == [5, 10, 20, 25]
    assert table.evidence.shape == (4, 2000)


def test_no_p_value_is_below_what_the_draws_support(table: NullTable) -> None:
    p, log_p = table.p_values(np.array([1e6, 1e6]), patients=20, weights=WEIGHTS)
    assert p == pytest.approx(table.least_p) == pytest.approx(1 / 2001)
    assert np.all(log_p < np.log(table.least_p))


def test_a_size_between_two_of_the_grid_gets_a_p_value_between_theirs(
    table: NullTable,
) -> None:
    at = np.array([1.5, 2.0])
    p = {size: table.p_values(at, patients=size, weights=WEIGHTS)[0] for size in (3, 5, 7, 10)}
    assert min(p[5], p[10]) <= p[7] <= max(p[5], p[10])
    assert p[3] == p[5]
    assert table.neighbours(10_000) == [(3, 1.0)]
    assert sum(weight for _, weight in table.neighbours(7)) == pytest.approx(1.0)
