from dataclasses import replace

import numpy as np
import pytest

from retrain.gates.impact import Change, MeasuredImpact
from retrain.gates.limits import Subgroup
from retrain.gates.outcome import Outcome
from retrain.gates.results import PairedResults
from retrain.gates.subgroups import subgroups

KEPT = MeasuredImpact(sensitivity=Change.KEPT, specificity=Change.KEPT, auc=Change.KEPT)
SITES = tuple(f"site {letter}" for letter in "ABCDEFGH")


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def _spoil(results: PairedResults, attribute: str, value: str, share: float, seed: int):
    """Miss some of the findings of one subgroup that the candidate had found."""
    rng = _rng(seed)
    inside = (results.subgroups[attribute] == value) & results.truth
    missed = inside & (rng.random(results.scans) < share)
    return replace(results, candidate=np.where(missed, 0.01, results.candidate))


@pytest.fixture
def large(simulation) -> PairedResults:
    return simulation(positives=600, negatives=400, correlation=0.95).draw(_rng(0))


def test_equal_models_pass_in_large_subgroups(large, limits) -> None:
    gate = subgroups(large, reference=large, impact=KEPT, limits=limits)
    assert gate.outcome is Outcome.PASSED
    # two subgroups, two measures, two sets
    assert len(gate.parts) == 8


def test_better_overall_and_worse_in_one_subgroup_is_refused(simulation, large, limits) -> None:
    better = simulation(
        positives=600, negatives=400, champion=(0.80, 0.80), candidate=(0.95, 0.92)
    ).draw(_rng(1))
    spoilt = _spoil(better, "sex", "F", 0.5, seed=2)
    gate = subgroups(spoilt, reference=large, impact=KEPT, limits=limits)
    assert gate.outcome is Outcome.FAILED
    failed = [part for part in gate.parts if part.outcome is Outcome.FAILED]
    assert [part.name for part in failed] == ["subgroups/sex=F/drifted/sensitivity"]
    assert "Sensitivity for sex F in the drifted set" in gate.sentence
    assert "the candidate is worse" in gate.sentence


def test_too_few_patients_are_not_evaluable_by_name(simulation, large, limits) -> None:
    rare = simulation(
        positives=600, negatives=400, attributes={"sex": ("F",) * 40 + ("M",)}
    ).draw(_rng(3))
    gate = subgroups(rare, reference=large, impact=KEPT, limits=limits)
    assert gate.outcome is Outcome.NOT_EVALUABLE
    assert "Sensitivity for sex M in the drifted set rests on 14 patients" in gate.sentence


def test_a_declared_subgroup_without_scans_or_attribute_is_not_evaluable(large, limits) -> None:
    for subgroup in (
        Subgroup(attribute="sex", value="O"),
        Subgroup(attribute="site", value="N"),
    ):
        declared = replace(limits, subgroups=replace(limits.subgroups, declared=(subgroup,)))
        gate = subgroups(large, reference=large, impact=KEPT, limits=declared)
        assert gate.outcome is Outcome.NOT_EVALUABLE
        assert {part.n for part in gate.parts} == {0}


def test_a_plan_that_declares_none_does_not_pass_silently(large, limits) -> None:
    none = replace(limits, subgroups=replace(limits.subgroups, declared=()))
    gate = subgroups(large, reference=large, impact=KEPT, limits=none)
    assert gate.outcome is Outcome.NOT_EVALUABLE


def test_a_gain_by_the_drift_is_compared_with_the_reference(simulation, large, limits) -> None:
    moved = simulation(
        positives=600, negatives=400, champion=(0.999, 0.3), correlation=0.5
    ).draw(_rng(4))
    gained = replace(KEPT, sensitivity=Change.GAINED)
    as_kept = subgroups(moved, reference=large, impact=KEPT, limits=limits)
    as_gain = subgroups(moved, reference=large, impact=gained, limits=limits)
    assert as_kept.outcome is not Outcome.PASSED
    assert as_gain.outcome is Outcome.PASSED


