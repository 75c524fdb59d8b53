"""The prevalence in the shape of a distribution of scores, moved and stretched or not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit
from scipy.stats import norm

from monitor.statistics.attribution.deformed_mixture import ScoreDensities

SHARE = 0.4


def odds(scans: int, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds of two normal classes, 3 apart, calibrated at a prevalence of 0.4."""
    finding = rng.random(scans) < share
    return rng.standard_normal(scans) * 3**0.5 + np.where(finding, 1.5, -1.5) + logit(
        SHARE
    ), finding.astype(float)


def reference() -> ScoreDensities:
    found, finding = odds(4000, SHARE, np.random.default_rng(1))
    return ScoreDensities.fit(found, finding)


def grid(densities: ScoreDensities) -> np.ndarray:
    """The middles of the cells of -16 .. 16."""
    width = 32 / densities.densities.shape[1]
    return np.arange(densities.densities.shape[1]) * width - 16 + width / 2


def test_densities_are_those_of_the_classes() -> None:
    densities = reference()
    places = grid(densities)
    for row, middle in zip(densities.densities, (-1.5, 1.5), strict=True):
        expected = norm.pdf(places, middle + logit(SHARE), 3**0.5)
        # log-odds are cut off at 8.
        inside = np.abs(places) < 6
        assert np.abs(row - expected)[inside].max() < 0.03


def test_the_likelihood_is_climbed_to_its_top() -> None:
    densities, rng = reference(), np.random.default_rng(2)
    found, _ = odds(400, 0.7, rng)
    moved = 1.2 * found + 0.5
    explained = densities.explain(moved)

    def loss(at: np.ndarray) -> float:
        share, move, stretch = expit(at[0]), at[1], np.exp(at[2])
        back = (np.clip(moved, -8, 8) - move) / stretch
        classes = [np.interp(back, grid(densities), row) + 0.003 for row in densities.densities]
        mixture = (1 - share) * classes[0] + share * classes[1]
        return float(-np.log(mixture / stretch).sum())

    best = min(
        (
            minimize(loss, [0.0, a, b], method="Nelder-Mead")
            for a in (-1, 0, 1)
            for b in (0, 0.3)
        ),
        key=lambda result: result.fun,
    )
    ours = loss(
        np.array([logit(explained.prevalence), explained.move, np.log(explained.stretch)])
    )
    # Moves are tried in steps of an eighth and stretches of a twenty-fifth: the top is flat.
    assert ours - best.fun < 0.5


def test_a_new_prevalence_shows_behind_a_move_and_a_stretch() -> None:
    densities, rng = reference(), np.random.default_rng(3)
    old, new = [], []
    for _ in range(12):
        same, _ = odds(500, SHARE, rng)
        changed, _ = odds(500, 0.75, rng)
        old.append(densities.explain(0.8 * same + 1.0))
        new.append(densities.explain(0.8 * changed + 1.0))
    assert np.mean([one.prevalence for one in old]) == pytest.approx(SHARE, abs=0.1)
    assert np.mean([one.prevalence for one in new]) == pytest.approx(0.75, abs=0.1)
    assert np.mean([one.prevalence_evidence for one in new]) > 2.0
    assert np.mean([one.prevalence_evidence for one in old]) < 1.5
    assert np.mean([one.deformation_evidence for one in old]) > 4.0


def test_a_new_prevalence_alone_is_no_deformation() -> None:
    densities, rng = reference(), np.random.default_rng(4)
    found = [densities.explain(odds(400, 0.7, rng)[0]) for _ in range(12)]
    assert np.mean([one.deformation_evidence for one in found]) < 2.5
    assert np.mean([one.prevalence_evidence for one in found]) > 1.5


def test_certain_scores_are_borne() -> None:
    explained = reference().explain(np.array([-40.0, 40.0, 40.0, 0.0]))
    assert 0 <= explained.prevalence <= 1
    assert np.isfinite(explained.prevalence_evidence)
