from __future__ import annotations

from datetime import timedelta

import pytest
from monitored_history import History

from monitor import episodes
from monitor.causes import Cause
from monitor.episodes import EpisodeState
from monitor.evaluation import (
    Evaluation,
    block_alpha,
    evaluate,
    store_verdicts,
    unjudged_windows,
)
from monitor.tables import EpisodeRow
from registry import ledger
from registry.errors import ConflictError, NotFoundError


def judge(history: History, number: int) -> Evaluation:
    window = history.window(number)
    with history.database.reading() as session:
        evaluation = evaluate(session, history.profiles, history.monitor, window)
    with history.database.transaction() as session:
        store_verdicts(session, evaluation, actor="test", at=window.end)
        if evaluation.alarm:
            episodes.record_alarm(
                session, history.profiles, evaluation, actor="test", at=window.end
            )
    return evaluation


def fill(history: History, number: int, *, shift: float = 0.0, version: str = "1.0") -> None:
    start = history.window(number).start
    history.add(80, at=start + timedelta(hours=1), shift=shift, software_version=version)


def only_episode(history: History) -> EpisodeRow:
    with history.database.reading() as session:
        [row] = episodes.all_episodes(session)
    return row


def test_a_monitor_without_a_reference_says_how_to_get_one(bare_history: History) -> None:
    history = bare_history
    with (
        history.database.reading() as session,
        pytest.raises(NotFoundError, match="driftward reference build chest"),
    ):
        evaluate(session, history.profiles, history.monitor, history.window(0))


def test_usual_windows_raise_no_alarm(history: History) -> None:
    for number in range(4):
        fill(history, number)
        assert not judge(history, number).alarm


def test_one_shifted_window_is_no_alarm_and_two_in_a_row_are(history: History) -> None:
    fill(history, 0)
    judge(history, 0)
    for number in (1, 2):
        fill(history, number, shift=0.8, version="2.1")
    first, second = judge(history, 1), judge(history, 2)
    assert first.verdicts[0].verdict.p_value < 0.001
    assert not first.alarm
    assert second.alarm
    episode = only_episode(history)
    assert episode.onset == history.window(1).start
    assert (episode.cause, episode.subgroup) == (Cause.ACQUISITION, "software_version=2.1")
    assert len(episode.heaviest) == episodes.HEAVIEST


def test_a_shift_without_new_equipment_is_not_called_acquisition(history: History) -> None:
    for number in (0, 1):
        fill(history, number, shift=1.5)
        judge(history, number)
    assert only_episode(history).cause == Cause.TECHNICAL


def test_a_shift_that_goes_on_is_one_episode(history: History) -> None:
    for number in range(4):
        fill(history, number, shift=0.8, version="2.1")
        judge(history, number)
    episode = only_episode(history)
    assert episode.opened_at == history.window(1).end


def test_a_window_below_the_floor_is_not_judged_and_says_so(history: History) -> None:
    history.add(10, at=history.window(0).start + timedelta(hours=1))
    evaluation = judge(history, 0)
    assert evaluation.p_value is None
    assert not evaluation.alarm
    assert "10 scans are fewer than the floor of 20" in evaluation.notes[0]


def test_a_verdict_is_reproduced_to_the_bit(history: History) -> None:
    fill(history, 0, shift=0.1)
    first, second = judge(history, 0), judge(history, 0)
    for before, after in zip(first.verdicts, second.verdicts, strict=True):
        assert before.verdict == after.verdict
        assert before.persistence_p_value == after.persistence_p_value


def test_windows_are_due_once_after_they_ended(history: History) -> None:
    now = history.window(2).start + timedelta(hours=1)
    with history.database.reading() as session:
        due = unjudged_windows(session, history.monitor, until=now)
    assert due == [history.window(0), history.window(1)]
    fill(history, 0)
    judge(history, 0)
    with history.database.reading() as session:
        assert unjudged_windows(session, history.monitor, until=now) == [history.window(1)]


def test_the_budget_is_kept_by_blocks_of_two_windows(history: History) -> None:
    assert block_alpha(history.monitor) == pytest.approx(0.005)


def test_an_ended_episode_is_not_ended_twice(history: History) -> None:
    for number in (0, 1):
        fill(history, number, shift=0.8)
        judge(history, number)
    with history.database.transaction() as session:
        row = episodes.require_episode(session, 1)
        episodes.end(
            session, row, EpisodeState.CLOSED, reason="seen", actor="test", at=history.anchor
        )
        with pytest.raises(ConflictError, match="is closed already: seen"):
            episodes.end(
                session, row, EpisodeState.CLOSED, reason="x", actor="test", at=history.anchor
            )


def test_the_ledger_vouches_for_verdicts_and_episodes(history: History) -> None:
    for number in (0, 1):
        fill(history, number, shift=0.8)
        judge(history, number)
    with history.database.reading() as session:
        assert ledger.verify(session).valid
    with history.database.transaction() as session:
        session.get_one(EpisodeRow, 1).impact = "none shown, honestly"
    with history.database.reading() as session:
        fault = ledger.verify(session).fault
    assert fault is not None
    assert "episodes/1 was changed" in fault.problem
