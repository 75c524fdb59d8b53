"""A promoted version's first weeks: what is counted, when it fails, and what follows."""

from __future__ import annotations

from datetime import timedelta

import pytest
from retraining_rows import MODEL, PLAN, SUBGROUP, ledger_is_valid, seal
from sqlalchemy import select, text
from sqlalchemy.exc import DatabaseError
from watched_rows import MEI, RULES, Watched, promise_all

from monitor import datasets
from monitor.datasets import Purpose
from monitor.episodes.episodes import Impact
from monitor.labels import Provenance
from monitor.tables import ScanRow
from registry import ledger, serving
from registry.errors import PlanError
from registry.jobs import JobQueue, enqueue
from registry.serving import Withholding
from registry.versions import VersionRow
from retrain import runs
from retrain.change_plan import parse_plan
from retrain.rolling_back import roll_back
from retrain.tables import WatchLookRow, WatchRow
from retrain.watching import beginning
from retrain.watching.looking import WATCH, Watcher
from retrain.watching.showing import offered
from retrain.watching.states import WatchState


def looks(watched: Watched) -> list[WatchLookRow]:
    with watched.database.reading() as session:
        return beginning.looks_of(session, watched.row())


def out_of_use(watched: Watched) -> list[tuple[str, str | None]]:
    with watched.database.reading() as session:
        return [(row.kind, row.subgroup) for row in serving.restrictions(session, MODEL)]


def kinds(watched: Watched) -> list[str]:
    with watched.database.reading() as session:
        return [
            entry.kind
            for entry in ledger.entries(session)
            if entry.kind.startswith(("watch.", "model."))
        ]


def test_a_version_that_falls_is_suspended_and_the_record_says_why(watched: Watched) -> None:
    watched.apply_plan()
    watched.promote()
    for _ in range(6):
        watched.read(ill=10, found=6, well=10, cleared=9)
        watched.pass_days()
        if watched.row().state == WatchState.FAILED:
            break
    row = watched.row()
    assert (row.state, out_of_use(watched)) == (
        WatchState.FAILED,
        [(Withholding.SUSPEND, None)],
    )
    assert "sensitivity in use is 60.0%" in row.note
    assert "the gates promised 85.0% or more" in row.note
    assert "specificity" not in row.note
    [reason] = [one.reason for one in _restrictions(watched)]
    assert reason.startswith(f"{MODEL}@2 failed its watch: sensitivity in use")
    assert kinds(watched)[0] == "watch.begun"
    assert kinds(watched)[-2:] == ["watch.failed", "model.suspended"]
    assert ledger_is_valid(watched.database)
    seen = len(looks(watched))
    watched.read(ill=10, found=0)
    watched.pass_days()
    assert len(looks(watched)) == seen, "an ended watch looks no more"


def _restrictions(watched: Watched) -> list[serving.Restriction]:
    with watched.database.reading() as session:
        return serving.restrictions(session, MODEL)


def test_a_plan_may_alarm_and_leave_the_model_in_use(watched: Watched) -> None:
    watched.apply_plan(RULES.replace("suspend", "alarm"))
    watched.promote()
    watched.read(ill=60, found=20, well=30, cleared=30)
    watched.pass_days()
    assert watched.row().state == WatchState.FAILED
    assert out_of_use(watched) == []


def test_a_version_that_keeps_its_promise_ends_well(watched: Watched) -> None:
    watched.apply_plan()
    watched.promote()
    for _ in range(4):
        watched.read(ill=20, found=18, well=20, cleared=18)
        watched.pass_days(7)
    row = watched.row()
    assert row.state == WatchState.PASSED
    assert row.note.startswith("no fall was found in 28 days: sensitivity in use is 90.0%")
    assert [look.day for look in looks(watched)] == [7, 14, 21, 28]
    assert out_of_use(watched) == []
    assert kinds(watched)[-1] == "watch.passed"


def test_without_labels_a_watch_says_so_and_is_not_passed(watched: Watched) -> None:
    watched.apply_plan()
    watched.promote()
    watched.read(ill=40, found=5, labelled=False)
    watched.pass_days(27)
    assert watched.row().state == WatchState.WATCHING
    watched.pass_days(3)
    row = watched.row()
    assert row.state == WatchState.NOT_EVALUABLE
    assert "cannot be evaluated: 0 labelled patients with the finding" in row.note
    assert [look.day for look in looks(watched)] == [27, 28]


def test_labels_that_an_ai_influenced_and_later_scans_do_not_count(watched: Watched) -> None:
    watched.apply_plan()
    watched.promote()
    influenced = watched.read(ill=40, found=0, labelled=False)
    of_report = watched.read(ill=40, found=0, labelled=False)
    watched.retraining.label(influenced, values=[1] * 40, signed_at=None)
    watched.retraining.label(of_report, values=[1] * 40, provenance=Provenance.REPORT)
    watched.pass_days(28)
    watched.read(ill=40, found=0)
    watched.pass_days()
    assert watched.row().state == WatchState.NOT_EVALUABLE
    assert [look.labelled for look in looks(watched)] == [0]


