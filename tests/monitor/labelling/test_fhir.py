from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_reports import (
    MAPPING,
    as_json,
    bundle,
    coded,
    diagnostic_report,
    observation,
    study_reference,
)
from labelled_home import NOW, LabelledHome

from monitor.intake.keys import SecretKey
from monitor.labelling.fhir import read_fhir
from monitor.labelling.mapping import MappingInForce, parse_mapping
from monitor.labelling.provenance import Provenance
from registry.errors import LabelError

KEY = SecretKey(b"k" * 32)
STUDY = "1.2.3"


def study_of(home: LabelledHome, number: int = 0) -> str:
    return str(home.images[number].StudyInstanceUID)


def test_a_reports_observation_becomes_a_label_of_its_study(home: LabelledHome) -> None:
    report = as_json(diagnostic_report(study_of(home)))
    taken = home.give(report)
    assert (taken.added, taken.ai_influenced) == (1, 0)
    [label] = home.labels()
    assert (label.scan, label.task, label.value) == (1, "pneumonia", 1)
    assert (label.provenance, label.signed_at) == (
        "report",
        datetime(2026, 3, 2, 12, tzinfo=UTC),
    )
    assert label.reader.startswith("reader-")
    assert home.give(report).known == 1


def test_what_a_report_says_of_a_study_holds_for_each_image_of_it(home: LabelledHome) -> None:
    assert home.give(as_json(diagnostic_report(study_of(home, 3)))).scans == (4, 5)


def test_a_conclusion_is_a_finding_by_itself(home: LabelledHome) -> None:
    report = diagnostic_report(
        study_of(home), contained=None, result=None, conclusionCode=[coded("17621005")]
    )
    home.give(as_json(report), provenance=Provenance.PATHOLOGY)
    [label] = home.labels()
    assert (label.value, label.provenance) == (0, "pathology")


def test_a_bundle_is_resolved_by_full_urls_and_ids(home: LabelledHome) -> None:
    study = {
        "resourceType": "ImagingStudy",
        "id": "i1",
        "status": "available",
        "subject": {"reference": "Patient/1"},
        "identifier": [
            {"system": "urn:example:accession", "value": "A1"},
            {"system": "urn:dicom:uid", "value": f"urn:oid:{study_of(home)}"},
        ],
    }
    report = diagnostic_report(
        "",
        imagingStudy=[{"reference": "ImagingStudy/i1"}],
        contained=None,
        result=[{"reference": "urn:uuid:1"}],
    )
    lone = observation(
        "60046008",
        derivedFrom=[study_reference(study_of(home, 1))],
        component=[
            {"code": coded("427359005"), "valueCodeableConcept": coded("52101004")},
            {"code": coded("999"), "valueString": "Yamada Hanako"},
        ],
        issued="2026-03-02T13:00:00Z",
        present=False,
    )
    document = bundle(report, observation(), study, lone, {"resourceType": "Patient"})
    taken = home.give(as_json(document))
    assert (taken.added, taken.passed_over) == (2, 1)
    assert [(row.scan, row.value, row.classes) for row in home.labels()] == [
        (1, 1, None),
        (2, 1, ["nodule"]),
    ]


def test_a_boolean_is_a_value(home: LabelledHome) -> None:
    said = observation(
        valueCodeableConcept=None,
        valueBoolean=False,
        partOf=[study_reference(study_of(home))],
    )
    home.give(as_json(said))
    [label] = home.labels()
    assert (label.value, label.influence_reason) == (0, "signing_unknown")


def test_a_device_beside_a_person_assisted_him(home: LabelledHome) -> None:
    said = observation(
        derivedFrom=[study_reference(study_of(home))],
        performer=[{"display": "Anna Meier"}],
        device={"reference": "Device/1"},
        issued="2026-03-02T13:00:00Z",
    )
    home.give(as_json(said))
    assert home.labels()[0].influence_reason == "assisted"


def test_an_observation_that_came_later_was_signed_later(home: LabelledHome) -> None:
    report = diagnostic_report(
        study_of(home), contained=[observation(id="o1", issued="2026-03-03T08:00:00Z")]
    )
    home.give(as_json(report))
    assert home.labels()[0].signed_at == datetime(2026, 3, 3, 8, tzinfo=UTC)


def report(**elements: Any) -> bytes:
    return as_json(diagnostic_report(STUDY, **elements))


