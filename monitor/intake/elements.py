"""Finding the elements of an encoded DICOM data set, without interpreting any value.

A general reader trusts its input more than a receiver may: it recurses once
per nested sequence, materialises every element, accepts a value that ends
before its length says, and repeats values in its warnings. This one walks the
bytes without recursion, stops at the first limit, and yields only the
elements asked for; what is not asked for is stepped over and never exists as
a value. Values are interpreted afterwards, by `monitor.intake.reading`.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

from monitor.intake.limits import Limits
from monitor.intake.reasons import Reason, unreadable

PIXEL_DATA = 0x7FE0_0010

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFE_E000, 0xFFFE_E00D, 0xFFFE_E0DD
_UNDEFINED = 0xFFFF_FFFF
#: VRs whose explicit form has two reserved bytes and a 32-bit length (PS3.5 section 7.1.2).
LONG_VRS = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
_CAPITALS = range(ord("A"), ord("Z") + 1)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a data set is written (PS3.5 section 7): set by the transfer syntax."""

    implicit: bool
    little_endian: bool


IMPLICIT_LITTLE = Encoding(implicit=True, little_endian=True)
EXPLICIT_LITTLE = Encoding(implicit=False, little_endian=True)
EXPLICIT_BIG = Encoding(implicit=False, little_endian=False)


@dataclass(frozen=True, slots=True)
class Element:
    """One element as it stands in the data."""

    #: the explicit VR; empty where the encoding is implicit
    vr: bytes
    #: the value; without the delimiter where the length is undefined
    value: memoryview
    #: a sequence, or encapsulated pixel data
    undefined_length: bool
    #: its own encoding: an explicit data set may hold implicit sequences
    implicit: bool


Elements: TypeAlias = dict[int, Element]


class _Within(Enum):
    SEQUENCE = auto()
    ITEM = auto()


