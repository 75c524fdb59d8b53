"""Series and studies as scans: when they are whole, what they are made of, what replaces them."""

from __future__ import annotations

import numpy as np
import pytest
from series_home import ANCHOR, SITE, Pair, SeriesHome, ct_series, ct_slice
from sqlalchemy import select

from monitor.assembling.assembler import Assembler, assembly_is_due, majority
from monitor.assembling.manifests import read_manifest
from monitor.assembling.tables import WithdrawnScanRow
from monitor.tables import ScanRow
from registry.bundles.preprocessing import Unit
from registry.bundles.scan_units import Reading


@pytest.mark.slow
def test_forty_ct_patients_with_thirty_slices_each_are_forty_scans(ct: SeriesHome) -> None:
    for patient in range(40):
        ct.receive(ct_series(patient, range(30)))
    assert ct.scans() == []
    ct.wait(minutes=3)
    assert ct.assembler.assemble() == 40
    scans = ct.scans()
    assert len(scans) == len({scan.patient for scan in scans}) == 40
    assert {ct.made_of(scan).instances for scan in scans} == {30}
    assert len(ct.scans(Unit.INSTANCE)) == 1200
    assert ct.ledger_is_valid()


def test_a_series_is_whole_once_nothing_came_for_a_while(ct: SeriesHome) -> None:
    ct.receive(ct_series(1, range(3)))
    ct.wait(seconds=119)
    assert ct.assembler.assemble() == 0
    ct.receive([ct_slice(1, 3)])
    ct.wait(seconds=119)
    assert ct.assembler.assemble() == 0
    ct.wait(seconds=1)
    assert ct.assembler.assemble() == 1
    (scan,) = ct.scans()
    assert (scan.arrived_at - ANCHOR).total_seconds() == 119 + 120
    made = ct.made_of(scan)
    assert (made.instances, made.settled_by, made.incomplete) == (4, "quiet", False)


def test_it_is_whole_at_once_where_the_sender_said_how_many_there_are(ct: SeriesHome) -> None:
    announced = {"NumberOfSeriesRelatedInstances": 5}
    ct.receive(ct_series(1, range(4), **announced))
    assert ct.assembler.assemble() == 0
    ct.receive([ct_slice(1, 4, **announced)])
    assert ct.assembler.assemble() == 1
    (scan,) = ct.scans()
    made = ct.made_of(scan)
    assert (made.expected, made.settled_by, made.incomplete) == (5, "expected", False)
    assert scan.arrived_at == ANCHOR


def test_fewer_than_announced_count_when_they_are_quiet_and_are_marked(ct: SeriesHome) -> None:
    ct.receive(ct_series(1, range(4), NumberOfSeriesRelatedInstances=5))
    ct.wait(minutes=2)
    assert ct.assembler.assemble() == 1
    made = ct.made_of(ct.scans()[0])
    assert (made.settled_by, made.incomplete) == ("quiet", True)
    ct.receive([ct_slice(1, 4, NumberOfSeriesRelatedInstances=5)])
    assert ct.assembler.assemble() == 1
    made = ct.made_of(ct.scans()[0])
    assert (made.revision, made.instances, made.incomplete) == (2, 5, False)


def test_nothing_waits_for_ever_for_a_series_that_goes_on_coming(
    home: SeriesHome, bundles: Pair
) -> None:
    reading = Reading(settle_seconds=1000, longest_wait_hours=1.0)
    encoder, champion = bundles(Unit.SERIES, reading)
    home.watch("slow", encoder=encoder, champion=champion)
    for number in range(8):
        home.receive([ct_slice(1, number)])
        home.wait(seconds=500)
    assert home.assembler.assemble() == 1
    made = home.made_of(home.scans()[0])
    assert (made.instances, made.settled_by, made.incomplete) == (8, "waited", True)


