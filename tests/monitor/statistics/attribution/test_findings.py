"""What a champion's probabilities say, against label shift and independent sums."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import ks_2samp
from two_class_world import PREVALENCE, REFERENCE, drawn, known

from monitor.statistics.attribution.findings import finding_shift, shifts_by_finding


def test_the_likeliest_prevalence_comes_with_its_standard_error() -> None:
    rng, world = np.random.default_rng(1), known()
    found = [
        finding_shift(world.finding, world.probabilities(drawn(200, rng, prevalence=0.7)))
        for _ in range(60)
    ]
    prevalences = np.array([one.prevalence for one in found])
    assert prevalences.mean() == pytest.approx(0.7, abs=0.04)
    errors = [(one.prevalence - one.before) / one.evidence for one in found]
    # Theirs holds the reference's part too, which all windows share.
    assert 0.8 < np.mean(errors) / prevalences.std() < 1.6


def test_distances_are_those_of_kolmogorov_and_smirnov() -> None:
    rng, world = np.random.default_rng(2), known()
    probabilities = world.probabilities(drawn(150, rng, prevalence=0.8))
    found = finding_shift(world.finding, probabilities)
    expected = ks_2samp(probabilities, world.finding.probabilities).statistic
    scale = np.sqrt(150 * REFERENCE / (150 + REFERENCE))
    assert found.distance == pytest.approx(expected * scale)


def test_a_reference_brought_to_the_new_prevalence_is_nearer() -> None:
    rng, world = np.random.default_rng(3), known()
    found = [
        finding_shift(world.finding, world.probabilities(drawn(200, rng, prevalence=0.8)))
        for _ in range(20)
    ]
    assert np.mean([one.distance for one in found]) > 3
    assert np.mean([one.residual_distance for one in found]) < 1.2


def test_products_are_double_sums_of_scans_weighed_by_the_champion() -> None:
    rng, world = np.random.default_rng(4), known()
    scans = drawn(12, rng)
    space, reference = world.space, world.finding
    seen, probabilities = space.see(scans.embeddings), world.probabilities(scans)
    found = shifts_by_finding(space, reference, seen, probabilities, prevalence=0.5)
    features = seen.features[:, space.whitened].astype(np.float64)
    theirs = space.see(world.scans.embeddings).features[:, space.whitened].astype(np.float64)
    truth, said = world.scans.finding, reference.probabilities
    sides = []
    for mine, others in ((1 - probabilities, 1 - said), (probabilities, said)):
        by_truth = [
            (others[truth == value, None] * theirs[truth == value]).mean(axis=0)
            for value in (0, 1)
        ]
        mass = np.mean([others[truth == value].mean() for value in (0, 1)])
        middle = np.mean(by_truth, axis=0) / mass
        sides.append(mine[:, None] * (features - middle))
    cross = np.mean([sides[0][i] @ sides[1][j] for i, j in permutations(range(12), 2)])
    assert np.sign(found.cosine) == np.sign(cross)


@pytest.mark.parametrize("prevalence", [PREVALENCE, 0.75])
def test_under_label_shift_no_class_moved(prevalence: float) -> None:
    rng, world = np.random.default_rng(5), known()
    sizes = []
    for _ in range(60):
        scans = drawn(200, rng, prevalence=prevalence)
        found = shifts_by_finding(
            world.space,
            world.finding,
            world.space.see(scans.embeddings),
            world.probabilities(scans),
            prevalence=prevalence,
        )
        sizes.append(found.sizes)
    assert np.abs(np.mean(sizes, axis=0)).max() < 1.2
    assert 0.5 < np.std(sizes) < 2.5


def test_a_displacement_of_one_class_shows_in_that_class_alone() -> None:
    rng, world = np.random.default_rng(6), known()
    scans = drawn(400, rng)
    moved = scans.embeddings.copy()
    moved[scans.finding == 1, -4:] += 2.5
    found = shifts_by_finding(
        world.space,
        world.finding,
        world.space.see(moved),
        world.probabilities(scans),
        prevalence=PREVALENCE,
    )
    assert found.sizes[1] > 20
    assert found.sizes[1] > 8 * abs(found.sizes[0])


def test_a_common_displacement_has_one_direction_in_both_classes() -> None:
    rng, world = np.random.default_rng(7), known()
    scans = drawn(400, rng)
    moved = scans.embeddings.copy()
    moved[:, -4:] += 2.5
    found = shifts_by_finding(
        world.space,
        world.finding,
        world.space.see(moved),
        world.probabilities(scans),
        prevalence=PREVALENCE,
    )
    assert found.sizes.min() > 10
    assert found.cosine > 0.8
