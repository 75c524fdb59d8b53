"""Documents, whatever their bytes are: followed, set aside with a reason, and never an error."""

from __future__ import annotations

import pytest
from dicom_instances import KEY, SITE
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)
from series_home import ct_series, rejection_of

from monitor.intake import documents
from monitor.intake.decoding import DecodingProcess
from monitor.intake.documents import Rejection
from monitor.intake.intake import Prepared, Rejected, Rejecting, prepare_bytes
from monitor.intake.pseudonyms import instance_pseudonym
from monitor.intake.reasons import Reason

DECODER = DecodingProcess()
SERIES = ct_series(1, range(3))
DOCUMENT = rejection_of(SERIES, title="113001")


def prepared(content: bytes) -> Prepared:
    return prepare_bytes(content, site=SITE, key=KEY, decoder=DECODER)


def test_references_are_pseudonyms_of_the_instances_that_they_name() -> None:
    outcome = prepared(DOCUMENT)
    assert isinstance(outcome, Rejecting)
    assert outcome.reason is Rejection.QUALITY
    assert outcome.instances == tuple(
        instance_pseudonym(str(one.SOPInstanceUID), site=SITE, key=KEY) for one in SERIES
    )


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_it_is_the_same_in_any_transfer_syntax(syntax: str) -> None:
    series = ct_series(1, range(3))
    series[0].file_meta.TransferSyntaxUID = syntax
    assert prepared(rejection_of(series, title="113001")) == prepared(DOCUMENT)


@given(
    flips=st.lists(
        st.tuples(st.integers(132, len(DOCUMENT) - 1), st.integers(0, 255)), max_size=8
    ),
    length=st.integers(0, len(DOCUMENT)),
)
@settings(max_examples=300, deadline=None)
def test_a_damaged_document_is_refused_or_followed_and_nothing_else(
    flips: list[tuple[int, int]], length: int
) -> None:
    content = bytearray(DOCUMENT)
    for place, value in flips:
        content[place] = value
    outcome = prepared(bytes(content[:length] if length % 3 == 0 else content))
    assert isinstance(outcome, Rejected | Rejecting)


def test_a_document_that_rejects_more_than_any_real_one_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(documents, "MOST_REFERENCES", 2)
    outcome = prepared(DOCUMENT)
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.TOO_LARGE


def test_a_note_does_not_say_what_it_names() -> None:
    note = documents.RejectionNote(reason=Rejection.QUALITY, instances=("1.2.3.4711",))
    assert "4711" not in repr(note)
