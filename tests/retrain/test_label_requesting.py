"""Requests of labels from plan to locked set: who is drawn, what counts, and what it weighs."""

from __future__ import annotations

import numpy as np
import pytest
from requested_labels import NOW, SIGNED, RequestedLabels, requested_plan
from retraining_rows import AT_LEAST, MODEL, SUBGROUP, Retraining, ledger_is_valid
from sqlalchemy import select

from monitor import datasets
from monitor.assembling.withdrawing import Why, withdraw
from monitor.datasets import Purpose
from monitor.episodes.episodes import EpisodeState, Impact, end, require_episode
from monitor.labels import Provenance
from monitor.requests.estimating import gate_weights, impact_scans
from monitor.requests.frame import frame_of
from monitor.requests.resolving import Became, Unread, state_unread
from monitor.requests.tables import LabelRequestRow, Part, RequestState
from monitor.tables import ResultRow, ScanRow
from registry import ledger
from registry.errors import BadInputError, ConflictError, IntegrityError, PlanRefusedError
from registry.jobs import Job
from retrain import decisions, label_requesting, plans, runs
from retrain.decisions import Action, Step
from retrain.states import RunState


@pytest.fixture
def world(retraining: Retraining) -> RequestedLabels:
    """A shift of 160 patients whose results were withheld."""
    made = RequestedLabels(retraining=retraining)
    made.apply(requested_plan())
    made.receive(160)
    return made


def people(scans: list[ScanRow]) -> set[str]:
    return {scan.person for scan in scans}


def frozen(world: RequestedLabels, run: int) -> dict[Purpose, list[ScanRow]]:
    with world.retraining.database.reading() as session:
        row = runs.require_run(session, run)
        return {
            Purpose(purpose): datasets.members(session, dataset)
            for purpose, dataset in row.datasets.items()
        }


def test_a_run_that_waits_asks_for_scans_and_says_the_arithmetic_first(
    world: RequestedLabels,
) -> None:
    episode = world.open()
    run, request = world.run(episode), world.request(episode)
    assert run.state == RunState.AWAITING_LABELS
    progress = world.progress(episode)
    assert run.note == (
        f"waits for {len(progress.items)} scans to be read, as label request {request.id} asks"
    )
    needs = request.terms["arithmetic"]
    asked = {part: len(people([i.scan for i in progress.of(part)])) for part in Part}
    assert asked == {part: needs[part.value] for part in Part}
    assert needs["power"] >= needs["power_asked"] == 0.8
    assert needs["sentences"][0].startswith(f"Judged on {needs['judged']} patients: about ")
    assert needs["gate"] == int(np.ceil(needs["judged"] / 0.9 - 1e-9))
    # The plan's shares hold of all patients together, and so does its number of labels.
    assert sum(asked.values()) * 0.9 >= AT_LEAST
    with world.retraining.database.reading() as session:
        [entry] = ledger.entries(session, kind="labels.requested")
    assert entry.facts["seed"] == run.seed
    assert ledger_is_valid(world.retraining.database)


def test_no_patient_is_drawn_for_two_parts_and_every_chance_is_stored(
    world: RequestedLabels,
) -> None:
    episode = world.open()
    request, items = world.request(episode), world.items(episode)
    by_part = {part: {s.person for i, s in items if i.part == part} for part in Part}
    assert sum(map(len, by_part.values())) == len(set.union(*by_part.values()))
    assert sum(one["patients"] for one in request.strata) == 160
    for item, _ in items:
        if item.part == Part.GATE:
            stratum = request.strata[item.stratum]
            assert item.chance == stratum["drawn"] / stratum["patients"]
        elif item.part == Part.SELECTION:
            assert item.chance == len(by_part[Part.SELECTION]) / 160
        else:
            assert (item.chance, item.stratum) == (None, None)


def test_deciding_again_and_asking_again_change_nothing(world: RequestedLabels) -> None:
    episode = world.open()
    before = world.items(episode)
    for _ in range(3):
        world.retraining.decide(episode)
    database, plan = world.retraining.database, None
    with database.transaction() as session:
        plan = plans.in_force(session, MODEL)
        again = label_requesting.request_labels(
            session,
            world.run(episode),
            world.episode(episode),
            plan,
            task="pneumonia",
            actor="test",
            at=NOW,
        )
        assert again.id == world.request(episode).id
    assert [item.scan for item, _ in world.items(episode)] == [i.scan for i, _ in before]
    with database.reading() as session:
        assert len(session.scalars(select(LabelRequestRow)).all()) == 1
        assert len(ledger.entries(session, kind="run.waits")) == 1


