"""Command sets of C-STORE and C-ECHO (PS3.7 sections 6.3, 9.1 and annex E)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from monitor.receiving.pdus import ProtocolError

#: A command set has some dozen short elements.
LONGEST_COMMAND = 1 << 14
_ELEMENT = struct.Struct("<HHL")
_US = struct.Struct("<H")
_NO_DATA_SET = 0x0101
_RESPONSE = 0x8000
_LONGEST_COMMENT = 64  # VR LO

_SOP_CLASS = 0x0002
_FIELD = 0x0100
_MESSAGE = 0x0110
_RESPONDED_TO = 0x0120
_DATA_SET_TYPE = 0x0800
_STATUS = 0x0900
_COMMENT = 0x0902
_SOP_INSTANCE = 0x1000


class CommandField(IntEnum):
    STORE = 0x0001
    ECHO = 0x0030


class Status(IntEnum):
    """Statuses of C-STORE (PS3.4 table B.2-1, PS3.7 annex C)."""

    SUCCESS = 0x0000
    OUT_OF_RESOURCES = 0xA700  #: to be sent again later
    CANNOT_UNDERSTAND = 0xC000  #: not to be sent again
    UNRECOGNIZED_OPERATION = 0x0211


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A request; its UIDs may identify the patient's study."""

    field: int
    message: int
    has_data_set: bool
    sop_class: str = ""
    sop_instance: str = ""


def read_command(content: bytes) -> Command:
    """Return the request in a command set.

    Raises
    ------
    ProtocolError
        If it is none, or lacks what every request has.
    """
    values: dict[int, bytes] = {}
    position = 0
    while position < len(content):
        if len(content) - position < _ELEMENT.size:
            raise ProtocolError("a command set is cut short")
        group, element, length = _ELEMENT.unpack_from(content, position)
        position += _ELEMENT.size
        if group != 0 or length > len(content) - position:
            raise ProtocolError("a command set holds what is no command element")
        values[element] = content[position : position + length]
        position += length
    return Command(
        field=_number(values, _FIELD),
        message=_number(values, _MESSAGE),
        has_data_set=_number(values, _DATA_SET_TYPE) != _NO_DATA_SET,
        sop_class=_uid(values.get(_SOP_CLASS, b"")),
        sop_instance=_uid(values.get(_SOP_INSTANCE, b"")),
    )


def response(command: Command, status: Status, *, comment: str = "") -> bytes:
    """Return the command set that answers a request.

    Parameters
    ----------
    comment : for the sender's log, without patient data
    """
    elements = [
        (_SOP_CLASS, _padded(command.sop_class, b"\0")),
        (_FIELD, _US.pack(command.field | _RESPONSE)),
        (_RESPONDED_TO, _US.pack(command.message)),
        (_DATA_SET_TYPE, _US.pack(_NO_DATA_SET)),
        (_STATUS, _US.pack(status)),
        (_COMMENT, _padded(comment[:_LONGEST_COMMENT], b" ")),
        (_SOP_INSTANCE, _padded(command.sop_instance, b"\0")),
    ]
    body = b"".join(
        _ELEMENT.pack(0, element, len(value)) + value for element, value in elements if value
    )
    return _ELEMENT.pack(0, 0, 4) + struct.pack("<L", len(body)) + body


def _number(values: dict[int, bytes], element: int) -> int:
    value = values.get(element, b"")
    if len(value) != _US.size:
        raise ProtocolError(f"a command set without element (0000,{element:04x})")
    number: int = _US.unpack(value)[0]
    return number


def _uid(value: bytes) -> str:
    return value.decode("ascii", "replace").strip("\0 ")


def _padded(text: str, padding: bytes) -> bytes:
    value = text.encode("ascii", "replace")
    return value + padding * (len(value) % 2)
