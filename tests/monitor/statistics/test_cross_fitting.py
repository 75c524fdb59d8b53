from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from monitor.statistics.cross_fitting import fit_portfolio
from monitor.statistics.members.ranks import rank_features
from monitor.statistics.patients import Patients
from monitor.statistics.portfolio import Portfolio
from monitor.statistics.two_sample import Layout, PatientSums, traces


@dataclass(frozen=True)
class Fitted:
    embeddings: np.ndarray
    names: np.ndarray
    portfolio: Portfolio

    @property
    def shaping(self) -> np.ndarray:
        """Scans of patients that the landmarks were taken from: with few scans, all of them."""
        leading = self.portfolio.fit.frame.coordinates(self.embeddings).leading
        landmarks = self.portfolio.fit.landmarks
        points = leading[:, : landmarks.shape[1]]
        distances = np.square(points[:, None] - landmarks[None]).sum(axis=-1)
        return np.asarray(distances.min(axis=1) < 1e-8)


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    """240 patients of one or two scans, in eight dimensions."""
    rng = np.random.default_rng(3)
    names = np.repeat(np.arange(240), rng.integers(1, 3, size=240))
    own = rng.normal(size=(240, 8)) * np.exp(0.2 * rng.normal(size=(240, 1)))
    x = own[names] + 0.5 * rng.normal(size=(len(names), 8))
    x = (x / np.sqrt(np.arange(1, 9)) + 5.0).astype(np.float32)
    portfolio = fit_portfolio(x, Patients.of(names, scans=len(x)), None, seed=11)
    return Fitted(embeddings=x, names=names, portfolio=portfolio)


def test_forty_percent_of_patients_shape_with_all_their_scans(fitted: Fitted) -> None:
    shaping, names = fitted.shaping, fitted.names
    assert len(np.unique(names[shaping])) == 96
    assert not set(names[shaping]) & set(names[~shaping])
    assert len(fitted.portfolio.fit.landmarks) == shaping.sum()


def test_the_subspace_is_that_of_the_shaping_scans_alone(fitted: Fitted) -> None:
    subspace = fitted.portfolio.fit.frame.subspace
    own = fitted.embeddings[fitted.shaping].astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(own.T, bias=True))
    assert subspace.mean == pytest.approx(own.mean(axis=0), rel=1e-5)
    overlap = np.abs(subspace.directions.T @ vectors[:, ::-1])
    assert overlap == pytest.approx(np.eye(8), abs=1e-3)
    unit = fitted.portfolio.fit.frame.basis.unit
    assert subspace.deviations * unit == pytest.approx(np.sqrt(values[::-1]), rel=1e-3)


def test_the_basis_is_that_of_all_scans(fitted: Fitted) -> None:
    basis = fitted.portfolio.fit.frame.basis
    covariance = np.cov(fitted.embeddings.T.astype(np.float64), bias=True)
    rebuilt = (basis.directions * basis.variances) @ basis.directions.T * basis.unit**2
    assert rebuilt == pytest.approx(covariance, abs=1e-5)


def test_scores_that_bend_to_shaping_scans_are_those_of_the_others(fitted: Fitted) -> None:
    fit, others = fitted.portfolio.fit, ~fitted.shaping
    at = fit.frame.coordinates(fitted.embeddings[others])
    assert fit.residuals == pytest.approx(np.sort(np.log(at.outside)), abs=1e-5)
    points = at.leading[:, : fit.landmarks.shape[1]].astype(np.float64)
    nearest = np.square(points[:, None] - fit.landmarks[None]).sum(axis=-1).min(axis=1)
    assert fit.novelties == pytest.approx(np.sort(np.log(nearest)), abs=1e-3)


def test_the_mean_of_split_members_is_taken_over_the_other_patients(fitted: Fitted) -> None:
    portfolio = fitted.portfolio
    members, layout = portfolio.members, Layout.of(portfolio.members)
    at = portfolio.fit.frame.coordinates
    everyone = Patients.of(fitted.names, scans=len(fitted.names))
    split = 0
    for g, member in enumerate(members):
        rows = np.flatnonzero(~fitted.shaping) if member.split else np.arange(len(fitted.names))
        own = everyone.subset(rows)
        seen = at(fitted.embeddings[rows])
        features = (
            member.features(seen)
            if member.split
            else member.left_out_features(seen, own, len(fitted.names))
        )
        weights = 1 / (1 + (own.scans - 1) * portfolio.dependence.pooled)
        mean = np.average(features, axis=0, weights=weights[own.codes])
        # A scan's last bits decide its place beside its own score.
        assert portfolio.centre[layout.part(g)] == pytest.approx(mean, abs=1e-3), member.name
        rho = portfolio.dependence.correlations[g]
        mass = weights * own.scans
        inverse = (mass**2 * (1 + (own.scans - 1) * rho) / own.scans).sum() / mass.sum() ** 2
        assert portfolio.inverse_sizes[g] == pytest.approx(inverse, rel=1e-6), member.name
        split += member.split
    assert 0 < split < len(members)


