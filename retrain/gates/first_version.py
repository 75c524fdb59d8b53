"""What a model's first version must reach: there is no champion yet to compare it with."""

from __future__ import annotations

from collections.abc import Mapping

from monitor.statistics.performance.discrimination import estimate_auc
from registry.errors import InsufficientDataError
from retrain.gates.outcome import GateOutcome, Outcome, all_of, not_evaluable
from retrain.gates.results import Results

NAME = "first_version_auc"
LEVEL = 0.95


def first_version_aucs(findings: Mapping[str, Results], *, floor: float) -> GateOutcome:
    """Decide whether each finding's AUC is shown to reach the plan's floor.

    Parameters
    ----------
    findings : by name; the empty name is that of a task's only finding
    """
    parts = [first_version_auc(one, floor=floor, of=name) for name, one in findings.items()]
    return parts[0] if len(parts) == 1 else all_of(NAME, parts)


def first_version_auc(results: Results, *, floor: float, of: str = "") -> GateOutcome:
    """Decide whether the AUC on the locked reference set is shown to reach the plan's floor.

    The lower end of its 95 % interval must; an estimate alone does not.
    """
    name = f"{NAME}/{of}" if of else NAME
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
            name,
            statistic=statistic,
            n=len(results.truth),
            sentence=f"{of}: {error}." if of else f"{error}.",
        )
    passed = area.interval.low >= floor
    return GateOutcome(
        name=name,
        outcome=Outcome.PASSED if passed else Outcome.FAILED,
        statistic=statistic,
        estimate=area.estimate,
        interval=area.interval,
        margin=floor,
        p_value=None,
        n=len(results.truth),
        sentence=(
            f"The AUC {f'of {of} ' if of else ''}on {len(results.truth)} locked scans is "
            f"{area.estimate:.3f} "
            f"({area.interval.low:.3f}–{area.interval.high:.3f}): it is "
            f"{'shown' if passed else 'not shown'} to reach the plan's {floor:g}."
        ),
    )
