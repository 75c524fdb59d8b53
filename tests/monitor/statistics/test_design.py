from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.interpolate import interp1d
from scipy.spatial.distance import cdist, pdist
from scipy.stats import norm

from monitor.statistics.coordinates import Coordinates
from monitor.statistics.cross_fitting import fit_portfolio
from monitor.statistics.design import (
    MEAN_SHIFT,
    Design,
    landmark_count,
    subspace_size,
)
from monitor.statistics.patients import Patients
from monitor.statistics.portfolio import Portfolio
from monitor.statistics.whitening import Eigenbasis

DIMENSION, SCANS = 36, 260


@dataclass(frozen=True)
class Seen:
    """A fitted portfolio, new scans, and their coordinates by plain linear algebra."""

    portfolio: Portfolio
    #: [n, d] about the reference's mean, in units of length
    centred: np.ndarray
    #: [n, d] along the reference's principal directions
    principal: np.ndarray
    #: [n, q] in standard deviations of the shaping scans
    leading: np.ndarray
    #: [n] length of what the first leading directions do not reconstruct
    outside: np.ndarray
    #: by name
    features: dict[str, np.ndarray]

    @property
    def design(self) -> Design:
        return self.portfolio.design


@pytest.fixture(scope="module")
def seen() -> Seen:
    rng = np.random.default_rng(8)
    scales = 1.0 / np.sqrt(np.arange(1, DIMENSION + 1))
    x, new = (
        ((rng.normal(size=(n, DIMENSION)) * scales) + 3.0).astype(np.float32)
        for n in (SCANS, 50)
    )
    portfolio = fit_portfolio(x, Patients.of(None, scans=SCANS), None, seed=2)
    frame = portfolio.fit.frame
    reference, scans = x.astype(np.float64), new.astype(np.float64)
    mean = reference.mean(axis=0)
    unit = np.sqrt(np.square(reference - mean).sum(axis=1).mean())
    _, vectors = np.linalg.eigh(np.cov(reference.T, bias=True))
    vectors = vectors[:, ::-1]
    # The sign of a direction is a convention: that of the fit.
    vectors *= np.sign((vectors * frame.basis.directions).sum(axis=0))
    # Landmarks are scans of shaping patients; here they are all of them.
    points = frame.coordinates(x).leading[:, : portfolio.fit.landmarks.shape[1]]
    shaping = reference[cdist(points, portfolio.fit.landmarks).min(axis=1) < 1e-4]
    values, leading = np.linalg.eigh(np.cov(shaping.T, bias=True))
    values, leading = values[::-1], leading[:, ::-1]
    moved = scans - shaping.mean(axis=0)
    inside = int(np.argmax(np.cumsum(values) / values.sum() >= 0.65)) + 1
    kept = leading[:, :inside]
    along = moved @ leading / np.sqrt(values)
    along *= np.sign((leading * frame.subspace.directions).sum(axis=0))
    at = frame.coordinates(new)
    return Seen(
        portfolio=portfolio,
        centred=(scans - mean) / unit,
        principal=(scans - mean) @ vectors / unit,
        leading=along,
        outside=np.square(moved - moved @ kept @ kept.T).sum(axis=1) / unit**2,
        features={member.name: member.features(at) for member in portfolio.members},
    )


def plain_rank_features(scores: np.ndarray, reference: np.ndarray) -> np.ndarray:
    last = len(reference)
    between = interp1d(
        reference, np.arange(1, last + 1), bounds_error=False, fill_value=(1, last)
    )
    rank = between(scores)
    rank = rank / (len(reference) + 1)
    u = 2 * rank - 1
    return np.column_stack(
        [
            norm.ppf(rank),
            0.4 * np.sqrt(5) * (3 * u**2 - 1) / 2,
            0.2 * np.sqrt(7) * (5 * u**3 - 3 * u) / 2,
        ]
    )


def plain_fourier(points: np.ndarray, frequencies: np.ndarray, bandwidth: float) -> np.ndarray:
    phases = points @ frequencies / bandwidth
    return np.hstack([np.cos(phases), np.sin(phases)]) / np.sqrt(frequencies.shape[1])


