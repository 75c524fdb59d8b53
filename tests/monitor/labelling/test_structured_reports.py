from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest
from dicom_instances import as_file, radiograph
from hypothesis import given, settings
from hypothesis import strategies as st
from label_reports import (
    ABSENT,
    EFFUSION,
    MAPPING,
    NODULE,
    PNEUMONIA,
    PRESENT,
    SIGNED,
    image,
    structured_report,
)
from labelled_home import NOW, LabelledHome
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian

from monitor.intake.keys import SecretKey
from monitor.labelling.mapping import MappingInForce, parse_mapping
from monitor.labelling.structured_reports import read_report
from registry.errors import LabelError

# What pydicom thinks of values that these tests write on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def edited(content: bytes, **elements: object) -> bytes:
    ds = dcmread(DicomBytesIO(content))
    for keyword, value in elements.items():
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
    return as_file(ds)


def template(identifier: str) -> Sequence:
    item = Dataset()
    item.TemplateIdentifier, item.MappingResource = identifier, "DCMR"
    return Sequence([item])


def code(value: str, scheme: str) -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, "meaning"
    return Sequence([item])


def test_a_readers_finding_becomes_a_label_of_the_image_that_it_names(
    home: LabelledHome,
) -> None:
    report = structured_report(home.images[:1])
    taken = home.give(report)
    assert (taken.added, taken.ai_influenced, taken.disputed) == (1, 0, 0)
    [label] = home.labels()
    assert (label.scan, label.task, label.value) == (1, "pneumonia", 1)
    assert label.provenance == "reader"
    assert label.signed_at == datetime(2026, 3, 2, 12, tzinfo=UTC)
    assert label.reader.startswith("reader-")
    assert home.give(report).known == 1
    assert home.ledger_is_valid()


def test_one_reader_has_one_pseudonym_on_every_road(home: LabelledHome) -> None:
    home.give(structured_report(home.images[:1], reader="Meier^Anna"))
    home.give(structured_report(home.images[1:2], reader="MEIER^ANNA"))
    home.say(2, 1, reader="Meier Anna")
    home.give(structured_report(home.images[2:3], reader="Huber^Eva"))
    readers = [row.reader for row in home.labels()]
    assert len(set(readers[:3])) == 1
    assert len(set(readers)) == 2


def test_without_named_images_the_evidence_says_what_it_is_about(home: LabelledHome) -> None:
    report = structured_report(
        home.images[1:2], names_images=False, stated=(), finding=PNEUMONIA
    )
    assert home.give(report).scans == (2,)


def test_a_set_of_classes_is_said_in_full(home: LabelledHome) -> None:
    home.give(structured_report(home.images[:1], [(EFFUSION, ABSENT), (NODULE, PRESENT)]))
    [label] = home.labels()
    assert (label.value, label.classes) == (1, ["nodule"])
    with pytest.raises(LabelError, match="nothing is said of nodule") as error:
        home.give(structured_report(home.images[1:2], [(EFFUSION, ABSENT)]))
    assert error.value.problem == "impossible_value"


def test_the_report_as_a_whole_may_evaluate(home: LabelledHome) -> None:
    report = dcmread(DicomBytesIO(structured_report(home.images[:1], [(NODULE, PRESENT)])))
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", "CODE"
    item.ConceptNameCodeSequence = code("233604007", "SCT")
    item.ConceptCodeSequence = code("2667000", "SCT")
    container = Dataset()
    container.RelationshipType, container.ValueType = "CONTAINS", "CONTAINER"
    container.ContinuityOfContent = "SEPARATE"
    container.ConceptNameCodeSequence = code("C0034375", "UMLS")
    container.ContentSequence = Sequence([item])
    report.ContentSequence.append(container)
    report.ContentSequence.pop(-2)
    home.give(as_file(report))
    [label] = home.labels()
    assert (label.task, label.value) == ("pneumonia", 0)


@pytest.mark.parametrize(
    ("stated", "offset", "hour"),
    [
        ("20260302130000+0100", None, 12),
        ("20260302130000.5", "+0200", 11),
        # By the time zone of the mapping.
        ("20260302130000", None, 12),
        ("20260302", None, None),
        ("noon", "+0200", None),
    ],
)
def test_a_time_without_a_zone_has_that_of_the_report_or_of_the_mapping(
    home: LabelledHome, stated: str, offset: str | None, hour: int | None
) -> None:
    elements = {} if offset is None else {"TimezoneOffsetFromUTC": offset}
    home.give(structured_report(home.images[:1], signed=stated, **elements))
    [label] = home.labels()
    assert (None if label.signed_at is None else label.signed_at.hour) == hour
    assert label.ai_influenced == (hour is None)


def test_what_nobody_verified_has_no_time_of_signing_and_counts_as_influenced(
    home: LabelledHome,
) -> None:
    home.give(structured_report(home.images[:1], signed=None))
    [label] = home.labels()
    assert (label.signed_at, label.influence_reason) == (None, "signing_unknown")
    assert label.reader.startswith("reader-")


