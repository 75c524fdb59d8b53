"""Gates on what a candidate costs where it runs: time and bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr

from monitor.statistics.performance.proportions import Interval
from registry.errors import BadInputError
from retrain.gates.limits import GateLimits, no_limit
from retrain.gates.outcome import Gate, GateOutcome, Outcome, all_of, not_evaluable

#: Confidence of the interval of the ratio of times.
LEVEL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentMeasurement:
    """Champion and candidate on the same scans, in turn, on the same machine."""

    #: seconds of a processor that one scan took, in rounds; both models in each
    champion_seconds: tuple[float, ...]
    candidate_seconds: tuple[float, ...]
    #: all files of the bundle
    candidate_bytes: int

    def __post_init__(self) -> None:
        rounds = len(self.champion_seconds)
        if rounds == 0 or len(self.candidate_seconds) != rounds:
            raise BadInputError("a comparison of times needs as many rounds of both models")
        times = (*self.champion_seconds, *self.candidate_seconds)
        if not all(math.isfinite(one) and one > 0.0 for one in times):
            raise BadInputError("a time is not above 0: use a clock of finer resolution")
        if self.candidate_bytes < 1:
            raise BadInputError("a bundle without bytes was measured")


def latency_and_size(
    measured: DeploymentMeasurement | None, *, limits: GateLimits
) -> GateOutcome:
    """Decide whether the candidate is fast and small enough for where the champion runs.

    Time is compared, not stated: what a second holds differs from machine to machine, and a
    ratio within rounds differs little. Its interval is that of a median by order statistics
    (Conover 1999, *Practical Nonparametric Statistics*, section 3.2).

    Raises
    ------
    BadInputError
        If the limits hold no ratio or no size.
    """
    if measured is None:
        return not_evaluable(
            Gate.DEPLOYMENT,
            statistic="median ratio of times",
            n=0,
            sentence="Champion and candidate were not timed side by side: validate again.",
        )
    if limits.latency_ratio is None:
        raise no_limit("latency_ratio")
    if limits.bundle_megabytes is None:
        raise no_limit("bundle_megabytes")
    return all_of(
        Gate.DEPLOYMENT,
        [_latency(measured, limits.latency_ratio), _size(measured, limits.bundle_megabytes)],
    )


def _latency(measured: DeploymentMeasurement, largest: float) -> GateOutcome:
    ratios = np.array(measured.candidate_seconds) / np.array(measured.champion_seconds)
    ratio = float(np.median(ratios))
    passed = ratio <= largest
    champion, candidate = (
        1000.0 * float(np.median(times))
        for times in (measured.champion_seconds, measured.candidate_seconds)
    )
    return GateOutcome(
        name=f"{Gate.DEPLOYMENT}/latency",
        outcome=Outcome.PASSED if passed else Outcome.FAILED,
        statistic="median ratio of processor times within rounds",
        estimate=ratio,
        interval=_of_the_median(np.sort(ratios).tolist()),
        margin=largest,
        p_value=None,
        n=len(ratios),
        sentence=(
            f"A scan takes the candidate {candidate:.2g} ms of a processor and the champion "
            f"{champion:.2g} ms, {ratio:.2f} times as long in {len(ratios)} rounds in turn: "
            f"{'within' if passed else 'beyond'} the {largest:g} times of the plan."
        ),
    )


def _of_the_median(ordered: list[float]) -> Interval | None:
    """Return the narrowest order statistics that hold the median at `LEVEL`, None if none do."""
    count = len(ordered)
    tail = (1.0 - LEVEL) / 2.0
    # The largest k with P(Binomial(n, 1/2) < k) <= tail.
    inside = [k for k in range(1, count // 2 + 1) if float(bdtr(k - 1, count, 0.5)) <= tail]
    if not inside:
        return None
    k = inside[-1]
    return Interval(low=ordered[k - 1], high=ordered[count - k], level=LEVEL)


def _size(measured: DeploymentMeasurement, largest: float) -> GateOutcome:
    megabytes = measured.candidate_bytes / 1e6
    passed = megabytes <= largest
    return GateOutcome(
        name=f"{Gate.DEPLOYMENT}/size",
        outcome=Outcome.PASSED if passed else Outcome.FAILED,
        statistic="bytes of the bundle",
        estimate=megabytes,
        interval=None,
        margin=largest,
        p_value=None,
        n=1,
        sentence=(
            f"The candidate's bundle holds {megabytes:.1f} MB: "
            f"{'within' if passed else 'beyond'} the {largest:g} MB of the plan."
        ),
    )
