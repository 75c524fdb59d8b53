from dataclasses import replace

import numpy as np
import pytest

from retrain.gates.impact import Change, MeasuredImpact
from retrain.gates.limits import GateLimits
from retrain.gates.measures import Measure
from retrain.gates.outcome import Outcome
from retrain.gates.performance import (
    non_inferiority_on_reference,
    not_inferior_to_reviewed,
    superiority_where_it_drifted,
)
from retrain.gates.results import PairedResults
from retrain.gates.spending import Uses

SPECIFICITY_LOST = MeasuredImpact(
    sensitivity=Change.KEPT, specificity=Change.LOST, auc=Change.LOST
)
BOTH_LOST = MeasuredImpact(sensitivity=Change.LOST, specificity=Change.LOST, auc=Change.LOST)
OPERATING_POINT_MOVED = MeasuredImpact(
    sensitivity=Change.GAINED, specificity=Change.LOST, auc=Change.KEPT
)


def _outcomes(gate) -> dict[str, Outcome]:
    return {part.name.split("/")[1]: part.outcome for part in gate.parts}


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def reference(simulation) -> PairedResults:
    return simulation(positives=365, negatives=135, correlation=0.9).draw(_rng(100))


def test_a_repair_passes_with_figures_and_a_sentence(simulation, reference, limits) -> None:
    drifted = simulation(champion=(0.92, 0.55)).draw(_rng(1))
    gate = superiority_where_it_drifted(
        drifted, reference=reference, impact=SPECIFICITY_LOST, limits=limits
    )
    assert gate.outcome is Outcome.PASSED
    first = gate.parts[0]
    assert first.name == "superiority_where_it_drifted/specificity"
    assert first.p_value is not None
    assert first.p_value <= 0.025
    assert first.estimate in first.interval
    assert (first.margin, first.n, first.interval.level) == (0.0, 81, 0.95)
    assert "Specificity where it drifted: candidate" in first.sentence
    assert "superior, p < 0.0001 (at most 0.025)." in first.sentence
    assert (gate.estimate, gate.statistic) == (first.estimate, first.statistic)


def test_what_was_not_lost_must_not_become_inferior(simulation, reference, limits) -> None:
    drifted = simulation(champion=(0.92, 0.55), candidate=(0.70, 0.90)).draw(_rng(2))
    gate = superiority_where_it_drifted(
        drifted, reference=reference, impact=SPECIFICITY_LOST, limits=limits
    )
    assert gate.outcome is Outcome.FAILED
    outcomes = _outcomes(gate)
    assert outcomes["specificity"] is Outcome.PASSED
    assert outcomes["sensitivity"] is Outcome.FAILED
    assert gate.sentence.startswith("Sensitivity where it drifted")
    assert "not shown to be non-inferior by a margin of 10.0 points" in gate.sentence


def test_where_both_were_lost_one_repair_is_not_enough(simulation, reference, limits) -> None:
    drifted = simulation(champion=(0.70, 0.60), candidate=(0.71, 0.90)).draw(_rng(3))
    gate = superiority_where_it_drifted(
        drifted, reference=reference, impact=BOTH_LOST, limits=limits
    )
    assert _outcomes(gate)["specificity"] is Outcome.PASSED
    assert _outcomes(gate)["sensitivity"] is Outcome.FAILED
    assert gate.outcome is Outcome.FAILED


def test_an_accidental_gain_is_held_against_the_reference(
    simulation, reference, limits
) -> None:
    # A champion that calls nearly everything positive: no repair keeps its sensitivity.
    drifted = simulation(
        positives=500, negatives=200, champion=(0.999, 0.20), candidate=(0.89, 0.86)
    ).draw(_rng(4))
    as_gain = superiority_where_it_drifted(
        drifted, reference=reference, impact=OPERATING_POINT_MOVED, limits=limits
    )
    as_kept = superiority_where_it_drifted(
        drifted,
        reference=reference,
        impact=replace(OPERATING_POINT_MOVED, sensitivity=Change.KEPT),
        limits=limits,
    )
    assert as_gain.outcome is Outcome.PASSED
    assert _outcomes(as_kept)["sensitivity"] is Outcome.FAILED
    sensitivity = next(part for part in as_gain.parts if part.name.endswith("/sensitivity"))
    assert "the champion on the reference" in sensitivity.sentence
    assert sensitivity.statistic == "independent proportions, Newcombe's score"


def test_a_gain_does_not_excuse_a_candidate_below_the_reference(
    simulation, reference, limits
) -> None:
    drifted = simulation(champion=(0.999, 0.20), candidate=(0.75, 0.90)).draw(_rng(5))
    gate = superiority_where_it_drifted(
        drifted, reference=reference, impact=OPERATING_POINT_MOVED, limits=limits
    )
    assert _outcomes(gate)["sensitivity"] is Outcome.FAILED