def test_what_a_clock_stamped_far_ahead_is_not_waited_for(ct: SeriesHome) -> None:
    ct.wait(days=365)
    ct.receive(ct_series(1, range(3)))
    ct.wait(days=-365)
    assert ct.assembler.assemble() == 1
    assert ct.scans()[0].arrived_at == ANCHOR


def test_a_series_in_two_halves_around_the_settle_time_is_one_scan_in_the_end(
    ct: SeriesHome,
) -> None:
    ct.receive(ct_series(1, range(15)))
    ct.wait(minutes=3)
    ct.assembler.assemble()
    (first,) = ct.scans()
    ct.receive(ct_series(1, range(15, 30)))
    assert ct.assembler.assemble() == 0
    assert [scan.id for scan in ct.scans()] == [first.id]
    ct.wait(minutes=3)
    assert ct.assembler.assemble() == 1
    (second,) = ct.scans()
    assert (ct.made_of(second).revision, ct.made_of(second).instances) == (2, 30)
    assert (second.site, second.study, second.series) == (SITE, first.study, first.series)
    assert second.instance != first.instance
    with ct.database.reading() as session:
        (withdrawn,) = session.scalars(select(WithdrawnScanRow))
    assert (withdrawn.scan, withdrawn.why) == (first.id, "superseded")
    assert ct.assembler.assemble() == 0
    assert ct.ledger_is_valid()


def test_the_order_of_arrival_does_not_matter(ct: SeriesHome) -> None:
    for number in np.random.default_rng(3).permutation(12).tolist():
        ct.receive([ct_slice(1, number)])
    ct.receive(ct_series(2, range(12)))
    ct.wait(minutes=2)
    ct.assembler.assemble()
    for patient, scan in enumerate(ct.scans(), start=1):
        manifest = read_manifest(ct.vault, scan.vault_digest)
        numbers = [
            int(ct.vault.dataset(digest).InstanceNumber)
            for digest in manifest.series[0].instances
        ]
        assert numbers == list(range(12)), patient
        assert len(ct.members(scan)) == 12


def test_the_same_series_by_two_roads_is_one_scan(ct: SeriesHome) -> None:
    series = ct_series(1, range(6))
    ct.receive(series[:4])
    ct.receive(reversed(series))
    ct.wait(minutes=2)
    ct.assembler.assemble()
    ct.receive(series)
    ct.wait(minutes=2)
    assert ct.assembler.assemble() == 0
    assert len(ct.scans()) == 1
    assert len(ct.scans(Unit.INSTANCE)) == 6


def test_two_that_assemble_at_once_make_one_scan(ct: SeriesHome) -> None:
    ct.receive(ct_series(1, range(3)))
    ct.wait(minutes=2)

    class Overtaken(Assembler):
        """Is overtaken by another while its list of instances is written."""

        overtaken = False

        def _assembled(self, *arguments):  # type: ignore[no-untyped-def]
            if not self.overtaken:
                type(self).overtaken = True
                assert ct.assembler.assemble() == 1
            return super()._assembled(*arguments)

    assert Overtaken(ct.database, ct.vault, ct.clock).assemble() == 0
    assert len(ct.scans()) == 1
    assert ct.ledger_is_valid()


