"""Patients that were merged: two identifiers that name one from then on."""

from __future__ import annotations

from datetime import timedelta

import pytest
from series_home import ANCHOR, SITE, Pair, SeriesHome, ct_slice
from sqlalchemy import select

from monitor import datasets, embeddings
from monitor.assembling.merging import MOST_BY_RESEND, How, merge, person_of
from monitor.datasets import Purpose, split_by_patient
from monitor.scans import Outcome
from monitor.tables import EmbeddingRow, PatientMergeRow, ScanRow
from monitor.windows import Window
from registry.bundles.preprocessing import Unit


def persons(home: SeriesHome) -> list[str]:
    with home.database.reading() as session:
        by_column = list(session.scalars(select(ScanRow.person).order_by(ScanRow.id)))
        by_row = [row.person for row in session.scalars(select(ScanRow).order_by(ScanRow.id))]
    assert by_column == by_row
    return by_column


def stated(home: SeriesHome, merged: str, patient: str) -> bool:
    with home.database.transaction() as session:
        return merge(
            session,
            site=SITE,
            merged=merged,
            patient=patient,
            how=How.STATED,
            reason="test",
            actor="test",
            at=home.clock.at,
        )


def test_an_instance_that_is_sent_again_under_another_patient_merges_the_two(
    home: SeriesHome,
) -> None:
    home.receive([ct_slice(1, 0), ct_slice(1, 1), ct_slice(2, 0)])
    assert len(set(persons(home))) == 2
    (fate,) = home.receive([ct_slice(1, 0, PatientID="patient 2")])
    assert fate.outcome is Outcome.KNOWN
    assert len(set(persons(home))) == 1
    (facts,) = home.facts("patient.merged")
    assert facts == {"how": "resent", "pseudonyms": 1, "reason": ""}
    home.receive([ct_slice(1, 0), ct_slice(1, 1, PatientID="patient 2")])
    assert home.count(PatientMergeRow) == 1
    assert home.ledger_is_valid()


def test_instances_that_come_under_the_old_identifier_afterwards_are_of_the_one_patient(
    home: SeriesHome,
) -> None:
    home.receive([ct_slice(1, 0), ct_slice(2, 0)])
    home.receive([ct_slice(1, 0, PatientID="patient 2")])
    home.receive([ct_slice(1, 5)])
    assert len(set(persons(home))) == 1


def test_the_same_identifier_of_another_site_is_another_patient(home: SeriesHome) -> None:
    home.receive([ct_slice(1, 0)], site="south")
    home.receive([ct_slice(1, 0), ct_slice(2, 0)])
    home.receive([ct_slice(1, 0, PatientID="patient 2")])
    south, *north = persons(home)
    assert len(set(north)) == 1
    assert south not in north


def test_an_identifier_that_stands_for_many_merges_no_more_than_a_few(
    home: SeriesHome,
) -> None:
    home.receive([ct_slice(patient, 0) for patient in range(12)])
    home.receive([ct_slice(patient, 0, PatientID="ANONYMOUS") for patient in range(12)])
    assert len(set(persons(home))) == 12 - (MOST_BY_RESEND - 1) + 1


def test_merges_follow_one_another(home: SeriesHome) -> None:
    home.receive([ct_slice(patient, 0) for patient in (1, 2, 3)])
    first, second, third = persons(home)
    assert stated(home, first, second)
    assert stated(home, second, third)
    assert not stated(home, first, third)
    assert not stated(home, third, first)
    assert set(persons(home)) == {third}
    with home.database.reading() as session:
        assert person_of(session, SITE, first) == third
    assert home.ledger_is_valid()


def test_an_edited_merge_is_found(home: SeriesHome) -> None:
    home.receive([ct_slice(patient, 0) for patient in (1, 2, 3)])
    first, second, third = persons(home)
    stated(home, first, second)
    with home.database.transaction() as session:
        session.scalars(select(PatientMergeRow)).one().patient = third
    assert not home.ledger_is_valid()


def test_merged_patients_are_one_wherever_patients_are_the_unit(
    home: SeriesHome, bundles: Pair
) -> None:
    encoder, champion = bundles(Unit.INSTANCE)
    home.watch("plain", encoder=encoder, champion=champion)
    home.receive([ct_slice(patient, 0) for patient in (1, 2, 3)])
    home.embedder.embed("plain")
    first, second, _ = persons(home)
    stated(home, first, second)
    window = Window(start=ANCHOR, end=ANCHOR + timedelta(hours=1))
    with home.database.reading() as session:
        version = session.scalars(select(EmbeddingRow.version)).first()
        assert version is not None
        counted = embeddings.in_window(session, version, window)
    assert len(counted) == 3
    assert len(set(counted.patients)) == 2
    halves = {Purpose.TRAINING: 0.5, Purpose.SELECTION: 0.5}
    for salt in map(str, range(20)):
        parts = split_by_patient(counted.scans, halves, salt=salt)
        sides = [
            purpose
            for purpose, scans in parts.items()
            for scan in scans
            if scan.patient in {first, second}
        ]
        assert len(sides) == 2
        assert len(set(sides)) == 1
    with home.database.transaction() as session:
        frozen = datasets.freeze(
            session,
            home.scans(Unit.INSTANCE)[:1],
            purpose=Purpose.TRAINING,
            description="test",
            actor="test",
            at=home.clock.at,
        )
        assert datasets.patients_in(session, [frozen.digest]) == {second}


@pytest.mark.parametrize("again", ["patient 2", "patient 1"])
def test_a_series_keeps_the_patient_that_most_of_it_came_under(
    ct: SeriesHome, again: str
) -> None:
    ct.receive([ct_slice(1, 0), ct_slice(1, 1, PatientID="patient 2")])
    ct.receive([ct_slice(1, 0, PatientID=again), ct_slice(1, 2, PatientID="patient 2")])
    ct.wait(minutes=3)
    ct.assembler.assemble()
    (scan,) = ct.scans()
    second = next(row for row in ct.scans(Unit.INSTANCE) if row.id in ct.members(scan)[1:])
    assert scan.person == second.person
