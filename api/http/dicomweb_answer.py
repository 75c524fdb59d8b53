"""What a sender of instances is told (PS3.18 section 10.5.3 and annex I.2)."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from enum import IntEnum
from http import HTTPStatus
from typing import Any, Self

from monitor.intake.reading import read_instance
from registry.errors import UnreadableScanError

_UID = re.compile(r"[0-9]{1,64}|(?=.{1,64}$)[0-9]+(\.[0-9]+)+")
_META_HEADER = struct.Struct("<HH2s")
_LONG = frozenset((b"OB", b"OW", b"SQ", b"UN", b"UT"))
_CLASS, _INSTANCE = 0x0002, 0x0003


class Warned(IntEnum):
    """Why an instance was stored otherwise than expected (Table I.2-2)."""

    #: it is kept, in quarantine, and is no scan
    NO_MATCH = 0xB007


class Failed(IntEnum):
    """Why an instance was not stored (Table I.2-2, PS3.4 Table B.2-1)."""

    #: it is none of the study that the request names
    OTHER_STUDY = 0xA900
    #: it is larger than may be held, or nothing says what it is
    CANNOT_UNDERSTAND = 0xC000


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """An instance by its sender's own identifiers: told to the sender, kept nowhere."""

    sop_class: str = field(repr=False)
    instance: str = field(repr=False)
    study: str = field(repr=False)

    @classmethod
    def of(cls, content: bytes) -> Self:
        """Read the identifiers of a DICOM file, "" where it has none that can be one."""
        try:
            found = read_instance(content)
        except UnreadableScanError:
            sop_class, instance = _of_meta_information(content)
            return cls(sop_class=sop_class, instance=instance, study="")
        return cls(
            sop_class=uid(found.text("SOPClassUID")),
            instance=uid(found.text("SOPInstanceUID")),
            study=uid(found.text("StudyInstanceUID")),
        )

    @property
    def can_be_named(self) -> bool:
        return bool(self.sop_class and self.instance)


class StoreAnswer:
    """The answer to one request, as it grows."""

    def __init__(self) -> None:
        self._referenced: list[dict[str, Any]] = []
        self._failed: list[dict[str, Any]] = []
        self._unnamed: list[dict[str, Any]] = []
        self._warned = False

    def stored(self, identity: Identity) -> None:
        """Say that an instance is stored."""
        self._referenced.append(_item(identity))

    def warn(self, identity: Identity, why: Warned) -> None:
        """Say that an instance is kept, and not as a scan."""
        if identity.can_be_named:
            self._referenced.append({**_item(identity), "00081196": _number(why)})
            self._warned = True
        else:
            # Kept as it is; but what has no name the sender cannot tick off.
            self.fail(identity, Failed.CANNOT_UNDERSTAND)

    def fail(self, identity: Identity, why: Failed) -> None:
        """Say that an instance is not stored."""
        if identity.can_be_named:
            self._failed.append({**_item(identity), "00081197": _number(why)})
        else:
            self._unnamed.append({"00081197": _number(why)})

    @property
    def status(self) -> HTTPStatus:
        """All, some, or none of it is stored (Table 10.5.3-1)."""
        if self._failed or self._unnamed:
            return HTTPStatus.ACCEPTED if self._referenced else HTTPStatus.CONFLICT
        return HTTPStatus.ACCEPTED if self._warned else HTTPStatus.OK

    def document(self) -> dict[str, Any]:
        """Return the data set in the DICOM JSON model (PS3.18 annex F)."""
        # What is stored cannot be retrieved from here.
        document: dict[str, Any] = {"00081190": {"vr": "UR"}}
        for tag, items in (
            ("00081198", self._failed),
            ("00081199", self._referenced),
            ("0008119A", self._unnamed),
        ):
            if items:
                document[tag] = {"vr": "SQ", "Value": items}
        return document


def uid(text: str) -> str:
    """Return a UID as it is, and anything else as "" (PS3.5 section 9.1)."""
    return text if _UID.fullmatch(text) else ""


def _item(identity: Identity) -> dict[str, Any]:
    return {
        "00081150": {"vr": "UI", "Value": [identity.sop_class]},
        "00081155": {"vr": "UI", "Value": [identity.instance]},
    }


def _number(code: IntEnum) -> dict[str, Any]:
    return {"vr": "US", "Value": [int(code)]}


def _of_meta_information(content: bytes) -> tuple[str, str]:
    """Return class and instance of the file meta information (PS3.10 section 7.1).

    It stands before everything that can be wrong with a data set.
    """
    found = {_CLASS: "", _INSTANCE: ""}
    place = 132
    while content[128:132] == b"DICM" and place + 12 <= len(content):
        group, element, vr = _META_HEADER.unpack_from(content, place)
        if group != 0x0002 or element > _INSTANCE:
            break
        if vr in _LONG:
            (length,) = struct.unpack_from("<L", content, place + 8)
            place += 12
        else:
            (length,) = struct.unpack_from("<H", content, place + 6)
            place += 8
        if element in found:
            value = content[place : place + min(length, 80)].decode("ascii", "replace")
            found[element] = uid(value.strip("\0 "))
        place += length
    return found[_CLASS], found[_INSTANCE]
