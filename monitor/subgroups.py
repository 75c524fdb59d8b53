"""Subgroups: named subsets of scans, by one attribute each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from sqlalchemy import ColumnElement

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


#: Attributes of the equipment and how it was run: a new value of one speaks for acquisition.
ACQUISITION = (
    Attribute.SOFTWARE_VERSION,
    Attribute.SCANNER_MODEL,
    Attribute.MANUFACTURER,
    Attribute.STATION,
    Attribute.PROTOCOL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subgroup:
    """The scans whose attribute has a value."""

    attribute: Attribute
    value: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `attribute=value`.

        Raises
        ------
        BadInputError
            Naming the attributes that exist.

        >>> str(Subgroup.parse("software_version=2.1"))
        'software_version=2.1'
        """
        name, separator, value = text.partition("=")
        if not separator or not value or name not in set(Attribute):
            raise BadInputError(
                f"{text!r} is not a subgroup: write ATTRIBUTE=VALUE, with one of "
                f"{', '.join(Attribute)}"
            )
        return cls(attribute=Attribute(name), value=value)

    def __str__(self) -> str:
        return f"{self.attribute.value}={self.value}"

    def where(self) -> ColumnElement[bool]:
        """Return the condition on the scans table."""
        column: ColumnElement[str] = getattr(ScanRow, self.attribute.value)
        return column == self.value

    def holds(self, scan: ScanRow) -> bool:
        """Return whether a scan belongs to it."""
        return bool(getattr(scan, self.attribute.value) == self.value)
