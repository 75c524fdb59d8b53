"""What a server says of series and studies: they are whole at once, and nothing is lost by it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from series_home import ANCHOR, SITE, Pair, SeriesHome, ct_series, ct_slice

from monitor.assembling.assembler import assembly_is_due
from monitor.assembling.stability import StableGroup, note_stable
from registry.bundles.preprocessing import Unit
from registry.bundles.scan_units import Reading, Selection, SeriesChoice


def say_stable(home: SeriesHome, *, study_too: bool = False, study_alone: bool = False) -> None:
    """Say of every series there is, or of its study, that it is complete."""
    groups = {
        StableGroup(site=SITE, study=row.study, series="" if study_alone else row.series)
        for row in home.scans(Unit.INSTANCE)
    }
    if study_too:
        groups |= {StableGroup(site=SITE, study=one.study) for one in groups}
    with home.database.transaction() as session:
        note_stable(session, groups, at=home.clock.now())


def is_due(home: SeriesHome) -> bool:
    with home.database.reading() as session:
        return assembly_is_due(session, now=home.clock.now())


def test_a_series_that_is_said_to_be_complete_is_whole_at_once(ct: SeriesHome) -> None:
    ct.receive(ct_series(1, range(4)))
    ct.wait(seconds=10)
    assert not is_due(ct)
    say_stable(ct)
    assert is_due(ct)
    assert ct.assembler.assemble() == 1
    (scan,) = ct.scans()
    made = ct.made_of(scan)
    assert (made.instances, made.settled_by, made.incomplete) == (4, "stated", False)
    assert scan.arrived_at == ANCHOR + timedelta(seconds=10)
    assert ct.ledger_is_valid()


def test_what_is_said_of_a_study_holds_for_its_series(ct: SeriesHome) -> None:
    ct.receive(ct_series(1, range(4)))
    say_stable(ct, study_alone=True)
    assert ct.assembler.assemble() == 1


def test_what_comes_after_it_was_said_is_waited_for_as_ever(ct: SeriesHome) -> None:
    ct.receive(ct_series(1, range(4)))
    say_stable(ct)
    ct.wait(seconds=1)
    ct.receive([ct_slice(1, 4)])
    assert ct.assembler.assemble() == 0
    ct.wait(seconds=120)
    assert ct.assembler.assemble() == 1
    made = ct.made_of(ct.scans()[0])
    assert (made.instances, made.settled_by) == (5, "quiet")


def test_a_late_instance_and_a_new_word_make_the_next_revision(ct: SeriesHome) -> None:
    ct.receive(ct_series(1, range(4)))
    say_stable(ct)
    ct.assembler.assemble()
    ct.wait(seconds=5)
    ct.receive([ct_slice(1, 4)])
    assert ct.assembler.assemble() == 0
    say_stable(ct)
    assert ct.assembler.assemble() == 1
    made = ct.made_of(ct.scans()[0])
    assert (made.revision, made.instances, made.settled_by) == (2, 5, "stated")


def test_silence_that_came_first_is_what_settled_it(ct: SeriesHome) -> None:
    ct.receive(ct_series(1, range(4)))
    ct.wait(seconds=500)
    say_stable(ct)
    assert ct.assembler.assemble() == 1
    (scan,) = ct.scans()
    assert ct.made_of(scan).settled_by == "quiet"
    assert scan.arrived_at == ANCHOR + timedelta(seconds=120)


def test_fewer_than_announced_stay_marked_whatever_a_server_says(ct: SeriesHome) -> None:
    ct.receive(ct_series(1, range(4), NumberOfSeriesRelatedInstances=5))
    say_stable(ct)
    assert ct.assembler.assemble() == 1
    assert ct.made_of(ct.scans()[0]).incomplete


@pytest.mark.parametrize("unit", [Unit.STUDY, Unit.SERIES])
def test_where_the_study_must_be_whole_a_word_of_its_series_is_not_enough(
    home: SeriesHome, bundles: Pair, unit: Unit
) -> None:
    choice = SeriesChoice.LARGEST if unit is Unit.SERIES else SeriesChoice.ALL
    reading = Reading(select=Selection(series=choice))
    encoder, champion = bundles(unit, reading)
    home.watch("whole", encoder=encoder, champion=champion)
    home.receive(ct_series(1, range(3)))
    say_stable(home)
    assert home.assembler.assemble() == 0
    say_stable(home, study_too=True)
    assert home.assembler.assemble() == 1