def test_the_auc_must_be_superior_where_it_alone_was_lost(
    simulation, reference, limits
) -> None:
    impact = MeasuredImpact(sensitivity=Change.KEPT, specificity=Change.KEPT, auc=Change.LOST)
    equal = simulation().draw(_rng(6))
    gate = superiority_where_it_drifted(
        equal, reference=reference, impact=impact, limits=limits
    )
    assert gate.outcome is Outcome.FAILED
    assert gate.parts[0].name.endswith("/AUC")
    assert gate.parts[0].margin == 0.0


def test_where_nothing_was_lost_there_is_nothing_to_decide(
    simulation, reference, limits
) -> None:
    impact = MeasuredImpact(sensitivity=Change.KEPT, specificity=Change.KEPT, auc=Change.KEPT)
    better = simulation(champion=(0.6, 0.6)).draw(_rng(7))
    gate = superiority_where_it_drifted(
        better, reference=reference, impact=impact, limits=limits
    )
    assert gate.outcome is Outcome.NOT_EVALUABLE
    assert "No loss of the champion was shown" in gate.sentence


@pytest.mark.parametrize("sizes", [(0, 300), (300, 0), (29, 300), (300, 29)])
def test_a_set_without_enough_of_a_class_is_not_evaluable(
    simulation, reference, limits, sizes: tuple[int, int]
) -> None:
    small = simulation(positives=sizes[0], negatives=sizes[1]).draw(_rng(8))
    drifted = superiority_where_it_drifted(
        small, reference=reference, impact=BOTH_LOST, limits=limits
    )
    other = superiority_where_it_drifted(
        reference, reference=small, impact=BOTH_LOST, limits=limits
    )
    third = non_inferiority_on_reference(small, limits=limits)
    assert {drifted.outcome, other.outcome, third.outcome} == {Outcome.NOT_EVALUABLE}
    assert f"holds {min(sizes)} patients" in third.sentence


def test_many_scans_of_few_patients_are_not_evaluable(simulation, limits) -> None:
    few = simulation(positives=290, negatives=290, scans_of_a_patient=10).draw(_rng(9))
    assert non_inferiority_on_reference(few, limits=limits).outcome is Outcome.NOT_EVALUABLE


def test_a_copy_of_the_champion_is_not_inferior_and_not_superior(
    simulation, reference, limits
) -> None:
    copy = replace(reference, candidate=reference.champion)
    assert non_inferiority_on_reference(copy, limits=limits).outcome is Outcome.PASSED
    gate = superiority_where_it_drifted(
        copy, reference=reference, impact=BOTH_LOST, limits=limits
    )
    assert set(_outcomes(gate).values()) == {Outcome.FAILED, Outcome.PASSED}
    assert _outcomes(gate)["AUC"] is Outcome.PASSED


def test_two_perfect_models_are_compared_without_an_error(limits) -> None:
    truth = np.arange(200) < 100
    perfect = PairedResults(
        champion=np.where(truth, 0.9, 0.1),
        candidate=np.where(truth, 0.8, 0.2),
        champion_threshold=0.5,
        candidate_threshold=0.5,
        truth=truth,
        patients=np.array([f"p{index}" for index in range(200)]),
        influence=("none",) * 200,
        subgroups={},
    )
    gate = non_inferiority_on_reference(perfect, limits=limits)
    assert _outcomes(gate)["sensitivity"] is Outcome.PASSED
    assert all(part.interval.low < 0.0 < part.interval.high for part in gate.parts)


def test_exchanging_the_models_turns_every_figure_round(simulation, limits) -> None:
    there = simulation(champion=(0.90, 0.80)).draw(_rng(10))
    back = replace(there, champion=there.candidate, candidate=there.champion)
    parts = zip(
        non_inferiority_on_reference(there, limits=limits).parts,
        non_inferiority_on_reference(back, limits=limits).parts,
        strict=True,
    )
    for one, other in parts:
        assert one.estimate == pytest.approx(-other.estimate)
        assert one.interval.low == pytest.approx(-other.interval.high)


def test_an_equal_candidate_passes_superiority_at_most_at_alpha(
    simulation, reference, limits
) -> None:
    rng = _rng(11)
    impacts = (SPECIFICITY_LOST, OPERATING_POINT_MOVED, BOTH_LOST)
    passed = np.zeros(len(impacts))
    for _ in range(120):
        equal = simulation().draw(rng)
        passed += [
            superiority_where_it_drifted(
                equal, reference=reference, impact=impact, limits=limits
            ).outcome
            is Outcome.PASSED
            for impact in impacts
        ]
    assert (passed / 120 <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / 120)).all()


