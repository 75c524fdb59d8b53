"""Objects that are no images: what kind they are, and which instances they reject.

A key object selection whose title is a reason for rejection withdraws the
instances that it refers to (IHE RAD TF-3 4.66, Image Object Change
Management; PS3.16 CID 7011). Everything else is told apart by name, so that
counts tell a router's mistake from a department's reports.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum

from pydicom import uid
from pydicom.datadict import tag_for_keyword

from monitor.intake.elements import Element
from monitor.intake.limits import Limits
from monitor.intake.reading import Instance, read_instance
from monitor.intake.reasons import Reason, unreadable

#: Of one document; real ones reject a series, or a study.
MOST_REFERENCES = 20_000
#: Items of a report that are looked at for who made it, and how deep they may lie.
_MOST_ITEMS, _DEEPEST = 2_000, 6

_SEGMENTATION_CLASSES = (
    uid.SegmentationStorage,
    uid.SurfaceSegmentationStorage,
    uid.ParametricMapStorage,
    uid.RTStructureSetStorage,
)
# All structured reports begin so (PS3.4 annex B.5).
_REPORTS = "1.2.840.10008.5.1.4.1.1.88."
#: SOP classes, or what they begin with; the first that fits counts.
_KINDS: tuple[tuple[tuple[str, ...], Reason, str], ...] = (
    (
        (uid.MammographyCADSRStorage, uid.ChestCADSRStorage, uid.ColonCADSRStorage),
        Reason.AI_RESULT,
        "it is the report of an algorithm",
    ),
    (
        (
            uid.XRayRadiationDoseSRStorage,
            uid.EnhancedXRayRadiationDoseSRStorage,
            uid.RadiopharmaceuticalRadiationDoseSRStorage,
            uid.PatientRadiationDoseSRStorage,
            uid.PerformedImagingAgentAdministrationSRStorage,
        ),
        Reason.DOSE_REPORT,
        "it is a report of dose",
    ),
    (
        (uid.KeyObjectSelectionDocumentStorage,),
        Reason.KEY_OBJECT,
        "it is a selection of key objects that rejects none",
    ),
    (
        _SEGMENTATION_CLASSES,
        Reason.SEGMENTATION,
        "it is a segmentation, a map or a structure set",
    ),
    (
        ("1.2.840.10008.5.1.4.1.1.11.",),
        Reason.PRESENTATION_STATE,
        "it is a presentation state",
    ),
    ((_REPORTS,), Reason.REPORT, "it is a structured report"),
    (("1.2.840.10008.5.1.4.1.1.104.",), Reason.REPORT, "it is an encapsulated document"),
)

_CODE = ("CodeValue", "CodingSchemeDesignator")
_REFERENCES = (
    "CurrentRequestedProcedureEvidenceSequence",
    "ReferencedSeriesSequence",
    "ReferencedSOPSequence",
)
#: Read of documents besides what is read of all.
_OF_DOCUMENTS = (
    "ConceptNameCodeSequence",
    "ContentSequence",
    "SegmentSequence",
    _REFERENCES[0],
)
#: Algorithm Name, Algorithm Version, Algorithm Family (PS3.16 TID 4019).
_ALGORITHM = frozenset(("111001", "111003", "111000"))


class Rejection(StrEnum):
    """Why an instance is rejected (PS3.16 CID 7011)."""

    QUALITY = "quality"
    PATIENT_SAFETY = "patient_safety"
    WRONG_WORKLIST_ENTRY = "wrong_worklist_entry"
    RETENTION_EXPIRED = "retention_expired"


_TITLES = {
    "113001": Rejection.QUALITY,
    "113037": Rejection.PATIENT_SAFETY,
    "113038": Rejection.WRONG_WORKLIST_ENTRY,
    "113039": Rejection.RETENTION_EXPIRED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectionNote:
    """Which instances a document rejects, and why; with their UIDs, which may identify."""

    reason: Rejection
    instances: tuple[str, ...]

    def __repr__(self) -> str:
        return f"RejectionNote({self.reason.value}, {len(self.instances)} instances)"


def document_of(content: bytes, instance: Instance, limits: Limits) -> Instance:
    """Return a document with what is read of documents alone.

    Raises
    ------
    UnreadableScanError
        As `read_instance` does.
    """
    if not _is_document(instance.text("SOPClassUID")):
        return instance
    return read_instance(content, limits, also=_OF_DOCUMENTS)


def rejection_in(document: Instance) -> RejectionNote | None:
    """Return what a document rejects, or None if it rejects nothing.

    Raises
    ------
    UnreadableScanError
        If it is malformed, or rejects more than any real one does.
    """
    if document.text("SOPClassUID") != uid.KeyObjectSelectionDocumentStorage:
        return None
    reason = _TITLES.get(_title(document))
    if reason is None:
        return None
    found: list[str] = []
    for study in _items(document, document.elements.get(_REFERENCES[0]), [_REFERENCES[1]]):
        for series in _items(document, study.get(_REFERENCES[1]), [_REFERENCES[2]]):
            for reference in _items(
                document, series.get(_REFERENCES[2]), ["ReferencedSOPInstanceUID"]
            ):
                text = _text(reference.get("ReferencedSOPInstanceUID"))
                if text:
                    found.append(text)
                if len(found) > MOST_REFERENCES:
                    raise unreadable(
                        Reason.TOO_LARGE, f"it refers to more than {MOST_REFERENCES} instances"
                    )
    if not found:
        raise unreadable(Reason.MALFORMED, "it rejects instances, but refers to none")
    return RejectionNote(reason=reason, instances=tuple(dict.fromkeys(found)))


def kind_of(document: Instance) -> tuple[Reason, str]:
    """Return why something that is no image is not taken, with a sentence."""
    sop_class = document.text("SOPClassUID")
    reason, detail = next(
        (
            (reason, detail)
            for classes, reason, detail in _KINDS
            if any(sop_class.startswith(known) for known in classes)
        ),
        (
            Reason.NOT_AN_IMAGE,
            "the SOP class is none of images: a plan, a waveform or the like",
        ),
    )
    if (reason is Reason.SEGMENTATION and _is_automatic(document)) or (
        reason is Reason.REPORT and _names_algorithm(document)
    ):
        return Reason.AI_RESULT, "an algorithm made it, as it says itself"
    if not sop_class:
        detail = "the instance does not say its SOP class"
    return reason, detail


def _is_document(sop_class: str) -> bool:
    return (
        sop_class.startswith(_REPORTS)
        or sop_class in _SEGMENTATION_CLASSES
        or sop_class == uid.KeyObjectSelectionDocumentStorage
    )


def _is_automatic(document: Instance) -> bool:
    segments = _items(
        document, document.elements.get("SegmentSequence"), ["SegmentAlgorithmType"]
    )
    kinds = {_text(segment.get("SegmentAlgorithmType")).upper() for segment in segments}
    return "AUTOMATIC" in kinds


def _names_algorithm(document: Instance) -> bool:
    """Say whether a report states the algorithm that it came from, anywhere near its top."""
    wanted = ["ConceptNameCodeSequence", "ContentSequence"]
    level = [document.elements.get("ContentSequence")]
    left = _MOST_ITEMS
    for _ in range(_DEEPEST):
        below: list[Element | None] = []
        for sequence in level:
            for item in _items(document, sequence, wanted):
                left -= 1
                if left < 0:
                    return False
                codes = _items(document, item.get("ConceptNameCodeSequence"), _CODE)
                if any(_text(code.get("CodeValue")) in _ALGORITHM for code in codes):
                    return True
                if "ContentSequence" in item:
                    below.append(item["ContentSequence"])
        level = below
    return False


def _title(document: Instance) -> str:
    titles = _items(document, document.elements.get("ConceptNameCodeSequence"), _CODE)
    return next(
        (
            _text(code.get("CodeValue"))
            for code in titles
            if _text(code.get("CodingSchemeDesignator")) == "DCM"
        ),
        "",
    )


def _items(
    document: Instance, element: Element | None, keywords: Collection[str]
) -> Iterator[dict[str, Element]]:
    if element is None:
        return
    wanted = {tag_for_keyword(keyword): keyword for keyword in keywords}
    for item in document.reader.items(element, wanted=wanted):
        yield {wanted[tag]: value for tag, value in item.items()}


def _text(element: Element | None) -> str:
    return (
        "" if element is None else bytes(element.value).decode("ascii", "replace").strip("\0 ")
    )