@pytest.mark.parametrize(
    ("content", "problem", "message"),
    [
        (b'{"resourceType": "Patient"}', "other_resource", "no FHIR DiagnosticReport"),
        (b"[1, 2]", "other_resource", "no FHIR DiagnosticReport"),
        (b'{"resourceType": 5}', "other_resource", "no FHIR DiagnosticReport"),
        (b"<Bundle xmlns='http://hl7.org/fhir'/>", "other_resource", "is XML"),
        (b'{"resourceType": "Bundle",\n "entry": [', "malformed", "r.json:2: not JSON"),
        (b'{"a": 1, "a": 2}', "malformed", "a key stands twice"),
        (b'{"a": NaN}', "malformed", "a number is none"),
        (b"[" * 100_000, "malformed", "nested too deep"),
        (b'{"a": "\xff"}', "malformed", "not UTF-8"),
        (
            report(study=[], imagingStudy=None),
            "other_fhir_version",
            r"DiagnosticReport\.study: is an element of FHIR R5",
        ),
        (
            report(Qzxkanarie="x"),
            "other_fhir_version",
            "has 1 elements that a DiagnosticReport",
        ),
        (report(modifierExtension=[{"url": "x"}]), "malformed", "modifier extension"),
        (report(status="preliminary"), "not_final", "DiagnosticReport.status"),
        (report(status="entered-in-error"), "not_final", "corrected by a label"),
        (
            report(contained=[observation(id="o1", status="preliminary")]),
            "not_final",
            r"contained\[0\].status",
        ),
        (report(status=None), "malformed", r"DiagnosticReport.status: is missing"),
        (report(issued="2026-03-02T13:00:00"), "malformed", r"DiagnosticReport.issued"),
        (report(issued="gestern"), "malformed", r"DiagnosticReport.issued"),
        (report(result="#o1"), "malformed", r"DiagnosticReport.result: is missing, or not"),
        (report(imagingStudy=None), "unknown_scan", "names no study by its DICOM UID"),
        (
            report(imagingStudy=[{"reference": "ImagingStudy/7"}]),
            "unknown_scan",
            "names no study by its DICOM UID",
        ),
        (
            report(contained=[observation("1", id="o1")]),
            "not_mapped",
            "none of its 1 coded statements",
        ),
        (
            report(contained=[observation(id="o1", valueCodeableConcept=coded("1"))]),
            "impossible_value",
            r"contained\[0\]: the value of SCT\|233604007 is none",
        ),
        (
            report(
                contained=[observation(id="o1", valueCodeableConcept=None, valueString="x")]
            ),
            "impossible_value",
            "is none that the mapping names",
        ),
        (
            as_json(
                observation(device={"display": "AI"}, derivedFrom=[study_reference(STUDY)])
            ),
            "ai_report",
            "a device made it, no person",
        ),
        (report(), "unknown_scan", "1 label names scans that site north never sent"),
        (
            report(issued="2027-03-02T13:00:00Z", imagingStudy=None),
            "unknown_scan",
            "names no study",
        ),
        (b'{"x": "' + b"x" * (17 << 20) + b'"}', "too_large", "more than 16 MB"),
    ],
)
def test_a_document_that_cannot_be_used_changes_nothing_and_is_recorded(
    home: LabelledHome, content: bytes, problem: str, message: str
) -> None:
    with pytest.raises(LabelError, match=message) as error:
        home.give(content, name="r.json")
    assert error.value.problem == problem
    assert "r.json" in str(error.value)
    for secret in ("Meier", "Yamada", "Qzxkanarie", "gestern"):
        assert secret not in str(error.value)
    assert home.labels() == []
    [refusal] = home.refusals()
    assert refusal.facts["problem"] == problem
    assert home.ledger_is_valid()


def test_one_unfit_report_keeps_a_whole_bundle_out(home: LabelledHome) -> None:
    document = bundle(diagnostic_report(study_of(home)), diagnostic_report(STUDY))
    with pytest.raises(LabelError, match=r"1 label names scans .*\(entry\[1\]\.resource"):
        home.give(as_json(document))
    assert home.labels() == []


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "resourceType",
                    "entry",
                    "resource",
                    "status",
                    "code",
                    "coding",
                    "contained",
                    "id",
                ]
            ),
            inner
            | st.sampled_from(
                ["Bundle", "Observation", "DiagnosticReport", "ImagingStudy", "final"]
            ),
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(_JSON)
def test_whatever_comes_is_read_or_refused(document: object) -> None:
    mapping = MappingInForce(
        specification=parse_mapping(MAPPING, source="m"), digest="x", applied_at=NOW
    )
    with contextlib.suppress(LabelError):
        read_fhir(
            json.dumps(document).encode(), file="r", site="north", key=KEY, mapping=mapping
        )
