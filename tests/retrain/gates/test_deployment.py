import numpy as np
import pytest
from scipy.stats import binom

from registry.errors import BadInputError
from retrain.gates.deployment import DeploymentMeasurement, latency_and_size
from retrain.gates.outcome import Outcome


def _measured(ratio: float = 1.0, megabytes: float = 10.0) -> DeploymentMeasurement:
    champion = np.linspace(0.010, 0.014, 15)
    wobble = np.linspace(0.95, 1.05, 15)
    return DeploymentMeasurement(
        champion_seconds=tuple(champion),
        candidate_seconds=tuple(champion * ratio * wobble),
        candidate_bytes=round(megabytes * 1e6),
    )


def test_as_fast_and_as_small_passes(limits) -> None:
    gate = latency_and_size(_measured(), limits=limits)
    assert gate.outcome is Outcome.PASSED
    latency, size = gate.parts
    assert latency.estimate == pytest.approx(1.0)
    assert latency.estimate in latency.interval
    assert "1.00 times as long in 15 rounds" in latency.sentence
    assert size.estimate == 10.0


@pytest.mark.parametrize(
    ("measured", "part"),
    [(_measured(ratio=1.6), "latency"), (_measured(megabytes=50.1), "size")],
)
def test_what_is_too_slow_or_too_large_fails(limits, measured, part: str) -> None:
    gate = latency_and_size(measured, limits=limits)
    assert gate.outcome is Outcome.FAILED
    assert [one.name for one in gate.parts if one.outcome is Outcome.FAILED] == [
        f"latency_and_size/{part}"
    ]


def test_the_interval_of_the_ratio_is_the_narrowest_that_covers(limits) -> None:
    [latency, _] = latency_and_size(_measured(), limits=limits).parts
    ratios = np.linspace(0.95, 1.05, 15)
    # Order statistics 4 and 12 of 15: published, and the next ones cover too seldom.
    assert latency.interval.low == pytest.approx(ratios[3])
    assert latency.interval.high == pytest.approx(ratios[11])
    assert 1 - 2 * binom.cdf(3, 15, 0.5) >= 0.95 > 1 - 2 * binom.cdf(4, 15, 0.5)


def test_what_was_not_timed_is_not_evaluable(limits) -> None:
    assert latency_and_size(None, limits=limits).outcome is Outcome.NOT_EVALUABLE


@pytest.mark.parametrize(
    ("champion", "candidate", "size"),
    [((), (), 1), ((1.0,), (1.0, 1.0), 1), ((0.0,), (1.0,), 1), ((1.0,), (1.0,), 0)],
)
def test_measurements_that_say_nothing_cannot_exist(champion, candidate, size) -> None:
    with pytest.raises(BadInputError):
        DeploymentMeasurement(
            champion_seconds=champion, candidate_seconds=candidate, candidate_bytes=size
        )
