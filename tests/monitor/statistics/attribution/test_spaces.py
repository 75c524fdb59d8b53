"""A reference's features by finding, and scans as seen from it."""

from __future__ import annotations

import numpy as np
import pytest
from two_class_world import PREVALENCE, REFERENCE, drawn, each_its_own, known

from monitor.statistics.attribution.spaces import SpaceReference
from registry.errors import BadInputError, InsufficientDataError


def test_at_its_own_prevalence_the_reference_is_the_portfolios() -> None:
    space = known().space
    centre, inverse_sizes = space.centre(space.prevalence)
    np.testing.assert_allclose(centre, space.portfolio.centre, atol=1e-6)
    np.testing.assert_allclose(inverse_sizes, space.portfolio.inverse_sizes, rtol=1e-9)
    assert space.prevalence == pytest.approx(known().scans.finding.mean())


def test_classes_differ_by_the_difference_of_their_mean_features() -> None:
    scans, space = known().scans, known().space
    features = space.see(scans.embeddings).features.astype(np.float64)
    having = scans.finding == 1
    expected = features[having].mean(axis=0) - features[~having].mean(axis=0)
    # A whitened direction is the same whether or not its scan was in the fit.
    part = space.whitened
    np.testing.assert_allclose(
        (space.centres[1] - space.centres[0])[part], expected[part], atol=1e-5
    )


def test_more_prevalent_classes_have_more_weight_and_more_certainty() -> None:
    space = known().space
    centre, inverse_sizes = space.centre(1.0)
    np.testing.assert_allclose(centre, space.centres[1])
    np.testing.assert_allclose(inverse_sizes, space.inverse_sizes[1])
    own = space.portfolio.inverse_sizes / PREVALENCE
    np.testing.assert_allclose(space.inverse_sizes[1], own, rtol=0.1)


def test_new_scans_lie_at_the_references_quantiles() -> None:
    distances = known().space.see(drawn(4000, np.random.default_rng(1)).embeddings).distances
    np.testing.assert_allclose(np.median(distances, axis=0), 0.0, atol=0.15)
    # The reference's own 2.5 % are known to within a fifth of a deviation.
    np.testing.assert_allclose((distances > 1.0).mean(axis=0), 0.025, atol=0.02)


def test_chunks_do_not_show() -> None:
    space = known().space
    scans = drawn(2100, np.random.default_rng(2)).embeddings
    seen = space.see(scans)
    rows = np.array([2099, 5, 2047, 2048])
    alone = space.see(scans[rows])
    np.testing.assert_allclose(seen.rows(rows).features, alone.features, atol=1e-5)
    np.testing.assert_allclose(seen.rows(rows).distances, alone.distances, atol=1e-4)
    assert len(seen) == 2100


def test_findings_that_are_not_one_for_each_scan_are_refused() -> None:
    scans, space = known().scans, known().space
    with pytest.raises(BadInputError, match="one of each for every scan"):
        SpaceReference.fit(
            space.portfolio,
            scans.embeddings,
            each_its_own(REFERENCE),
            scans.finding[1:],
            seed=0,
        )


def test_a_class_of_too_few_scans_is_refused() -> None:
    scans, space = known().scans, known().space
    with pytest.raises(InsufficientDataError, match="with and without the finding"):
        SpaceReference.fit(
            space.portfolio,
            scans.embeddings,
            each_its_own(REFERENCE),
            (np.arange(REFERENCE) < 19).astype(float),
            seed=0,
        )