class ElementReader:
    """Reads elements of one buffer, counting them against one limit.

    Parameters
    ----------
    data : the encoded data set, or the whole file
    """

    def __init__(self, data: memoryview, *, little_endian: bool, limits: Limits) -> None:
        self._data = data
        self._little_endian = little_endian
        self._limits = limits
        order = "<" if little_endian else ">"
        self._tag = struct.Struct(order + "HH").unpack_from
        self._short = struct.Struct(order + "H").unpack_from
        self._long = struct.Struct(order + "L").unpack_from
        self._left = limits.elements

    def read(
        self,
        start: int,
        *,
        implicit: bool,
        wanted: Collection[int],
        end: int | None = None,
        group: int | None = None,
    ) -> tuple[Elements, int]:
        """Return the wanted elements from `start`, and where reading stopped.

        It stops at `end`, after the pixel data (nothing after them is of use,
        and padding is often malformed), at the end of an item of undefined
        length, or before the first element of another group than `group`. Of
        an element that stands twice, the last counts.

        Raises
        ------
        UnreadableScanError
            If an element ends after the data do, the nesting is wrong, or a
            limit is passed.
        """
        end = len(self._data) if end is None else end
        found: Elements = {}
        position = start
        while position < end:
            tag, vr, length, value = self._header(position, end, implicit=implicit)
            if group is not None and tag >> 16 != group:
                return found, position
            if tag == _ITEM_END:
                return found, value
            undefined = length == _UNDEFINED
            if undefined:
                value_end, position = self._end_of_undefined(value, end, implicit=implicit)
            else:
                value_end = position = self._within(value, length, end)
            if tag in wanted:
                if tag != PIXEL_DATA and value_end - value > self._limits.element_bytes:
                    raise unreadable(
                        Reason.TOO_LARGE,
                        f"element {_name(tag)} is longer than {self._limits.element_bytes} bytes",
                    )
                content = self._data[value:value_end]
                found[tag] = Element(vr, content, undefined, implicit or not vr)
            if tag == PIXEL_DATA:
                return found, position
        return found, position

    def items(self, element: Element, *, wanted: Collection[int]) -> list[Elements]:
        """Return the wanted elements of each item of a sequence.

        Raises
        ------
        UnreadableScanError
            As for `read`.
        """
        reader = ElementReader(
            element.value, little_endian=self._little_endian, limits=self._limits
        )
        return reader._items(implicit=element.implicit, wanted=wanted)

    def explicit_at(self, position: int) -> bool:
        """Say whether an element with an explicit VR seems to start here.

        Read as the upper or lower half of an implicit length, two capitals
        would mean an element of 16 kB and more at the very start.
        """
        vr = self._data[position + 4 : position + 6]
        return len(vr) == 2 and vr[0] in _CAPITALS and vr[1] in _CAPITALS

    def _items(self, *, implicit: bool, wanted: Collection[int]) -> list[Elements]:
        items: list[Elements] = []
        position, end = 0, len(self._data)
        while position < end:
            tag, length, content = self._delimiter(position, end)
            if tag == _SEQUENCE_END:
                break
            if tag != _ITEM:
                raise _not_an_item(position)
            item_end = end if length == _UNDEFINED else self._within(content, length, end)
            found, stopped = self.read(
                content,
                implicit=implicit or not self.explicit_at(content),
                wanted=wanted,
                end=item_end,
            )
            items.append(found)
            position = stopped if length == _UNDEFINED else item_end
        return items

    def _header(
        self, position: int, end: int, *, implicit: bool
    ) -> tuple[int, bytes, int, int]:
        """Return tag, VR, length, and where the value starts."""
        self._count()
        if end - position < 8:
            raise _truncated(position, end)
        group, number = self._tag(self._data, position)
        tag = group << 16 | number
        if not implicit and group != 0xFFFE and self.explicit_at(position):
            vr = bytes(self._data[position + 4 : position + 6])
            if vr not in LONG_VRS:
                return tag, vr, self._short(self._data, position + 6)[0], position + 8
            if end - position < 12:
                raise _truncated(position, end)
            return tag, vr, self._long(self._data, position + 8)[0], position + 12
        # Implicit, a delimiter, or one of those writers that fall into the
        # implicit form in the middle of an explicit data set.
        return tag, b"", self._long(self._data, position + 4)[0], position + 8

    def _delimiter(self, position: int, end: int) -> tuple[int, int, int]:
        self._count()
        if end - position < 8:
            raise _truncated(position, end)
        group, number = self._tag(self._data, position)
        return group << 16 | number, self._long(self._data, position + 4)[0], position + 8

    def _end_of_undefined(self, position: int, end: int, *, implicit: bool) -> tuple[int, int]:
        """Return where a value of undefined length ends, and where its delimiter ends."""
        stack = [(_Within.SEQUENCE, implicit)]
        value_end = position
        while stack:
            if len(stack) > 2 * self._limits.depth:
                raise unreadable(
                    Reason.TOO_DEEP, f"sequences are nested deeper than {self._limits.depth}"
                )
            within, implicit = stack[-1]
            if within is _Within.SEQUENCE:
                tag, length, content = self._delimiter(position, end)
                if tag == _SEQUENCE_END:
                    value_end, position = position, content
                    stack.pop()
                elif tag != _ITEM:
                    raise _not_an_item(position)
                elif length == _UNDEFINED:
                    position = content
                    stack.append((_Within.ITEM, implicit or not self.explicit_at(content)))
                else:
                    position = self._within(content, length, end)
            else:
                tag, _, length, content = self._header(position, end, implicit=implicit)
                if tag == _ITEM_END:
                    position = content
                    stack.pop()
                elif length == _UNDEFINED:
                    position = content
                    stack.append((_Within.SEQUENCE, implicit))
                else:
                    position = self._within(content, length, end)
        return value_end, position

    def _within(self, start: int, length: int, end: int) -> int:
        if length > end - start:
            raise unreadable(
                Reason.TRUNCATED,
                f"an element at byte {start} has {length} bytes, but {end - start} are left",
            )
        return start + length

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise unreadable(
                Reason.TOO_LARGE, f"there are more than {self._limits.elements} elements"
            )


def fragments(element: Element, limits: Limits) -> list[memoryview]:
    """Return the fragments of encapsulated pixel data, without the offset table.

    PS3.5 annex A.4: the first item is the basic offset table. Encapsulated
    pixel data are always little-endian.

    Raises
    ------
    UnreadableScanError
        If an item is missing or of undefined length.
    """
    data = element.value
    position, end = 0, len(data)
    items: list[memoryview] = []
    while position < end:
        if end - position < 8:
            raise _truncated(position, end)
        group, number, length = struct.unpack_from("<HHL", data, position)
        if group << 16 | number != _ITEM:
            raise _not_an_item(position)
        if length > end - position - 8:
            raise unreadable(
                Reason.TRUNCATED, f"fragment {len(items)} of the pixel data ends after the data"
            )
        if len(items) > limits.elements:
            raise unreadable(Reason.TOO_LARGE, "the pixel data have too many fragments")
        items.append(data[position + 8 : position + 8 + length])
        position += 8 + length
    return items[1:]


def _name(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _truncated(position: int, end: int) -> Exception:
    return unreadable(
        Reason.TRUNCATED,
        f"the data end at byte {end}, within an element that starts at {position}",
    )


def _not_an_item(position: int) -> Exception:
    return unreadable(Reason.MALFORMED, f"no sequence item at byte {position} of a sequence")
