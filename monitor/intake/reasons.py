"""Why a file is not taken as a scan: stable codes, which quarantine, pages and metrics show."""

from __future__ import annotations

from enum import StrEnum

from registry.errors import UnreadableScanError


class Reason(StrEnum):
    """A code that never changes its meaning; the sentence beside it says the particulars."""

    # It is no DICOM instance that can be read.
    NOT_READABLE = "not_readable"  #: the operating system would not hand it over
    NOT_DICOM = "not_dicom"
    ARCHIVE = "archive"  #: ZIP or gzip: unpacked elsewhere, never here
    ENCRYPTED = "encrypted"  #: a secure DICOM file (PS3.15 annex D)
    TRUNCATED = "truncated"
    MALFORMED = "malformed"
    TOO_DEEP = "too_deep"
    TOO_LARGE = "too_large"
    NO_IDENTITY = "no_identity"  #: a UID that every instance must have is absent

    # It is an instance, but not a scan.
    NOT_AN_IMAGE = "not_an_image"
    REPORT = "report"
    DOSE_REPORT = "dose_report"
    KEY_OBJECT = "key_object"
    PRESENTATION_STATE = "presentation_state"
    SEGMENTATION = "segmentation"
    AI_RESULT = "ai_result"  #: what an algorithm made of a scan
    NO_PIXELS = "no_pixels"
    LOCALIZER = "localizer"
    DERIVED = "derived"
    MULTI_FRAME = "multi_frame"

    # Its pixels cannot be had.
    UNSUPPORTED_TRANSFER_SYNTAX = "unsupported_transfer_syntax"
    UNSUPPORTED_PIXELS = "unsupported_pixels"
    UNDECODABLE = "undecodable"

    # It must not be kept as it is.
    BURNED_IN = "burned_in"
    BURNED_IN_UNKNOWN = "burned_in_unknown"
    TEXT_FOUND = "text_found"  #: by optical recognition, where it is switched on
    TEXT_NOT_LOOKED_FOR = "text_not_looked_for"  #: it is switched on, and failed
    CONFLICT = "conflict"  #: another image came under the same SOP Instance UID


def unreadable(reason: Reason, detail: str) -> UnreadableScanError:
    """Return the error for one reason.

    Parameters
    ----------
    detail : a sentence that holds nothing from the file but numbers of the format
    """
    return UnreadableScanError(reason=reason.value, detail=detail)
