from dataclasses import replace

import numpy as np
import pytest

from registry.errors import BadInputError
from retrain.gates.impact import Change, measure_impact
from retrain.gates.measures import Measure


def _draw(simulation, seed: int, rates: tuple[float, float], **sizes: int):
    return simulation(champion=rates, **sizes).draw(np.random.default_rng(seed)).of_champion


def test_a_moved_operating_point_loses_specificity_and_gains_sensitivity(simulation) -> None:
    reference = _draw(simulation, 0, (0.90, 0.88))
    drifted = _draw(simulation, 1, (0.99, 0.45))
    impact = measure_impact(reference, drifted, level=0.95)
    assert impact.of(Measure.SENSITIVITY) is Change.GAINED
    assert impact.of(Measure.SPECIFICITY) is Change.LOST


def test_blurred_scans_lose_everything(simulation) -> None:
    reference = _draw(simulation, 0, (0.95, 0.92))
    drifted = _draw(simulation, 1, (0.70, 0.65))
    impact = measure_impact(reference, drifted, level=0.95)
    assert {impact.of(measure) for measure in Measure} == {Change.LOST}


def test_without_a_change_a_loss_is_seldom_found(simulation) -> None:
    lost = np.zeros(3)
    for seed in range(100):
        impact = measure_impact(
            _draw(simulation, 2 * seed, (0.92, 0.86)),
            _draw(simulation, 2 * seed + 1, (0.92, 0.86)),
            level=0.95,
        )
        lost += [impact.of(measure) is Change.LOST for measure in Measure]
    assert (lost / 100 <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / 100)).all()


def test_impact_is_measured_at_one_operating_point(simulation) -> None:
    results = _draw(simulation, 0, (0.9, 0.9))
    with pytest.raises(BadInputError, match="one operating point"):
        measure_impact(results, replace(results, threshold=0.6), level=0.95)
