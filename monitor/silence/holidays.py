"""Days that a hospital's calendar lists as holidays: read from a monitor's file, and looked up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Self, TypeAlias, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_serializer,
    model_validator,
)

from registry.yaml_files import MisfitError

#: A listed day with its sites, None for all.
ListedDay: TypeAlias = tuple[date, tuple[str, ...] | None]

_DAY = timedelta(days=1)
#: A longer range is no holiday: what its days are like is to be learnt.
LONGEST_DAYS = 62
#: A year outside these is mistyped.
_FIRST_YEAR, _LAST_YEAR = 2000, 2100


def _as_day(value: object) -> object:
    """Return a day of the calendar; what YAML does not take for one comes as a text."""
    if value is None:
        return None
    if isinstance(value, datetime):
        value = value.isoformat()  # of a day with a time of day
    try:
        value = value if isinstance(value, date) else date.fromisoformat(str(value))
    except ValueError:
        raise ValueError(
            f"{value} is no day of the calendar: write one as 2026-12-25"
        ) from None
    if not _FIRST_YEAR <= value.year <= _LAST_YEAR:
        raise ValueError(f"{value} is of no year that can be meant: correct it")
    return value


_Day = Annotated[date | None, BeforeValidator(_as_day)]


class Holiday(BaseModel):
    """A day, or a range of days without its end, that is a holiday at all sites or at some."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    day: Annotated[_Day, Field(alias="date")] = None
    since: Annotated[_Day, Field(alias="from")] = None
    until: Annotated[_Day, Field(alias="to")] = None
    #: None for all
    sites: Annotated[tuple[str, ...], Field(min_length=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _day_alone(cls, written: Any) -> Any:
        return written if isinstance(written, (Mapping, Holiday)) else {"date": written}

    @model_validator(mode="after")
    def _one_span(self) -> Self:
        if (self.day is None) == (self.since is None and self.until is None):
            raise ValueError("write either a `date`, or a range as `from` and `to`")
        if self.day is None and self.since is None:
            raise MisfitError("a range needs the day that it begins with, as `from`", "to")
        if self.day is None and self.until is None:
            raise MisfitError("a range needs the first day after it, as `to`", "from")
        if self.end <= self.first:
            raise MisfitError(
                f"{self.end} is not after {self.first}: `to` is the first day after the range",
                "to",
            )
        if (self.end - self.first).days > LONGEST_DAYS:
            raise MisfitError(
                f"{(self.end - self.first).days} days are no holiday: list at most {LONGEST_DAYS} "
                "in a row; what lasts longer is learnt",
                "to",
            )
        for site in self.sites or ():
            if not site.strip() or (self.sites or ()).count(site) > 1:
                raise MisfitError(f"name each site once; {site!r} is not", "sites")
        return self

    @model_serializer
    def _as_written(self) -> dict[str, object] | str:
        sites: dict[str, object] = {} if self.sites is None else {"sites": list(self.sites)}
        if self.day is None:
            return {"from": self.first.isoformat(), "to": self.end.isoformat(), **sites}
        return {"date": self.day.isoformat(), **sites} if sites else self.day.isoformat()

    @property
    def first(self) -> date:
        """The first of its days."""
        return cast("date", self.day or self.since)  # one of them, as `_one_span` holds

    @property
    def end(self) -> date:
        """The first day after it."""
        return self.until or self.first + _DAY

    @property
    def days(self) -> Iterator[date]:
        """Its days, in their order."""
        return (self.first + n * _DAY for n in range((self.end - self.first).days))

    def is_at(self, site: str | None) -> bool:
        """Return whether a site keeps it."""
        return self.sites is None or site in self.sites


def require_listed_once(holidays: Sequence[Holiday]) -> None:
    """Refuse a day that is listed twice for one site.

    Raises
    ------
    MisfitError
        At `holidays`, and the place of the second.
    """
    listed: dict[date, list[int]] = {}
    for place, holiday in enumerate(holidays):
        for day in holiday.days:
            for before in listed.setdefault(day, []):
                other = holidays[before]
                if (
                    holiday.sites is None
                    or other.sites is None
                    or not set(holiday.sites).isdisjoint(other.sites)
                ):
                    raise MisfitError(
                        f"{day} is listed already, by holidays.{before}: keep one of the two",
                        "holidays",
                        place,
                    )
            listed[day].append(place)


@dataclass(frozen=True, slots=True, kw_only=True)
class HolidayCalendar:
    """The listed days, each with the holidays that list it."""

    by_day: Mapping[date, Sequence[Holiday]]

    @classmethod
    def of(cls, holidays: Sequence[Holiday]) -> HolidayCalendar:
        """Return the calendar of some holidays."""
        by_day: dict[date, list[Holiday]] = {}
        for holiday in holidays:
            for day in holiday.days:
                by_day.setdefault(day, []).append(holiday)
        return cls(by_day=by_day)

    def is_listed(self, day: date, site: str | None) -> bool:
        """Return whether a day is a holiday at a site."""
        return any(holiday.is_at(site) for holiday in self.by_day.get(day, ()))

    def days_before(self, day: date, ordinary: int) -> int:
        """Return how many days before one hold so many that are listed for no site."""
        back = 0
        while ordinary > 0:
            back += 1
            ordinary -= (day - back * _DAY) not in self.by_day
        return back

    def coming(self, day: date, number: int) -> list[ListedDay]:
        """Return the next listed days from one on."""
        found: list[ListedDay] = []
        for listed in sorted(one for one in self.by_day if one >= day)[:number]:
            sites = [holiday.sites for holiday in self.by_day[listed]]
            named = sorted(site for of in sites if of is not None for site in of)
            found.append((listed, None if None in sites else tuple(named)))
        return found
