from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http.multipart import (
    MultipartError,
    MultipartParser,
    Part,
    TooManyPartsError,
    media_type,
)

BOUNDARY = "=a b"
DELIMITER = f"--{BOUNDARY}".encode()
LARGEST = 2048


def parser(boundary: str = BOUNDARY, *, most_parts: int = 50) -> MultipartParser:
    return MultipartParser(boundary, largest_part=LARGEST, most_parts=most_parts)


def body(*contents: bytes, headers: str = "Content-Type: application/dicom\r\n") -> bytes:
    parts = [
        b"%s\r\n%s\r\n%s\r\n" % (DELIMITER, headers.encode(), content) for content in contents
    ]
    return b"".join([*parts, DELIMITER, b"--\r\n"])


def in_pieces(content: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(content), *(cut % (len(content) + 1) for cut in cuts)})
    return [content[a:b] for a, b in itertools.pairwise(places)]


def parsed(reader: MultipartParser, pieces: list[bytes]) -> list[Part]:
    found = [part for piece in pieces for part in reader.feed(piece)]
    reader.close()
    return found


#: Bytes among which whatever matters to the parser is frequent.
tricky = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b"-", b"--", b"=a", b" b", b"=a b", b"\0", b"x"])
).map(b"".join)
contents = (tricky | st.binary(max_size=3000)).filter(
    lambda content: b"\r\n" + DELIMITER not in b"\r\n" + content
)
cuts = st.lists(st.integers(0, 20_000), max_size=20)


@given(st.lists(contents, min_size=1, max_size=6), cuts, tricky)
def test_what_was_put_in_comes_out_in_whatever_pieces_it_comes(
    wanted: list[bytes], places: list[int], preamble: bytes
) -> None:
    before = b"" if DELIMITER in preamble else preamble + b"\r\n"
    found = parsed(parser(), in_pieces(before + body(*wanted), places))
    assert [part.number for part in found] == list(range(1, len(wanted) + 1))
    for part, content in zip(found, wanted, strict=True):
        assert part.headers == {"content-type": "application/dicom"}
        assert part.too_large == (len(content) > LARGEST)
        assert content.startswith(part.content)
        assert part.too_large or part.content == content


@given(st.lists(contents, min_size=1, max_size=3), st.integers(1, 10_000), cuts)
def test_a_body_that_was_cut_short_is_refused(
    wanted: list[bytes], missing: int, places: list[int]
) -> None:
    whole = body(*wanted)
    # Of the last line, its end may be missing.
    cut = whole[: len(whole) - 3 - missing % (len(whole) - 3)]
    with pytest.raises(MultipartError):
        parsed(parser(), in_pieces(cut, places))


@given(st.binary(max_size=4000), cuts)
def test_no_bytes_do_more_than_be_refused(content: bytes, places: list[int]) -> None:
    try:
        parsed(parser(), in_pieces(content, places))
    except MultipartError:
        return
    assert DELIMITER + b"--" in content


def test_of_a_part_that_is_too_large_no_more_than_a_beginning_is_held() -> None:
    reader = parser()
    pieces = [DELIMITER + b"\r\n\r\n", *[b"x" * 100_000] * 100, b"\r\n" + DELIMITER + b"--"]
    held = 0
    found: list[Part] = []
    for piece in pieces:
        found += reader.feed(piece)
        held = max(held, len(reader._buffer))
    assert [(part.too_large, len(part.content) < 70_000) for part in found] == [(True, True)]
    assert held < 300_000


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "does not have the boundary"),
        (b"--other\r\n\r\nx\r\n--other--\r\n", "does not have the boundary"),
        (b"x" * 100_000, "does not have the boundary"),
        (DELIMITER + b"--\r\n", "has no part"),
        (DELIMITER + b"longer\r\n\r\nx", "followed by other text"),
        (DELIMITER + b" " * 300, "does not end in CRLF"),
        (DELIMITER + b"\r\nA: b", "ends within part 1"),
        (DELIMITER + b"\r\n\r\nx\r\n" + DELIMITER[:-1], "ends within part 1"),
        (DELIMITER + b"\r\nno header\r\n\r\nx", "part 1 has a header that is none"),
        (DELIMITER + b"\r\nA: b\r\nA: c\r\n\r\nx", "part 1 has the header a twice"),
        (DELIMITER + b"\r\nA: " + b"b" * 20_000, "do not end within"),
        (body(b"x", headers="Content-Length: 2\r\n"), "part 1 has 1 bytes"),
        (body(b"x", headers="Content-Length: -1\r\n"), "part 1 has 1 bytes"),
        (body(b"x") + b"y" * 100_000, "goes on behind its last boundary"),
        (body(b"x").replace(b"\r\n", b"\n"), "other text|does not end in CRLF|boundary"),
    ],
)
def test_what_is_wrong_with_a_body_is_said(content: bytes, said: str) -> None:
    with pytest.raises(MultipartError, match=said):
        parsed(parser(), [content])


def test_a_part_s_own_length_may_be_said() -> None:
    [part] = parsed(parser(), [body(b"abc", headers="Content-Length: 3\r\n")])
    assert part.content == b"abc"


def test_there_may_not_be_more_parts_than_allowed() -> None:
    with pytest.raises(TooManyPartsError, match="more than 3 parts"):
        parsed(parser(most_parts=3), [body(*[b""] * 4)])


@pytest.mark.parametrize(
    "boundary", ["", "a" * 201, "ends with a blank ", "a\r\nb", 'quo"te', "ü"]
)
def test_a_boundary_that_cannot_be_one_is_refused(boundary: str) -> None:
    with pytest.raises(MultipartError, match="no boundary"):
        parser(boundary)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("multipart/related", "multipart/related"),
        ("Multipart/RELATED; boundary=x", "multipart/related"),
        ("", ""),
        ("nonsense", ""),
        ("multipart/related; boundary*=utf-8''x", "multipart/related"),
    ],
)
def test_a_content_type_is_read_whatever_it_is(header: str, name: str) -> None:
    found = media_type(header)
    assert found.name == name
    assert all(isinstance(value, str) for value in found.parameters.values())


@given(st.text(max_size=200))
def test_no_content_type_breaks_the_reader(header: str) -> None:
    media_type(header)
