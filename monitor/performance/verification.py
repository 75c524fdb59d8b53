"""What a version's labels would say if all scans had one: labels that came by themselves.

Whoever is labelled in daily work is often whoever the model called positive. Labels that an AI
influenced lean to what it said, which no correction undoes: they are counted and left out, and
so are labels that a request asked for, which were drawn and chosen by nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor import labels
from monitor.labelling.influence import PARAMETERS
from monitor.performance.finding import finding_of, is_there, score
from monitor.performance.performance import LEVEL
from monitor.requests.tables import LabelRequestItemRow, LabelRequestRow, RequestState
from monitor.statistics.performance.proportions import Proportion
from monitor.statistics.performance.verification import (
    Corrected,
    Side,
    VerificationBias,
    verification_bias,
)
from monitor.tables import ResultRow, ScanRow
from registry.errors import InsufficientDataError
from registry.versions import VersionRow


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedScans:
    """How the scans of a span came by their labels, and what that did to two measures."""

    scans: int
    labelled: int
    #: left out
    requested: int
    ai_influenced: int
    #: None where the labels do not allow it
    bias: VerificationBias | None
    #: why not
    problem: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON; each measure as [estimate, low, high]."""
        found: dict[str, Any] = {
            "scans": self.scans,
            "labelled": self.labelled,
            "requested": self.requested,
            "ai_influenced": self.ai_influenced,
            "problem": self.problem,
            "bias": None,
        }
        if self.bias is not None:
            found["bias"] = {
                "called_positive": _share(self.bias.called_positive),
                "called_negative": _share(self.bias.called_negative),
                "strata": self.bias.strata,
                "naive": {
                    "sensitivity": _measure(self.bias.naive_sensitivity),
                    "specificity": _measure(self.bias.naive_specificity),
                },
                "corrected": {
                    "sensitivity": _measure(self.bias.sensitivity),
                    "specificity": _measure(self.bias.specificity),
                },
            }
        return found

    def in_words(self) -> list[str]:
        """Return it in sentences."""
        left_out = (
            f"{self.requested} labels that were requested and {self.ai_influenced} that an AI "
            "influenced are left out."
        )
        if self.bias is None:
            return [
                f"{self.labelled} of {self.scans} scans came by a label. {left_out}",
                f"Verification bias cannot be estimated: {self.problem}.",
            ]
        bias = self.bias
        return [
            f"{bias.called_positive.share:.0%} of the scans called positive and "
            f"{bias.called_negative.share:.0%} of those called negative came by a label. "
            + left_out,
            f"Sensitivity {bias.naive_sensitivity.estimate:.3f} among labelled scans, and "
            f"{_in_words(bias.sensitivity)} among all (Begg and Greenes).",
            f"Specificity {bias.naive_specificity.estimate:.3f} among labelled scans, and "
            f"{_in_words(bias.specificity)} among all.",
        ]


def verified_scans(
    session: Session, scans: Sequence[ScanRow], *, version: int, task: str
) -> VerifiedScans:
    """Estimate the verification bias of a version on some scans."""
    ids = [scan.id for scan in scans]
    results: dict[int, tuple[float, float]] = {}
    asked: set[int] = set()
    for start in range(0, len(ids), PARAMETERS):
        part = ids[start : start + PARAMETERS]
        rows = session.execute(
            select(
                ResultRow.scan,
                ResultRow.probabilities,
                ResultRow.finding,
                ResultRow.threshold,
            ).where(
                ResultRow.version == version,
                ResultRow.task == task,
                # Without a threshold nothing is called, and nobody labelled for it.
                ResultRow.threshold.is_not(None),
                ResultRow.scan.in_(part),
            )
        )
        results |= {
            scan: (score(said, finding), threshold) for scan, said, finding, threshold in rows
        }
        asked |= set(
            session.scalars(
                select(LabelRequestItemRow.scan)
                .join(LabelRequestRow, LabelRequestRow.id == LabelRequestItemRow.request)
                .where(
                    LabelRequestItemRow.scan.in_(part),
                    LabelRequestRow.state != RequestState.CANCELLED,
                )
            )
        )
    read = [scan for scan in scans if scan.id in results]
    known = labels.latest(session, [scan.id for scan in read])
    truths = [known.get((scan.id, task)) for scan in read]
    labelled = np.array(
        [
            truth is not None and not truth.ai_influenced and scan.id not in asked
            for scan, truth in zip(read, truths, strict=True)
        ],
        dtype=bool,
    )
    looked_for = finding_of(
        session, model=session.get_one(VersionRow, version).model, task=task
    )
    bias: VerificationBias | None = None
    problem: str | None = None
    try:
        bias = verification_bias(
            [results[scan.id][0] for scan in read],
            [int(truth is not None and is_there(truth.value, looked_for)) for truth in truths],
            labelled,
            threshold=results[read[0].id][1] if read else 0.5,
            patients=[scan.person for scan in read],
            level=LEVEL,
        )
    except InsufficientDataError as error:
        problem = str(error)
    return VerifiedScans(
        scans=len(read),
        labelled=int(labelled.sum()),
        requested=sum(
            truth is not None and scan.id in asked
            for scan, truth in zip(read, truths, strict=True)
        ),
        ai_influenced=sum(
            truth is not None and truth.ai_influenced and scan.id not in asked
            for scan, truth in zip(read, truths, strict=True)
        ),
        bias=bias,
        problem=problem,
    )


def _share(side: Side) -> dict[str, Any]:
    return {"scans": side.scans, "labelled": side.labelled, "share": side.share}


def _measure(one: Corrected | Proportion) -> list[float]:
    return [one.estimate, one.interval.low, one.interval.high]


def _in_words(one: Corrected) -> str:
    return f"{one.estimate:.3f} ({one.interval.low:.3f} to {one.interval.high:.3f})"