def test_the_version_s_own_training_patients_do_not_count(watched: Watched) -> None:
    watched.apply_plan()
    run = watched.promote()
    scans = watched.read(ill=40, found=0)
    _train_on(watched, run, scans)
    watched.pass_days()
    assert [look.labelled for look in looks(watched)] == [0]


def test_a_watch_looks_once_a_day_however_often_one_ticks(watched: Watched) -> None:
    watched.apply_plan()
    watched.promote()
    watched.read(ill=30, found=27, well=30, cleared=27)
    assert watched.pass_days(0.5) == 0, "the first day is not over"
    watched.pass_days(0.5)
    for _ in range(3):
        watched.pass_days(0.2)
    assert [look.day for look in looks(watched)] == [1]
    watched.pass_days(5)
    assert [look.day for look in looks(watched)] == [1, 6]


def test_a_job_that_comes_twice_looks_once(watched: Watched) -> None:
    watched.apply_plan()
    watched.promote()
    watched.retraining.clock.at += timedelta(days=1)
    watcher = Watcher(watched.database, watched.retraining.clock)
    for number in range(2):
        with watched.database.transaction() as session:
            enqueue(
                session, kind=WATCH, key=f"again {number}", payload={"watch": watched.row().id}
            )
        claim = JobQueue(watched.database).claim("test", [WATCH])
        assert claim is not None
        watcher.handle(claim)
    assert len(looks(watched)) == 1


def test_each_look_spends_its_days_share_and_goes_on_from_what_is_recorded(
    watched: Watched,
) -> None:
    watched.apply_plan()
    watched.promote()
    for _ in range(3):
        watched.read(ill=20, found=18, well=20, cleared=18)
        watched.pass_days()
    of_sensitivity = [look.measures[0]["promises"][0]["looks"] for look in looks(watched)]
    assert [len(part) for part in of_sensitivity] == [1, 2, 3]
    assert of_sensitivity[2][:2] == of_sensitivity[1]
    spent = [part["spent"] for part in of_sensitivity[2]]
    assert spent == pytest.approx([0.025 * day / 28 for day in (1, 2, 3)])


def test_a_measure_must_lie_below_everything_that_was_promised_of_it(watched: Watched) -> None:
    watched.apply_plan()
    low = [
        promise.__class__(
            measure=promise.measure,
            of="the version where it drifted",
            measured=promise.measured,
            margin=promise.margin,
        )
        for promise in promise_all(0.5)
    ]
    watched.promote(promises=[*promise_all(0.9), *low])
    watched.read(ill=60, found=36, well=30, cleared=30)
    watched.pass_days()
    assert watched.row().state == WatchState.WATCHING
    [against_high, against_low] = looks(watched)[0].measures[0]["promises"]
    assert (against_high["crossed"], against_low["crossed"]) == (True, False)


def test_gates_that_recorded_no_promise_leave_the_watch_not_evaluable(watched: Watched) -> None:
    watched.apply_plan()
    watched.promote(promises=[])
    watched.read(ill=60, found=0, well=60, cleared=0)
    watched.pass_days(28)
    row = watched.row()
    assert (row.state, out_of_use(watched)) == (WatchState.NOT_EVALUABLE, [])
    assert "nothing was promised of sensitivity" in row.note


def test_a_rollback_ends_the_watch_and_puts_back_what_held_before(watched: Watched) -> None:
    watched.apply_plan()
    episode = watched.retraining.open_episode(impact=Impact.MEASURED)
    with watched.database.transaction() as session:
        serving.withhold(
            session,
            model=MODEL,
            kind=Withholding.RESTRICT,
            subgroup=SUBGROUP,
            reason="drift",
            actor="test",
            at=watched.retraining.now,
        )
    watched.promote(episode=episode)
    assert out_of_use(watched) == []
    watched.read(ill=60, found=20, well=30, cleared=30)
    watched.pass_days()
    assert out_of_use(watched) == [(Withholding.SUSPEND, None)]
    with watched.database.transaction() as session:
        roll_back(session, MODEL, reason="it failed", by=MEI, at=watched.retraining.now)
    assert out_of_use(watched) == [(Withholding.RESTRICT, SUBGROUP)]
    assert watched.row().state == WatchState.FAILED, "what it came to stays"
    assert ledger_is_valid(watched.database)


def test_a_watch_that_goes_on_is_cut_short_and_none_begins_of_the_restored(
    watched: Watched,
) -> None:
    watched.apply_plan()
    watched.promote()
    with watched.database.transaction() as session:
        roll_back(session, MODEL, reason="a person", by=MEI, at=watched.retraining.now)
    row = watched.row()
    assert (row.state, row.note) == (WatchState.CUT_SHORT, f"{MODEL}@1 serves")
    with watched.database.reading() as session:
        assert len(session.scalars(select(WatchRow)).all()) == 1
    assert watched.pass_days() == 0


