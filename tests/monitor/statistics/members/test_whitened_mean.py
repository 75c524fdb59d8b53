from __future__ import annotations

import numpy as np
import pytest

from monitor.statistics.coordinates import Coordinates
from monitor.statistics.members.whitened_mean import WhitenedMean
from monitor.statistics.patients import Patients
from monitor.statistics.two_sample import Dependence, Layout, PatientSums
from monitor.statistics.whitening import Eigenbasis, Moments


def basis_of(x: np.ndarray) -> Eigenbasis:
    return Moments.of(x, np.arange(len(x)) % 2).basis(np.array([True, True]))


def seen(basis: Eigenbasis, x: np.ndarray) -> Coordinates:
    """Scans of which only the principal coordinates are asked."""
    centred = basis.centred(x.astype(np.float32))
    principal = basis.principal(centred)
    return Coordinates(
        centred=centred, principal=principal, leading=principal, outside=np.ones(len(x))
    )


def test_all_whitened_directions_give_inner_products_of_the_inverse_covariance() -> None:
    rng = np.random.default_rng(1)
    x = (rng.normal(size=(60, 5)) * [5, 3, 2, 1, 0.5]).astype(np.float32)
    basis = basis_of(x)
    member = WhitenedMean(name="all", variances=basis.variances, weight=1.0, directional=False)
    white = member.features(seen(basis, x)).astype(np.float64)
    centred = x - x.mean(axis=0, dtype=np.float64)
    inverse = np.linalg.inv(np.cov(x.T.astype(np.float64), bias=True))
    assert white @ white.T == pytest.approx(centred @ inverse @ centred.T, abs=1e-3)
    assert member.scale == 1.0


def test_directional_features_have_length_one_even_at_the_centre() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(50, 4)).astype(np.float32)
    basis = basis_of(x)
    member = WhitenedMean(name="3", variances=basis.variances[:3], weight=1.0)
    features = member.features(seen(basis, x))
    assert features.shape == (50, 3)
    assert member.whitened == member.size == 3
    assert np.linalg.norm(features, axis=1) == pytest.approx(1.0, abs=1e-6)
    assert np.isfinite(member.features(seen(basis, basis.mean[None]))).all()


def test_the_effect_of_a_small_shift_is_about_its_length_in_standard_deviations() -> None:
    rng = np.random.default_rng(4)
    p = 40
    x = rng.normal(size=(4000, p)).astype(np.float32)
    basis = basis_of(x)
    member = WhitenedMean(name="all", variances=basis.variances, weight=1.0)
    moved = x + (0.5 / np.sqrt(p)).astype(np.float32)
    one, other = (
        member.features(seen(basis, part)).mean(axis=0, dtype=np.float64) for part in (x, moved)
    )
    assert member.scale * np.linalg.norm(other - one) == pytest.approx(0.5, rel=0.05)


def test_leaving_a_scan_out_of_the_covariance_keeps_its_whitened_direction() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(30, 4))
    covariance = x.T @ x / 30
    without = (x.T @ x - np.outer(x[0], x[0])) / 29
    full, left_out = (np.linalg.solve(s, x[0]) for s in (covariance, without))
    assert full / np.linalg.norm(full) == pytest.approx(left_out / np.linalg.norm(left_out))
    basis = basis_of(x.astype(np.float32))
    member = WhitenedMean(name="4", variances=basis.variances, weight=1.0)
    at = seen(basis, x)
    patients = Patients.of(None, scans=30)
    assert np.array_equal(member.left_out_features(at, patients, 30), member.features(at))


def classifier_scores(
    features: np.ndarray, codes: np.ndarray, centre: np.ndarray
) -> list[float]:
    """Return each scan's score by a linear classifier trained without its patient.

    The classifier of reference against window that projects on the difference of their
    mean features; a score above 0 is on the window's side of the reference.
    """
    scores = []
    for i in range(len(features)):
        training = features[codes != codes[i]]
        direction = training.mean(axis=0) - centre
        scores.append(float((features[i] - centre) @ direction))
    return scores


def test_the_squared_shift_is_the_mean_score_of_a_classifier_that_leaves_one_out() -> None:
    rng = np.random.default_rng(6)
    reference = rng.normal(size=(80, 6)) @ rng.normal(size=(6, 6))
    window = (reference[:25] + rng.normal(0.3, 0.2, size=(25, 6))).astype(np.float32)
    basis = basis_of(reference.astype(np.float32))
    member = WhitenedMean(name="all", variances=basis.variances, weight=1.0)
    centre = member.features(seen(basis, reference)).mean(axis=0, dtype=np.float64)
    features = member.features(seen(basis, window))
    layout = Layout.of([member])
    sums = PatientSums.of(features, Patients.of(None, scans=25), Dependence.none(1))
    scores = classifier_scores(features.astype(np.float64), np.arange(25), centre)
    shift = sums.about(centre).squared_shifts(layout)[0]
    assert shift == pytest.approx(np.mean(scores), rel=1e-4)
    assert shift > 0.01


def test_with_several_scans_of_a_patient_the_classifier_leaves_the_patient_out() -> None:
    rng = np.random.default_rng(7)
    reference = rng.normal(size=(80, 6)) @ rng.normal(size=(6, 6))
    codes = np.repeat(np.arange(9), 3)
    window = (rng.normal(size=(9, 6))[codes] + rng.normal(0.4, 1.0, size=(27, 6))).astype(
        np.float32
    )
    basis = basis_of(reference.astype(np.float32))
    member = WhitenedMean(name="all", variances=basis.variances, weight=1.0)
    centre = member.features(seen(basis, reference)).mean(axis=0, dtype=np.float64)
    features = member.features(seen(basis, window))
    layout = Layout.of([member])
    sums = PatientSums.of(
        features, Patients.of(codes, scans=27), Dependence(correlations=np.array([0.4]))
    )
    # Patients of equally many scans weigh alike, so that the mean needs no weights.
    scores = classifier_scores(features.astype(np.float64), codes, centre)
    shift = sums.about(centre).squared_shifts(layout)[0]
    assert shift == pytest.approx(np.mean(scores), rel=1e-4)
    own = PatientSums.of(features, Patients.of(None, scans=27), Dependence.none(1))
    assert shift != pytest.approx(own.about(centre).squared_shifts(layout)[0], rel=0.05)


def test_patients_of_unequal_mass_count_by_the_pairs_they_make() -> None:
    rng = np.random.default_rng(8)
    codes = np.array([0] * 4 + [1] * 2 + [2, 3, 4] + [5] * 3)
    features = rng.normal(0.3, 1.0, size=(12, 5)).astype(np.float32)
    member = WhitenedMean(name="all", variances=np.ones(5), weight=1.0)
    correlation = 0.3
    sums = PatientSums.of(
        features, Patients.of(codes, scans=12), Dependence(correlations=np.array([correlation]))
    )
    scans = np.array([np.sum(codes == code) for code in codes])
    weights = 1.0 / (1.0 + (scans - 1) * correlation)
    total = pairs = 0.0
    for i in range(12):
        others = codes != codes[i]
        direction = np.average(features[others], axis=0, weights=weights[others])
        pair = weights[i] * weights[others].sum()
        total += pair * float(features[i] @ direction)
        pairs += pair
    shift = sums.squared_shifts(Layout.of([member]))[0]
    assert shift == pytest.approx(total / pairs, rel=1e-4)
