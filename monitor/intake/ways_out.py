"""What each reason for quarantine means, and what a person can do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from monitor.intake.reasons import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class WayOut:
    """A reason in words."""

    meaning: str  #: a sentence
    action: str  #: a sentence: the next step


_SEND_AGAIN = "Send the study again from the archive; the new copy is taken by itself."
_NOTHING = (
    "Nothing: it expires by itself. A routing rule at the sender keeps such objects away."
)
_RETRY_LATER = (
    "Nothing now: after an upgrade that reads it, `driftward scan quarantine retry` takes it."
)

WAYS_OUT: Mapping[Reason, WayOut] = {
    Reason.NOT_READABLE: WayOut(
        meaning="The operating system would not hand the file over.",
        action="Give Driftward's user the right to read it, and add it again.",
    ),
    Reason.NOT_DICOM: WayOut(
        meaning="It is no DICOM file.",
        action="Nothing, if it came along with a folder; otherwise look at what the sender sends.",
    ),
    Reason.ARCHIVE: WayOut(
        meaning="It is a ZIP or gzip archive.",
        action="Unpack it where it came from, and add what is inside.",
    ),
    Reason.ENCRYPTED: WayOut(
        meaning="It is a secure DICOM file, and its key is elsewhere.",
        action="Decrypt it where its key is held, and send the result.",
    ),
    Reason.TRUNCATED: WayOut(
        meaning="It ends before its elements do: a copy that broke off.",
        action=_SEND_AGAIN,
    ),
    Reason.MALFORMED: WayOut(
        meaning="Its encoding contradicts itself or the standard.",
        action=f"{_SEND_AGAIN} If that is refused as well, tell the maker of the sender.",
    ),
    Reason.TOO_DEEP: WayOut(
        meaning="Its sequences are nested deeper than in any real object.",
        action="Look at what the sender sends: it is made to do harm, or damaged.",
    ),
    Reason.TOO_LARGE: WayOut(
        meaning="It passes a limit of size, so that it was not kept.",
        action="Find the object at the sender: if it is a scan, tell us its kind and its size.",
    ),
    Reason.NO_IDENTITY: WayOut(
        meaning="It lacks a UID that every instance must have.",
        action="Have the sender mend it, and send it again.",
    ),
    Reason.NOT_AN_IMAGE: WayOut(
        meaning="It is a plan, a waveform or another object without an image.",
        action=_NOTHING,
    ),
    Reason.REPORT: WayOut(
        meaning="It is a structured report or an encapsulated document.",
        action=_NOTHING,
    ),
    Reason.DOSE_REPORT: WayOut(
        meaning="It is a report of the dose that a scan took.",
        action=_NOTHING,
    ),
    Reason.KEY_OBJECT: WayOut(
        meaning="It is a selection of key objects, and rejects none of them.",
        action=_NOTHING,
    ),
    Reason.PRESENTATION_STATE: WayOut(
        meaning="It says how images are shown, and holds none.",
        action=_NOTHING,
    ),
    Reason.SEGMENTATION: WayOut(
        meaning="It is a segmentation, a parametric map or a structure set.",
        action=_NOTHING,
    ),
    Reason.AI_RESULT: WayOut(
        meaning="An algorithm made it: a report, a segmentation or a capture.",
        action=_NOTHING,
    ),
    Reason.NO_PIXELS: WayOut(
        meaning="It is of an image class, but has no pixels.",
        action=_SEND_AGAIN,
    ),
    Reason.LOCALIZER: WayOut(
        meaning="It is a localizer, which no model reads.",
        action=_NOTHING,
    ),
    Reason.DERIVED: WayOut(
        meaning="It was computed from other slices: a reformat, a projection or a map.",
        action=_NOTHING,
    ),
    Reason.MULTI_FRAME: WayOut(
        meaning="It has many frames, in a form that this version does not read.",
        action=_RETRY_LATER,
    ),
    Reason.UNSUPPORTED_TRANSFER_SYNTAX: WayOut(
        meaning="Its pixels are compressed in a way that this version does not read.",
        action=f"{_RETRY_LATER} Or have the sender offer another transfer syntax.",
    ),
    Reason.UNSUPPORTED_PIXELS: WayOut(
        meaning="Its pixels have a form that this version does not read.",
        action=_RETRY_LATER,
    ),
    Reason.UNDECODABLE: WayOut(
        meaning="Its pixels could not be decoded: they are damaged, or contradict the header.",
        action=f"{_SEND_AGAIN} If that is refused as well, tell the maker of the sender.",
    ),
    Reason.BURNED_IN: WayOut(
        meaning="Text is burned into its pixels, as the tag says.",
        action="Have it blacked out at the sender. If there is none, "
        "`driftward scan quarantine release` takes it on your word.",
    ),
    Reason.BURNED_IN_UNKNOWN: WayOut(
        meaning="Images of its kind often carry burned-in text, and the tag does not deny it.",
        action="Look at it at the sender. If there is no text, "
        "`driftward scan quarantine release` takes it on your word.",
    ),
    Reason.TEXT_FOUND: WayOut(
        meaning="Text was recognised in its pixels, more than markers of side and view have.",
        action="Look at it at the sender, and have text blacked out. If there is none, "
        "`driftward scan quarantine release` takes it on your word.",
    ),
    Reason.TEXT_NOT_LOOKED_FOR: WayOut(
        meaning="Text was to be looked for in its pixels, and the recognition failed over it.",
        action="Have it looked for again with `driftward scan quarantine retry`. If that fails "
        "as well, look at the image yourself: `driftward scan quarantine release` takes it on "
        "your word.",
    ),
    Reason.CONFLICT: WayOut(
        meaning="Another image is stored under the same SOP Instance UID.",
        action="Find out at the sender which of the two is right; the stored one stays.",
    ),
}

#: Refused on a suspicion that a person can deny.
RELEASABLE = frozenset(
    (
        Reason.BURNED_IN,
        Reason.BURNED_IN_UNKNOWN,
        Reason.TEXT_FOUND,
        Reason.TEXT_NOT_LOOKED_FOR,
    )
)
