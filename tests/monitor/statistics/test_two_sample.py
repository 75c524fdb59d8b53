from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from monitor.statistics.patients import Patients
from monitor.statistics.two_sample import (
    Dependence,
    Layout,
    PatientSums,
    intraclass_correlations,
    traces,
)

LAYOUT = Layout(edges=np.array([0, 2, 5]))


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
    layout = Layout(edges=np.array([0, 2]))
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
