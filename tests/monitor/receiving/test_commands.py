from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_ECHO_RQ, C_STORE_RQ
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.dsutils import decode

from monitor.receiving.commands import (
    Command,
    CommandField,
    Status,
    read_command,
    response,
)
from monitor.receiving.pdus import ProtocolError


def test_a_request_that_pynetdicom_wrote_is_read() -> None:
    primitive = C_STORE()
    primitive.MessageID = 77
    primitive.AffectedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    primitive.AffectedSOPInstanceUID = "1.2.3.4"
    primitive.Priority = 2
    primitive.DataSet = io.BytesIO(b"ab")
    message = C_STORE_RQ()
    message.primitive_to_message(primitive)
    (first, *_) = message.encode_msg(1, 16384)
    command = read_command(first.presentation_data_value_list[0][1][1:])
    assert command == Command(
        field=CommandField.STORE,
        message=77,
        has_data_set=True,
        sop_class="1.2.840.10008.5.1.4.1.1.2",
        sop_instance="1.2.3.4",
    )


def test_an_echo_has_no_data_set() -> None:
    primitive = C_ECHO()
    primitive.MessageID = 1
    primitive.AffectedSOPClassUID = "1.2.840.10008.1.1"
    message = C_ECHO_RQ()
    message.primitive_to_message(primitive)
    (first, *_) = message.encode_msg(1, 16384)
    command = read_command(first.presentation_data_value_list[0][1][1:])
    assert command.field == CommandField.ECHO
    assert not command.has_data_set


@pytest.mark.parametrize("comment", ["", "even", "odd", "x" * 200])
def test_pynetdicom_reads_the_answer(comment: str) -> None:
    command = Command(
        field=CommandField.STORE,
        message=9,
        has_data_set=True,
        sop_class="1.2.840.10008.5.1.4.1.1.2",
        sop_instance="1.2.3.45",
    )
    written = response(command, Status.OUT_OF_RESOURCES, comment=comment)
    ds = decode(io.BytesIO(written), True, True)
    assert ds.CommandField == 0x8001
    assert ds.MessageIDBeingRespondedTo == 9
    assert ds.AffectedSOPClassUID == command.sop_class
    assert ds.AffectedSOPInstanceUID == command.sop_instance
    assert ds.Status == 0xA700
    assert ds.get("ErrorComment", "") == comment[:64]
    assert ds.CommandGroupLength == len(written) - 12


@given(st.binary(max_size=120))
def test_any_bytes_are_a_command_or_a_named_error(content: bytes) -> None:
    try:
        command = read_command(content)
    except ProtocolError:
        return
    assert 0 <= command.field < 1 << 16


@pytest.mark.parametrize("missing", [0x0100, 0x0110, 0x0800])
def test_a_command_without_what_every_request_has_is_an_error(missing: int) -> None:
    elements = b"".join(
        struct.pack("<HHLH", 0, element, 2, 1)
        for element in (0x0100, 0x0110, 0x0800)
        if element != missing
    )
    with pytest.raises(ProtocolError, match=f"{missing:04x}"):
        read_command(elements)
