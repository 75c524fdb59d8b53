"""Whether labels show that a champion's performance fell: asked anew as labels trickle in.

Labels come late and in lots, and each lot asks again. A test of fixed size that is repeated
finds a fall sooner or later where there is none; a test by betting does not, at whatever lot
one stops. A patient counts once for each measure, by what was known when it was first labelled.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy.orm import Session

from monitor import labels
from monitor.performance.performance import LEVEL, LabelledResults, Performance
from monitor.statistics.performance.discrimination import Area, estimate_auc
from monitor.statistics.performance.recalibration import LEAST_PATIENTS
from monitor.statistics.performance.sequential_falls import (
    SequentialFall,
    area_fall_in_sequence,
    fall_in_sequence,
)
from registry.canonical import Json

#: Labels show an impact if a measure fell by more than its margin with this one-sided error
#: over all time, shared by the measures.
IMPACT_ALPHA = 0.01
#: A fall by up to this is no impact.
MARGINS = {"AUC": 0.02, "sensitivity": 0.05, "specificity": 0.05}
#: The AUC is estimated anew after so many patients more, or a twentieth, if that is more.
_PATIENTS_A_LOOK = 10
_GROWTH_OF_A_LOOK = 1.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Fall:
    """A measure that is lower than on the reference by more than its margin."""

    measure: str
    before: float
    after: float
    #: one-sided, of no such fall; valid however often it was asked
    p_value: float
    #: whose labels it rests on
    patients: int

    def to_dict(self) -> dict[str, Json]:
        return {
            "measure": self.measure,
            "before": self.before,
            "after": self.after,
            "p_value": self.p_value,
            "patients": self.patients,
        }


def falls(
    before: Performance,
    results: LabelledResults,
    *,
    known_at: Sequence[datetime],
    findings: int = 1,
) -> list[Fall]:
    """Return the measures that fell, each tested at its share of `IMPACT_ALPHA`.

    Parameters
    ----------
    before : on the reference
    results : on scans of the shift, without labels that an AI influenced
    known_at : when each result's first label came
    findings : of the task, which share `IMPACT_ALPHA` with the three measures of each
    """
    called = results.scores >= results.threshold
    sick = _by_patient(results, results.truth, known_at)
    well = _by_patient(results, ~results.truth, known_at)
    tested: dict[str, SequentialFall] = {}
    areas = _areas(results, [*sick.values(), *well.values()], known_at)
    if areas:
        tested["AUC"] = area_fall_in_sequence(areas, before.area, margin=MARGINS["AUC"])
    for measure, right, reference, patients in (
        ("sensitivity", called, before.point.sensitivity, sick),
        ("specificity", ~called, before.point.specificity, well),
    ):
        if patients:
            values = [float(right[scans].mean()) for scans in patients.values()]
            tested[measure] = fall_in_sequence(values, reference, margin=MARGINS[measure])
    return [
        Fall(
            measure=measure,
            before=fall.before,
            after=fall.after,
            p_value=fall.p_value,
            patients=fall.values,
        )
        for measure, fall in tested.items()
        if fall.p_value <= IMPACT_ALPHA / (len(MARGINS) * findings)
    ]


def of_several(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Json]:
    """Return the evidence of an impact on several findings: that of the gravest, and of each.

    Parameters
    ----------
    found : by finding, as for one: before, after, scans and falls
    """

    def gravity(finding: str) -> float:
        return min((fall["p_value"] for fall in found[finding]["falls"]), default=1.0)

    gravest = found[min(found, key=gravity)]
    return {
        **{key: gravest[key] for key in ("before", "after", "scans")},
        "falls": [
            {**fall, "finding": finding}
            for finding, one in found.items()
            for fall in one["falls"]
        ],
        "findings": {
            finding: {key: one[key] for key in ("before", "after", "scans")}
            for finding, one in found.items()
        },
    }


def measure_fallen(fall: Mapping[str, Any]) -> str:
    """Return which measure of a recorded fall it was, and of which of several findings."""
    of = f" of {fall['finding']}" if "finding" in fall else ""
    return f"{fall['measure']}{of}"


def first_labels(session: Session, results: LabelledResults, *, task: str) -> list[datetime]:
    """Return when each result's first truth was known; a correction changes no order."""
    scans = [scan.id for scan in results.scans]
    known = labels.true_since(session, scans, task=task)
    return [known[scan] for scan in scans]


def _by_patient(
    results: LabelledResults, of_class: npt.NDArray[np.bool_], known_at: Sequence[datetime]
) -> dict[str, list[int]]:
    """Return each patient's scans of a class, patients in the order of their first label.

    Scans whose labels came later than the patient's first are left out: what they show hangs
    on what the patient's others showed, which the test has counted already.
    """
    order = sorted(np.flatnonzero(of_class).tolist(), key=lambda scan: (known_at[scan], scan))
    found: dict[str, list[int]] = {}
    for scan in order:
        of_patient = found.setdefault(results.patients[scan], [])
        if not of_patient or known_at[scan] == known_at[of_patient[0]]:
            of_patient.append(scan)
    return found


def _areas(
    results: LabelledResults, patients: Sequence[list[int]], known_at: Sequence[datetime]
) -> list[Area]:
    """Return the area after more and more patients, from `LEAST_PATIENTS` of each class on."""
    ordered = sorted(patients, key=lambda scans: (known_at[scans[0]], scans[0]))
    if not ordered:
        return []
    # Numbers group as the names do, at a tenth of the cost.
    _, groups = np.unique(np.array(results.patients), return_inverse=True)
    scans = np.array([scan for of_patient in ordered for scan in of_patient])
    ends = np.cumsum([len(of_patient) for of_patient in ordered])
    # A patient stands among those of a class once.
    sick = np.cumsum(results.truth[[of_patient[0] for of_patient in ordered]])
    areas = []
    for look in _looks(len(ordered)):
        ill = int(sick[look - 1])
        if min(ill, look - ill) >= LEAST_PATIENTS:
            seen = scans[: ends[look - 1]]
            areas.append(
                estimate_auc(
                    results.scores[seen], results.truth[seen], groups[seen], level=LEVEL
                )
            )
    return areas


def _looks(patients: int) -> Iterator[int]:
    """Yield numbers of patients after which the AUC is estimated anew, and last all of them."""
    look = _PATIENTS_A_LOOK
    while look < patients:
        yield look
        look = max(look + _PATIENTS_A_LOOK, math.ceil(look * _GROWTH_OF_A_LOOK))
    yield patients
