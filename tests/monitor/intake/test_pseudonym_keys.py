"""Rotation: the look-up is re-keyed, surrogates stay, a resend is one scan of one patient."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest
from crashed_keys import KEY_POINTS, crash_while_changing_keys
from dicom_instances import as_file, gradient, radiograph
from keyed_site import ROOT, Site, image
from sqlalchemy import select

from monitor.intake.intake import Accepted
from monitor.intake.keys import load_keyring, save_keyring
from monitor.intake.pseudonyms import instance_pseudonym
from monitor.intake.study_time import StudyTime
from monitor.scans import Outcome
from monitor.tables import LookUpRow
from registry import ledger
from registry.database import Database
from registry.errors import HomeError, NotFoundError, NotPermittedError, RefusedError
from registry.identities import Identity, Role

OLGA = Identity(name="Olga", roles=frozenset({Role.OPERATOR}))


@pytest.fixture
def north(tmp_path: Path, database: Database, now: datetime) -> Site:
    return Site(tmp_path, database, now)


def test_a_resend_after_rotation_is_one_scan(north: Site) -> None:
    assert north.send(image()) == [Outcome.ADDED]
    for _ in range(3):
        north.rotate()
        assert north.send(image()) == [Outcome.KNOWN]
    assert len(north.scans()) == 1
    assert north.verified()


def test_every_surrogate_stays_and_what_is_new_is_under_the_new_key(north: Site) -> None:
    north.send(image("1", instance=1), image("2", study=2, series=2, instance=2))
    north.rotate()
    north.send(
        image("1", instance=3),  # the same series goes on
        image("1", series=3, instance=4),  # another of the same study
        image("1", study=4, series=4, instance=5),  # the patient comes again
        image("3", study=5, series=5, instance=6),
    )
    first, second, *later = north.scans()
    assert [scan.patient for scan in later[:3]] == [first.patient] * 3
    assert [scan.study == first.study for scan in later] == [True, True, False, False]
    assert [scan.series == first.series for scan in later] == [True, False, False, False]
    assert later[3].patient not in {first.patient, second.patient}
    assert {scan.station for scan in north.scans()} == {first.station}


def test_patients_without_an_identifier_stay_with_their_study(north: Site) -> None:
    north.send(image("", instance=1))
    north.rotate()
    north.send(image("", instance=2))
    first, second = north.scans()
    assert first.patient == second.patient


def test_a_text_met_first_after_the_rotation_has_one_stand_in(north: Site) -> None:
    north.send(image())
    north.rotate()
    north.send(
        image(instance=2, station="ROOM4"),
        image(instance=3, station="ROOM4"),
        image(instance=4, station="ROOM3"),
    )
    stations = [scan.station for scan in north.scans()]
    assert stations[0] == stations[3]
    assert stations[1] == stations[2] != stations[0]


def test_what_was_met_after_a_rotation_outlives_the_older_key(north: Site) -> None:
    north.send(image("1", instance=1), image("2", study=2, series=2, instance=2))
    north.rotate()
    north.send(image("1", instance=1))
    assert north.keys.orphans(1) == 1  # patient 2 was not met since
    assert north.drop(1) == 1
    assert north.send(image("1", instance=1)) == [Outcome.KNOWN]
    assert north.send(image("1", study=9, series=9, instance=9)) == [Outcome.ADDED]
    first, _, third = north.scans()
    assert third.patient == first.patient
    assert third.station == first.station
    assert north.send(image("2", study=2, series=2, instance=2)) == [Outcome.ADDED]
    assert len({scan.patient for scan in north.scans()}) == 3
    assert [key.number for key in load_keyring(north.key_file).keys] == [2]
    assert north.verified()


def test_look_ups_follow_from_key_to_key(north: Site) -> None:
    north.send(image())
    for expected in (2, 3, 4):
        assert north.rotate() == expected
        north.send(image())
        north.drop(expected - 1)
    assert north.send(image()) == [Outcome.KNOWN]
    with north.database.reading() as session:
        assert set(session.scalars(select(LookUpRow.key))) == {4}
    assert len(north.scans()) == 1


def test_standings_say_whom_each_key_alone_recognises(north: Site) -> None:
    assert [(key.number, key.patients) for key in north.keys.standings()] == [(1, 0)]
    north.send(image("1", instance=1), image("2", study=2, series=2, instance=2))
    north.rotate()
    north.send(image("3", study=3, series=3, instance=3), image("1", instance=4))
    standings = north.keys.standings()
    assert [(key.number, key.newest, key.patients) for key in standings] == [
        (1, False, 1),
        (2, True, 2),
    ]


def test_a_receiver_that_still_has_the_old_keys_stores_nothing_under_them(north: Site) -> None:
    _, receiver = north.process()
    assert north.send(image("1", instance=1), intake=receiver) == [Outcome.ADDED]
    arrivals = [
        receiver.prepare(image("2", study=2, series=2, instance=2), site="north"),
        receiver.prepare(image("1", instance=3), site="north"),
    ]
    north.rotate()
    north.send(image("2", study=2, series=2, instance=4))
    fates = receiver.take(arrivals)
    assert [fate.outcome for fate in fates] == [Outcome.ADDED, Outcome.ADDED]
    patients = [scan.patient for scan in north.scans()]
    assert patients[0] == patients[3]
    assert patients[1] == patients[2]
    assert len(set(patients)) == 2
    assert north.send(image("2", study=2, series=2, instance=2)) == [Outcome.KNOWN]


def test_processes_that_meet_one_patient_at_once_agree(north: Site) -> None:
    north.send(image("1", instance=1))
    north.rotate()
    processes = [north.process()[1] for _ in range(4)]

    def bring(number: int) -> list[Outcome]:
        content = [
            image("1", series=7, instance=100 + number),
            image("9", study=9, series=9, instance=200 + number),
        ]
        return north.send(*content, intake=processes[number % 4])

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(bring, range(12))) == [[Outcome.ADDED] * 2] * 12
    assert len({scan.patient for scan in north.scans()}) == 2
    assert len({scan.series for scan in north.scans()}) == 3
    assert north.verified()


def test_a_label_finds_the_scan_of_an_older_key(north: Site) -> None:
    north.send(image())
    north.rotate()
    found = instance_pseudonym(f"{ROOT}.3.1", site="north", key=north.keys.current())
    assert found == north.scans()[0].instance


def test_another_image_of_an_instance_is_a_conflict_across_a_rotation(north: Site) -> None:
    north.send(image())
    north.rotate()
    other = radiograph(
        gradient()[::-1].copy(),
        PatientID="1",
        StudyInstanceUID=f"{ROOT}.1.1",
        SeriesInstanceUID=f"{ROOT}.2.1",
        SOPInstanceUID=f"{ROOT}.3.1",
    )
    assert north.send(as_file(other)) == [Outcome.QUARANTINED]


@pytest.mark.parametrize("changed_before", [0, 1])
@pytest.mark.parametrize("point", KEY_POINTS)
def test_whoever_changes_keys_and_is_killed_leaves_keys_that_find_everything(
    north: Site, point: str, changed_before: int
) -> None:
    crash = crash_while_changing_keys(north, point=point, changed_before=changed_before)
    assert crash.sound, crash


def test_a_pending_key_that_the_database_never_knew_is_replaced(north: Site) -> None:
    pending = north.key_file.with_name("pseudonyms.key.next")
    stray = load_keyring(north.key_file).with_new_key()
    pending.write_text("".join(f"{key.number} {key.key.secret.hex()}\n" for key in stray.keys))
    pending.chmod(0o600)
    north.send(image())
    assert north.rotate() == 2
    assert load_keyring(north.key_file).newest.key != stray.newest.key
    assert north.send(image()) == [Outcome.KNOWN]


def test_a_key_file_older_than_the_database_is_refused(north: Site) -> None:
    before = north.key_file.read_bytes()
    north.rotate()
    north.key_file.write_bytes(before)
    _, intake = north.process()
    with pytest.raises(HomeError, match="restore both from the same backup"):
        intake.prepare(image(), site="north")


def test_a_key_file_newer_than_the_database_is_refused(north: Site) -> None:
    # The database was restored from a backup, the keys were not.
    save_keyring(north.key_file, load_keyring(north.key_file).with_new_key())
    with pytest.raises(HomeError, match="the database knows key 1: restore both"):
        north.process()[1].prepare(image(), site="north")
    with pytest.raises(HomeError, match="restore both"):
        north.rotate()


def test_a_key_file_that_lost_an_older_key_is_refused(north: Site) -> None:
    north.rotate()
    save_keyring(north.key_file, load_keyring(north.key_file).without([1]))
    with pytest.raises(HomeError, match="lacks key 1"):
        north.process()[1].prepare(image(), site="north")


def test_only_the_oldest_of_the_older_keys_is_dropped(north: Site) -> None:
    with pytest.raises(NotFoundError, match="no older key 1"):
        north.drop(1)
    north.rotate()
    north.rotate()
    with pytest.raises(RefusedError, match="is the newest"):
        north.drop(3)
    with pytest.raises(RefusedError, match="drop it first"):
        north.drop(2)
    assert north.drop(1) == 0
    with pytest.raises(NotFoundError):
        north.drop(1)


def test_only_an_admin_changes_keys(north: Site) -> None:
    with pytest.raises(NotPermittedError):
        north.keys.rotate(reason="mine", by=OLGA, clock=north.clock)
    north.rotate()
    with pytest.raises(NotPermittedError):
        north.keys.drop(1, reason="mine", by=OLGA, clock=north.clock)


def test_keys_are_files_of_their_owner_and_never_in_the_ledger(north: Site) -> None:
    north.rotate()
    assert stat.S_IMODE(north.key_file.stat().st_mode) == 0o600
    assert [path.name for path in north.key_file.parent.iterdir()] == ["pseudonyms.key"]
    with north.database.reading() as session:
        entries = [str(entry) for entry in ledger.entries(session)]
    for key in load_keyring(north.key_file).keys:
        assert not any(key.key.secret.hex() in entry for entry in entries)
        assert key.key.secret.hex() not in repr(key)


def test_before_any_rotation_surrogates_are_what_they_always_were(north: Site) -> None:
    key = load_keyring(north.key_file).newest.key
    arrival = north.intake.prepare(image(), site="north")
    assert isinstance(arrival.prepared, Accepted)
    assert arrival.prepared.pseudonyms.instance == instance_pseudonym(
        f"{ROOT}.3.1", site="north", key=key
    )


class Dated(Site):
    """One that keeps shifted days."""

    study_time = StudyTime.SHIFTED

    def days(self) -> list[str | None]:
        return [scan.study_date for scan in self.scans()]


@pytest.fixture
def dated(tmp_path: Path, database: Database, now: datetime) -> Dated:
    return Dated(tmp_path, database, now)


def test_a_patient_shifts_alike_whatever_key_is_the_newest(dated: Dated) -> None:
    dated.send(image(instance=1))
    for number in (2, 3):
        dated.rotate()
        dated.send(image(study=number, series=number, instance=number))
        dated.send(image("new", study=9, series=9, instance=9 + number))
    first, second, new, third, new_again = dated.days()
    assert first == second == third
    assert new == new_again != first
    assert dated.verified()


def test_a_shift_outlives_the_key_that_gave_it(dated: Dated) -> None:
    dated.send(image(instance=1))
    dated.rotate()
    dated.send(image(study=2, series=2, instance=2))
    assert dated.drop(1) == 0
    dated.send(image(study=3, series=3, instance=3))
    dated.rotate()
    dated.send(image(study=4, series=4, instance=4))
    dated.drop(2)
    dated.send(image(study=5, series=5, instance=5))
    assert len(set(dated.days())) == 1
    assert len({scan.patient for scan in dated.scans()}) == 1


def test_a_shift_holds_through_a_rotation_while_no_date_was_kept(dated: Dated) -> None:
    dated.send(image(instance=1))
    dated.rotate()
    dated.study_time = StudyTime.REMOVED
    dated.keys, dated.intake = dated.process()
    dated.send(image(study=2, series=2, instance=2))
    dated.study_time = StudyTime.SHIFTED
    dated.keys, dated.intake = dated.process()
    dated.send(image(study=3, series=3, instance=3))
    first, second, third = dated.days()
    assert second is None
    assert first == third
