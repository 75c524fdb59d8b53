"""Reports in which everything that may name a patient or a reader says so, and broken ones."""

from __future__ import annotations

from typing import Any

from canaries import BY_VR, DAY, NAME, UID_ROOT, WORD
from dicom_instances import as_file
from highdicom.sr import CodedConcept
from label_reports import (
    PNEUMONIA,
    PRESENT,
    as_json,
    bundle,
    coded,
    diagnostic_report,
    image,
    observation,
    structured_report,
)
from pydicom import dcmread
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.sequence import Sequence

#: Of instances and a study that were taken in (`canaries.more_canaries`).
INSTANCE, STUDY = f"{UID_ROOT}.3.1003", f"{UID_ROOT}.1.500"
_STRUCTURE = frozenset(
    (
        *("SpecificCharacterSet", "ValueType", "RelationshipType", "ContinuityOfContent"),
        *("CompletionFlag", "VerificationFlag", "PreliminaryFlag", "Modality"),
    )
)
_OF_FILES = frozenset((0x0000, 0x0002, 0x0004, 0x0006, 0xFFFE))


def canary_report(
    instance: str = INSTANCE,
    value: CodedConcept = PRESENT,
    **elements: Any,
) -> bytes:
    """Return a measurement report with a canary in every element that can hold one."""
    about = image(
        1,
        SOPInstanceUID=instance,
        StudyInstanceUID=STUDY,
        PatientName=NAME,
        PatientID=WORD,
        AccessionNumber=WORD,
        PatientBirthDate=DAY,
    )
    content = structured_report([about], [(PNEUMONIA, value)], reader=NAME)
    ds = dcmread(DicomBytesIO(content))
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        if (
            keyword
            and vr in BY_VR
            and keyword not in _STRUCTURE
            and keyword not in ds
            and tag >> 16 not in _OF_FILES
        ):
            ds.add_new(tag, vr, BY_VR[vr])
    ds.StudyDescription = ds.InstitutionName = WORD
    _fill(ds)
    for keyword, changed in elements.items():
        setattr(ds, keyword, changed)
    return as_file(ds)


def canary_document(**elements: Any) -> dict[str, Any]:
    """Return a FHIR report with a canary in every element that can hold one."""
    person = {
        "reference": f"Practitioner/{WORD}",
        "display": NAME,
        "identifier": {"system": WORD, "value": NAME},
    }
    said = observation(
        id="o1",
        subject=person,
        performer=[person],
        note=[{"text": f"{NAME}, born {DAY}"}],
        text={"status": "generated", "div": f"<div>{NAME}</div>"},
        code={**coded("233604007"), "text": WORD},
        identifier=[{"value": WORD}],
    )
    return diagnostic_report(
        STUDY,
        **{
            "id": WORD,
            "subject": person,
            "encounter": person,
            "performer": [person],
            "resultsInterpreter": [person],
            "identifier": [{"system": WORD, "value": WORD}],
            "conclusion": f"{NAME} has a pneumonia",
            "text": {"status": "generated", "div": f"<div>{NAME}</div>"},
            "presentedForm": [{"title": WORD, "data": WORD}],
            "contained": [said],
            **elements,
        },
    )


def canary_files() -> dict[str, bytes]:
    """Return reports that can be used, by name; together they label one study."""
    return {
        "report.dcm": canary_report(),
        "report.json": as_json(canary_document()),
        "bundle.json": as_json(
            bundle(canary_document(), {"resourceType": "Patient", "name": [{"text": NAME}]})
        ),
    }


def broken_canary_files() -> dict[str, bytes]:
    """Return reports that cannot be used, each for a reason of its own."""
    template = Dataset()
    template.TemplateIdentifier, template.MappingResource = WORD, WORD
    nameless = Dataset()
    nameless.TextValue = NAME
    said = observation(id="o1", valueCodeableConcept=None, valueString=NAME)
    return {
        "elsewhere.dcm": canary_report(f"{UID_ROOT}.3.999"),
        "value.dcm": canary_report(value=CodedConcept(WORD, WORD, WORD)),
        "template.dcm": canary_report(ContentTemplateSequence=Sequence([template])),
        "broken.dcm": canary_report(ContentSequence=Sequence([nameless])),
        "partial.dcm": canary_report(CompletionFlag="PARTIAL"),
        "cut.dcm": canary_report()[:-100],
        "newer.json": as_json(canary_document(study=[{"display": NAME}])),
        "unknown.json": as_json(canary_document(**{WORD: NAME})),
        "status.json": as_json(canary_document(status=WORD)),
        "issued.json": as_json(canary_document(issued=DAY)),
        "text.json": as_json(canary_document(contained=[said])),
        "other.json": as_json({"resourceType": WORD, "name": NAME}),
        "elsewhere.json": as_json(canary_document(imagingStudy=[{"display": NAME}])),
        "cut.json": as_json(canary_document())[:-20],
        "report.xml": f"<Patient><name>{NAME}</name></Patient>".encode(),
    }


def _fill(ds: Dataset) -> None:
    """Put canaries into what codes mean and texts say, all the way down."""
    for element in ds:
        if element.VR == "SQ":
            for item in element.value:
                _fill(item)
        elif element.keyword in {"CodeMeaning", "TextValue", "PersonName"}:
            element.value = NAME
