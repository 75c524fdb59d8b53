"""A plan that is not in force, replayed on half a year with three shifts."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from plan_texts import with_values
from shifted_history import ANCHOR, MONITOR, UNTIL, WEEK, ShiftedHistory
from sqlalchemy import func, select

from api.assembly import Driftward
from registry.canonical import canonical_bytes
from registry.database import Base
from registry.ledger import LedgerHead
from retrain.backtesting.backtest import PLAN
from retrain.backtesting.question import ask
from retrain.backtesting.report import Backtest, policy

pytestmark = pytest.mark.slow


def asked(
    history: ShiftedHistory,
    *,
    since: datetime = ANCHOR,
    until: datetime = UNTIL,
    text: str | None = None,
) -> Backtest:
    with history.driftward.database.reading() as session:
        question = ask(
            session,
            MONITOR,
            since=since,
            until=until,
            text=text or history.plan_text(),
            source="plan.yaml",
            # A coarser look than by default: half a year in a third of the time.
            look=timedelta(days=3),
        )
    return history.driftward.backtest(question)


@pytest.fixture(scope="module")
def found(history: ShiftedHistory) -> Backtest:
    """What the plan would have done in the whole half year."""
    return asked(history)


def test_the_first_shift_opens_an_episode_at_its_place_within_days(found: Backtest) -> None:
    first = found.episodes[0]
    began = ANCHOR + 6 * WEEK
    assert (first.cause, first.subgroup) == ("acquisition", "software_version=2.0")
    assert began < first.opened_at < began + timedelta(days=10)
    assert abs(first.onset - began) < timedelta(days=3)
    assert first.stream_alarms
    # Nothing alarmed in the six ordinary weeks before.
    assert not any(window.alarm for window in found.windows if window.end <= began)


def test_what_the_plan_asks_for_is_decided_in_its_order(found: Backtest) -> None:
    of_first = [one for one in found.decisions if one.episode == 1]
    # A ticket until the cause is known; then what the plan has for it.
    assert [one.action for one in of_first] == ["ticket", "restrict", "label request", "run"]
    # A run waits until labels, which come days after their scans, have measured an impact.
    assert of_first[3].at > of_first[2].at + timedelta(days=7)


def test_a_shift_at_the_other_site_has_an_episode_of_its_own(found: Backtest) -> None:
    began = ANCHOR + 19 * WEEK
    later = [one for one in found.episodes if one.opened_at > began]
    assert [one.subgroup for one in later] == ["software_version=7.1"]
    assert abs(later[0].onset - began) < timedelta(days=3)


def test_a_run_is_judged_by_the_real_gates_and_what_it_cannot_try_is_named(
    found: Backtest,
) -> None:
    run = found.runs[0]
    assert run.not_simulated == ("full fine-tuning",)
    assert found.not_simulated["full fine-tuning"] >= 1
    assert found.gates_left_out == ("parity",)
    assert set(run.gates) == {
        "superiority_where_it_drifted",
        "non_inferiority_on_reference",
        "no_patient_on_both_sides",
        "label_provenance",
    }
    outcomes = {outcome for outcome, _ in run.gates.values()}
    assert (run.state == "promoted") == (outcomes == {"passed"})
    # Nothing is on record of what full fine-tuning takes.
    assert run.hours is None


def test_four_policies_are_measured_on_the_same_labels(found: Backtest) -> None:
    names = [one.name for one in found.policies]
    assert names == [PLAN, "never", "periodic", "performance-triggered"]
    read = {tuple((week.scans, week.positives) for week in one.weeks) for one in found.policies}
    assert len(read) == 1
    assert len(found.policies[0].weeks) == 26
    never = policy("never", found.policies)
    assert (never.runs, never.labels_used, never.promotions, never.hours) == (0, 0, (), 0.0)
    periodic = policy("periodic", found.policies)
    assert periodic.runs == len(periodic.promotions) == 6
    # The head that is refitted learns where the finding shows now.
    better, worse = periodic.whole.figures["auc"], never.whole.figures["auc"]
    assert better is not None
    assert worse is not None
    assert better.estimate > worse.estimate
    # The last shift raises scores, which labels show as a loss of specificity.
    triggered = policy("performance-triggered", found.policies)
    assert triggered.promotions
    assert triggered.promotions[0][0] > ANCHOR + 7 * WEEK
    assert "fell from" in triggered.promotions[0][1]
    assert 0 < triggered.labels_used <= periodic.labels_used
    # Before the first shift nothing is wrong, so an early week is not surely below the floor.
    assert found.floor is not None
    assert not found.floor.surely_below(never.weeks[0])


def test_nothing_in_the_installation_changes_and_the_answer_repeats_to_the_byte(
    history: ShiftedHistory,
) -> None:
    before = _contents(history.driftward)
    since, until = ANCHOR + 5 * WEEK, ANCHOR + 11 * WEEK
    first = asked(history, since=since, until=until)
    second = asked(history, since=since, until=until)
    assert canonical_bytes(first.to_dict()) == canonical_bytes(second.to_dict())
    assert first.episodes
    assert _contents(history.driftward) == before
    assert list(history.driftward.home.work.glob("backtest-*")) == []


def test_a_candidate_that_passes_is_promoted_and_its_shift_becomes_usual(
    history: ShiftedHistory,
) -> None:
    text = with_values(history.plan_text(), at_least="170", minimum_positives="15")
    # So few labels show no smaller margin on the reference.
    narrow = "reference_margins: {sensitivity: 0.08, specificity: 0.08, auc: 0.03}"
    assert narrow in text
    text = text.replace(narrow, narrow.replace("0.08", "0.3").replace("0.03", "0.15"))
    found = asked(history, since=ANCHOR + 5 * WEEK, until=ANCHOR + 17 * WEEK, text=text)
    run = found.runs[0]
    assert (run.state, {outcome for outcome, _ in run.gates.values()}) == (
        "promoted",
        {"passed"},
    )
    [(promoted, version)] = found.policies[0].promotions
    assert (promoted, version) == (run.ended_at, "pneumonia@2")
    # It shadowed for as long as the plan says.
    assert run.begun_at is not None
    assert promoted - run.begun_at >= timedelta(days=7)
    first = found.episodes[0]
    assert (first.state, first.ended_at) == ("accepted", promoted)
    # What was a shift is usual now: windows after it show nothing.
    later = [window for window in found.windows if window.start >= promoted]
    assert later
    assert not any(window.alarm for window in later)


def test_a_strategy_that_changes_the_encoder_is_named_and_not_simulated(
    history: ShiftedHistory,
) -> None:
    text = with_values(history.plan_text(), acquisition="LoRA", technical="none")
    found = asked(history, since=ANCHOR + 5 * WEEK, until=ANCHOR + 13 * WEEK, text=text)
    [run] = [one for one in found.runs if one.episode == 1]
    assert (run.state, run.not_simulated) == ("superseded", ("LoRA",))
    assert run.note == "not simulated: LoRA changes the encoder"
    assert found.not_simulated == {"LoRA": 1}
    assert found.policies[0].promotions == ()


def test_a_plan_without_authority_only_opens_tickets(history: ShiftedHistory) -> None:
    text = with_values(history.plan_text(), authority="none")
    found = asked(history, since=ANCHOR + 5 * WEEK, until=ANCHOR + 8 * WEEK, text=text)
    assert {one.action for one in found.decisions} <= {"ticket", "restrict"}
    assert found.runs == ()


def _contents(driftward: Driftward) -> dict[str, object]:
    """Return how many rows each table has, and the ledger's newest digest."""
    with driftward.database.reading() as session:
        counts: dict[str, object] = {
            name: session.scalar(select(func.count()).select_from(table))
            for name, table in Base.metadata.tables.items()
        }
        counts["ledger's head"] = session.scalar(select(LedgerHead.digest))
    return counts
