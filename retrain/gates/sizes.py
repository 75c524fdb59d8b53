"""Whether a locked set holds enough patients of each class to be evaluated at all."""

from __future__ import annotations

from retrain.gates.limits import GateLimits
from retrain.gates.outcome import GateOutcome, not_evaluable
from retrain.gates.results import PairedResults


def too_few(
    name: str,
    results: PairedResults,
    *,
    which: str,
    limits: GateLimits,
    of: str = "",
) -> GateOutcome | None:
    """Return why a locked set cannot be evaluated, or None where it can.

    Parameters
    ----------
    of : the finding's name, where the task has several
    """
    for finding, minimum in (
        (True, limits.minimum_positives),
        (False, limits.minimum_negatives),
    ):
        patients = results.patients_with(finding=finding)
        if patients < minimum:
            return not_evaluable(
                name,
                statistic="none",
                n=results.scans,
                sentence=(
                    f"The {which} locked set holds {patients} patients "
                    f"{'with' if finding else 'without'} {of or 'the finding'}, and the plan asks "
                    f"for {minimum}: collect labels, or let a person decide."
                ),
            )
    return None
