from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitored_history import History
from sqlalchemy import delete

from monitor.datasets import Purpose, freeze, members, patients_in, split_by_patient
from monitor.tables import DatasetMember, ScanRow
from registry import ledger
from registry.errors import InsufficientDataError

SHARES = {Purpose.TRAINING: 0.5, Purpose.SELECTION: 0.2, Purpose.LOCKED_REFERENCE: 0.3}


def scans_of(patients: list[int]) -> list[ScanRow]:
    return [ScanRow(id=id_, patient=f"p{patient}") for id_, patient in enumerate(patients)]


@settings(derandomize=True, deadline=None)
@given(
    patients=st.lists(st.integers(0, 30), max_size=120),
    weights=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    salt=st.text(max_size=6),
)
def test_a_split_takes_every_scan_once_and_no_patient_twice(
    patients: list[int], weights: list[int], salt: str
) -> None:
    shares = {
        purpose: weight / sum(weights)
        for purpose, weight in zip(Purpose, weights, strict=False)
    }
    scans = scans_of(patients)
    parts = split_by_patient(scans, shares, salt=salt)
    assert set(parts) == set(shares)
    assert sorted(scan.id for part in parts.values() for scan in part) == list(
        range(len(patients))
    )
    sides = [{scan.patient for scan in part} for part in parts.values()]
    assert sum(map(len, sides)) == len(set.union(*sides))


@settings(derandomize=True, deadline=None)
@given(
    early=st.lists(st.integers(0, 30), max_size=40),
    late=st.lists(st.integers(0, 30), max_size=40),
)
def test_a_patient_s_side_does_not_change_when_more_scans_arrive(
    early: list[int], late: list[int]
) -> None:
    def sides(patients: list[int]) -> dict[str, Purpose]:
        parts = split_by_patient(scans_of(patients), SHARES, salt="s")
        return {scan.patient: purpose for purpose, part in parts.items() for scan in part}

    before, after = sides(early), sides(early + late)
    assert before == {patient: after[patient] for patient in before}


def test_shares_are_kept_within_what_chance_allows() -> None:
    count = 4000
    parts = split_by_patient(scans_of(list(range(count))), SHARES, salt="s")
    for purpose, share in SHARES.items():
        deviation = (share * (1 - share) / count) ** 0.5
        assert abs(len(parts[purpose]) / count - share) < 4 * deviation


def test_another_salt_splits_independently() -> None:
    scans = scans_of(list(range(1000)))
    first = {s.id for s in split_by_patient(scans, SHARES, salt="a")[Purpose.TRAINING]}
    second = {s.id for s in split_by_patient(scans, SHARES, salt="b")[Purpose.TRAINING]}
    # Half of one half, if they are independent: 250 with a deviation of at most 14.
    assert 190 < len(first & second) < 310


def test_shares_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match=r"add up to 0\.5"):
        split_by_patient([], {Purpose.TRAINING: 0.5}, salt="s")


def test_a_dataset_is_named_by_its_content_and_not_by_when_or_what_for(
    bare_history: History, now: datetime
) -> None:
    bare_history.add(6, at=now)
    with bare_history.database.transaction() as session:
        scans = session.query(ScanRow).all()

        def frozen(part: list[ScanRow], purpose: Purpose) -> str:
            return freeze(
                session, part, purpose=purpose, description="", actor="test", at=now
            ).digest

        whole = frozen(scans, Purpose.TRAINING)
        assert frozen(scans[::-1], Purpose.REFERENCE) == whole
        assert frozen(scans[1:], Purpose.TRAINING) != whole
        scans[0].vault_digest = "other pixels"
        assert frozen(scans, Purpose.TRAINING) != whole


def test_a_frozen_dataset_lists_its_scans_and_patients_and_is_sealed(
    bare_history: History, now: datetime
) -> None:
    bare_history.add(6, at=now)
    with bare_history.database.transaction() as session:
        scans = session.query(ScanRow).all()
        row = freeze(
            session,
            scans[2:5],
            purpose=Purpose.LOCKED_DRIFTED,
            description="test",
            actor="test",
            at=now,
        )
        assert (row.scans, row.patients) == (3, 3)
        assert members(session, row.id) == scans[2:5]
        assert patients_in(session, [row.digest]) == {scan.patient for scan in scans[2:5]}
        assert patients_in(session, ["nothing"]) == set()
        assert ledger.verify(session).valid
        row.scans = 4
        session.flush()
        assert not ledger.verify(session).valid


def test_an_empty_dataset_is_refused(bare_history: History, now: datetime) -> None:
    with (
        pytest.raises(InsufficientDataError, match="dataset for training"),
        bare_history.database.transaction() as session,
    ):
        freeze(session, [], purpose=Purpose.TRAINING, description="", actor="test", at=now)


def test_members_that_were_deleted_or_swapped_are_found(history: History) -> None:
    with history.database.reading() as session:
        assert ledger.verify(session).valid
    with history.database.transaction() as session:
        session.execute(delete(DatasetMember).where(DatasetMember.scan == 1))
    with history.database.reading() as session:
        fault = ledger.verify(session).fault
    assert fault is not None
    assert "batch 1 of dataset_members was changed" in fault.problem