def test_a_plan_without_a_watch_begins_none(watched: Watched) -> None:
    watched.apply_plan("")
    watched.promote()
    with watched.database.reading() as session:
        assert session.scalars(select(WatchRow)).all() == []


def test_a_drift_warns_and_suspends_only_where_the_plan_says(watched: Watched) -> None:
    watched.apply_plan()
    watched.promote()
    watched.retraining.open_episode()
    watched.pass_days()
    [look] = looks(watched)
    assert [one["sign"] for one in look.warnings] == ["drift"]
    assert watched.row().state == WatchState.WATCHING

    watched.apply_plan(RULES + "  suspend_on: [drift]\n")
    watched.promote()
    watched.retraining.open_episode()
    watched.pass_days()
    assert watched.row().state == WatchState.FAILED
    assert out_of_use(watched) == [(Withholding.SUSPEND, None)]


def test_calls_are_compared_with_those_in_the_shadow(watched: Watched) -> None:
    watched.apply_plan()
    watched.promote()
    watched.read(ill=80, found=70, labelled=False)
    watched.pass_days()
    assert looks(watched)[-1].warnings == []


def test_a_watch_at_a_site_looks_at_its_scans_and_restricts_there_alone(
    watched: Watched,
) -> None:
    watched.apply_plan()
    run = watched.promote()
    with watched.database.transaction() as session:
        row = runs.require_run(session, run)
        candidate = session.get_one(VersionRow, row.candidate)
        beginning.begin(session, row, candidate, deployment="north", at=watched.retraining.now)
    watched.read(ill=90, found=85, well=60, cleared=57)
    watched.read(ill=30, found=8, site="north")
    watched.pass_days()
    assert [look.labelled for look in looks(watched)] == [30]
    row = watched.row()
    assert (row.deployment, row.state) == ("north", WatchState.FAILED)
    with watched.database.reading() as session:
        assert (
            offered(session, row)
            == f"driftward rollback {MODEL} --from {MODEL}@2 --site north --reason …"
        )
    assert out_of_use(watched) == [(Withholding.RESTRICT, "site=north")]


def test_looks_can_be_neither_changed_nor_deleted(watched: Watched) -> None:
    watched.apply_plan()
    watched.promote()
    watched.pass_days()
    for statement in ("UPDATE watch_looks SET labelled = 9", "DELETE FROM watch_looks"):
        with pytest.raises(DatabaseError), watched.database.transaction() as session:
            session.execute(text(statement))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ("days: 0", r"plan.yaml:\d+: watch.days: .*greater than or equal to 1"),
        ("error_rate: 0.5", r"watch.error_rate: .*less than 0.5"),
        ("least_labels: 3", "watch.least_labels: .*greater than or equal to 10"),
        ("when_it_fails: shout", "watch.when_it_fails: .*'suspend' or 'alarm'"),
        ("measures: []", "watch.measures: .*at least 1 item"),
        ("measures: [AUC]", "watch.measures.0: .*'sensitivity' or 'specificity'"),
        ("measures: [sensitivity, sensitivity]", "watch.measures: a measure is named twice"),
        ("weeks: 4", "watch.weeks: is no key that is known here"),
    ],
)
def test_a_watch_that_cannot_be_is_refused_by_line_and_key(changed: str, told: str) -> None:
    key = changed.partition(":")[0]
    kept = [line for line in RULES.splitlines() if not line.strip().startswith(f"{key}:")]
    rules = "\n".join([*kept, f"  {changed}"])
    with pytest.raises(PlanError, match=told):
        parse_plan(f"{_plan()}{rules}\n", source="plan.yaml")


def test_warnings_cannot_suspend_where_the_plan_only_alarms() -> None:
    rules = RULES.replace("suspend", "alarm") + "  suspend_on: [drift]\n"
    with pytest.raises(PlanError, match=r"watch.suspend_on: drift cannot suspend where"):
        parse_plan(_plan() + rules, source="plan.yaml")


def _plan() -> str:
    return PLAN if PLAN.endswith("\n") else f"{PLAN}\n"


def _train_on(watched: Watched, run: int, scans: list[int]) -> None:
    """Let the run's candidate have been trained on these scans."""
    with watched.database.transaction() as session:
        rows = session.scalars(select(ScanRow).where(ScanRow.id.in_(scans))).all()
        frozen = datasets.freeze(
            session,
            rows,
            purpose=Purpose.TRAINING,
            description="",
            actor="test",
            at=watched.retraining.now,
        )
        version = session.get_one(VersionRow, runs.require_run(session, run).candidate)
        version.card = {"training_data": [{"digest": frozen.digest}]}
        seal(session, "version.registered", version)
