"""How silence is watched: the part of a monitor's specification that says so."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from monitor.silence.holidays import Holiday, HolidayCalendar, require_listed_once
from monitor.subgroups import HIERARCHY, Attribute
from registry.yaml_files import MisfitError


class SilenceSettings(BaseModel):
    """What is told apart, how often it is looked at, and how often an alarm may be false."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: by which sources of scans are told apart, the widest first
    attributes: tuple[Attribute, ...] = (
        Attribute.SITE,
        Attribute.SCANNER_MODEL,
        Attribute.STATION,
    )
    #: over all sources and looks together
    false_alarms_per_quarter: Annotated[float, Field(gt=0, le=100)] = 1.0
    look_every_minutes: Annotated[int, Field(ge=5, le=60)] = 15
    #: of the past, from which it is learnt what is ordinary
    learn_weeks: Annotated[int, Field(ge=2, le=52)] = 8
    #: a source that sent nothing for so long is no longer watched
    retired_after_days: Annotated[int, Field(ge=7, le=365)] = 28
    #: of the sites: their rhythm follows it through summer time
    time_zone: str = "UTC"
    #: days of the sites' own calendar on which less is expected; a specification without any
    #: has the digest that it had before they could be listed
    holidays: Annotated[tuple[Holiday, ...], Field(exclude_if=lambda listed: not listed)] = ()

    @cached_property
    def calendar(self) -> HolidayCalendar:
        return HolidayCalendar.of(self.holidays)

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(
                f"{name!r} is no time zone of this machine: write one as Europe/Berlin"
            ) from error
        return name

    @model_validator(mode="after")
    def _sources_nest(self) -> Self:
        if not self.attributes or len(set(self.attributes)) < len(self.attributes):
            raise ValueError("attributes: name at least one, and each once")
        strangers = [one for one in self.attributes if one not in HIERARCHY]
        if strangers:
            raise ValueError(
                f"attributes: {strangers[0].value} tells no sources of scans apart; use "
                f"{', '.join(HIERARCHY)}"
            )
        return self

    @model_validator(mode="after")
    def _holidays_fit(self) -> Self:
        require_listed_once(self.holidays)
        for place, holiday in enumerate(self.holidays):
            if holiday.sites is not None and Attribute.SITE not in self.attributes:
                raise MisfitError(
                    "sites are not told apart: name `site` among `attributes`",
                    "holidays",
                    place,
                    "sites",
                )
        return self
