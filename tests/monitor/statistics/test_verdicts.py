from __future__ import annotations

from dataclasses import replace

import pytest

from monitor.statistics.effect import Shift
from monitor.statistics.verdicts import Detection, Verdict

DETECTION = Detection(p_value=0.2, statistic=1.0, effect=0.1)
VERDICT = Verdict(
    p_value=0.03,
    week_p_value=None,
    detectors={"novelty": DETECTION},
    leading="novelty",
    effect=Shift(value=0.2, low=0.0, high=0.4),
    ordinary_effect=None,
    smallest_effect=0.3,
    alpha=0.05,
    scans=40,
    patients=30,
    subsampled=False,
    seed=1,
)


def test_an_alarm_rests_on_what_exceeds_ordinary_weeks_where_they_are_known() -> None:
    assert VERDICT.alarm_p_value == 0.03
    assert replace(VERDICT, week_p_value=0.4).alarm_p_value == 0.4


@pytest.mark.parametrize("p_value", [0.0, -0.1, 1.1, float("nan")])
def test_what_is_no_p_value_makes_no_verdict(p_value: float) -> None:
    with pytest.raises(ValueError, match="p-value"):
        replace(VERDICT, p_value=p_value)
    with pytest.raises(ValueError, match="p-value"):
        replace(VERDICT, week_p_value=p_value)
    with pytest.raises(ValueError, match="p-value"):
        replace(DETECTION, p_value=p_value)


def test_the_leading_detector_is_one_of_the_verdicts() -> None:
    with pytest.raises(ValueError, match="'residual' is not among"):
        replace(VERDICT, leading="residual")


def test_a_verdict_does_not_change_with_the_mapping_it_was_made_from() -> None:
    detectors = {"novelty": DETECTION}
    verdict = replace(VERDICT, detectors=detectors)
    detectors["residual"] = DETECTION
    assert list(verdict.detectors) == ["novelty"]
    with pytest.raises(TypeError):
        verdict.detectors["residual"] = DETECTION  # type: ignore[index]