def test_the_same_frame_and_seed_draw_the_same_scans(world: RequestedLabels) -> None:
    first = world.open()
    scans = [(item.scan, item.part, item.place) for item, _ in world.items(first)]
    database = world.retraining.database
    with database.transaction() as session:
        request = session.get_one(LabelRequestRow, world.request(first).id)
        label_requesting.cancel(session, request, reason="test", actor="test", at=NOW)
        label_requesting.request_labels(
            session,
            runs.require_run(session, world.run(first).id),
            world.episode(first),
            plans.in_force(session, MODEL),
            task="pneumonia",
            actor="test",
            at=NOW,
        )
    assert world.request(first).number == 2
    assert [(i.scan, i.part, i.place) for i, _ in world.items(first)] == scans
    assert ledger_is_valid(database)


def test_scans_of_which_something_was_delivered_are_no_part_of_the_frame(
    retraining: Retraining,
) -> None:
    world = RequestedLabels(retraining=retraining)
    world.apply(requested_plan())
    withheld, delivered = world.receive(160), world.receive(120, delivery="delivered")
    episode = world.open()
    assert not {scan.id for _, scan in world.items(episode)} & set(delivered)
    frame = world.request(episode).terms["frame"]
    assert frame["patients"] == len(withheld)
    assert frame["left_out"] == {"a result was delivered before the reader signed": 120}


def test_where_everything_was_delivered_the_run_says_how_to_withhold(
    retraining: Retraining,
) -> None:
    world = RequestedLabels(retraining=retraining)
    world.apply(requested_plan())
    world.receive(120, delivery="delivered")
    episode = world.open()
    run = world.run(episode)
    assert run.state == RunState.AWAITING_LABELS
    assert "120 scans were left out because an AI would influence their labels" in run.note
    assert f"`driftward restrict {MODEL} --subgroup '{SUBGROUP}' --reason …`" in run.note
    assert "judged on" in run.note, "the arithmetic stands there, too"
    with retraining.database.reading() as session:
        assert session.scalars(select(LabelRequestRow)).all() == []
    # What arrives from then on is withheld, and the next day's decision asks for it.
    world.receive(160)
    retraining.decide(episode)
    assert world.request(episode).state == RequestState.OPEN
    assert ledger_is_valid(retraining.database)


def test_too_few_scans_say_how_many_lack_and_when_they_may_have_come(
    retraining: Retraining,
) -> None:
    world = RequestedLabels(retraining=retraining)
    world.apply(requested_plan())
    world.receive(30)
    episode = world.open()
    note = world.run(episode).note
    assert "30 can be drawn. At the rate since the onset the others come within " in note
    world.receive(130)
    world.retraining.decide(episode)
    assert world.request(episode).state == RequestState.OPEN


def test_more_patients_than_the_plan_lets_it_ask_for_are_refused_with_the_arithmetic(
    retraining: Retraining,
) -> None:
    world = RequestedLabels(retraining=retraining)
    # At the plan's most favourable prevalence it could be satisfied; at the reference's not.
    margins = "{sensitivity: 0.1, specificity: 0.25, auc: 0.1}"
    world.apply(requested_plan(request="at_most: 300", drifted_margins=margins))
    world.receive(20)
    episode = world.open()
    note = world.run(episode).note
    assert (
        "a request may ask for 300 patients (labels.request.at_most), and this takes " in note
    )
    assert world.run(episode).state == RunState.AWAITING_LABELS


def test_labels_resolve_a_request_and_queue_the_run_with_disjoint_sets(
    world: RequestedLabels,
) -> None:
    episode = world.open()
    world.read(world.waiting(episode)[:20])
    world.measure(episode)
    world.retraining.decide(episode)
    assert world.run(episode).state == RunState.AWAITING_LABELS, "others are waited for"
    run = world.complete(episode)
    assert run.state == RunState.QUEUED
    assert world.request(episode).state == RequestState.COMPLETE
    sets = frozen(world, run.id)
    progress = world.progress(episode)
    assert {s.id for s in sets[Purpose.LOCKED_DRIFTED]} == {
        s.id for s in progress.labelled(Part.GATE)
    }
    shifted = set(world.truth)
    trained = {s.id for s in sets[Purpose.TRAINING]} & shifted
    assert trained == {s.id for s in progress.labelled(Part.TRAINING)}
    chosen = {s.id for s in sets[Purpose.SELECTION]} & shifted
    assert chosen == {s.id for s in progress.labelled(Part.SELECTION)}
    assert not people(sets[Purpose.TRAINING]) & people(sets[Purpose.LOCKED_DRIFTED])
    with world.retraining.database.reading() as session:
        jobs = session.scalars(select(Job).where(Job.kind == "train")).all()
        assert len(jobs) == 1
        assert impact_scans(session, episode) == chosen
    assert ledger_is_valid(world.retraining.database)


