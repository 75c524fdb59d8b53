"""Where a label's truth comes from."""

from __future__ import annotations

from enum import StrEnum


class Provenance(StrEnum):
    """Where a label's truth comes from."""

    READER = "reader"
    ADJUDICATED = "adjudicated"
    REPORT = "report"
    PATHOLOGY = "pathology"
    DATASET = "dataset"


#: Weakest first: what rests on several is no better than the weakest of them.
BY_STRENGTH = (
    Provenance.REPORT,
    Provenance.DATASET,
    Provenance.READER,
    Provenance.ADJUDICATED,
    Provenance.PATHOLOGY,
)
