"""What a change plan says of labels: how many, of what provenance, and how they are come by."""

from __future__ import annotations

from enum import StrEnum
from math import ceil
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from monitor.labels import Provenance
from monitor.statistics.sampling.drawing import LARGEST_RATIO
from retrain.plan_values import ONCE, at_most


class PlanPart(BaseModel):
    """A part of a plan: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Fraction = Annotated[float, Field(ge=0, le=1)]
_Inner = Annotated[float, Field(gt=0, lt=1)]


class LabelSample(StrEnum):
    """How the labels of a run are come by."""

    #: whatever labels come are split
    CENSUS = "census"
    #: scans are drawn, and their labels asked for
    REQUESTED = "requested"


class RequestRules(PlanPart):
    """What a request of labels is reckoned by."""

    #: chance that sensitivity and specificity both pass, for a repair that brings `gain`
    power: _Inner
    #: what a repair is to bring in the measure that was lost, as a fraction
    gain: _Inner
    #: share of patients on whom champion and candidate differ besides
    discordance: _Inner
    #: expected share of patients with the finding; that of the locked reference if left out
    prevalence: _Inner | None = None
    #: expected share of scans that nobody will be able to label
    unreadable: Annotated[float, Field(ge=0, lt=0.9)] = 0.0
    #: how many times as likely patients near the threshold are drawn for the gates
    favour_near_threshold: Annotated[float, Field(ge=1, le=LARGEST_RATIO)] = 1.0
    #: most patients that one request may ask for
    at_most: Annotated[int, Field(ge=1), at_most(1_000_000)]


class LabelRules(PlanPart):
    """What labels a run needs."""

    #: labelled scans of the shift that must exist before a run is queued
    at_least: Annotated[int, Field(ge=1), at_most(1_000_000)]
    #: provenances that count
    provenance: Annotated[list[Provenance], Field(min_length=1), ONCE]
    #: share of labelled patients set aside for the locked drifted set
    locked_share: Fraction
    #: share set aside to choose the candidate by
    selection_share: Fraction
    #: whether labels that an AI influenced may train; none ever enters a gate
    ai_influenced_may_train: bool = False
    sample: LabelSample = LabelSample.CENSUS
    #: required where labels are requested
    request: RequestRules | None = None

    def needed(self, *, labels_train: bool) -> int:
        """Return how many labelled scans of a shift a run waits for.

        Parameters
        ----------
        labels_train : else those to be judged on and to choose by suffice
        """
        if labels_train:
            return self.at_least
        return ceil(round(self.at_least * (self.locked_share + self.selection_share), 6))
