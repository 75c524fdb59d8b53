from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from scipy.stats import skew

from monitor.statistics.members.occupancy import Cells, Occupancy
from monitor.statistics.members.variances import Variances
from monitor.statistics.patients import Patients
from monitor.statistics.two_sample import (
    Dependence,
    Layout,
    PatientSums,
    growths,
    intraclass_correlations,
    traces,
)

LAYOUT = Layout(edges=np.array([0, 2, 5]), peaked=np.array([False, False]))


def test_a_layout_lays_members_side_by_side_and_knows_the_peaked_ones() -> None:
    cells = Cells(
        precisions=np.ones(2, dtype=np.float32),
        centres=np.zeros((4, 2), dtype=np.float32),
        shares=np.full(4, 0.25),
    )
    layout = Layout.of(
        [
            Variances(name="variances", directions=3, weight=1.0),
            Occupancy(name="occupancy-peak", cells=cells, weight=1.0, peaked=True),
            Occupancy(name="occupancy", cells=cells, weight=1.0),
        ]
    )
    assert layout.edges.tolist() == [0, 3, 7, 11]
    assert layout.peaked.tolist() == [False, True, False]
    assert layout.members == 3
    assert np.arange(11)[layout.part(1)].tolist() == [3, 4, 5, 6]


def test_sums_and_squares_by_member_are_those_of_its_columns() -> None:
    values = np.random.default_rng(2).normal(size=(3, 4, 5)).astype(np.float32)
    for b, a in np.ndindex(3, 4):
        row = values[b, a].astype(np.float64)
        parts = (row[:2], row[2:])
        assert LAYOUT.added(values)[b, a] == pytest.approx([p.sum() for p in parts], abs=1e-6)
        assert LAYOUT.squared(values)[b, a] == pytest.approx([p @ p for p in parts], rel=1e-6)


def test_squared_shifts_agree_with_double_sums_over_different_patients() -> None:
    rng = np.random.default_rng(4)
    codes = np.array([0, 0, 1, 2, 2, 2, 3])
    patients = Patients.of(codes, scans=7)
    features = rng.normal(0.5, 1.0, size=(7, 5)).astype(np.float32)
    centre = rng.normal(size=5).astype(np.float32)
    dependence = Dependence(correlations=np.array([0.2, 0.6]))
    sums = PatientSums.of(features, patients, dependence).about(centre)
    weight = {code: 1 / (1 + (np.sum(codes == code) - 1) * 0.4) for code in set(codes)}
    for g, columns in enumerate((slice(0, 2), slice(2, 5))):
        total = mass = 0.0
        for i, j in product(range(7), repeat=2):
            if codes[i] != codes[j]:
                w = weight[codes[i]] * weight[codes[j]]
                total += w * (
                    (features[i, columns] - centre[columns])
                    @ (features[j, columns] - centre[columns])
                )
                mass += w
        assert sums.squared_shifts(LAYOUT)[g] == pytest.approx(total / mass, rel=1e-5)


def test_without_patients_the_shift_about_a_sample_is_the_unbiased_mmd() -> None:
    rng = np.random.default_rng(9)
    x, y = rng.normal(size=(4, 2)), rng.normal(1.0, size=(6, 2))
    layout = Layout(edges=np.array([0, 2]), peaked=np.array([False]))
    none = Dependence.none(1)
    window, reference = (
        PatientSums.of(part.astype(np.float32), Patients.of(None, scans=len(part)), none)
        for part in (x, y)
    )
    shift = window.about(reference.mean).squared_shifts(layout)[0]
    shift -= traces(reference, layout)[0] * reference.inverse_sizes[0]
    expected = (
        sum(a @ b for a, b in permutations(x, 2)) / 12
        + sum(a @ b for a, b in permutations(y, 2)) / 30
        - 2 * sum(a @ b for a, b in product(x, y)) / 24
    )
    assert shift == pytest.approx(expected, rel=1e-4)


def test_an_effective_size_lies_between_patients_and_scans() -> None:
    patients = Patients.of(np.repeat(np.arange(10), 4), scans=40)
    features = np.zeros((40, 5), dtype=np.float32)
    dependence = Dependence(correlations=np.array([0.0, 1.0]))
    sums = PatientSums.of(features, patients, dependence)
    assert 1 / sums.inverse_sizes == pytest.approx([40.0, 10.0])


