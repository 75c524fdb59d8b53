"""What a change plan says of the watch over a promoted version."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from registry.yaml_files import MisfitError
from retrain.label_rules import PlanPart
from retrain.plan_values import ONCE, at_most


class WhenItFails(StrEnum):
    """What follows on a watch that fails, without a person."""

    #: out of use in that deployment, and an alarm
    SUSPEND = "suspend"
    #: an alarm alone
    ALARM = "alarm"


class WatchedMeasure(StrEnum):
    """What a watch compares, at the deployed threshold."""

    SENSITIVITY = "sensitivity"
    SPECIFICITY = "specificity"


class Sign(StrEnum):
    """What a watch sees without labels: a warning, and no ground to suspend by itself."""

    #: an episode is open that began in the deployment since the promotion
    DRIFT = "drift"
    #: such an episode's estimate lies below the reference by more than its margin
    ESTIMATED = "estimated performance"
    #: the share that is called positive is another than the same version had in its shadow
    CALLS = "calls"


class WatchRules(PlanPart):
    """How long a version is watched after its promotion, by what, and what follows."""

    #: from the promotion on; what arrives in them is compared
    days: Annotated[int, Field(ge=1, le=366)]
    #: one-sided chance, over all looks and measures, that a version fails that keeps its promise
    error_rate: Annotated[float, Field(gt=0, lt=0.5)]
    measures: Annotated[list[WatchedMeasure], Field(min_length=1)] = Field(
        default_factory=lambda: list(WatchedMeasure)
    )
    #: fewest labelled patients with (for specificity: without) the finding; with fewer a
    #: measure is not evaluable
    least_labels: Annotated[int, Field(ge=10), at_most(1_000_000)] = 20
    when_it_fails: WhenItFails
    #: warnings on which it suspends, too
    suspend_on: Annotated[list[Sign], ONCE] = Field(default_factory=list)

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        if len(set(self.measures)) < len(self.measures):
            raise MisfitError("a measure is named twice: name each once", "measures")
        return self

    @model_validator(mode="after")
    def _suspends(self) -> Self:
        if self.suspend_on and self.when_it_fails is not WhenItFails.SUSPEND:
            raise MisfitError(
                f"{self.suspend_on[0].value} cannot suspend where when_it_fails is alarm: say "
                "suspend there, or leave suspend_on out",
                "suspend_on",
            )
        return self
