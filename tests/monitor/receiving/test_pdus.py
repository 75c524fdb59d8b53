from __future__ import annotations

import asyncio
import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.receiving.pdus import (
    LONGEST_DATA_PDU,
    PduType,
    ProtocolError,
    command_pdu,
    data_values,
    read_pdu,
)


def read(content: bytes) -> object:
    async def run() -> object:
        reader = asyncio.StreamReader()
        reader.feed_data(content)
        reader.feed_eof()
        return await read_pdu(reader)

    return asyncio.run(run())


def test_a_pdu_is_read_whole() -> None:
    pdu = read(struct.pack(">BxL", 4, 3) + b"abc" + b"more")
    assert pdu.type is PduType.DATA
    assert pdu.body == b"abc"


def test_the_end_between_two_pdus_is_no_error() -> None:
    assert read(b"") is None


@pytest.mark.parametrize("kind", [1, 4, 5, 7])
def test_a_length_beyond_the_limit_allocates_nothing(kind: int) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match="4294967295 bytes was announced"):
            read(struct.pack(">BxL", kind, 0xFFFF_FFFF))
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", [0, 2, 3, 8, 255])
def test_types_that_no_acceptor_is_sent_are_errors(kind: int) -> None:
    with pytest.raises(ProtocolError, match="type"):
        read(struct.pack(">BxL", kind, 4) + bytes(4))


@pytest.mark.parametrize("length", range(1, 9))
def test_a_pdu_cut_short_is_an_error(length: int) -> None:
    with pytest.raises(ProtocolError, match="cut short"):
        read((struct.pack(">BxL", 5, 4) + bytes(4))[:length])


def test_the_longest_data_pdu_may_count_its_header_or_not() -> None:
    for length in (LONGEST_DATA_PDU, LONGEST_DATA_PDU + 6):
        assert read(struct.pack(">BxL", 4, length) + bytes(length)) is not None


@given(
    st.lists(
        st.tuples(st.integers(0, 255), st.integers(0, 3), st.binary(max_size=40)), max_size=6
    )
)
def test_values_come_back_as_they_were_written(
    values: list[tuple[int, int, bytes]],
) -> None:
    body = b"".join(
        struct.pack(">LBB", len(fragment) + 2, context, control) + fragment
        for context, control, fragment in values
    )
    found = [
        (one.context, one.is_command + 2 * one.is_last, bytes(one.fragment))
        for one in data_values(body)
    ]
    assert found == values


@given(st.binary(max_size=200))
def test_any_bytes_give_values_within_the_pdu_or_a_named_error(body: bytes) -> None:
    try:
        total = sum(len(one.fragment) + 6 for one in data_values(body))
    except ProtocolError:
        return
    assert total == len(body)


def test_a_command_is_one_value_that_is_the_last() -> None:
    (value,) = data_values(command_pdu(7, b"command")[6:])
    assert (value.context, value.is_command, value.is_last) == (7, True, True)
    assert bytes(value.fragment) == b"command"
