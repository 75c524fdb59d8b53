"""Functional groups of enhanced objects, as the plain elements that one image would have.

PS3.3 C.7.6.16: an object of many frames says once for all of them, or for
each, what an image of one says of itself. What is the same for all is read;
frames that differ in what their samples mean are no one scan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from pydicom.datadict import tag_for_keyword

from monitor.intake.elements import Element
from monitor.intake.reading import Instance
from monitor.intake.reasons import Reason, unreadable

_SHARED, _PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """One functional group: its sequence, and the elements that are read from it."""

    sequence: str
    keywords: tuple[str, ...]
    must_agree: bool  #: frames that differ in it are refused


_GROUPS = (
    _Group(
        sequence="PixelValueTransformationSequence",
        keywords=("RescaleIntercept", "RescaleSlope"),
        must_agree=True,
    ),
    _Group(
        sequence="FrameVOILUTSequence",
        keywords=("WindowCenter", "WindowWidth", "VOILUTFunction"),
        must_agree=True,
    ),
    _Group(
        sequence="PixelMeasuresSequence",
        keywords=("PixelSpacing", "SliceThickness"),
        must_agree=False,
    ),
)
_SEQUENCES = {tag_for_keyword(group.sequence): group for group in _GROUPS}
_KEYWORDS = {
    tag_for_keyword(keyword): keyword for group in _GROUPS for keyword in group.keywords
}
#: what frames say by functional groups: keyword -> element
_Said = Mapping[str, Element]
_NOTHING: _Said = MappingProxyType({})


def with_plain_elements(instance: Instance, *, frames: int) -> Instance:
    """Return an instance with its functional groups' values as elements of its own.

    An instance without functional groups is returned as it is.

    Raises
    ------
    UnreadableScanError
        If there are fewer groups than frames, or frames differ in rescale or window.
    """
    if _SHARED not in instance and _PER_FRAME not in instance:
        return instance
    shared = next(iter(_items(instance, _SHARED)), _NOTHING)
    own = _items(instance, _PER_FRAME)
    if own and len(own) < frames:
        raise unreadable(
            Reason.MALFORMED, f"there are functional groups of {len(own)} of {frames} frames"
        )
    per_frame = [{**shared, **said} for said in own[:frames]] or [dict(shared)]
    elements = dict(instance.elements)
    for group in _GROUPS:
        values = [
            tuple(_value(said.get(keyword)) for keyword in group.keywords) for said in per_frame
        ]
        if len(set(values)) == 1:
            elements |= {
                keyword: per_frame[0][keyword]
                for keyword in group.keywords
                if keyword in per_frame[0]
            }
        elif group.must_agree:
            raise unreadable(
                Reason.MULTI_FRAME,
                "the frames differ in their rescale or window: they are not read as one scan",
            )
    return replace(instance, elements=elements)


def _value(element: Element | None) -> bytes | None:
    return None if element is None else bytes(element.value).strip(b"\0 ")


def _items(instance: Instance, keyword: str) -> list[dict[str, Element]]:
    """Return what each item of a sequence of functional groups says."""
    element = instance.elements.get(keyword)
    if element is None:
        return []
    return [
        {
            _KEYWORDS[tag]: value
            for sequence in item.values()
            for group in instance.reader.items(sequence, wanted=_KEYWORDS)[:1]
            for tag, value in group.items()
        }
        for item in instance.reader.items(element, wanted=_SEQUENCES)
    ]