def test_localisers_derived_images_and_captures_are_no_part_of_a_series(
    ct: SeriesHome,
) -> None:
    fates = ct.receive(
        [
            *ct_series(1, range(4)),
            ct_slice(1, 90, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
            ct_slice(1, 91, ImageType=["DERIVED", "SECONDARY", "MPR"]),
            ct_slice(
                1,
                92,
                SOPClassUID="1.2.840.10008.5.1.4.1.1.7",
                BurnedInAnnotation="NO",
                ImageType=["DERIVED", "SECONDARY"],
            ),
        ]
    )
    assert [fate.reason for fate in fates[4:]] == ["localizer", "derived", None]
    ct.wait(minutes=2)
    ct.assembler.assemble()
    (scan,) = ct.scans()
    assert ct.made_of(scan).instances == 4


def test_a_study_is_one_scan_of_all_its_series(home: SeriesHome, bundles: Pair) -> None:
    encoder, champion = bundles(Unit.STUDY)
    home.watch("whole", encoder=encoder, champion=champion)
    home.receive(ct_series(1, range(4), series=2))
    home.receive(ct_series(1, range(6), series=1))
    home.receive(ct_series(1, range(3), study=2))
    home.wait(minutes=2)
    assert home.assembler.assemble() == 2
    one, other = home.scans(Unit.STUDY)
    assert sorted(home.made_of(scan).instances for scan in (one, other)) == [3, 10]
    both = next(scan for scan in (one, other) if home.made_of(scan).instances == 10)
    listed = read_manifest(home.vault, both.vault_digest).series
    assert [len(series.instances) for series in listed] == [6, 4]


def test_a_scan_has_what_most_of_its_instances_have(ct: SeriesHome) -> None:
    ct.receive(ct_series(1, range(3)))
    ct.receive([ct_slice(1, 3, ManufacturerModelName=None, BodyPartExamined="ABDOMEN")])
    ct.receive([ct_slice(1, 4, BodyPartExamined="ABDOMEN")])
    ct.wait(minutes=2)
    ct.assembler.assemble()
    (scan,) = ct.scans()
    assert (scan.modality, scan.body_part, scan.scanner_model) == (
        "CT",
        "CHEST",
        "DRX-Evolution Plus",
    )
    assert majority(["a", "a", "b", "c"]) is None
    assert majority(["a", "a", "b"]) == "a"


def test_where_no_monitored_bundle_reads_series_none_are_made(
    home: SeriesHome, bundles: Pair
) -> None:
    encoder, champion = bundles(Unit.INSTANCE)
    home.watch("plain", encoder=encoder, champion=champion)
    home.receive(ct_series(1, range(3)))
    home.wait(days=1)
    with home.database.reading() as session:
        assert not assembly_is_due(session, now=home.clock.at)
    assert home.assembler.assemble() == 0
    assert home.count(ScanRow) == 3


def test_what_came_before_a_model_of_series_was_monitored_becomes_scans_of_its_time(
    home: SeriesHome, bundles: Pair
) -> None:
    home.receive(ct_series(1, range(3)))
    home.wait(days=20)
    encoder, champion = bundles(Unit.SERIES)
    home.watch("later", encoder=encoder, champion=champion)
    with home.database.reading() as session:
        assert assembly_is_due(session, now=home.clock.at)
    assert home.assembler.assemble() == 1
    assert (home.scans()[0].arrived_at - ANCHOR).total_seconds() == 120


def test_an_edited_list_of_instances_is_found(ct: SeriesHome) -> None:
    ct.receive(ct_series(1, range(3)))
    ct.wait(minutes=2)
    ct.assembler.assemble()
    assert ct.ledger_is_valid()
    with ct.database.transaction() as session:
        row = session.scalars(select(ScanRow).where(ScanRow.unit == "series")).one()
        row.unit = "instance"
    assert not ct.ledger_is_valid()


@pytest.mark.parametrize("number", [None, 7])
def test_without_positions_instances_stand_by_their_number(
    ct: SeriesHome, number: int | None
) -> None:
    ct.receive(
        [
            ct_slice(
                1,
                one,
                InstanceNumber=one if number is None else number,
                ImagePositionPatient=None,
            )
            for one in (2, 0, 1)
        ]
    )
    ct.wait(minutes=2)
    ct.assembler.assemble()
    (scan,) = ct.scans()
    instances = {row.id: row.instance for row in ct.scans(Unit.INSTANCE)}
    ordered = [instances[member] for member in ct.members(scan)]
    if number is not None:
        assert ordered == sorted(ordered)
    else:
        manifest = read_manifest(ct.vault, scan.vault_digest)
        numbers = [
            int(ct.vault.dataset(digest).InstanceNumber)
            for digest in manifest.series[0].instances
        ]
        assert numbers == [0, 1, 2]