def test_every_member_is_compared_with_plain_linear_algebra_here(seen: Seen) -> None:
    assert list(seen.features) == [
        "whitened-mean-16",
        "whitened-mean-all",
        "fourier-mmd-narrow",
        "fourier-mmd-wide",
        "fourier-mmd-leading-narrow",
        "fourier-mmd-leading-wide",
        "fourier-mmd-whitened",
        "log-mahalanobis-fine",
        "log-mahalanobis-middle",
        "log-mahalanobis-coarse",
        "residual",
        "novelty",
        "variances",
        "occupancy",
        "occupancy-peak",
        MEAN_SHIFT,
    ]


def test_whitened_means_are_unit_vectors_of_scans_in_held_out_deviations(seen: Seen) -> None:
    for name, p in (("whitened-mean-16", 16), ("whitened-mean-all", DIMENSION)):
        white = seen.principal[:, :p] / np.sqrt(seen.design.spectrum[:p])
        expected = white / np.linalg.norm(white, axis=1, keepdims=True)
        assert seen.features[name] == pytest.approx(expected, abs=1e-3), name


def test_the_mean_shift_is_described_in_deviations_and_has_no_say(seen: Seen) -> None:
    p = seen.design.described
    white = seen.principal[:, :p] / np.sqrt(seen.design.spectrum[:p])
    assert seen.features[MEAN_SHIFT] == pytest.approx(white, abs=2e-3)
    weights = {member.name: member.weight for member in seen.portfolio.members}
    assert weights.pop(MEAN_SHIFT) == 0
    assert min(weights.values()) > 0


def test_fourier_members_are_cosines_and_sines_in_their_spaces(seen: Seen) -> None:
    design = seen.design
    k = len(design.leading_frequencies)
    white = seen.principal / np.sqrt(design.spectrum)
    white *= np.sqrt(DIMENSION) / np.linalg.norm(white, axis=1, keepdims=True)
    spaces = {
        "fourier-mmd-narrow": (seen.centred, design.frequencies, 0.5 * design.distance),
        "fourier-mmd-wide": (seen.centred, design.frequencies, design.distance),
        "fourier-mmd-leading-narrow": (
            seen.leading[:, :k],
            design.leading_frequencies,
            0.5 * design.leading_distance,
        ),
        "fourier-mmd-leading-wide": (
            seen.leading[:, :k],
            design.leading_frequencies,
            design.leading_distance,
        ),
        "fourier-mmd-whitened": (white, design.frequencies, 0.5 * np.sqrt(2 * DIMENSION)),
    }
    for name, (points, frequencies, bandwidth) in spaces.items():
        expected = plain_fourier(points, frequencies, bandwidth)
        assert seen.features[name] == pytest.approx(expected, abs=2e-3), name


def test_distances_are_ranked_after_a_ridge_each(seen: Seen) -> None:
    variances = seen.portfolio.fit.frame.basis.variances
    for label, ridge, scores in zip(
        ("fine", "middle", "coarse"),
        seen.design.ridges,
        seen.portfolio.fit.scores,
        strict=True,
    ):
        distances = (seen.principal**2 / (variances + ridge)).sum(axis=1)
        expected = plain_rank_features(np.log(distances), scores)
        name = f"log-mahalanobis-{label}"
        assert seen.features[name] == pytest.approx(expected, abs=2e-3), name


def test_residual_and_novelty_are_ranked_among_scans_that_did_not_shape(seen: Seen) -> None:
    fit = seen.portfolio.fit
    p = fit.landmarks.shape[1]
    nearest = cdist(seen.leading[:, :p], fit.landmarks.astype(np.float64)).min(axis=1)
    for name, scores, reference in (
        ("residual", np.log(seen.outside), fit.residuals),
        (
            "novelty",
            np.maximum(2 * np.log(nearest), np.median(fit.novelties)),
            fit.novelties,
        ),
    ):
        expected = plain_rank_features(scores, reference)
        assert seen.features[name] == pytest.approx(expected, abs=2e-3), name


def test_variances_are_cut_squares_along_the_leading_directions(seen: Seen) -> None:
    p = seen.design.leading
    expected = (np.minimum(seen.leading[:, :p] ** 2, 9.0) - 1.0) / np.sqrt(p)
    assert seen.features["variances"] == pytest.approx(expected, abs=2e-3)


