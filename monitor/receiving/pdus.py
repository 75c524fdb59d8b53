"""PDUs as they come and go, none longer than it may be (PS3.8 section 9.3).

What is long or comes often (P-DATA-TF) is read and written here; association
requests and their answers are encoded by pynetdicom.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

#: What we tell senders to send at most; larger PDUs cost fewer turns of the loop.
LONGEST_DATA_PDU = 1 << 17
#: A request names at most 128 contexts with some dozens of syntaxes each.
LONGEST_REQUEST_PDU = 1 << 18
_HEADER = struct.Struct(">BxL")
_ITEM = struct.Struct(">LBB")
_SHORT = 4  #: length of A-RELEASE and A-ABORT


class PduType(IntEnum):
    ASSOCIATE_RQ = 0x01
    ASSOCIATE_AC = 0x02
    ASSOCIATE_RJ = 0x03
    DATA = 0x04
    RELEASE_RQ = 0x05
    RELEASE_RP = 0x06
    ABORT = 0x07


#: The longest of each kind that an acceptor is sent.
_LONGEST = {
    PduType.ASSOCIATE_RQ: LONGEST_REQUEST_PDU,
    # Some senders count the header in, some do not.
    PduType.DATA: LONGEST_DATA_PDU + _HEADER.size,
    PduType.RELEASE_RQ: _SHORT,
    PduType.RELEASE_RP: _SHORT,
    PduType.ABORT: _SHORT,
}


class ProtocolError(Exception):
    """What came is no PDU that may come here; the association is aborted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pdu:
    """One PDU."""

    type: PduType
    body: bytes  #: after the six bytes of the header


@dataclass(frozen=True, slots=True, kw_only=True)
class DataValue:
    """One presentation data value (PS3.8 9.3.5.1 and annex E)."""

    context: int
    is_command: bool
    is_last: bool
    fragment: memoryview


async def read_pdu(reader: asyncio.StreamReader) -> Pdu | None:
    """Return the next PDU, or None where the peer closed the connection between two.

    Nothing is allocated for a PDU before its announced length is found allowed.

    Raises
    ------
    ProtocolError
        If its type is none that an acceptor is sent, it announces more than it
        may have, or it is cut short.
    """
    try:
        header = await reader.readexactly(_HEADER.size)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise ProtocolError("a PDU was cut short") from None
        return None
    number, length = _HEADER.unpack(header)
    longest = _LONGEST.get(number)
    if longest is None:
        raise ProtocolError("a PDU of a type that is not expected")
    if length > longest:
        raise ProtocolError(f"a PDU of {length} bytes was announced, the limit is {longest}")
    try:
        body = await reader.readexactly(length)
    except asyncio.IncompleteReadError:
        raise ProtocolError("a PDU was cut short") from None
    return Pdu(type=PduType(number), body=body)


def data_values(body: bytes) -> Iterator[DataValue]:
    """Yield the presentation data values of a P-DATA-TF.

    Raises
    ------
    ProtocolError
        If one is longer than the PDU.
    """
    view = memoryview(body)
    position = 0
    while position < len(view):
        if len(view) - position < _ITEM.size:
            raise ProtocolError("a presentation data value is cut short")
        length, context, control = _ITEM.unpack_from(view, position)
        end = position + 4 + length
        if length < 2 or end > len(view):
            raise ProtocolError("a presentation data value is longer than its PDU")
        yield DataValue(
            context=context,
            is_command=bool(control & 1),
            is_last=bool(control & 2),
            fragment=view[position + _ITEM.size : end],
        )
        position = end


def command_pdu(context: int, command: bytes) -> bytes:
    """Return a P-DATA-TF with one whole command set."""
    item = _ITEM.pack(len(command) + 2, context, 0x03) + command
    return _HEADER.pack(PduType.DATA, len(item)) + item


def release_reply() -> bytes:
    """Return an A-RELEASE-RP."""
    return _HEADER.pack(PduType.RELEASE_RP, _SHORT) + bytes(_SHORT)


def abort(*, reason: int = 0) -> bytes:
    """Return an A-ABORT of the provider; reasons are those of PS3.8 table 9-26."""
    return _HEADER.pack(PduType.ABORT, _SHORT) + bytes((0, 0, 2, reason))


def reject(*, result: int, source: int, reason: int) -> bytes:
    """Return an A-ASSOCIATE-RJ; the numbers are those of PS3.8 table 9-21."""
    body = bytes((0, result, source, reason))
    return _HEADER.pack(PduType.ASSOCIATE_RJ, len(body)) + body