def test_labels_that_nobody_asked_for_may_train_and_never_judge(world: RequestedLabels) -> None:
    episode = world.open()
    asked = {scan.id for _, scan in world.items(episode)}
    unasked = [scan for scan in world.truth if scan not in asked][:15]
    world.read(unasked)
    reserve = {s.id for i, s in world.items(episode)} - {
        item.scan.id for item in world.progress(episode).items
    }
    sets = frozen(world, world.complete(episode).id)
    assert set(unasked) <= {s.id for s in sets[Purpose.TRAINING]}
    for purpose in (Purpose.LOCKED_DRIFTED, Purpose.SELECTION):
        assert not set(unasked) & {s.id for s in sets[purpose]}
    assert reserve, "some wait in the reserve"


def test_labels_that_an_ai_influenced_count_as_not_read(world: RequestedLabels) -> None:
    episode = world.open()
    late = world.waiting(episode, Part.GATE)[:3]
    with world.retraining.database.transaction() as session:
        # The restriction was lifted, and the champion's results reached the reader after all.
        for row in session.scalars(select(ResultRow).where(ResultRow.scan.in_(late))):
            row.delivery = "delivered"
        session.flush()
        for batch in {
            row.batch
            for row in session.scalars(select(ResultRow).where(ResultRow.scan.in_(late)))
        }:
            ledger.append(
                session,
                at=NOW,
                actor="test",
                kind="test",
                subject="test",
                facts={},
                batches=[(ResultRow, batch)],
            )
    world.read(late)
    became = {item.scan.id: item.became for item in world.progress(episode).items}
    assert {became[scan] for scan in late} == {Became.INFLUENCED}
    sets = frozen(world, world.complete(episode).id)
    everywhere = {s.id for part in sets.values() for s in part}
    assert not set(late) & everywhere
    assert ledger_is_valid(world.retraining.database)


