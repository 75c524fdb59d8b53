"""Members' shifts, against double sums, the portfolio itself, and label shift."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from two_class_world import DIMENSION, PREVALENCE, drawn, each_its_own, known

from monitor.statistics.attribution.shifts import (
    FeatureSums,
    squared_shifts_by_band,
    standardised_shifts,
    statistics,
)
from monitor.statistics.patients import Patients


def sums_of(scans: int, rng: np.random.Generator, *, prevalence: float) -> FeatureSums:
    space = known().space
    seen = space.see(drawn(scans, rng, prevalence=prevalence).embeddings)
    return FeatureSums.of(space, seen, each_its_own(scans))


def test_squared_shifts_are_double_sums_over_scans_of_different_patients() -> None:
    space = known().space
    seen = space.see(drawn(30, np.random.default_rng(3)).embeddings)
    patients = Patients.of(np.arange(30) // 2, scans=30)
    sums = FeatureSums.of(space, seen, patients)
    centre = space.portfolio.centre.astype(np.float64)
    weight = patients.weights(space.portfolio.dependence.pooled)[patients.codes]
    about = (seen.features.astype(np.float64) - centre) * weight[:, None]
    pairs = [(i, j) for i, j in permutations(range(30), 2) if i // 2 != j // 2]
    total = sum(about[i] * about[j] for i, j in pairs)
    mass = sum(weight[i] * weight[j] for i, j in pairs)
    np.testing.assert_allclose(sums.squared(centre), total / mass, atol=1e-6)


def test_at_the_references_prevalence_statistics_are_the_portfolios() -> None:
    space = known().space
    embeddings = drawn(60, np.random.default_rng(4)).embeddings
    patients = Patients.of(np.arange(60) // 3, scans=60)
    sums = FeatureSums.of(space, space.see(embeddings), patients)
    np.testing.assert_allclose(
        statistics(space, sums, prevalence=space.prevalence),
        space.portfolio.compare(embeddings, patients).statistics,
        rtol=1e-3,
        atol=1e-3,
    )


def test_without_a_shift_members_scatter_about_nothing() -> None:
    space, rng = known().space, np.random.default_rng(5)
    rounds = np.stack(
        [
            standardised_shifts(
                space, sums_of(120, rng, prevalence=PREVALENCE), prevalence=space.prevalence
            )
            for _ in range(60)
        ]
    )
    # One reference's own error is in all of them.
    assert np.abs(rounds.mean(axis=0)).max() < 1.5
    assert 0.4 < np.median(rounds.std(axis=0)) < 1.8


def test_a_new_prevalence_moves_members_until_it_is_accounted_for() -> None:
    space, rng = known().space, np.random.default_rng(6)
    plain, left = [], []
    for _ in range(40):
        sums = sums_of(150, rng, prevalence=0.8)
        plain.append(standardised_shifts(space, sums, prevalence=space.prevalence))
        left.append(standardised_shifts(space, sums, prevalence=0.8))
    moved = np.mean(plain, axis=0) > 5
    assert moved[space.names.index("whitened-mean-all")]
    assert moved.sum() >= 5
    assert np.abs(np.mean(left, axis=0)[moved]).max() < 1.5


def test_bands_make_up_the_whole_squared_shift() -> None:
    space = known().space
    sums = sums_of(200, np.random.default_rng(7), prevalence=0.9)
    bands = squared_shifts_by_band(space, sums, prevalence=space.prevalence)
    g = space.names.index("whitened-mean-all")
    whole = statistics(space, sums, prevalence=space.prevalence)[g] * (
        sums.inverse_sizes[g] + space.portfolio.inverse_sizes[g]
    )
    assert len(bands) == 4
    # The trace of scans of length one is one, but for the square of their mean.
    assert bands.sum() / DIMENSION == pytest.approx(whole, abs=2e-3)


def test_a_shift_along_one_direction_lies_in_that_directions_band() -> None:
    space, rng = known().space, np.random.default_rng(8)
    basis = space.portfolio.fit.frame.basis
    for direction, band in ((3, 0), (20, 3)):
        moved = drawn(300, rng).embeddings
        deviation = float(np.sqrt(basis.variances[direction])) * basis.unit
        moved += (1.5 * deviation * basis.directions[:, direction]).astype(np.float32)
        sums = FeatureSums.of(space, space.see(moved), each_its_own(300))
        bands = squared_shifts_by_band(space, sums, prevalence=space.prevalence)
        assert bands.argmax() == band
