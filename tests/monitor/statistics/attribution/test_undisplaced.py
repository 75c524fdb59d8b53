"""Whether the prevalence changed among the scans that a shift left where they were."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from two_class_world import DIMENSION, PREVALENCE, Drawn, drawn, each_its_own, known, said

from monitor.statistics.attribution.coherence import coherence
from monitor.statistics.attribution.findings import finding_shift
from monitor.statistics.attribution.undisplaced import LEAST, undisplaced

#: far out along the smallest directions, and on the side of the finding
ELSEWHERE = np.zeros(DIMENSION, dtype=np.float32)
ELSEWHERE[-4:] = 6.0
ELSEWHERE[0] = 2.5 * DIMENSION**0.5


def changes(scans: Drawn) -> dict[str, tuple[float, float]]:
    world = known()
    seen = world.space.see(scans.embeddings)
    theirs = world.space.see(world.scans.embeddings)
    probabilities = world.finding.probabilities
    return {
        part: (change, evidence)
        for part, change, evidence in undisplaced(
            world.probabilities(scans),
            seen.distances,
            coherence(world.space, seen, each_its_own(len(scans.finding))),
            reference=probabilities,
            reference_distances=theirs.distances,
            sample=probabilities[world.space.sample_rows],
        )
    }


def with_strangers(scans: Drawn, share: float) -> Drawn:
    """Return a window of which a share comes from elsewhere, and looks as if it had the finding."""
    embeddings = scans.embeddings.copy()
    embeddings[: int(share * len(embeddings))] += ELSEWHERE
    return replace(scans, embeddings=embeddings, scores=said(embeddings))


def mean_changes(windows: list[Drawn]) -> dict[str, float]:
    found = [changes(one) for one in windows]
    return {part: float(np.mean([one[part][0] for one in found])) for part in found[0]}


def test_ordinary_windows_show_no_change() -> None:
    rng = np.random.default_rng(1)
    found = mean_changes([drawn(200, rng) for _ in range(30)])
    assert list(found) == ["near", "not displaced", "least displaced"]
    for change in found.values():
        assert change == pytest.approx(0.0, abs=0.04)


def test_a_new_prevalence_is_that_of_the_near_scans_too() -> None:
    rng = np.random.default_rng(2)
    found = mean_changes([drawn(200, rng, prevalence=PREVALENCE + 0.3) for _ in range(30)])
    assert found["near"] == pytest.approx(0.3, abs=0.06)


def test_strangers_that_look_ill_change_the_prevalence_of_no_scan_but_their_own() -> None:
    rng = np.random.default_rng(3)
    windows = [with_strangers(drawn(300, rng), 0.3) for _ in range(20)]
    world = known()
    whole = [finding_shift(world.finding, world.probabilities(one)) for one in windows]
    found = mean_changes(windows)
    changed = np.mean([one.prevalence - one.before for one in whole])
    assert changed > 0.12
    assert abs(found["near"]) < changed / 2
    assert abs(found["not displaced"]) < changed / 2


def test_strangers_do_not_hide_a_new_prevalence() -> None:
    rng = np.random.default_rng(4)
    found = mean_changes(
        [with_strangers(drawn(300, rng, prevalence=PREVALENCE - 0.25), 0.3) for _ in range(20)]
    )
    assert found["near"] < -0.15


def test_evidence_is_the_change_in_standard_errors() -> None:
    rng = np.random.default_rng(5)
    found = [changes(drawn(200, rng))["near"] for _ in range(80)]
    errors = [change / evidence for change, evidence in found if evidence]
    assert 0.7 < np.mean(errors) / np.std([change for change, _ in found]) < 1.6


def test_too_few_scans_tell_nothing() -> None:
    scans = drawn(5 * LEAST, np.random.default_rng(6))
    moved = scans.embeddings + 4 * ELSEWHERE
    found = changes(replace(scans, embeddings=moved, scores=said(moved)))
    assert found["near"] == (0.0, 0.0)