def test_superiority_of_equals_holds_its_alpha_when_patients_have_several_scans(
    simulation, limits
) -> None:
    rng = _rng(12)
    several = simulation(positives=440, negatives=240, scans_of_a_patient=4)
    reference = several.draw(rng)
    claims = 0
    for _ in range(100):
        gate = superiority_where_it_drifted(
            several.draw(rng), reference=reference, impact=SPECIFICITY_LOST, limits=limits
        )
        claims += _outcomes(gate)["specificity"] is Outcome.PASSED
    assert claims / 100 <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / 100)


@pytest.mark.parametrize(
    ("candidate", "measure"),
    # Both scores move as little as the other rate allows: the AUC's margin is tested apart.
    [((0.87, 0.86), Measure.SENSITIVITY), ((0.92, 0.76), Measure.SPECIFICITY)],
)
def test_a_candidate_inferior_by_the_margin_passes_at_most_at_alpha(
    simulation, limits: GateLimits, candidate: tuple[float, float], measure: Measure
) -> None:
    rng = _rng(13)
    inferior = simulation(positives=365, negatives=135, candidate=candidate)
    passed = 0
    for _ in range(120):
        gate = non_inferiority_on_reference(inferior.draw(rng), limits=limits)
        passed += _outcomes(gate)[measure] is Outcome.PASSED
    assert passed / 120 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 120)


def test_an_equal_candidate_passes_non_inferiority_nine_times_in_ten(
    simulation, limits
) -> None:
    rng = _rng(14)
    equal = simulation(positives=365, negatives=135, correlation=0.9)
    passed = sum(
        non_inferiority_on_reference(equal.draw(rng), limits=limits).outcome is Outcome.PASSED
        for _ in range(100)
    )
    assert passed / 100 >= 0.9


def test_a_candidate_ten_points_worse_is_refused_on_the_reference(simulation, limits) -> None:
    rng = _rng(15)
    worse = simulation(positives=365, negatives=135, candidate=(0.82, 0.86), correlation=0.9)
    refused = sum(
        non_inferiority_on_reference(worse.draw(rng), limits=limits).outcome is Outcome.FAILED
        for _ in range(50)
    )
    assert refused == 50


def test_small_losses_that_pass_one_by_one_are_refused_together(simulation, limits) -> None:
    """Each step costs specificity within the margin; from the reviewed version it is too far."""
    margin = limits.reference_margins.specificity
    step = simulation(
        positives=400,
        negatives=1600,
        correlation=0.95,
        champion=(0.92, 0.88 - 0.6 * margin),
        candidate=(0.92, 0.88 - 1.2 * margin),
    ).draw(_rng(31))
    since_review = simulation(
        positives=400,
        negatives=1600,
        correlation=0.95,
        champion=(0.92, 0.88),
        candidate=(0.92, 0.88 - 1.2 * margin),
    ).draw(_rng(31))
    assert non_inferiority_on_reference(step, limits=limits).outcome is Outcome.PASSED
    gate = not_inferior_to_reviewed(since_review, name="pneumonia@3", limits=limits)
    assert gate.outcome is Outcome.FAILED
    assert "pneumonia@3, last reviewed," in gate.sentence


def test_the_alpha_of_superiority_is_spent_over_the_uses_of_a_locked_set(
    simulation, reference, limits
) -> None:
    drifted = simulation(champion=(0.92, 0.80), candidate=(0.92, 0.86)).draw(_rng(16))

    def gate(uses: Uses):
        return superiority_where_it_drifted(
            drifted, reference=reference, impact=SPECIFICITY_LOST, limits=limits, uses=uses
        )

    alone, first, last = (
        gate(Uses(before=before, declared=declared))
        for before, declared in ((0, 1), (0, 10), (9, 10))
    )
    p_value = alone.parts[0].p_value
    assert 0.025 / 29.3 < p_value < 0.025 / 2.93
    assert [one.parts[0].outcome for one in (alone, first, last)] == [
        Outcome.PASSED,
        Outcome.PASSED,
        Outcome.FAILED,
    ]
    assert "(at most 0.000854, of 0.025 for all)" in last.parts[0].sentence
    assert last.sentence.endswith(
        "It is candidate 10 of at most 10 that this locked set may judge."
    )
    assert last.figures["uses"] == {"before": 9, "declared": 10}


def test_the_reference_says_how_many_candidates_it_has_judged(reference, limits) -> None:
    gate = non_inferiority_on_reference(
        reference, limits=limits, uses=Uses(before=2, declared=5)
    )
    assert "candidate 3 of at most 5 that this locked set may judge" in gate.sentence
