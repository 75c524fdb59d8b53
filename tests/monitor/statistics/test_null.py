from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import binom, ks_2samp

from monitor.statistics.null import FoldSums, NullTable
from monitor.statistics.patients import Patients
from monitor.statistics.two_sample import Dependence, Layout, PatientSums, growths

# Two features, twelve, and indicators of three cells: with fewer than twelve patients the
# second member is drawn from inner products, with more from features.
LAYOUT = Layout(edges=np.array([0, 2, 14, 17]), peaked=np.array([False, False, True]))
WEIGHTS = np.array([1.0, 2.0, 0.5])
DEPENDENCE = Dependence(correlations=np.array([0.1, 0.5, 0.3]))
FEW, MANY = 9, 15


def some_sums(count: int, *, most: int = 4, seed: int = 0) -> PatientSums:
    """Sums of patients of 1 to `most` scans each."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(count), rng.integers(1, most + 1, size=count))
    cells = np.eye(3)[rng.choice(3, size=len(codes), p=[0.6, 0.3, 0.1])]
    features = np.hstack([rng.normal(size=(len(codes), 14)), cells]).astype(np.float32)
    patients = Patients.of(codes, scans=len(codes))
    return PatientSums.of(features, patients, DEPENDENCE)


def windows(sums: PatientSums, *, draws: int, seed: int, size: int) -> np.ndarray:
    """Which patients a generator of this seed draws, [draws, U]."""
    order = np.tile(np.arange(len(sums.masses)), (draws, 1))
    return np.random.default_rng(seed).permuted(order, axis=1) < size


def plain_statistics(sums: PatientSums, window: np.ndarray) -> list[float]:
    """Compare chosen patients with the rest by double sums over different patients.

    Of features about the fold's mean: pairs of patients of unequal mass see the origin.
    """
    features = sums.about(sums.mean).sums.astype(np.float64)
    one, other = np.flatnonzero(window), np.flatnonzero(~window)

    def mean_product(a: np.ndarray, b: np.ndarray, columns: slice) -> float:
        pairs = [(i, j) for i, j in product(a, b) if i != j]
        total = sum(features[i, columns] @ features[j, columns] for i, j in pairs)
        return float(total / sum(sums.masses[i] * sums.masses[j] for i, j in pairs))

    statistics = []
    for g in range(3):
        columns = LAYOUT.part(g)
        own, rest = (
            sums.spreads[part, g].sum() / sums.masses[part].sum() ** 2 for part in (one, other)
        )
        if LAYOUT.peaked[g]:
            shares = [
                sums.sums[part, columns].sum(axis=0) / sums.masses[part].sum()
                for part in (one, other)
            ]
            largest = max(growths(shares[0], own, shares[1], rest))
            statistics.append(float(largest / np.sqrt(own + rest)))
        else:
            squared = (
                mean_product(one, one, columns)
                + mean_product(other, other, columns)
                - 2 * mean_product(one, other, columns)
            )
            statistics.append(float(squared / (own + rest)))
    return statistics


def fast_statistics(sums: PatientSums, window: np.ndarray) -> np.ndarray:
    """Compare chosen patients with the rest, through the two-sample module alone."""
    centre = sums.mean
    centred = sums.about(centre)
    one, other = (
        PatientSums(
            sums=centred.sums[part], masses=sums.masses[part], spreads=sums.spreads[part]
        )
        for part in (window, ~window)
    )
    inverse = one.inverse_sizes + other.inverse_sizes
    difference = one.mean - other.mean
    # |a - b|^2 by pairs of different patients: the own products are taken off each mean.
    squared = LAYOUT.squared(difference)
    for part in (one, other):
        squared += part.squared_shifts(LAYOUT) - LAYOUT.squared(part.mean)
    statistics = squared / inverse
    columns = LAYOUT.part(2)
    growth = growths(
        (centre + one.mean)[columns],
        one.inverse_sizes[2],
        (centre + other.mean)[columns],
        other.inverse_sizes[2],
    )
    statistics[2] = growth.max() / np.sqrt(inverse[2])
    return np.asarray(statistics)


@pytest.mark.parametrize(("patients", "multiplied"), [(FEW, True), (MANY, False)])
def test_a_draw_is_the_comparison_of_a_random_split(patients: int, multiplied: bool) -> None:
    sums = some_sums(patients)
    fold = FoldSums.of(sums, LAYOUT)
    assert fold.multiplied == (False, multiplied, False)
    assert fold.tables[1].shape == (patients, patients if multiplied else 12)
    sizes = (2, 3, patients // 2)
    drawn = fold.draw(sizes, draws=4, rng=np.random.default_rng(5))
    for size, statistics in zip(sizes, drawn, strict=True):
        chosen = windows(sums, draws=4, seed=5, size=size)
        for row, window in zip(statistics, chosen, strict=True):
            expected = plain_statistics(sums, window)
            assert row == pytest.approx(expected, rel=1e-3, abs=1e-4)
            assert fast_statistics(sums, window) == pytest.approx(expected, abs=1e-3)


def test_both_kinds_of_tables_give_the_same_draws() -> None:
    sums = some_sums(FEW, seed=3)
    fold = FoldSums.of(sums, LAYOUT)
    centred = sums.about(sums.mean).sums
    features = FoldSums(
        tables=tuple(centred[:, LAYOUT.part(g)] for g in range(3)),
        multiplied=(False, False, False),
        peaked=fold.peaked,
        shares=fold.shares,
        squares=fold.squares,
        masses=fold.masses,
        spreads=fold.spreads,
    )
    one, other = (
        part.draw([4], draws=50, rng=np.random.default_rng(0))[0] for part in (fold, features)
    )
    assert one == pytest.approx(other, rel=1e-3, abs=1e-4)


def test_windows_of_all_sizes_are_the_first_of_one_random_order() -> None:
    sums = some_sums(20, most=1)
    fold = FoldSums.of(sums, LAYOUT)
    alone = fold.draw([8], draws=6, rng=np.random.default_rng(1))[0]
    among = fold.draw([3, 8, 10], draws=6, rng=np.random.default_rng(1))[1]
    assert np.array_equal(alone, among)


@pytest.mark.parametrize("size", [5, 10, 20])
def test_draws_have_mean_zero(size: int) -> None:
    fold = FoldSums.of(some_sums(60), LAYOUT)
    drawn = fold.draw([size], draws=4000, rng=np.random.default_rng(1))[0][:, :2]
    errors = drawn.std(axis=0) / np.sqrt(4000)
    assert np.all(np.abs(drawn.mean(axis=0)) < 4 * errors)


@pytest.mark.parametrize("size", [2, 5, 10])
def test_at_every_size_the_order_of_a_folds_patients_is_no_matter(size: int) -> None:
    sums = some_sums(20)
    order = np.random.default_rng(0).permutation(20)
    shuffled = PatientSums(
        sums=sums.sums[order], masses=sums.masses[order], spreads=sums.spreads[order]
    )
    one, other = (
        FoldSums.of(part, LAYOUT).draw([size], draws=3000, rng=np.random.default_rng(seed))[0]
        for seed, part in enumerate((sums, shuffled))
    )
    for g in range(3):
        # Splits into the same parts differ in their last bits.
        assert ks_2samp(one[:, g].round(4), other[:, g].round(4)).pvalue > 0.001


@pytest.mark.parametrize("size", [5, 10, 20])
def test_at_every_size_a_window_of_the_same_law_takes_a_uniform_rank(size: int) -> None:
    ranks = []
    for seed in range(300):
        sums = some_sums(40, most=2, seed=1000 + seed)
        fold = FoldSums.of(sums, LAYOUT)
        # The first patients are as good as any: scans are drawn independently.
        window = np.arange(40) < size
        observed = fast_statistics(sums, window)
        drawn = fold.draw([size], draws=99, rng=np.random.default_rng(seed))[0]
        ranks.append((1 + (drawn >= observed).sum(axis=0)) / 100)
    for level in (0.05, 0.2, 0.5):
        counts = (np.array(ranks) <= level).sum(axis=0)
        low, high = binom.ppf([0.0005, 0.9995], 300, level)
        assert np.all((counts >= low) & (counts <= high)), (level, counts)


@pytest.mark.parametrize("patients", [FEW, MANY])
def test_forms_are_inner_products_of_signed_sums_without_their_trace(patients: int) -> None:
    sums = some_sums(patients)
    fold = FoldSums.of(sums, LAYOUT)
    forms = fold.forms(groups=3, draws=2, rng=np.random.default_rng(2))
    assert forms.shape == (2, 3, 3, 3)
    drawn = np.random.default_rng(2).integers(0, 2, size=(6, patients))
    signs = drawn.reshape(2, 3, patients) * 2 - 1
    centred = sums.about(sums.mean).sums.astype(np.float64)
    for b, g in product(range(2), range(2)):
        columns = LAYOUT.part(g)
        vectors = signs[b] @ centred[:, columns]
        trace = np.square(centred[:, columns]).sum()
        expected = (vectors @ vectors.T - trace * np.eye(3)) / trace
        assert forms[b, :, :, g] == pytest.approx(expected, abs=1e-5)
    assert not forms[..., 2].any()


@pytest.fixture(scope="module")
def table() -> NullTable:
    folds = [FoldSums.of(some_sums(50, most=1, seed=k), LAYOUT) for k in range(5)]
    return NullTable.draw(folds, weights=WEIGHTS, draws=2000, rng=np.random.default_rng(3))


def test_sizes_end_at_half_of_the_smallest_fold(table: NullTable) -> None:
    assert table.sizes.tolist() == [5, 10, 20, 25]
    assert table.evidence.shape == (4, 2000)
    assert np.all(np.diff(table.evidence, axis=1) >= 0)
    assert table.patients == 250


def test_the_laws_hardly_change_with_the_size(table: NullTable) -> None:
    spread = table.deviations / table.deviations.mean(axis=0)
    assert spread == pytest.approx(np.ones((4, 3)), abs=0.12)


def test_no_p_value_is_below_what_the_draws_support(table: NullTable) -> None:
    p, log_p = table.p_values(np.full(3, 1e6), patients=20, weights=WEIGHTS)
    assert p == pytest.approx(table.least_p) == pytest.approx(1 / 2001)
    assert np.all(log_p < np.log(table.least_p))


def test_a_size_between_two_of_the_grid_gets_a_p_value_between_theirs(
    table: NullTable,
) -> None:
    at = np.array([1.5, 2.0, 2.5])
    p = {size: table.p_values(at, patients=size, weights=WEIGHTS)[0] for size in (3, 5, 7, 10)}
    assert min(p[5], p[10]) <= p[7] <= max(p[5], p[10])
    assert p[3] == p[5]
    assert table.neighbours(10_000) == [(3, 1.0)]
    assert sum(weight for _, weight in table.neighbours(7)) == pytest.approx(1.0)