def test_who_cannot_be_read_is_replaced_from_the_reserve_in_its_order(
    world: RequestedLabels,
) -> None:
    episode = world.open()
    gate = world.waiting(episode, Part.GATE)
    lost = gate[: len(gate) // 2]
    before = world.request(episode)
    world.read(world.waiting(episode), except_for=lost)
    with world.retraining.database.transaction() as session:
        stated = state_unread(
            session, before, lost, reason=Unread.UNREADABLE, actor="test", at=NOW
        )
    assert stated == len(lost)
    world.measure(episode)
    world.retraining.decide(episode)
    after = world.request(episode)
    more = [b["drawn"] - a["drawn"] for a, b in zip(before.strata, after.strata, strict=True)]
    assert sum(more) > 0
    called = {item.scan.id for item in world.progress(episode).items}
    for item, scan in world.items(episode):
        if item.part == Part.GATE:
            assert (scan.id in called) == (item.place < after.strata[item.stratum]["drawn"])
    with world.retraining.database.reading() as session:
        assert len(ledger.entries(session, kind="labels.reserve_called")) == 1
    assert world.complete(episode).state == RunState.QUEUED
    assert ledger_is_valid(world.retraining.database)


def test_weights_are_patients_of_a_stratum_over_those_who_were_read(
    world: RequestedLabels,
) -> None:
    world.apply(requested_plan(request="favour_near_threshold: 3"))
    world.receive(60)
    episode = world.open()
    gate = [i for i in world.progress(episode).items if i.part is Part.GATE]
    lost = [item.scan.id for item in gate if item.stratum == 1][:7]
    with world.retraining.database.transaction() as session:
        request = session.get_one(LabelRequestRow, world.request(episode).id)
        state_unread(session, request, lost, reason=Unread.NOT_AVAILABLE, actor="t", at=NOW)
    run = world.complete(episode)
    with world.retraining.database.reading() as session:
        request = world.request(episode)
        locked = datasets.members(session, run.datasets[Purpose.LOCKED_DRIFTED])
        weights = gate_weights(session, request, locked)
        stratum = {scan.id: item.stratum for item, scan in world.items(episode)}
        for number, one in enumerate(request.strata):
            own = [w for s, w in zip(locked, weights, strict=True) if stratum[s.id] == number]
            assert own == pytest.approx([one["patients"] / len(own)] * len(own))
        # Together they stand for the frame.
        assert weights.sum() == pytest.approx(220)
        assert weights.max() / weights.min() < 3.6
        with pytest.raises(IntegrityError, match="did not draw it for the gates"):
            gate_weights(session, request, [world.items(episode)[-1][1]])


def test_a_withdrawn_scan_is_no_longer_waited_for(world: RequestedLabels) -> None:
    episode = world.open()
    gone = world.waiting(episode)[0]
    with world.retraining.database.transaction() as session:
        withdraw(session, [gone], why=Why.REJECTED, at=NOW, batch=1)
    [item] = [i for i in world.progress(episode).items if i.scan.id == gone]
    assert item.became is Became.WITHDRAWN
    assert world.complete(episode).state == RunState.QUEUED


def test_a_dispute_and_a_label_of_another_provenance_are_waited_for(
    world: RequestedLabels,
) -> None:
    episode = world.open()
    first, second = world.waiting(episode, Part.GATE)[:2]
    world.retraining.label([first], values=[1], provenance=Provenance.REPORT, signed_at=SIGNED)
    became = {item.scan.id: item.became for item in world.progress(episode).items}
    assert became[first] is Became.OTHER_PROVENANCE
    assert became[second] is Became.WAITING


def test_only_scans_of_the_request_can_be_stated_unread_and_only_while_it_is_open(
    world: RequestedLabels,
) -> None:
    episode = world.open()
    asked = {scan.id for _, scan in world.items(episode)}
    other = next(scan for scan in world.truth if scan not in asked)
    database, request = world.retraining.database, world.request(episode)
    with (
        database.transaction() as session,
        pytest.raises(BadInputError, match=f"scan {other} is not among those"),
    ):
        state_unread(session, request, [other], reason=Unread.UNREADABLE, actor="t", at=NOW)
    world.complete(episode)
    with (
        database.transaction() as session,
        pytest.raises(ConflictError, match="nothing is waited for"),
    ):
        state_unread(
            session,
            world.request(episode),
            [next(iter(asked))],
            reason=Unread.UNREADABLE,
            actor="t",
            at=NOW,
        )


def test_labels_without_impact_end_the_run_once_all_that_measure_are_in(
    world: RequestedLabels,
) -> None:
    episode = world.open()
    world.read(world.waiting(episode))
    # Measured before the last of them came.
    world.retraining.judge(episode, Impact.NONE_SHOWN, scans=1)
    world.retraining.decide(episode)
    assert world.run(episode).state == RunState.AWAITING_LABELS
    while world.run(episode).state == RunState.AWAITING_LABELS:
        world.read(world.waiting(episode))
        world.measure(episode, Impact.NONE_SHOWN)
        world.retraining.decide(episode)
    assert world.run(episode).state == RunState.SUPERSEDED


def test_a_shift_that_is_gone_cancels_its_request(world: RequestedLabels) -> None:
    episode = world.open()
    with world.retraining.database.transaction() as session:
        row = require_episode(session, episode)
        end(session, row, EpisodeState.CLOSED, reason="recovered", actor="test", at=NOW)
    world.retraining.decide(episode)
    request = world.request(episode)
    assert request.state == RequestState.CANCELLED
    assert request.ended_reason.endswith(f"episode {episode} is closed: recovered")
    assert ledger_is_valid(world.retraining.database)


def test_a_patient_who_was_merged_into_another_part_stays_on_one_side(
    world: RequestedLabels,
) -> None:
    episode = world.open()
    items = world.progress(episode).items
    judged = next(item.scan for item in items if item.part is Part.GATE)
    taught = next(item.scan for item in items if item.part is Part.TRAINING)
    with world.retraining.database.transaction() as session:
        session.get_one(ScanRow, taught.id).patient = judged.patient
    sets = frozen(world, world.complete(episode).id)
    assert taught.id not in {scan.id for scan in sets[Purpose.TRAINING]}
    assert judged.id in {scan.id for scan in sets[Purpose.LOCKED_DRIFTED]}


def test_frames_leave_patients_out_who_trained_the_champion(world: RequestedLabels) -> None:
    with world.retraining.database.reading() as session:
        scans = [session.get_one(ScanRow, scan) for scan in list(world.truth)[:10]]
        frame = frame_of(
            session,
            scans,
            version=world.retraining.history.champion.id,
            task="pneumonia",
            at=NOW,
            apart={"because": {scans[0].person, scans[1].person}},
        )
    assert len(frame.patients) == 8
    assert frame.left_out == {"because": 2}


def test_two_tickets_of_different_reasons_stand_beside_each_other(
    world: RequestedLabels,
) -> None:
    episode = world.open()
    with world.retraining.database.transaction() as session:
        row, plan = require_episode(session, episode), plans.in_force(session, MODEL)
        for reason in ("one", "another"):
            step = Step(action=Action.TICKET, reason=reason)
            decisions.record(session, row, plan, step, actor="test", at=NOW)
    assert ledger_is_valid(world.retraining.database)


def test_a_plan_that_takes_what_comes_refuses_to_request(retraining: Retraining) -> None:
    world = RequestedLabels(retraining=retraining)
    world.receive(20)
    episode = world.open()
    with (
        retraining.database.transaction() as session,
        pytest.raises(PlanRefusedError, match=r"labels\.sample: census"),
    ):
        label_requesting.request_labels(
            session,
            world.run(episode),
            world.episode(episode),
            plans.in_force(session, MODEL),
            task="pneumonia",
            actor="test",
            at=NOW,
        )
