"""Reports as readers' workstations and information systems send them: DICOM SR and FHIR R4."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from dicom_instances import as_file, radiograph
from highdicom.sr import (
    CodedConcept,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PersonObserverIdentifyingAttributes,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

MAPPING = """
name: chest
version: 1
time_zone: Europe/Berlin
tasks:
  pneumonia:
    classes: [normal, pneumonia]
  findings:
    kind: multi-label
    classes: [effusion, nodule]
concepts:
  - concept: SCT|233604007
    task: pneumonia
    values: {SCT|52101004: pneumonia, SCT|2667000: normal, true: pneumonia, false: normal}
  - concept: DCM|121071
    task: pneumonia
    values: {SCT|233604007: pneumonia, SCT|17621005: normal}
  - concept: SCT|60046008
    task: findings
    about: effusion
    values: {SCT|52101004: present, SCT|2667000: absent}
  - concept: SCT|427359005
    task: findings
    about: nodule
    values: {SCT|52101004: present, SCT|2667000: absent}
"""
PNEUMONIA = CodedConcept("233604007", "SCT", "Pneumonia")
EFFUSION = CodedConcept("60046008", "SCT", "Pleural effusion")
NODULE = CodedConcept("427359005", "SCT", "Solitary nodule of lung")
PRESENT = CodedConcept("52101004", "SCT", "Present")
ABSENT = CodedConcept("2667000", "SCT", "Absent")
SIGNED = "20260302130000+0100"


def image(number: int, *, series: int = 1, study: int = 1, **elements: Any) -> Dataset:
    """Return a radiograph with identifiers of its own."""
    root = "1.2.826.0.1.3680043.8.498.77"
    wanted = {
        "SOPInstanceUID": f"{root}.{study}.{series}.{number}",
        "SeriesInstanceUID": f"{root}.{study}.{series}",
        "StudyInstanceUID": f"{root}.{study}",
        "PatientID": f"P{study}",
        "InstanceNumber": number,
        # What highdicom copies into a report.
        "PatientBirthDate": "20200101",
        "AccessionNumber": "A1",
        "StudyID": "S1",
        "StudyTime": "120000",
        **elements,
    }
    ds = radiograph()
    for keyword, value in wanted.items():
        setattr(ds, keyword, value)
    return ds


def structured_report(
    images: Sequence[Dataset],
    stated: Sequence[tuple[CodedConcept, CodedConcept]] = ((PNEUMONIA, PRESENT),),
    *,
    reader: str | None = "Meier^Anna",
    device: bool = False,
    signed: str | None = SIGNED,
    finding: CodedConcept | None = None,
    names_images: bool = True,
    **elements: Any,
) -> bytes:
    """Return a measurement report of TID 1500 as a file; `elements` are set last.

    Parameters
    ----------
    stated : (concept, value) of each qualitative evaluation
    signed : when its reader verified it; None, and it is not verified
    names_images : else only its evidence says which images it is about
    """
    observers: dict[str, ObserverContext] = {}
    if reader is not None:
        observers["observer_person_context"] = ObserverContext(
            codes.DCM.Person, PersonObserverIdentifyingAttributes(name=reader)
        )
    if device:
        observers["observer_device_context"] = ObserverContext(
            codes.DCM.Device, DeviceObserverIdentifyingAttributes(uid=generate_uid())
        )
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=generate_uid(), identifier="region"),
        qualitative_evaluations=[QualitativeEvaluation(*one) for one in stated],
        finding_type=finding,
        source_images=[
            SourceImageForMeasurementGroup(one.SOPClassUID, one.SOPInstanceUID)
            for one in images
        ]
        if names_images
        else None,
    )
    content = MeasurementReport(
        observation_context=ObservationContext(**observers),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=[group],
    )
    ds = Comprehensive3DSR(
        evidence=list(images),
        content=content[0],
        series_number=9,
        series_instance_uid=generate_uid(),
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Maker",
        is_complete=True,
        is_final=True,
        is_verified=signed is not None,
        verifying_observer_name=reader or "Meier^Anna",
        verifying_organization="Hospital",
    )
    if signed is not None:
        ds.VerifyingObserverSequence[0].VerificationDateTime = signed
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return as_file(ds)


def observation(
    concept: str = "233604007", *, present: bool = True, **elements: Any
) -> dict[str, Any]:
    """Return an Observation of R4; `elements` are set last, None removes one."""
    return _with(
        {
            "resourceType": "Observation",
            "status": "final",
            "code": coded(concept),
            "valueCodeableConcept": coded("52101004" if present else "2667000"),
        },
        elements,
    )


def diagnostic_report(study: str, /, **elements: Any) -> dict[str, Any]:
    """Return a DiagnosticReport of R4 with one contained Observation."""
    return _with(
        {
            "resourceType": "DiagnosticReport",
            "id": "r1",
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "36643-5"}]},
            "subject": {"reference": "Patient/1", "display": "Yamada Hanako"},
            "issued": "2026-03-02T13:00:00+01:00",
            "resultsInterpreter": [{"reference": "Practitioner/9", "display": "Anna Meier"}],
            "imagingStudy": [study_reference(study)],
            "contained": [observation(id="o1")],
            "result": [{"reference": "#o1"}],
            "conclusion": "Yamada Hanako has a pneumonia.",
        },
        elements,
    )


def study_reference(study: str) -> dict[str, Any]:
    return {"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{study}"}}


def coded(code: str, system: str = "http://snomed.info/sct") -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def bundle(*resources: dict[str, Any]) -> dict[str, Any]:
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [
            {"fullUrl": f"urn:uuid:{number}", "resource": resource}
            for number, resource in enumerate(resources)
        ],
    }


def as_json(document: object) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()


def csv_of(*rows: Sequence[object]) -> bytes:
    """Return a table of (instance, task, value, provenance, reader, signed_at)."""
    lines = ["instance,task,value,provenance,reader,signed_at"]
    lines += [
        ",".join(cell.isoformat() if isinstance(cell, datetime) else str(cell) for cell in row)
        for row in rows
    ]
    return "\n".join(lines).encode()


def _with(document: dict[str, Any], elements: dict[str, Any]) -> dict[str, Any]:
    merged = {**document, **elements}
    return {name: value for name, value in merged.items() if value is not None}
