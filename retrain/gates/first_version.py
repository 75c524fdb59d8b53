"""What a model's first version must reach: there is no champion yet to compare it with."""

from __future__ import annotations

from monitor.statistics.performance.discrimination import estimate_auc
from registry.errors import InsufficientDataError
from retrain.gates.outcome import GateOutcome, Outcome, not_evaluable
from retrain.gates.results import Results

NAME = "first_version_auc"
LEVEL = 0.95


def first_version_auc(results: Results, *, floor: float) -> GateOutcome:
    """Decide whether the AUC on the locked reference set is shown to reach the plan's floor.

    The lower end of its 95 % interval must; an estimate alone does not.
    """
    statistic = "AUC, interval by DeLong or Obuchowski"
    try:
        area = estimate_auc(
            results.probabilities,
            results.truth,
            results.patients.tolist(),
            weights=results.weights,
            level=LEVEL,
        )
    except InsufficientDataError as error:
        return not_evaluable(
            NAME, statistic=statistic, n=len(results.truth), sentence=f"{error}."
        )
    passed = area.interval.low >= floor
    return GateOutcome(
        name=NAME,
        outcome=Outcome.PASSED if passed else Outcome.FAILED,
        statistic=statistic,
        estimate=area.estimate,
        interval=area.interval,
        margin=floor,
        p_value=None,
        n=len(results.truth),
        sentence=(
            f"The AUC on {len(results.truth)} locked scans is {area.estimate:.3f} "
            f"({area.interval.low:.3f}–{area.interval.high:.3f}): it is "
            f"{'shown' if passed else 'not shown'} to reach the plan's {floor:g}."
        ),
    )
