"""Documents that reject instances: what they name counts nowhere from then on."""

from __future__ import annotations

from datetime import timedelta

import pytest
from dicom_instances import as_file, radiograph
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from series_home import ANCHOR, SITE, Pair, SeriesHome, ct_series, ct_slice, rejection_of
from sqlalchemy import select

from monitor import datasets, embeddings
from monitor.assembling.tables import RejectedInstanceRow, WithdrawnScanRow
from monitor.intake.reasons import Reason
from monitor.scans import Fate, Outcome
from monitor.tables import EmbeddingRow, ScanRow
from monitor.windows import Window
from registry.bundles.preprocessing import Unit

TITLES = {
    "113001": "quality",
    "113037": "patient_safety",
    "113038": "wrong_worklist_entry",
    "113039": "retention_expired",
}


def code(value: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", "said"
    return item


@pytest.mark.parametrize(("title", "reason"), TITLES.items())
def test_a_rejection_withdraws_the_instances_that_it_names(
    ct: SeriesHome, title: str, reason: str
) -> None:
    series = ct_series(1, range(4))
    ct.receive(series)
    (fate,) = ct.receive([rejection_of(series[:2], title=title)])
    assert fate == Fate(outcome=Outcome.FOLLOWED)
    assert len(ct.scans(Unit.INSTANCE)) == 2
    with ct.database.reading() as session:
        reasons = set(session.scalars(select(RejectedInstanceRow.reason)))
        whys = set(session.scalars(select(WithdrawnScanRow.why)))
    assert (reasons, whys) == ({reason}, {"rejected"})
    (facts,) = ct.facts("instances.rejected")
    assert facts == {"reason": reason, "instances": 2, "scans": 2}
    assert ct.ledger_is_valid()


def test_the_same_document_again_changes_nothing(ct: SeriesHome) -> None:
    series = ct_series(1, range(4))
    ct.receive(series)
    document = rejection_of(series[:1], title="113001")
    outcomes = [ct.receive([document])[0].outcome for _ in range(2)]
    assert outcomes == [Outcome.FOLLOWED, Outcome.KNOWN]
    assert ct.count(RejectedInstanceRow) == 1


def test_what_was_rejected_before_it_came_does_not_count_when_it_comes(ct: SeriesHome) -> None:
    series = ct_series(1, range(4))
    ct.receive([rejection_of(series[:1], title="113037")])
    ct.receive(series)
    assert len(ct.scans(Unit.INSTANCE)) == 3
    ct.wait(minutes=3)
    ct.assembler.assemble()
    assert ct.made_of(ct.scans()[0]).instances == 3
    assert ct.ledger_is_valid()


def test_the_same_instance_of_another_site_is_not_rejected(ct: SeriesHome) -> None:
    series = ct_series(1, range(2))
    ct.receive(series, site="south")
    ct.receive([rejection_of(series, title="113001")])
    assert len(ct.scans(Unit.INSTANCE)) == 2


def test_a_series_is_assembled_anew_without_what_was_rejected(ct: SeriesHome) -> None:
    series = ct_series(1, range(6))
    ct.receive(series)
    ct.wait(minutes=3)
    ct.embedder.embed("nodules")
    (before,) = ct.scans()
    ct.wait(days=30)
    ct.receive([rejection_of(series[:2], title="113001")])
    ct.embedder.embed("nodules")
    (after,) = ct.scans()
    made = ct.made_of(after)
    assert (made.revision, made.instances, made.settled_by) == (2, 4, "changed")
    # It was acquired when it was: no window of today counts it.
    assert after.arrived_at == before.arrived_at
    assert ct.ledger_is_valid()


def test_a_series_of_which_nothing_is_left_counts_no_more(ct: SeriesHome) -> None:
    series = ct_series(1, range(3))
    ct.receive(series)
    ct.wait(minutes=3)
    ct.assembler.assemble()
    ct.receive([rejection_of(series, title="113039")])
    assert ct.assembler.assemble() == 0
    assert ct.scans() == []
    with ct.database.reading() as session:
        whys = list(session.scalars(select(WithdrawnScanRow.why)))
    assert sorted(whys) == ["emptied", "rejected", "rejected", "rejected"]
    assert ct.assembler.assemble() == 0
    assert ct.ledger_is_valid()


def test_it_counts_in_no_window_and_in_no_new_dataset(home: SeriesHome, bundles: Pair) -> None:
    encoder, champion = bundles(Unit.INSTANCE)
    home.watch("plain", encoder=encoder, champion=champion)
    slices = ct_series(1, range(5))
    home.receive(slices)
    home.embedder.embed("plain")
    home.receive([rejection_of(slices[:2], title="113001")])
    window = Window(start=ANCHOR, end=ANCHOR + timedelta(hours=1))
    with home.database.reading() as session:
        version = session.scalars(select(EmbeddingRow.version)).first()
        assert version is not None
        assert len(embeddings.in_window(session, version, window)) == 3
    with home.database.transaction() as session:
        frozen = datasets.freeze(
            session,
            session.scalars(select(ScanRow)).all(),
            purpose=datasets.Purpose.REFERENCE,
            description="test",
            actor="test",
            at=home.clock.at,
        )
        assert frozen.scans == 3


def test_a_rejected_instance_is_not_read(home: SeriesHome, bundles: Pair) -> None:
    encoder, champion = bundles(Unit.INSTANCE)
    home.watch("plain", encoder=encoder, champion=champion)
    slices = ct_series(1, range(3))
    home.receive([*slices, rejection_of(slices[:1], title="113001")])
    assert home.embedder.embed("plain") == 2


def test_key_objects_that_reject_nothing_are_told_apart(ct: SeriesHome) -> None:
    (fate,) = ct.receive([rejection_of(ct_series(1, range(2)), title="113000")])
    assert fate.reason is Reason.KEY_OBJECT
    assert ct.count(RejectedInstanceRow) == 0


def test_a_rejection_of_nothing_is_malformed(ct: SeriesHome) -> None:
    document = rejection_of(
        ct_series(1, range(2)),
        title="113001",
        CurrentRequestedProcedureEvidenceSequence=Items([]),
    )
    (fate,) = ct.receive([document])
    assert fate.reason is Reason.MALFORMED


def dose_report() -> Dataset:
    return radiograph(SOPClassUID=uid.XRayRadiationDoseSRStorage, Modality="SR")


def report() -> Dataset:
    return radiograph(SOPClassUID=uid.ComprehensiveSRStorage, Modality="SR")


def report_of_an_algorithm() -> Dataset:
    ds = report()
    algorithm, container = Dataset(), Dataset()
    algorithm.ConceptNameCodeSequence = Items([code("111001")])
    container.ConceptNameCodeSequence = Items([code("126010")])
    container.ContentSequence = Items([algorithm])
    ds.ContentSequence = Items([container])
    return ds


def segmentation(algorithm: str) -> Dataset:
    ds = radiograph(SOPClassUID=uid.SegmentationStorage, Modality="SEG")
    segment = Dataset()
    segment.SegmentNumber, segment.SegmentAlgorithmType = 1, algorithm
    ds.SegmentSequence = Items([segment])
    return ds


def capture(maker: str) -> Dataset:
    return radiograph(
        SOPClassUID=uid.SecondaryCaptureImageStorage,
        Manufacturer=maker,
        ImageType=["DERIVED", "SECONDARY"],
    )


@pytest.mark.parametrize(
    ("ds", "reason"),
    [
        (dose_report(), Reason.DOSE_REPORT),
        (report(), Reason.REPORT),
        (report_of_an_algorithm(), Reason.AI_RESULT),
        (radiograph(SOPClassUID=uid.ChestCADSRStorage), Reason.AI_RESULT),
        (segmentation("MANUAL"), Reason.SEGMENTATION),
        (segmentation("AUTOMATIC"), Reason.AI_RESULT),
        (capture("Example.AI Ltd"), Reason.AI_RESULT),
        (capture("Carestream Health"), Reason.BURNED_IN_UNKNOWN),
        (
            radiograph(SOPClassUID=uid.GrayscaleSoftcopyPresentationStateStorage),
            Reason.PRESENTATION_STATE,
        ),
        (radiograph(SOPClassUID=uid.EncapsulatedPDFStorage), Reason.REPORT),
        (radiograph(SOPClassUID=uid.RTPlanStorage), Reason.NOT_AN_IMAGE),
    ],
)
def test_what_comes_along_with_scans_is_told_apart(
    ct: SeriesHome, ds: Dataset, reason: Reason
) -> None:
    (fate,) = ct.receive([as_file(ds)])
    assert (fate.outcome, fate.reason) == (Outcome.QUARANTINED, reason)
    assert ct.count(ScanRow) == 0


def test_no_identifier_of_a_rejected_instance_is_kept(ct: SeriesHome) -> None:
    series = ct_series(1, range(2))
    ct.receive([rejection_of(series, title="113001")])
    with ct.database.reading() as session:
        rows = session.scalars(select(RejectedInstanceRow)).all()
    assert {row.site for row in rows} == {SITE}
    named = {str(one.SOPInstanceUID) for one in series}
    assert all(row.instance.startswith("2.25.") and row.instance not in named for row in rows)


def test_one_document_may_reject_instances_of_several_series(ct: SeriesHome) -> None:
    one, other = ct_slice(1, 1), ct_slice(1, 1, series=2)
    ct.receive([one, other, ct_slice(1, 2)])
    ct.receive([rejection_of([one, other], title="113001")])
    assert len(ct.scans(Unit.INSTANCE)) == 1
