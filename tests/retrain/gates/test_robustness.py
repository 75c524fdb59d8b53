from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit

from retrain.gates.outcome import Outcome
from retrain.gates.results import PairedResults
from retrain.gates.robustness import robustness


def _shaken(
    results: PairedResults, *, champion: float, candidate: float, seed: int = 0
) -> PairedResults:
    """Read again with so much noise on the logits."""
    rng = np.random.default_rng(seed)

    def again(probabilities: np.ndarray, noise: float) -> np.ndarray:
        return expit(logit(probabilities) + noise * rng.normal(size=results.scans))

    return replace(
        results,
        champion=again(results.champion, champion),
        candidate=again(results.candidate, candidate),
    )


@pytest.fixture
def reference(simulation) -> PairedResults:
    return simulation(positives=365, negatives=135, correlation=0.9).draw(
        np.random.default_rng(0)
    )


def test_a_candidate_that_reads_the_same_passes(reference, limits) -> None:
    gate = robustness(reference, changed={"noise": reference}, limits=limits)
    assert gate.outcome is Outcome.PASSED
    assert [part.name for part in gate.parts] == [
        "robustness/noise/sensitivity",
        "robustness/noise/specificity",
    ]
    assert "under noise" in gate.sentence


def test_small_changes_of_a_few_readings_pass(reference, limits) -> None:
    changed = {"noise": _shaken(reference, champion=0.05, candidate=0.05)}
    assert robustness(reference, changed=changed, limits=limits).outcome is Outcome.PASSED


def test_a_candidate_that_falls_apart_under_one_change_is_refused_by_name(
    reference, limits
) -> None:
    changed = {
        "noise": _shaken(reference, champion=0.05, candidate=0.05),
        "blur": _shaken(reference, champion=0.05, candidate=3.0),
    }
    gate = robustness(reference, changed=changed, limits=limits)
    assert gate.outcome is Outcome.FAILED
    failed = [part.name for part in gate.parts if part.outcome is Outcome.FAILED]
    assert failed == ["robustness/blur/sensitivity", "robustness/blur/specificity"]
    assert "not shown to lose less than 5.0 points" in gate.sentence


def test_a_candidate_may_not_lose_where_the_champion_gains(reference, limits) -> None:
    # It loses two points, within the margin; the champion gains six, which shows what was there.
    positive = np.flatnonzero(reference.truth)
    missed = positive[~reference.champion_calls[positive]][:22]
    lost = positive[reference.candidate_calls[positive]][:7]
    candidate, champion = reference.candidate.copy(), reference.champion.copy()
    candidate[lost], champion[missed] = 0.1, 0.9
    changed = {"noise": replace(reference, champion=champion, candidate=candidate)}
    [sensitivity, _] = robustness(reference, changed=changed, limits=limits).parts
    assert sensitivity.outcome is Outcome.FAILED
    assert "shown to lose less than 5.0 points" in sensitivity.sentence
    assert "not shown to be within 5.0 points" in sensitivity.sentence
    against = sensitivity.figures["against_the_champion"]
    assert against["estimate"] == pytest.approx(-(len(missed) + 7) / 365)


@pytest.mark.parametrize("changed", [None, {}])
def test_scans_that_were_not_changed_are_not_evaluable(reference, limits, changed) -> None:
    gate = robustness(reference, changed=changed, limits=limits)
    assert gate.outcome is Outcome.NOT_EVALUABLE


def test_too_few_patients_are_not_evaluable(simulation, limits) -> None:
    few = simulation(positives=20, negatives=200).draw(np.random.default_rng(1))
    gate = robustness(few, changed={"noise": few}, limits=limits)
    assert gate.outcome is Outcome.NOT_EVALUABLE
