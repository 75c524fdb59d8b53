"""Gates on what the figures rest on: the same network, other patients, honest labels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass

from registry.errors import BadInputError
from retrain.gates.limits import GateLimits
from retrain.gates.outcome import Gate, GateOutcome, Outcome, not_evaluable
from retrain.gates.results import AiInfluence


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityMeasurement:
    """How far the ONNX graph of a bundle is from its torch network."""

    #: largest absolute difference over all outputs; NaN or infinite where outputs are
    max_abs_error: float
    scans: int

    def __post_init__(self) -> None:
        if self.max_abs_error < 0.0 or self.scans < 0:
            raise BadInputError("a parity measurement has a negative error or count")


def parity(measured: ParityMeasurement | None, *, limits: GateLimits) -> GateOutcome:
    """Decide whether ONNX and torch agree: what was validated is what will be executed."""
    statistic = "largest absolute difference of outputs"
    if measured is None or measured.scans == 0:
        return not_evaluable(
            Gate.PARITY,
            statistic=statistic,
            n=0,
            sentence="ONNX and torch were not compared on any scan: run the parity check.",
        )
    error, tolerance = measured.max_abs_error, limits.parity_tolerance
    passed = error <= tolerance
    finite = math.isfinite(error)
    return GateOutcome(
        name=Gate.PARITY,
        outcome=Outcome.PASSED if passed else Outcome.FAILED,
        statistic=statistic,
        estimate=error if finite else None,
        interval=None,
        margin=tolerance,
        p_value=None,
        n=measured.scans,
        sentence=(
            f"ONNX and torch differ by at most {error:.2g} on {measured.scans} scans"
            if finite
            else f"ONNX or torch gives NaN or infinities on {measured.scans} scans"
        )
        + f": {'within' if passed else 'beyond'} the tolerance of {tolerance:g}.",
    )


def no_patient_on_both_sides(trained_on: Set[str], *, locked: Set[str]) -> GateOutcome:
    """Decide whether the candidate has seen a patient of the locked sets.

    Parameters
    ----------
    trained_on : pseudonyms of every patient whose scans trained, tuned or calibrated the
        candidate, or a version that it was derived from
    locked : pseudonyms of the patients of all locked sets
    """
    statistic = "patients on both sides"
    if not trained_on or not locked:
        side = "training" if not trained_on else "locked"
        return not_evaluable(
            Gate.PATIENTS,
            statistic=statistic,
            n=len(locked),
            sentence=f"The {side} patients are not known: record them, then validate again.",
        )
    shared = len(trained_on & locked)
    return GateOutcome(
        name=Gate.PATIENTS,
        outcome=Outcome.FAILED if shared else Outcome.PASSED,
        statistic=statistic,
        estimate=float(shared),
        interval=None,
        margin=0.0,
        p_value=None,
        n=len(locked),
        sentence=(
            f"{shared} of {len(locked)} patients of the locked sets are among the "
            f"{len(trained_on)} that the candidate was trained on"
            + (
                ": its figures are too good; split by patient and train again."
                if shared
                else "."
            )
        ),
    )


def label_provenance(influence: Sequence[AiInfluence]) -> GateOutcome:
    """Decide whether every label was given without an AI; unknown counts as influenced."""
    statistic = "labels that an AI influenced, or could have"
    if not influence:
        return not_evaluable(
            Gate.PROVENANCE,
            statistic=statistic,
            n=0,
            sentence="There are no labels: collect them, then validate again.",
        )
    counts = Counter(influence)
    influenced, unknown = counts[AiInfluence.INFLUENCED], counts[AiInfluence.UNKNOWN]
    bad = influenced + unknown
    return GateOutcome(
        name=Gate.PROVENANCE,
        outcome=Outcome.FAILED if bad else Outcome.PASSED,
        statistic=statistic,
        estimate=float(bad),
        interval=None,
        margin=0.0,
        p_value=None,
        n=len(influence),
        sentence=(
            f"Of {len(influence)} labels an AI influenced {influenced}, and of {unknown} it is "
            "not known. Such labels lean to the AI: have these scans read without it, or "
            "leave them out."
            if bad
            else f"All {len(influence)} labels were given without an AI's result."
        ),
    )
