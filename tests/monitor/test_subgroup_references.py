"""Subgroups are compared with their own past: sites differ without drifting."""

from __future__ import annotations

from datetime import timedelta

import pytest
from monitored_history import History
from sqlalchemy import select

from monitor import subgroup_references
from monitor.evaluation import Evaluation, evaluate, store_verdicts
from monitor.localising import locate
from monitor.references import deciding
from monitor.subgroup_references import Yardstick
from monitor.subgroups import Subgroup
from monitor.tables import ScanRow, SubgroupReferenceRow
from registry import ledger

NORTH, SOUTH = "site=north", "site=south"


@pytest.fixture
def two_sites(bare_history: History) -> History:
    """Two sites that have always differed by half a standard deviation in every direction."""
    bare_history.watch("site", "software_version")
    bare_history.accept_reference(300, shifts={"north": 0.0, "south": 0.5})
    return bare_history


def judge(history: History, number: int, **shifts: float) -> Evaluation:
    window = history.window(number)
    for site, shift in shifts.items():
        history.add(60, at=window.start + timedelta(hours=1), site=site, shift=shift)
    with history.database.reading() as session:
        evaluation = evaluate(
            session, history.profiles, history.monitor, window, now=window.end
        )
    with history.database.transaction() as session:
        store_verdicts(session, evaluation, actor="test", at=window.end)
    return evaluation


def test_sites_that_have_always_differed_do_not_alarm(two_sites: History) -> None:
    for number in range(2):
        evaluation = judge(two_sites, number, north=0.0, south=0.5)
        assert not evaluation.alarm
    for item in evaluation.verdicts[0].subgroups:
        assert item.compared_with == item.subgroup
        assert not item.moved


def test_a_site_that_leaves_its_own_past_is_named_though_all_scans_look_alike_now(
    two_sites: History,
) -> None:
    for number in range(2):
        evaluation = judge(two_sites, number, north=0.0, south=0.0)
    assert evaluation.alarm
    item = evaluation.verdicts[0]
    place = locate(item.subgroups, scans=item.verdict.scans)
    assert str(place.subgroup) == SOUTH


def test_a_new_site_is_compared_with_all_scans(two_sites: History) -> None:
    evaluation = judge(two_sites, 0, north=0.0, south=0.5, west=1.5)
    found = {str(item.subgroup): item for item in evaluation.verdicts[0].subgroups}
    assert found["site=west"].compared_with is None
    assert found["site=west"].moved
    assert not found[NORTH].moved


def test_a_site_that_the_reference_knows_by_few_patients_is_left_out_and_named(
    bare_history: History,
) -> None:
    history = bare_history
    history.watch("site")
    history.add(50, at=history.anchor - timedelta(days=8), site="east")
    history.accept_reference(300, shifts={"north": 0.0})
    evaluation = judge(history, 0, north=0.0, east=0.0)
    assert [str(item.subgroup) for item in evaluation.verdicts[0].subgroups] == [NORTH]
    assert any(
        note.startswith("site=east: the reference has 50 patients of it")
        for note in evaluation.notes
    )


def test_a_reference_of_one_kind_needs_no_profile_beside_its_own(history: History) -> None:
    with history.database.reading() as session:
        for reference in deciding(session, history.monitor.name):
            known = subgroup_references.of_reference(session, reference)
            assert {row.profile_digest for row in known.values()} == {reference.profile_digest}


@pytest.mark.parametrize("name", [f"{SOUTH} & software_version=2.0", "software_version=2.0"])
def test_what_is_new_inside_a_known_subgroup_is_compared_with_that_one(
    two_sites: History, name: str
) -> None:
    window = two_sites.window(0)
    two_sites.add(
        30, at=window.start + timedelta(hours=1), site="south", software_version="2.0"
    )
    with two_sites.database.reading() as session:
        reference = deciding(session, two_sites.monitor.name)[0]
        known = subgroup_references.of_reference(session, reference)
        south = known[Subgroup.parse(SOUTH)]
        scans = session.scalars(select(ScanRow).where(ScanRow.software_version == "2.0")).all()
        found = subgroup_references.yardstick(reference, known, Subgroup.parse(name), scans)
    assert found == Yardstick(
        profile_digest=str(south.profile_digest), subgroup=Subgroup.parse(SOUTH)
    )


def test_new_software_that_changes_nothing_moves_nothing_at_a_site_that_differs(
    two_sites: History,
) -> None:
    window = two_sites.window(0)
    for site, version, shift in (
        ("north", "1.0", 0.0),
        ("south", "1.0", 0.5),
        ("south", "2.0", 0.5),
    ):
        two_sites.add(
            40,
            at=window.start + timedelta(hours=1),
            site=site,
            software_version=version,
            shift=shift,
        )
    with two_sites.database.reading() as session:
        evaluation = evaluate(
            session, two_sites.profiles, two_sites.monitor, window, now=window.end
        )
    found = {str(item.subgroup): item for item in evaluation.verdicts[0].subgroups}
    assert str(found["software_version=2.0"].compared_with) == SOUTH
    assert str(found[f"{SOUTH} & software_version=1.0"].compared_with) == SOUTH
    assert not any(item.moved for item in found.values())


def test_the_ledger_vouches_for_what_subgroups_are_compared_with(two_sites: History) -> None:
    with two_sites.database.transaction() as session:
        session.get_one(SubgroupReferenceRow, 1).profile_digest = "another"
    with two_sites.database.reading() as session:
        fault = ledger.verify(session).fault
    assert fault is not None
    assert "subgroup_references/1 was changed" in fault.problem