def test_traces_and_correlations_recover_what_the_scans_were_drawn_with() -> None:
    rng = np.random.default_rng(11)
    counts = rng.integers(1, 6, size=4000)
    codes = np.repeat(np.arange(4000), counts)
    patients = Patients.of(codes, scans=len(codes))
    between = rng.normal(size=(4000, 5))[codes] * np.sqrt(0.3)
    features = (between + rng.normal(size=(len(codes), 5)) * np.sqrt(0.7)).astype(np.float32)
    correlations = intraclass_correlations(features, patients, LAYOUT)
    assert correlations == pytest.approx(0.3, abs=0.02)
    sums = PatientSums.of(features, patients, Dependence(correlations=correlations))
    assert traces(sums, LAYOUT) == pytest.approx([2.0, 3.0], rel=0.03)


def test_scans_that_are_all_patients_of_their_own_do_not_correlate() -> None:
    features = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    patients = Patients.of(None, scans=9)
    assert intraclass_correlations(features, patients, LAYOUT).tolist() == [0.0, 0.0]


SHARES = np.array([0.5, 0.3, 0.15, 0.04, 0.01])


def grown(n: int, *, others: int, draws: int = 20_000, seed: int = 0) -> np.ndarray:
    """Growths of shares from a sample of `others` scans to one of n, of one law."""
    rng = np.random.default_rng(seed)
    window = rng.multinomial(n, SHARES, size=draws) / n
    before = rng.multinomial(others, SHARES, size=draws) / others
    return growths(window, np.full(draws, 1 / n), before, np.full(draws, 1 / others))


@pytest.mark.parametrize(("n", "others"), [(100, 400), (200, 200), (400, 3000)])
def test_growths_of_one_law_have_mean_zero_and_the_variance_of_the_inverse_sizes(
    n: int, others: int
) -> None:
    inverse = 1 / n + 1 / others
    growth = grown(n, others=others) / np.sqrt(inverse)
    # Means in deviations; the rarest cell expects but one to four scans in the window.
    assert np.abs(growth.mean(axis=0)).max() < 0.06
    assert growth[:, :4].var(axis=0) == pytest.approx(np.ones(4), abs=0.1)
    assert growth[:, 4].var() == pytest.approx(1.0, abs=0.25)


@pytest.mark.parametrize("n", [50, 100, 200])
def test_growths_are_far_less_skewed_than_differences_of_plain_shares(n: int) -> None:
    rng = np.random.default_rng(1)
    window = rng.multinomial(n, SHARES, size=40_000) / n
    before = rng.multinomial(4000, SHARES, size=40_000) / 4000
    growth = growths(window, np.full(40_000, 1 / n), before, np.full(40_000, 1 / 4000))
    plain, even = (skew(values, axis=0) for values in (window - before, growth))
    rare, rarest = slice(2, 4), 4
    assert np.all(np.abs(even[rare]) < 0.4 * plain[rare])
    assert abs(even[rarest]) < 0.75 * plain[rarest]
    # What the power takes from the right tails it adds a little of to a share of a half.
    assert np.abs(even[:4]).max() < 0.2


def test_a_growth_is_the_difference_in_deviations_of_the_indicator() -> None:
    share, other = np.array([0.11, 0.2]), np.array([0.1, 0.2])
    growth = growths(share, 1e-9, other, 1e-9)
    # To first order in the difference: (q - p) / sqrt(p (1 - p)).
    assert growth == pytest.approx([0.01 / np.sqrt(0.105 * 0.895), 0.0], rel=2e-3, abs=1e-9)
    assert growths(other, 1e-3, share, 1e-4)[0] < 0


def test_growths_of_empty_and_full_cells_are_finite() -> None:
    shares = np.array([0.0, 1.0, -1e-9, 1.0 + 1e-9, 0.0])
    others = np.array([1.0, 0.0, 1.0 + 1e-9, -1e-9, 0.0])
    growth = growths(shares, 0.02, others, 0.001)
    assert np.isfinite(growth).all()
    assert np.sign(growth[:4]).tolist() == [-1.0, 1.0, -1.0, 1.0]
    # Rounding beyond the ends changes nothing.
    assert growth[2:4].tolist() == growth[:2].tolist()