def test_eight_small_subgroups_refuse_an_equal_candidate_seldom_and_pass_no_worse_one(
    simulation, limits
) -> None:
    sites = replace(
        limits,
        subgroups=replace(
            limits.subgroups,
            declared=tuple(Subgroup(attribute="site", value=site) for site in SITES),
        ),
    )
    rng = _rng(5)
    equal = simulation(
        positives=240, negatives=240, attributes={"site": SITES}, correlation=0.9
    )
    refused, passed, within_margin = 0, 0, 0
    for seed in range(25):
        drifted, reference = equal.draw(rng), equal.draw(rng)
        gate = subgroups(drifted, reference=reference, impact=KEPT, limits=sites)
        refused += gate.outcome is Outcome.FAILED
        spoilt = _spoil(drifted, "site", "site C", 0.11, seed)
        gate = subgroups(spoilt, reference=reference, impact=KEPT, limits=sites)
        passed += gate.outcome is Outcome.PASSED
        worse = next(
            part
            for part in gate.parts
            if part.name == "subgroups/site=site C/drifted/sensitivity"
        )
        within_margin += worse.outcome is Outcome.PASSED
    assert refused / 25 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 25)
    assert within_margin / 25 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 25)
    assert passed == 0


def _sites(limits, count: int = 8):
    declared = tuple(Subgroup(attribute="site", value=site) for site in SITES[:count])
    return replace(limits, subgroups=replace(limits.subgroups, declared=declared))


def _parts(gate, measure: str, which: str = "drifted"):
    return [part for part in gate.parts if part.name.endswith(f"/{which}/{measure}")]


def test_pooling_narrows_the_intervals_of_alike_subgroups_and_is_told(
    simulation, limits
) -> None:
    equal = simulation(
        positives=240, negatives=240, attributes={"site": SITES}, correlation=0.9
    )
    results = equal.draw(_rng(6))
    gate = subgroups(results, reference=results, impact=KEPT, limits=_sites(limits))
    for part in gate.parts:
        pooled = part.figures["pooled"]
        assert pooled["subgroups"] == 8
        own = part.interval.high - part.interval.low
        assert pooled["high"] - pooled["low"] < 0.8 * own
    assert "Pooled with 7 others" in gate.sentence


def test_pooling_lends_no_pass_to_a_subgroup_whose_own_scans_do_not_show_it(
    simulation, limits
) -> None:
    equal = simulation(
        positives=480, negatives=480, attributes={"site": SITES}, correlation=0.95
    )
    results = equal.draw(_rng(7))
    lost = np.flatnonzero(
        results.truth & results.candidate_calls & (results.subgroups["site"] == "site C")
    )[:6]
    candidate = results.candidate.copy()
    candidate[lost] = 0.01
    spoilt = replace(results, candidate=candidate)
    gate = subgroups(spoilt, reference=results, impact=KEPT, limits=_sites(limits))
    [at_c] = [part for part in _parts(gate, "sensitivity") if "=site C/" in part.name]
    assert at_c.figures["pooled"]["low"] > -0.10
    assert at_c.outcome is not Outcome.PASSED
    assert gate.outcome is not Outcome.PASSED


def test_pooling_shows_a_harm_that_no_subgroup_shows_alone(simulation, limits) -> None:
    worse = simulation(
        positives=240,
        negatives=240,
        candidate=(0.74, 0.86),
        attributes={"site": SITES},
        correlation=0.9,
    ).draw(_rng(8))
    strict = _sites(limits)
    # Only by the margin: no subgroup alone is shown to be worse at all.
    strict = replace(strict, subgroups=replace(strict.subgroups, harm_alpha=1e-9))
    gate = subgroups(worse, reference=worse, impact=KEPT, limits=strict)
    failed = [part for part in _parts(gate, "sensitivity") if part.outcome is Outcome.FAILED]
    assert failed
    assert "with its like, the subgroup is shown to be worse by more than" in gate.sentence


def test_a_subgroup_without_its_like_is_not_pooled(simulation, limits) -> None:
    results = simulation(
        positives=240, negatives=240, attributes={"site": SITES}, correlation=0.9
    ).draw(_rng(9))
    gate = subgroups(results, reference=results, impact=KEPT, limits=_sites(limits, 1))
    assert all(part.figures == {} for part in gate.parts)