def test_occupancy_is_the_nearest_centre_of_scans_within_reach(seen: Seen) -> None:
    cells = seen.portfolio.fit.cells
    p = cells.centres.shape[1]
    assert p == min(32, seen.design.leading)
    points = seen.principal[:, :p] / np.sqrt(seen.design.spectrum[:p])
    lengths = np.linalg.norm(points, axis=1)
    near = points * np.minimum(1.0, 1.2 * np.sqrt(p) / lengths)[:, None]
    one_hot = np.eye(len(cells.centres))[cdist(near, cells.centres).argmin(axis=1)]
    assert np.array_equal(seen.features["occupancy-peak"], one_hot)
    assert seen.features["occupancy"] == pytest.approx(
        one_hot / np.sqrt(cells.shares), rel=1e-5
    )


def test_bandwidths_are_median_distances(seen: Seen) -> None:
    design = seen.design
    k = len(design.leading_frequencies)
    # Scans of the same law lie as far from each other, but for sampling.
    assert design.distance == pytest.approx(np.median(pdist(seen.centred)), rel=0.1)
    assert design.leading_distance == pytest.approx(
        np.median(pdist(seen.leading[:, :k])), rel=0.15
    )


@pytest.mark.parametrize(
    ("dimension", "patients", "directions", "described"),
    [
        (2, 200, (2,), 2),
        (24, 400, (24,), 24),
        (40, 400, (16, 40), 40),
        (160, 500, (16, 64, 160), 64),
        (160, 100, (16, 160), 16),
        (600, 1200, (16, 64, 256, 600), 64),
    ],
)
def test_whitened_directions_are_half_of_the_dimension_and_far_fewer_than_patients(
    dimension: int, patients: int, directions: tuple[int, ...], described: int
) -> None:
    design = designed(dimension=dimension, patients=patients)
    assert design.directions == directions
    assert design.described == described
    # What a verdict's smallest effect is told of has a detector of its own.
    assert design.described in design.directions


def designed(*, dimension: int, patients: int) -> Design:
    """Choose for a round reference of which a few scans are looked at."""
    rng = np.random.default_rng(0)
    few = rng.normal(size=(60, dimension)).astype(np.float32)
    basis = Eigenbasis(
        unit=1.0,
        mean=np.zeros(dimension, dtype=np.float32),
        directions=np.eye(dimension, dtype=np.float32),
        variances=np.ones(dimension),
    )
    leading = few[:, : subspace_size(dimension, patients)]
    sample = Coordinates(centred=few, principal=few, leading=leading, outside=np.ones(60))
    return Design.of(
        basis, np.ones(dimension), sample, np.arange(60) < 24, patients=patients, rng=rng
    )


@pytest.mark.parametrize("dimension", [24, 160, 600])
@pytest.mark.parametrize("patients", [200, 1200])
def test_ridges_leave_fewer_degrees_of_freedom_than_patients_and_rise(
    dimension: int, patients: int
) -> None:
    fine, middle, coarse = designed(dimension=dimension, patients=patients).ridges
    assert 0 < fine <= middle <= coarse
    assert dimension / (1 + fine) <= 0.4 * patients


@pytest.mark.parametrize("patients", [200, 500, 1000, 5000, 100_000])
def test_what_bends_to_its_scans_has_fewer_parts_than_a_tenth_of_the_shaping_patients(
    patients: int,
) -> None:
    shaping = int(0.4 * patients)
    assert 4 <= designed(dimension=100, patients=patients).cells <= max(4, shaping // 25)
    assert subspace_size(1280, patients) <= shaping // 2
    assert designed(dimension=100, patients=patients).leading <= max(shaping // 8, 10)


def test_sizes_stay_within_the_dimension_and_the_scans() -> None:
    assert subspace_size(3, 5000) == 3
    assert landmark_count(80) == 80
    assert landmark_count(10**6) == 512
    assert len(designed(dimension=100, patients=5000).cell_precisions) == 32
    small = designed(dimension=2, patients=200)
    assert len(small.cell_precisions) == 2
    assert small.leading == 2
    assert small.leading_frequencies.shape[0] == 2
