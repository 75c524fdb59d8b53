"""Reading multipart/related bodies part by part (RFC 2046 section 5.1, RFC 2387), strictly.

Lines end in CRLF, as the standard has it, and what is otherwise is refused
with a sentence that says where. No more than one part is
held, and of one that is too large no more than its beginning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from enum import Enum, auto

#: RFC 2046 allows 70 characters; Orthanc's boundaries have 73.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,199}[0-9A-Za-z'()+_,\-./:=?]")
_HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00\r\n]*)")
#: Text before the first part and after the last that is stepped over.
_LONGEST_SURROUNDING = 64 << 10
_LONGEST_HEADERS = 16 << 10
#: Of a part that is too large, so much is kept: it says what the part was.
_BEGINNING = 64 << 10


class MultipartError(Exception):
    """A body is not what its Content-Type says, in a sentence."""


class TooManyPartsError(MultipartError):
    """A body has more parts than may come at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaType:
    """A Content-Type header."""

    name: str  #: type/subtype, in lower case
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part, whole, or the beginning of one that is too large."""

    number: int  #: from 1
    headers: Mapping[str, str]  #: by name in lower case
    content: bytes = field(repr=False)
    too_large: bool


class _State(Enum):
    BEFORE = auto()
    AFTER_BOUNDARY = auto()
    HEADERS = auto()
    CONTENT = auto()
    BEHIND = auto()


def media_type(header: str) -> MediaType:
    """Read a Content-Type header.

    >>> media_type('Multipart/Related; type="application/dicom"; boundary=x').parameters
    {'type': 'application/dicom', 'boundary': 'x'}
    """
    message = Message()
    message["content-type"] = header
    parameters: list[tuple[str, object]] = [*message.get_params(failobj=[])]
    return MediaType(
        name=message.get_content_type() if "/" in header else "",
        # A value that is encoded (RFC 2231) is no text, and none of ours.
        parameters={
            name.lower(): value for name, value in parameters[1:] if isinstance(value, str)
        },
    )


class MultipartParser:
    """Takes a body in pieces as they come, and hands out its parts.

    Parameters
    ----------
    boundary : of the Content-Type, without hyphens
    largest_part : bytes of one part; of a larger one the beginning is handed out
    most_parts : in the whole body

    Raises
    ------
    MultipartError
        If there is no such boundary.
    """

    def __init__(self, boundary: str, *, largest_part: int, most_parts: int) -> None:
        if not _BOUNDARY.fullmatch(boundary):
            raise MultipartError(
                "the Content-Type names no boundary that can be one (RFC 2046 section 5.1.1)"
            )
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        self._largest = largest_part
        self._most = most_parts
        self._state = _State.BEFORE
        # As if a line had ended: a body may begin with its first boundary.
        self._buffer = bytearray(b"\r\n")
        self._searched = 0
        self._stepped_over = 0
        self._number = 0
        self._headers: dict[str, str] = {}
        self._dropped = 0

    def feed(self, piece: bytes) -> Iterator[Part]:
        """Take a piece, and yield each part that it completes.

        Raises
        ------
        MultipartError
            If the body is malformed.
        """
        self._buffer += piece
        while (part := self._step()) is not None:
            if isinstance(part, Part):
                yield part

    def close(self) -> None:
        """Say that the body has ended.

        Raises
        ------
        MultipartError
            If it ends too soon, or had no part.
        """
        match self._state:
            case _State.BEHIND if self._number:
                return
            case _State.BEHIND:
                raise MultipartError("the body has no part")
            case _State.BEFORE:
                raise self._no_boundary()
            case _:
                raise MultipartError(
                    f"the body ends within part {self._number}: its last boundary did not come"
                )

    def _step(self) -> Part | bool | None:
        """Do one step; returns None where it takes more of the body."""
        match self._state:
            case _State.BEFORE:
                return self._find_first()
            case _State.AFTER_BOUNDARY:
                return self._read_boundary_line()
            case _State.HEADERS:
                return self._read_headers()
            case _State.CONTENT:
                return self._read_content()
            case _State.BEHIND:
                self._step_over(len(self._buffer))
                return None

    def _find_first(self) -> bool | None:
        place = self._search()
        if place is not None:
            self._drop(place + len(self._delimiter))
            self._state = _State.AFTER_BOUNDARY
            return True
        self._step_over(max(0, len(self._buffer) - len(self._delimiter) + 1))
        return None

    def _read_boundary_line(self) -> bool | None:
        """Read what stands behind a boundary: "--" for the last, blanks, and the line's end."""
        if len(self._buffer) < 2:
            return None
        if self._buffer.startswith(b"--"):
            self._drop(2)
            self._state = _State.BEHIND
            return True
        end = self._buffer.find(b"\r\n", 0, 256)
        line = bytes(self._buffer[: end if end >= 0 else 256])
        if line.removesuffix(b"\r").strip(b" \t"):
            raise MultipartError(
                f"a boundary before part {self._number + 1} is followed by other text on its line"
            )
        if end < 0:
            if len(self._buffer) >= 256:
                raise MultipartError("a boundary's line does not end in CRLF")
            return None
        self._number += 1
        if self._number > self._most:
            raise TooManyPartsError(f"the body has more than {self._most} parts")
        # The line's end stays: where there are no headers, it is the end of them, too.
        self._drop(end)
        self._state = _State.HEADERS
        return True

    def _read_headers(self) -> bool | None:
        end = self._buffer.find(b"\r\n\r\n", 0, _LONGEST_HEADERS + 4)
        if end < 0:
            if len(self._buffer) >= _LONGEST_HEADERS + 4:
                raise MultipartError(
                    f"the headers of part {self._number} do not end within "
                    f"{_LONGEST_HEADERS} bytes: an empty line with CRLF ends them"
                )
            return None
        self._headers = {}
        for line in bytes(self._buffer[2:end]).split(b"\r\n") if end else ():
            found = _HEADER.fullmatch(line)
            if found is None:
                raise MultipartError(f"part {self._number} has a header that is none")
            name = found[1].decode("ascii").lower()
            if name in self._headers:
                raise MultipartError(f"part {self._number} has the header {name} twice")
            self._headers[name] = found[2].decode("latin-1").strip()
        # The last line's end stays: an empty part's boundary begins with it.
        self._drop(end + 2)
        self._dropped = 0
        self._state = _State.CONTENT
        return True

    def _read_content(self) -> Part | None:
        place = self._search()
        if place is None:
            self._forget_what_is_too_large()
            return None
        # The content begins behind the line's end that was left.
        size = max(0, place + self._dropped - 2)
        too_large = size > self._largest
        end = min(place, _BEGINNING) if too_large else place
        content = bytes(memoryview(self._buffer)[2:end])
        self._require_length(size)
        self._drop(place + len(self._delimiter))
        self._state = _State.AFTER_BOUNDARY
        return Part(
            number=self._number, headers=self._headers, content=content, too_large=too_large
        )

    def _forget_what_is_too_large(self) -> None:
        held = len(self._buffer) + self._dropped - len(self._delimiter) - 2
        if held <= self._largest:
            return
        beginning = min(_BEGINNING, self._searched)
        self._dropped += self._searched - beginning
        del self._buffer[beginning : self._searched]
        self._searched = beginning

    def _require_length(self, size: int) -> None:
        said = self._headers.get("content-length")
        if said is not None and (
            not said.isascii() or not said.isdigit() or int(said[:20]) != size
        ):
            raise MultipartError(
                f"part {self._number} has {size} bytes, and its Content-Length says otherwise"
            )

    def _search(self) -> int | None:
        """Return where the next boundary begins; what was searched is not searched again."""
        place = self._buffer.find(self._delimiter, self._searched)
        if place >= 0:
            return place
        self._searched = max(self._searched, len(self._buffer) - len(self._delimiter) + 1, 0)
        return None

    def _step_over(self, number: int) -> None:
        self._stepped_over += number
        self._drop(number)
        if self._stepped_over > _LONGEST_SURROUNDING:
            if self._state is _State.BEFORE:
                raise self._no_boundary()
            raise MultipartError("the body goes on behind its last boundary")

    def _drop(self, number: int) -> None:
        del self._buffer[:number]
        self._searched = 0

    @staticmethod
    def _no_boundary() -> MultipartError:
        return MultipartError("the body does not have the boundary that its Content-Type names")