def test_what_is_known_of_features_comes_from_scans_they_did_not_see(fitted: Fitted) -> None:
    portfolio = fitted.portfolio
    # A fresh sample of the population, seen through the whole fit, has the same variances.
    rng = np.random.default_rng(4)
    fresh = rng.normal(size=(3000, 8)) * np.exp(0.2 * rng.normal(size=(3000, 1)))
    fresh += 0.5 * rng.normal(size=(3000, 8))
    fresh = (fresh / np.sqrt(np.arange(1, 9)) + 5.0).astype(np.float32)
    at = portfolio.fit.frame.coordinates(fresh)
    for g, member in enumerate(portfolio.members):
        features = member.features(at).astype(np.float64)
        assert portfolio.traces[g] == pytest.approx(features.var(axis=0).sum(), rel=0.15), (
            member.name
        )


def test_left_out_scores_rank_fresh_scans_evenly(fitted: Fitted) -> None:
    portfolio = fitted.portfolio
    rng = np.random.default_rng(5)
    fresh = rng.normal(size=(4000, 8)) * np.exp(0.2 * rng.normal(size=(4000, 1)))
    fresh += 0.5 * rng.normal(size=(4000, 8))
    scores = portfolio.outlier_scores(
        (fresh / np.sqrt(np.arange(1, 9)) + 5.0).astype(np.float32)
    )
    mean = rank_features(scores).mean(axis=0, dtype=np.float64)
    # Each feature's mean errs by its weight over the root of the reference's patients.
    assert np.all(np.abs(mean) < 4 * np.array([1.0, 0.4, 0.2]) / np.sqrt(240))


def test_one_seed_gives_one_portfolio_and_another_seed_another(fitted: Fitted) -> None:
    patients = Patients.of(fitted.names, scans=len(fitted.names))
    again, other = (
        fit_portfolio(fitted.embeddings, patients, None, seed=seed) for seed in (11, 12)
    )
    assert np.array_equal(again.null.evidence, fitted.portfolio.null.evidence)
    assert np.array_equal(again.centre, fitted.portfolio.centre)
    assert not np.array_equal(other.fit.landmarks, again.fit.landmarks)
    assert not np.array_equal(other.null.evidence, again.null.evidence)


def test_weeks_change_nothing_but_what_is_known_of_weeks(fitted: Fitted) -> None:
    patients = Patients.of(fitted.names, scans=len(fitted.names))
    week = np.random.default_rng(6).integers(0, 8, size=240)[fitted.names]
    with_weeks = fit_portfolio(fitted.embeddings, patients, week, seed=11)
    assert fitted.portfolio.weeks is None
    assert with_weeks.weeks is not None
    assert with_weeks.weeks.weeks == 8
    assert np.array_equal(with_weeks.centre, fitted.portfolio.centre)
    assert np.array_equal(with_weeks.null.evidence, fitted.portfolio.null.evidence)
    assert np.array_equal(with_weeks.forms, fitted.portfolio.forms)


def test_a_reference_larger_than_a_chunk_is_averaged_whole() -> None:
    rng = np.random.default_rng(7)
    x = rng.normal(size=(9000, 3)).astype(np.float32)
    names = np.repeat(np.arange(900), 10)
    portfolio = fit_portfolio(x, Patients.of(names, scans=len(x)), None, seed=0)
    members, layout = portfolio.members, Layout.of(portfolio.members)
    g = next(i for i, m in enumerate(members) if m.name == "whitened-mean-all")
    features = members[g].features(portfolio.fit.frame.coordinates(x))
    assert portfolio.centre[layout.part(g)] == pytest.approx(
        features.mean(axis=0, dtype=np.float64), abs=1e-5
    )
    # The distances are ranked among no more scans than are needed to know their law.
    assert portfolio.fit.scores.shape[1] <= 8000
    sums = PatientSums.of(features, Patients.of(names, scans=len(x)), portfolio.dependence)
    one = Layout(edges=np.array([0, 3]), peaked=np.array([False]))
    spreads = PatientSums(sums=sums.sums, masses=sums.masses, spreads=sums.spreads[:, [g]])
    assert portfolio.traces[g] == pytest.approx(traces(spreads, one)[0], rel=0.03)
