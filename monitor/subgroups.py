"""Subgroups: named subsets of scans, by one attribute or several at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self, TypeGuard

from sqlalchemy import ColumnElement, and_

from monitor.tables import ScanRow
from registry.errors import BadInputError


class Attribute(StrEnum):
    """What scans can be told apart by."""

    SITE = "site"
    MANUFACTURER = "manufacturer"
    SCANNER_MODEL = "scanner_model"
    SOFTWARE_VERSION = "software_version"
    STATION = "station"
    PROTOCOL = "protocol"
    VIEW = "view"
    SEX = "sex"
    AGE_BAND = "age_band"


#: Attributes of the equipment and how it was run: a new value of one speaks for acquisition.
ACQUISITION = (
    Attribute.SOFTWARE_VERSION,
    Attribute.SCANNER_MODEL,
    Attribute.MANUFACTURER,
    Attribute.STATION,
    Attribute.PROTOCOL,
)
#: From the fleet down: each stands inside the one before it.
HIERARCHY = (
    Attribute.SITE,
    Attribute.MANUFACTURER,
    Attribute.SCANNER_MODEL,
    Attribute.STATION,
    Attribute.SOFTWARE_VERSION,
)
#: Youngest and oldest age in years of each band; None has no bound.
AGE_BANDS: dict[str, tuple[int, int | None]] = {
    "0-17": (0, 17),
    "18-39": (18, 39),
    "40-64": (40, 64),
    "65+": (65, None),
}
_AND = " & "


@dataclass(frozen=True, slots=True)
class Subgroup:
    """The scans whose attributes have these values, from the outermost attribute in."""

    terms: tuple[tuple[Attribute, str], ...]

    @classmethod
    def of(cls, attribute: Attribute, value: str) -> Self:
        """Return the subgroup of one attribute."""
        return cls(((attribute, value),))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `attribute=value`, or several of them joined by ` & `.

        Raises
        ------
        BadInputError
            Naming the attributes that exist.

        >>> str(Subgroup.parse("site=north & software_version=2.1"))
        'site=north & software_version=2.1'
        """
        names = "|".join(Attribute)
        terms = []
        for part in re.split(rf"{_AND}(?=(?:{names})=)", text):
            name, separator, value = part.partition("=")
            if not separator or not value or name not in set(Attribute):
                raise BadInputError(
                    f"{text!r} is not a subgroup: write ATTRIBUTE=VALUE, or several joined by "
                    f"{_AND!r}, with {', '.join(Attribute)}"
                )
            terms.append((Attribute(name), value))
        return cls(tuple(terms))

    def __str__(self) -> str:
        return _AND.join(f"{attribute.value}={value}" for attribute, value in self.terms)

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        return tuple(attribute for attribute, _ in self.terms)

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites that it names; none where it names scans wherever they come from."""
        return tuple(value for attribute, value in self.terms if attribute is Attribute.SITE)

    def where(self) -> ColumnElement[bool]:
        """Return the condition on the scans table."""
        return and_(*(_condition(attribute, value) for attribute, value in self.terms))

    def holds(self, scan: ScanRow) -> bool:
        """Return whether a scan belongs to it."""
        return all(value_of(scan, attribute) == value for attribute, value in self.terms)

    def within(self, other: Subgroup) -> bool:
        """Return whether every scan of it belongs to the other by name."""
        return set(other.terms) <= set(self.terms)


def value_of(scan: ScanRow, attribute: Attribute) -> str | None:
    """Return a scan's value of an attribute, or None where its header had none."""
    if attribute is Attribute.AGE_BAND:
        return None if scan.age_years is None else _age_band(scan.age_years)
    value: str | None = getattr(scan, attribute)
    return value


def stated_in(attribute: Attribute) -> ColumnElement[Any]:
    """Return the column of the scans table that states an attribute."""
    name = "age_years" if attribute is Attribute.AGE_BAND else attribute.value
    column: ColumnElement[Any] = getattr(ScanRow, name)
    return column


def subgroups_of(
    scans: Sequence[ScanRow], attributes: Sequence[Attribute], *, at_least: int
) -> list[tuple[Subgroup, list[bool]]]:
    """Return the subgroups of scans, each with the scans that belong to it, largest first.

    Every value of every attribute is one, and so is every branch of the equipment's
    hierarchy (site, site and scanner, …). Of names for the same scans the shortest is kept.

    Parameters
    ----------
    at_least : scans in a subgroup; smaller ones are left out
    """
    levels = [attribute for attribute in HIERARCHY if attribute in attributes]
    named: list[tuple[Attribute, ...]] = [(one,) for one in dict.fromkeys(attributes)]
    named += [tuple(levels[:depth]) for depth in range(2, len(levels) + 1)]
    values = {
        attribute: [value_of(scan, attribute) for scan in scans]
        for attribute in dict.fromkeys((*attributes, *levels))
    }
    found: dict[tuple[int, ...], Subgroup] = {}
    for together in named:
        having: dict[tuple[str | None, ...], list[int]] = {}
        for place, key in enumerate(zip(*(values[one] for one in together), strict=True)):
            having.setdefault(key, []).append(place)
        subgroups = {
            Subgroup(tuple(zip(together, key, strict=True))): places
            for key, places in having.items()
            if _whole(key) and len(places) >= at_least
        }
        for name in sorted(subgroups, key=str):
            found.setdefault(tuple(subgroups[name]), name)
    ordered = sorted(found.items(), key=lambda item: (-len(item[0]), str(item[1])))
    return [(name, _mask(places, len(scans))) for places, name in ordered]


def _whole(key: tuple[str | None, ...]) -> TypeGuard[tuple[str, ...]]:
    """Return whether a scan has all of these attributes."""
    return None not in key


def _mask(places: Sequence[int], scans: int) -> list[bool]:
    belongs = [False] * scans
    for place in places:
        belongs[place] = True
    return belongs


def _age_band(years: int) -> str:
    return next(
        band
        for band, (youngest, oldest) in AGE_BANDS.items()
        if years >= youngest and (oldest is None or years <= oldest)
    )


def _condition(attribute: Attribute, value: str) -> ColumnElement[bool]:
    if attribute is not Attribute.AGE_BAND:
        column: ColumnElement[str] = getattr(ScanRow, attribute.value)
        return column == value
    if value not in AGE_BANDS:
        raise BadInputError(f"there is no age band {value!r}: write {', '.join(AGE_BANDS)}")
    youngest, oldest = AGE_BANDS[value]
    above = ScanRow.age_years >= youngest
    return above if oldest is None else and_(above, ScanRow.age_years <= oldest)