def test_a_person_who_verifies_what_a_device_observed_was_assisted(home: LabelledHome) -> None:
    home.give(structured_report(home.images[:1], device=True))
    [label] = home.labels()
    assert (label.ai_influenced, label.influence_reason) == (True, "assisted")


def of_a_device(home: LabelledHome) -> bytes:
    return structured_report(home.images[:1], reader=None, device=True, signed=None)


def deflated(home: LabelledHome) -> bytes:
    ds = dcmread(DicomBytesIO(structured_report(home.images[:1])))
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return as_file(ds)


def base(home: LabelledHome) -> bytes:
    return structured_report(home.images[:1])


@pytest.mark.parametrize(
    ("make", "problem", "message"),
    [
        (of_a_device, "ai_report", "a result of an AI is no label"),
        (deflated, "unreadable", "little endian and uncompressed"),
        (lambda home: as_file(radiograph()), "not_tid_1500", "it is no report"),
        (
            lambda home: edited(base(home), ContentTemplateSequence=template("2000")),
            "not_tid_1500",
            "another template than TID 1500",
        ),
        (
            lambda home: edited(base(home), ContentTemplateSequence=None),
            "not_tid_1500",
            "another template than TID 1500",
        ),
        (
            lambda home: edited(base(home), SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11"),
            "not_tid_1500",
            "of another class",
        ),
        (
            lambda home: edited(base(home), CompletionFlag="PARTIAL"),
            "not_final",
            "its CompletionFlag is PARTIAL",
        ),
        (
            lambda home: edited(base(home), PreliminaryFlag="PRELIMINARY"),
            "not_final",
            "its PreliminaryFlag is PRELIMINARY",
        ),
        (
            lambda home: edited(base(home), ContentSequence=Sequence([Dataset()])),
            "malformed",
            "no measurement report by TID 1500",
        ),
        (lambda home: base(home)[:-200], "unreadable", "bytes are left|bytes, but"),
        (
            lambda home: structured_report(home.images[:1], [(NODULE, EFFUSION)]),
            "impossible_value",
            "measurement group 1: the value of SCT|427359005 is none",
        ),
        (
            lambda home: structured_report(home.images[:1], [(PRESENT, ABSENT)]),
            "not_mapped",
            "none of its 1 coded statements is of a concept that the mapping in force names",
        ),
        (
            lambda home: structured_report([radiograph(**_ELSEWHERE)]),
            "unknown_scan",
            r"1 label names scans that site north never sent \(measurement group 1\)",
        ),
        (
            lambda home: structured_report(home.images[:1], signed="20270302130000+0100"),
            "future",
            "signed_at lies in the future",
        ),
        (
            lambda home: structured_report(
                home.images[:1], [(PNEUMONIA, PRESENT), (PNEUMONIA, ABSENT)]
            ),
            "contradiction",
            "the same reader has said something else",
        ),
        (
            lambda home: structured_report(
                home.images[:1], [(NODULE, PRESENT), (EFFUSION, ABSENT), (NODULE, ABSENT)]
            ),
            "contradiction",
            "says otherwise of nodule",
        ),
        (
            lambda home: edited(base(home), Manufacturer="x" * (9 << 20)),
            "too_large",
            "more than 8 MB",
        ),
    ],
)
def test_a_report_that_cannot_be_used_changes_nothing_and_is_recorded(
    home: LabelledHome, make: object, problem: str, message: str
) -> None:
    content = make(home)  # type: ignore[operator]
    with pytest.raises(LabelError, match=message) as error:
        home.give(content, name="report.dcm")
    assert error.value.problem == problem
    assert "report.dcm" in str(error.value)
    for secret in ("Meier", "Yamada", str(home.images[0].SOPInstanceUID), SIGNED):
        assert secret not in str(error.value)
    assert home.labels() == []
    [refusal] = home.refusals()
    assert (refusal.subject, refusal.facts["problem"]) == ("north", problem)
    assert home.ledger_is_valid()


@given(
    st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=4), st.integers(0, 8)),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=150, deadline=None)
def test_whatever_a_report_holds_is_read_or_refused(
    changes: list[tuple[float, bytes, int]],
) -> None:
    content = bytearray(_REPORT)
    for place, put, cut in changes:
        start = 132 + int(place * (len(content) - 132))
        content[start : start + cut] = put
    mapping = MappingInForce(
        specification=parse_mapping(MAPPING, source="m"), digest="x", applied_at=NOW
    )
    key = SecretKey(b"k" * 32)
    with contextlib.suppress(LabelError):
        read_report(bytes(content), file="r", site="north", key=key, mapping=mapping)


_REPORT = structured_report([image(1)])
_ELSEWHERE = {
    "PatientBirthDate": "20200101",
    "AccessionNumber": "A1",
    "StudyID": "S1",
    "StudyTime": "120000",
    "SOPInstanceUID": "1.2.3.4.5",
}
