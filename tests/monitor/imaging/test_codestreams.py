from __future__ import annotations

import io
import struct
from itertools import accumulate

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from pydicom.uid import (
    HTJ2K,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from monitor.imaging.codestreams import (
    CodestreamError,
    FrameSize,
    bare_codestream,
    blank_comments,
    read_frame_size,
    rle_lengths,
)

ROWS, COLUMNS = 37, 53
NOISE = np.random.default_rng(1).integers(0, 256, (ROWS, COLUMNS), dtype=np.uint8)


def encoded(form: str, samples: np.ndarray = NOISE, **options: object) -> bytes:
    stream = io.BytesIO()
    PillowImage.fromarray(samples).save(stream, form, **options)
    return stream.getvalue()


def encoded_ls(samples: np.ndarray = NOISE) -> bytes:
    import jpeg_ls

    return bytes(jpeg_ls.encode_array(samples))


def decoded(frame: bytes) -> np.ndarray:
    return np.asarray(PillowImage.open(io.BytesIO(frame)))


def with_segment(frame: bytes, marker: int, content: bytes) -> bytes:
    """Insert a JPEG segment after the start of the image."""
    segment = struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content
    return frame[:2] + segment + frame[2:]


JPEG = encoded("JPEG")
J2K = encoded("JPEG2000", no_jp2=True, comment="ZQXW")


def test_each_codestream_announces_its_size() -> None:
    gray = FrameSize(rows=ROWS, columns=COLUMNS, samples=1, precision=8)
    assert read_frame_size(JPEG, JPEGBaseline8Bit) == gray
    assert read_frame_size(encoded_ls(), JPEGLSLossless) == gray
    assert read_frame_size(J2K, JPEG2000Lossless) == gray
    color = np.stack([NOISE] * 3, axis=2)
    three = FrameSize(rows=ROWS, columns=COLUMNS, samples=3, precision=8)
    assert read_frame_size(encoded("JPEG", color), JPEGBaseline8Bit) == three
    assert read_frame_size(encoded("JPEG2000", color, no_jp2=True), JPEG2000Lossless) == three
    deep = NOISE.astype(np.uint16) * 16
    assert read_frame_size(encoded("JPEG2000", deep, no_jp2=True), HTJ2K) == FrameSize(
        rows=ROWS, columns=COLUMNS, samples=1, precision=16
    )


def test_run_lengths_announce_nothing() -> None:
    assert read_frame_size(bytes(64), RLELossless) is None
    assert blank_comments(b"as it is", RLELossless) == b"as it is"


@pytest.mark.parametrize(
    "marker", [0xFE, 0xE1, 0xE0, 0xEE], ids=["COM", "APP1", "APP0", "APP14"]
)
def test_comments_and_application_data_are_blanked_in_place(marker: int) -> None:
    frame = with_segment(JPEG, marker, b"ZQXW was scanned by ZQXW")
    blanked = blank_comments(frame, JPEGBaseline8Bit)
    assert b"ZQXW" not in blanked
    assert len(blanked) == len(frame)
    assert np.array_equal(decoded(blanked), decoded(frame))


def test_application_data_that_decoders_need_stay() -> None:
    color = np.stack([NOISE, NOISE // 2, NOISE // 3], axis=2)
    frame = encoded("JPEG", color, keep_rgb=True)
    adobe = b"Adobe\0d\0\0\0\0\0"
    for content in (adobe + b"ZQXW", b"JFIF\0\1\1\0\0\1\0\1\0\0ZQXW"):
        marker = 0xEE if content.startswith(b"Adobe") else 0xE0
        blanked = blank_comments(with_segment(frame, marker, content), JPEGBaseline8Bit)
        assert content[:-4] in blanked
        assert b"ZQXW" not in blanked


def test_a_comment_between_two_scans_is_blanked() -> None:
    frame = encoded("JPEG", progressive=True)
    second = frame.index(b"\xff\xda", frame.index(b"\xff\xda") + 2)
    comment = b"\xff\xfe" + struct.pack(">H", 6) + b"ZQXW"
    commented = frame[:second] + comment + frame[second:]
    blanked = blank_comments(commented, JPEGBaseline8Bit)
    assert b"ZQXW" not in blanked
    assert np.array_equal(decoded(blanked), decoded(commented))


@pytest.mark.parametrize(
    ("frame", "transfer_syntax"),
    [(JPEG, JPEGBaseline8Bit), (encoded_ls(), JPEGLSLossless), (J2K, JPEG2000Lossless)],
    ids=["JPEG", "JPEG-LS", "JPEG 2000"],
)
def test_what_follows_the_end_is_blanked(frame: bytes, transfer_syntax: str) -> None:
    blanked = blank_comments(frame + b"ZQXW", transfer_syntax)
    assert blanked[len(frame) :] == bytes(4)
    assert b"ZQXW" not in blanked


def test_jpeg_2000_comments_in_both_headers_are_blanked_and_the_image_stays() -> None:
    blanked = blank_comments(J2K, JPEG2000Lossless)
    assert b"ZQXW" in J2K
    assert b"ZQXW" not in blanked
    assert np.array_equal(decoded(blanked), NOISE)
    # The same comment in the header of the first tile-part.
    start = J2K.index(b"\xff\x90")
    (length,) = struct.unpack_from(">L", J2K, start + 6)
    comment = b"\xff\x64" + struct.pack(">HH", 8, 1) + b"ZQXW"
    tile = bytearray(J2K[start : start + 12] + comment + J2K[start + 12 :])
    struct.pack_into(">L", tile, 6, length + len(comment) if length else 0)
    commented = blanked[:start] + bytes(tile)
    assert b"ZQXW" in commented
    assert b"ZQXW" not in blank_comments(commented, JPEG2000Lossless)
    assert np.array_equal(decoded(blank_comments(commented, JPEG2000Lossless)), NOISE)


def test_a_codestream_is_taken_out_of_the_file_that_wraps_it() -> None:
    wrapped = encoded("JPEG2000", comment="ZQXW")
    bare = bare_codestream(wrapped)
    assert len(bare) < len(wrapped)
    assert read_frame_size(bare, JPEG2000Lossless) == read_frame_size(J2K, JPEG2000Lossless)
    assert np.array_equal(decoded(bare), NOISE)
    assert bare_codestream(J2K) == J2K
    with pytest.raises(CodestreamError, match="no codestream"):
        bare_codestream(wrapped[:40])


@pytest.mark.parametrize(
    "transfer_syntax", [JPEGBaseline8Bit, JPEGLSLossless, JPEG2000Lossless]
)
def test_what_is_no_codestream_is_an_error(transfer_syntax: str) -> None:
    for frame in (b"", b"\xff", b"ZQXW", JPEG[:20], J2K[:20], encoded("PNG")):
        if transfer_syntax == JPEG2000Lossless or not frame.startswith(b"\xff\xd8"):
            with pytest.raises(CodestreamError):
                read_frame_size(frame, transfer_syntax)


@settings(deadline=None, derandomize=True)
@given(
    frame=st.sampled_from((JPEG, J2K, encoded_ls())),
    edits=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4)), max_size=5),
    transfer_syntax=st.sampled_from((JPEGBaseline8Bit, JPEGLSLossless, JPEG2000Lossless)),
)
def test_a_damaged_frame_is_read_or_refused_and_keeps_its_length(
    frame: bytes, edits: list[tuple[float, bytes]], transfer_syntax: str
) -> None:
    damaged = bytearray(frame)
    for place, replacement in edits:
        position = int(place * len(damaged))
        damaged[position : position + len(replacement)] = replacement
    try:
        read_frame_size(bytes(damaged), transfer_syntax)
        assert len(blank_comments(bytes(damaged), transfer_syntax)) == len(damaged)
    except CodestreamError:
        return


@given(
    parts=st.lists(
        st.one_of(st.binary(max_size=300), st.builds(bytes, st.integers(0, 300))), min_size=1
    )
)
@settings(deadline=None, derandomize=True, max_examples=50)
def test_run_lengths_are_counted_as_they_are_unpacked(parts: list[bytes]) -> None:
    segments = [imagecodecs.packbits_encode(part) for part in parts[:15]]
    segments = [segment + b"\0" * (len(segment) % 2) for segment in segments]
    starts = list(accumulate(map(len, segments), initial=64))[:-1]
    header = struct.pack("<16L", len(segments), *starts, *[0] * (15 - len(segments)))
    assert rle_lengths(header + b"".join(segments)) == [len(part) for part in parts[:15]]


@pytest.mark.parametrize(
    "frame", [b"", bytes(63), bytes(64), struct.pack("<16L", 2, 64, *[0] * 14)]
)
def test_run_lengths_without_segments_are_refused(frame: bytes) -> None:
    with pytest.raises(CodestreamError):
        rle_lengths(frame)
