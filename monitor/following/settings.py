"""How scans are followed one by one: the part of a monitor's specification that says so."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from monitor.alarm_budget import scans_between_false_alarms
from registry.errors import BadInputError


class StreamSettings(BaseModel):
    """How often a stream may alarm falsely, and what it takes for ordinary first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: over all deciding references together, in plain words
    false_alarms: str = "one per quarter"
    #: that the monitor's model reads on average; None, and they are measured
    scans_a_day: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    #: that a stream takes for ordinary, and that raise no alarm; None, and it is the scans of
    #: five weeks: weeks differ by themselves, and fewer of them do not show by how much
    burn_in_scans: Annotated[int, Field(ge=0)] | None = None

    @field_validator("false_alarms")
    @classmethod
    def _is_a_budget(cls, words: str) -> str:
        try:
            scans_between_false_alarms(words, scans_a_day=1.0)
        except BadInputError as error:
            raise ValueError(str(error)) from error
        return words

    @model_validator(mode="after")
    def _can_be_kept(self) -> Self:
        if self.scans_a_day is None:
            return self
        from monitor.streams import LEAST_BUDGET  # costs what scipy costs

        scans = scans_between_false_alarms(self.false_alarms, scans_a_day=self.scans_a_day)
        if scans < LEAST_BUDGET:
            raise ValueError(
                f"false_alarms: {self.false_alarms!r} at scans_a_day {self.scans_a_day:g} is a "
                f"false alarm in {scans} scans, and fewer than {LEAST_BUDGET} cannot be kept: "
                "allow fewer alarms, or leave scans_a_day out"
            )
        return self
