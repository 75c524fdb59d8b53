import json
from dataclasses import MISSING, fields, replace

import pytest

from registry.canonical import canonical_bytes
from registry.errors import BadInputError
from retrain.gates.limits import (
    CalibrationLimits,
    GateLimits,
    Margins,
    Range,
    RobustnessLimits,
    Subgroup,
    SubgroupLimits,
)
from retrain.gates.measures import Measure


@pytest.mark.parametrize(
    "kind",
    [
        GateLimits,
        Margins,
        CalibrationLimits,
        SubgroupLimits,
        RobustnessLimits,
        Range,
        Subgroup,
    ],
)
def test_no_limit_has_a_default(kind: type) -> None:
    # None says that the plan lacks a gate, and holds nobody to anything.
    assert all(f.default in (MISSING, None) for f in fields(kind))
    assert all(f.default_factory is MISSING for f in fields(kind))


def test_a_margin_is_found_by_measure() -> None:
    margins = Margins(sensitivity=0.05, specificity=0.1, auc=0.02)
    assert [margins.of(measure) for measure in Measure] == [0.05, 0.1, 0.02]


def test_limits_are_recorded_whole(limits: GateLimits) -> None:
    record = json.loads(canonical_bytes(limits.as_record()))
    assert record["reference_margins"] == {"sensitivity": 0.05, "specificity": 0.1, "auc": 0.03}
    assert record["subgroups"]["declared"][0] == {"attribute": "sex", "value": "F"}
    assert set(record) == {field.name for field in fields(limits)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: replace(one, superiority_alpha=0.0), "alpha of superiority is 0.0"),
        (
            lambda one: replace(one, non_inferiority_alpha=0.5),
            "alpha of non-inferiority is 0.5",
        ),
        (lambda one: replace(one, minimum_positives=1), "must be at least 2"),
        (lambda one: replace(one, parity_tolerance=float("nan")), "tolerance of parity is nan"),
        (lambda one: replace(one, latency_ratio=0.0), "ratio of latencies is 0.0"),
        (lambda one: replace(one, bundle_megabytes=-1.0), "largest bundle in MB is -1.0"),
        (
            lambda one: replace(one.robustness, specificity_margin=0.0),
            "robustness' margin in specificity is 0.0",
        ),
        (lambda one: replace(one.reference_margins, auc=-0.1), "margin in auc is -0.1"),
        (lambda one: replace(one.subgroups, minimum=0), "must be at least 1"),
        (
            lambda one: replace(one.subgroups, declared=one.subgroups.declared[:1] * 2),
            "declared twice",
        ),
        (lambda one: replace(one.calibration, resamples=10), "10 resamples"),
        (
            lambda one: replace(one.calibration, slope=Range(low=0.2, high=0.9)),
            "slope must hold 1",
        ),
        (
            lambda one: replace(one.calibration, intercept=Range(low=0.2, high=0.9)),
            "intercept must hold 0",
        ),
        (lambda _: Range(low=1.0, high=1.0), "low < high"),
    ],
)
def test_limits_that_mean_nothing_are_refused(
    limits: GateLimits, change: object, message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        change(limits)  # type: ignore[operator]
