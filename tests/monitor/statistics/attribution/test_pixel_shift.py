"""Pixel measures as normal scores of ranks, before and after a new prevalence."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm, rankdata
from two_class_world import each_its_own

from monitor.statistics.attribution.pixel_shift import PixelReference, pixel_shift
from monitor.statistics.embeddings import Floats
from monitor.statistics.patients import Patients
from registry.errors import BadInputError

NAMES = ("one", "two", "three")


def measures(
    scans: int, rng: np.random.Generator, *, prevalence: float
) -> tuple[Floats, Floats]:
    """The second measure lies a deviation higher with the finding."""
    finding = (rng.random(scans) < prevalence).astype(np.float64)
    drawn = rng.standard_normal((scans, 3))
    drawn[:, 1] += finding
    return np.exp(drawn), finding


def reference() -> PixelReference:
    own, finding = measures(1000, np.random.default_rng(1), prevalence=0.4)
    return PixelReference.fit(own, finding, names=NAMES, aspects=("a", "a", "b"))


def test_scores_are_normal_scores_of_midranks() -> None:
    own = np.array([[1.0], [2.0], [2.0], [2.0], [5.0]])
    known = PixelReference.fit(own, np.ones(5) / 2, names=("x",), aspects=("a",))
    new = np.array([2.0, 0.0, 9.0, 3.0])
    expected = []
    for value in new:
        # The midrank of a newcomer, less the place that it takes itself.
        ranks = rankdata([*own[:, 0], value])
        expected.append(norm.ppf((ranks[-1] - 0.5) / 6))
    np.testing.assert_allclose(known.normal_scores(new[:, None])[:, 0], expected, atol=1e-12)


def test_a_new_prevalence_is_taken_away_and_a_displacement_is_not() -> None:
    known = reference()
    own, _ = measures(4000, np.random.default_rng(2), prevalence=0.9)
    own[:, 2] *= np.e
    found = pixel_shift(known, own, each_its_own(4000), prevalence=0.9)
    assert found.shifts[1] > 0.3
    assert abs(found.residuals[0]) < 0.08
    assert abs(found.residuals[1]) < 0.08
    assert found.residuals[2] > 0.8
    assert found.leading == "three"


def test_the_standard_error_is_that_of_windows() -> None:
    known, rng = reference(), np.random.default_rng(3)
    found = [
        pixel_shift(
            known, measures(100, rng, prevalence=0.4)[0], each_its_own(100), prevalence=0.4
        )
        for _ in range(300)
    ]
    spread = np.std([one.shifts for one in found], axis=0)
    # The reference's own part does not scatter here: 1/1000 beside 1/100.
    np.testing.assert_allclose(spread, found[0].error, rtol=0.2)


def test_alike_tells_common_displacements_from_few_far_scans() -> None:
    known, rng = reference(), np.random.default_rng(4)
    all_moved, few_moved = (measures(400, rng, prevalence=0.4)[0] for _ in range(2))
    all_moved[:, 0] *= np.exp(0.8)
    few_moved[:80, 0] *= np.exp(4.0)
    patients = each_its_own(400)
    assert pixel_shift(known, all_moved, patients, prevalence=0.4).alike > 0.6
    few = pixel_shift(known, few_moved, patients, prevalence=0.4)
    assert few.leading == "one"
    assert few.alike < 0.35
    # Four deviations out, half of the 80 lie beyond all 1,000 of the reference.
    assert 0.08 < few.scans_beyond < 0.25
    assert few.measures_beyond == pytest.approx(few.scans_beyond / 3, rel=0.2)


def test_a_patients_scans_count_as_one() -> None:
    known = reference()
    own, _ = measures(40, np.random.default_rng(5), prevalence=0.4)
    doubled = pixel_shift(
        known,
        np.repeat(own, 2, axis=0),
        Patients.of(np.repeat(np.arange(40), 2), scans=80),
        prevalence=0.4,
    )
    single = pixel_shift(known, own, each_its_own(40), prevalence=0.4)
    np.testing.assert_allclose(doubled.shifts, single.shifts, atol=1e-6)
    assert doubled.error == single.error


def test_measures_that_do_not_match_are_refused() -> None:
    own, finding = measures(50, np.random.default_rng(6), prevalence=0.4)
    with pytest.raises(BadInputError, match="2 names"):
        PixelReference.fit(own, finding, names=("x", "y"), aspects=("a", "a", "b"))
    with pytest.raises(BadInputError, match="same version"):
        reference().normal_scores(own[:, :2])
