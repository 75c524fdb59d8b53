from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from monitored_history import ANCHOR, DIMENSION, History
from sqlalchemy import func, select, update

from monitor.episodes import episodes
from monitor.episodes.causes import Cause
from monitor.episodes.episode_evidence import HEAVIEST, gather
from monitor.episodes.episodes import EpisodeState
from monitor.episodes.recovery import recovery
from monitor.evaluation import (
    Evaluation,
    evaluate,
    store_verdicts,
)
from monitor.monitors import apply_monitor
from monitor.subgroups import Subgroup
from monitor.tables import EmbeddingRow, EpisodeRow, ScanRow, VerdictRow
from monitor.verdict_history import is_judged, unjudged_windows
from monitor.windows import Window
from registry import ledger
from registry.errors import ConflictError, NotFoundError


def judge(history: History, number: int) -> Evaluation:
    """Judge a window as the worker's job does."""
    window = history.window(number)
    with history.database.reading() as session:
        evaluation = evaluate(
            session, history.profiles, history.monitor, window, now=window.end
        )
    with history.database.transaction() as session:
        store_verdicts(session, evaluation, actor="test", at=window.end)
        if evaluation.alarm:
            found = gather(session, history.profiles, evaluation)
            episodes.record_alarm(session, evaluation, found, actor="test", at=window.end)
        episodes.close_recovered(session, evaluation, actor="test", at=window.end)
    return evaluation


def fill(history: History, number: int, *, shift: float = 0.0, version: str = "1.0") -> None:
    start = history.window(number).start
    history.add(80, at=start + timedelta(hours=1), shift=shift, software_version=version)


def apply_length(history: History, hours: float) -> None:
    specification = history.monitor.specification.model_copy(update={"window_hours": hours})
    with history.database.transaction() as session:
        history.monitor = apply_monitor(session, specification, actor="test", at=ANCHOR)


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
        evaluate(
            session,
            history.profiles,
            history.monitor,
            history.window(0),
            now=history.window(0).end,
        )


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
    # Scan by scan, not window by window.
    assert episode.onset == history.window(1).start + timedelta(hours=1)
    assert (episode.cause, episode.subgroup) == (Cause.ACQUISITION, "software_version=2.1")
    assert len(episode.heaviest) == HEAVIEST


def test_a_shift_without_new_equipment_is_not_called_acquisition(history: History) -> None:
    for number in (0, 1):
        fill(history, number, shift=1.5)
        judge(history, number)
    assert only_episode(history).cause == Cause.TECHNICAL


def test_a_window_that_names_no_cause_leaves_the_one_that_was_named(history: History) -> None:
    for number, shift in enumerate((1.5, 1.5, 0.6, 0.6)):
        fill(history, number, shift=shift)
        judge(history, number)
    named = only_episode(history)
    assert named.cause == Cause.TECHNICAL
    # Too weak to tell what it is, and a shift all the same.
    fill(history, 4, shift=0.6)
    weak = judge(history, 4)
    assert weak.alarm
    with history.database.reading() as session:
        assert gather(session, history.profiles, weak).diagnosis.cause == Cause.UNKNOWN
    after = only_episode(history)
    assert after.cause == Cause.TECHNICAL
    assert after.evidence["diagnosis"] == named.evidence["diagnosis"]
    assert after.evidence["window"] != named.evidence["window"]


def test_a_place_keeps_its_words_where_a_later_window_sees_the_shift_elsewhere(
    history: History,
) -> None:
    for number in (0, 1):
        fill(history, number, shift=1.5)
        judge(history, number)
    opened = only_episode(history)
    assert opened.subgroup is None
    assert opened.evidence["place_now"] is None
    start = history.window(2).start + timedelta(hours=1)
    history.add(60, at=start)
    history.add(60, at=start, shift=1.5, software_version="2.1")
    assert judge(history, 2).alarm
    after = only_episode(history)
    assert after.subgroup is None
    assert after.evidence["place"] == opened.evidence["place"]
    assert after.evidence["place_now"].startswith("only software_version=2.1 moved")


def test_an_attribute_that_scans_no_longer_state_is_said(history: History) -> None:
    fill(history, 0)
    said = "software version: 80 of 80 scans do not state it, and 0% of the reference's: they"
    assert not any(said in note for note in judge(history, 0).notes)
    fill(history, 1)
    with history.database.transaction() as session:
        session.execute(
            update(ScanRow)
            .where(ScanRow.arrived_at >= history.window(1).start)
            .values(software_version=None)
        )
    assert any(note.startswith(said) for note in judge(history, 1).notes)


def test_a_scan_whose_embedding_is_no_number_keeps_no_other_from_being_judged(
    history: History,
) -> None:
    for number in (0, 1):
        fill(history, number, shift=1.5)
        with history.database.transaction() as session:
            newest = session.scalar(select(func.max(ScanRow.id)))
            for row in session.scalars(select(EmbeddingRow).where(EmbeddingRow.scan == newest)):
                row.vector = np.full(DIMENSION, np.inf, dtype="<f2").tobytes()
        found = judge(history, number)
        assert [item.verdict.scans for item in found.verdicts] == [79, 79]
        assert found.notes[0] == (
            "monitoring encoder: embeddings that are no numbers, of 1 scan"
        )
    assert found.alarm
    assert only_episode(history).cause == Cause.TECHNICAL


def test_a_window_that_hardly_shows_a_shift_leaves_its_figures(history: History) -> None:
    for number, shift in enumerate((1.5, 1.5)):
        fill(history, number, shift=shift)
        judge(history, number)
    opened = only_episode(history)
    # Within the rule of two windows in a row an alarm, and by itself no more than chance.
    fill(history, 2, shift=0.2)
    weak = judge(history, 2)
    assert weak.alarm
    assert min(item.verdict.alarm_p_value for item in weak.deciding) > weak.alpha
    after = only_episode(history)
    assert after.evidence["window"] == str(weak.window)
    assert (after.effect, after.heaviest) == (opened.effect, opened.heaviest)
    for figure in ("effect", "detectors", "subgroups", "displaced_share", "smallest_effect"):
        assert after.evidence[figure] == opened.evidence[figure]


def test_a_shift_that_goes_on_is_one_episode(history: History) -> None:
    for number in range(4):
        fill(history, number, shift=0.8, version="2.1")
        judge(history, number)
    episode = only_episode(history)
    assert episode.opened_at == history.window(1).end


def test_a_window_that_shows_nothing_does_not_bring_an_episode_up_to_date(
    history: History,
) -> None:
    fill(history, 0)
    judge(history, 0)
    for number in (1, 2):
        fill(history, number, shift=0.8, version="2.1")
        judge(history, number)
    alarmed = only_episode(history)
    fill(history, 3, version="2.1")
    # The rule still counts the two windows before it, which are of its block.
    quiet = judge(history, 3)
    assert quiet.p_value is not None
    assert quiet.p_value <= quiet.alpha
    assert not quiet.alarm
    after = only_episode(history)
    assert (after.evidence, after.effect) == (alarmed.evidence, alarmed.effect)
    fill(history, 4, version="2.1")
    judge(history, 4)
    assert only_episode(history).state == EpisodeState.CLOSED


def test_a_place_recovers_by_what_its_own_scans_could_have_shown(history: History) -> None:
    history.watch("site")
    history.accept_reference(shifts={"site": 0.0, "small": 0.0})

    def fill_both(number: int, shift: float) -> None:
        start = history.window(number).start + timedelta(hours=1)
        history.add(120, at=start)
        history.add(30, at=start, site="small", shift=shift)
        judge(history, number)

    for number in (0, 1):
        fill_both(number, 0.9)
    episode = only_episode(history)
    assert episode.subgroup == "site=small"
    with history.database.transaction() as session:
        # The newest alarm was of all scans, of which far smaller shifts show.
        row = episodes.require_episode(session, episode.id)
        row.effect = 0.1
        row.evidence = {**row.evidence, "smallest_effect": 0.1}
        episodes.record_change(
            session, row, "episode.updated", {}, actor="test", at=history.window(1).end
        )
    for number in (2, 3):
        fill_both(number, 0.0)
    assert only_episode(history).state == EpisodeState.CLOSED


def test_a_place_that_cuts_across_the_one_that_two_windows_name_gives_way_to_it(
    history: History,
) -> None:
    history.watch("site")
    history.accept_reference(shifts={"site": 0.0, "small": 0.0})

    def alarm(number: int, place: str | None = None) -> str | None:
        start = history.window(number).start + timedelta(hours=1)
        history.add(120, at=start)
        history.add(30, at=start, site="small", shift=0.9)
        window = history.window(number)
        with history.database.transaction() as session:
            evaluation = evaluate(
                session, history.profiles, history.monitor, window, now=window.end
            )
            store_verdicts(session, evaluation, actor="test", at=window.end)
            if evaluation.alarm:
                found = gather(session, history.profiles, evaluation)
                if place is not None:
                    told = replace(found.diagnosis, subgroup=Subgroup.parse(place))
                    found = replace(found, diagnosis=told)
                episodes.record_alarm(session, evaluation, found, actor="test", at=window.end)
        return only_episode(history).subgroup if evaluation.alarm else None

    # What cuts across moves; a place within the one that is known does not.
    places = [alarm(0), alarm(1, "view=AP"), alarm(2), alarm(3), alarm(4)]
    assert places == [None, "view=AP", "view=AP", "site=small", "site=small"]
    inside = "site=small & station=1"
    assert [alarm(5, inside), alarm(6, inside)] == ["site=small", "site=small"]
    place = only_episode(history).evidence["place"]
    assert place.startswith("only site=small moved")


def test_a_shift_s_size_is_that_of_its_place(history: History) -> None:
    history.watch("site")
    history.accept_reference(shifts={"site": 0.0, "small": 0.0})

    def fill_both(number: int, *, site: float, small: float) -> None:
        start = history.window(number).start + timedelta(hours=1)
        history.add(120, at=start, shift=site)
        history.add(30, at=start, site="small", shift=small)
        judge(history, number)

    for number in (0, 1):
        fill_both(number, site=0.0, small=0.9)
    placed = only_episode(history)
    assert placed.subgroup == "site=small"
    assert placed.effect > 2.0
    # Now all scans are alike and shifted: what alarms is of no place.
    fill_both(2, site=0.3, small=0.3)
    elsewhere = only_episode(history)
    assert elsewhere.evidence["window"] == str(history.window(2))
    assert (elsewhere.subgroup, elsewhere.evidence["place_named"]) == ("site=small", None)
    assert elsewhere.effect == placed.effect
    for told in ("place", "effect", "smallest_effect", "detectors", "encoder"):
        assert elsewhere.evidence[told] == placed.evidence[told]


def test_where_a_shift_is_may_be_told_by_a_verdict_that_sees_it_less_clearly(
    history: History,
) -> None:
    for number in (0, 1):
        fill(history, number, shift=1.5, version="2.1")
        found = judge(history, number)
    telling = found.deciding[0]
    # Clearer, and without a subgroup that could say where.
    blind = replace(telling, subgroups=(), persistence_p_value=telling.p_value / 2.0)
    with history.database.reading() as session:
        for verdicts in ((blind, telling), (telling, blind)):
            placed = gather(session, history.profiles, replace(found, verdicts=verdicts))
            assert "software_version=2.1" in placed.document["place"]
        alone = gather(session, history.profiles, replace(found, verdicts=(blind,)))
        assert alone.document["place"] == "no subgroup had enough scans to be tested"


def test_no_shift_is_dated_before_the_first_window(history: History) -> None:
    history.add(40, at=ANCHOR - timedelta(days=1), shift=0.8)
    for number in (0, 1):
        fill(history, number, shift=0.8)
        judge(history, number)
    assert only_episode(history).onset == ANCHOR + timedelta(hours=1)


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


def test_a_window_that_has_not_ended_is_judged_and_alarms_nobody(history: History) -> None:
    for number in (0, 1):
        fill(history, number, shift=1.5)
    judge(history, 0)
    window = history.window(1)
    for now, ended in ((window.end - timedelta(seconds=1), False), (window.end, True)):
        with history.database.reading() as session:
            early = evaluate(session, history.profiles, history.monitor, window, now=now)
        assert early.p_value is not None
        assert (early.scheduled, early.alarm) == (ended, ended)


def test_windows_of_another_length_begin_where_the_old_ones_end(history: History) -> None:
    for number in (0, 1, 2):
        fill(history, number, shift=1.5)
        judge(history, number)
    apply_length(history, 168)
    until = history.window(8).start
    with history.database.reading() as session:
        due = unjudged_windows(session, history.monitor, until=until)
    # The first whole week was judged by two halves, of the second one half was.
    weeks = [
        Window(start=history.window(n).start, end=history.window(n + 2).start)
        for n in (2, 4, 6)
    ]
    assert due == weeks
    first_week = Window(start=history.window(0).start, end=history.window(2).start)
    with history.database.reading() as session:
        judged = [is_judged(session, "chest", one) for one in (first_week, *weeks[:2])]
    assert judged == [True, False, False]
    # A half week that begins with a week is no week before the next.
    with history.database.reading() as session:
        [first, *_] = evaluate(
            session, history.profiles, history.monitor, due[0], now=until
        ).verdicts
    assert first.verdict.p_value < 0.001
    assert first.persistence_p_value == 1.0
    apply_length(history, 84)
    with history.database.reading() as session:
        again = unjudged_windows(session, history.monitor, until=until)
    assert again == [history.window(number) for number in range(3, 8)]


def test_blank_images_of_one_site_raise_its_alarm_and_keep_nobody_else_from_a_verdict(
    history: History,
) -> None:
    history.watch("site")
    history.accept_reference(shifts={"site": 0.0, "other": 0.0})
    for number in (0, 1):
        fill(history, number)
        at = history.window(number).start + timedelta(hours=2)
        blank = history.add(60, at=at, site="other")
        with history.database.transaction() as session:
            for row in session.scalars(
                select(EmbeddingRow).where(EmbeddingRow.scan.in_(blank))
            ):
                row.vector = np.full(DIMENSION, 0.25, dtype="<f2").tobytes()
        evaluation = judge(history, number)
        moved = {str(one.subgroup): one.moved for one in evaluation.verdicts[0].subgroups}
        assert moved == {"site=site": False, "site=other": True}
    episode = only_episode(history)
    assert (episode.cause, episode.subgroup) == (Cause.PIPELINE, "site=other")
    [why, *_] = episode.evidence["diagnosis"]["reasons"]
    assert why.startswith("120 of 120 scans are to the bit what another patient's is: blank")


def test_the_budget_is_kept_by_blocks_of_two_windows(history: History) -> None:
    assert history.monitor.specification.block_alpha == pytest.approx(0.005)


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


def test_an_episode_closes_by_itself_after_two_windows_that_would_have_shown_it(
    history: History,
) -> None:
    for number in (0, 1):
        fill(history, number, shift=0.8, version="2.1")
        judge(history, number)
    assert only_episode(history).subgroup == "software_version=2.1"
    # The restored version is what scans come from now; none of the other kind arrive.
    for number in (2, 3):
        fill(history, number)
        judge(history, number)
    # A subgroup that sends nothing has not recovered.
    assert only_episode(history).state == EpisodeState.OPEN
    for number, still_open in ((4, True), (5, False)):
        fill(history, number, version="2.1")
        judge(history, number)
        assert (only_episode(history).state == EpisodeState.OPEN) is still_open
    episode = only_episode(history)
    assert episode.closed_at == history.window(5).end
    assert episode.closed_reason is not None
    assert episode.closed_reason.startswith("recovered: in 2 windows in a row")


@pytest.mark.parametrize(
    ("one", "other", "gone"),
    [(0.04, 0.6, True), (0.6, 0.04, True), (0.1, 0.1, False), (0.005, 1.0, False)],
)
def test_two_windows_close_an_episode_by_what_they_show_together(
    history: History, one: float, other: float, gone: bool
) -> None:
    for number in range(4):
        fill(history, number, shift=0.8 if number < 2 else 0.0)
        judge(history, number)
    with history.database.reading() as session, session.no_autoflush:
        [row] = episodes.all_episodes(session)
        evaluation = evaluate(
            session,
            history.profiles,
            history.monitor,
            history.window(3),
            now=history.window(3).end,
        )
        for number, p_value in ((2, one), (3, other)):
            for verdict in session.scalars(
                select(VerdictRow).where(VerdictRow.start == history.window(number).start)
            ):
                verdict.p_value, verdict.week_p_value = p_value, None
        found = recovery(session, row, evaluation)
    assert found.recovered is gone
    assert ("still shows" in found.reason) is not gone


@pytest.mark.parametrize("place", ["site=small", None])
def test_windows_of_a_place_need_not_wait_for_a_stream_of_all_scans(
    history: History, place: str | None
) -> None:
    history.watch("site")
    history.accept_reference(shifts={"site": 0.0, "small": 0.0})
    for number in range(4):
        start = history.window(number).start + timedelta(hours=1)
        history.add(120, at=start)
        history.add(30, at=start, site="small", shift=0.9 if number < 2 else 0.0)
        judge(history, number)
    last = history.window(3)
    with history.database.reading() as session, session.no_autoflush:
        [row] = episodes.all_episodes(session)
        assert (row.subgroup, row.state) == ("site=small", EpisodeState.CLOSED)
        row.subgroup = place
        row.evidence = {
            **row.evidence,
            "streams": [{"encoder": "champion", "ended_at": None}],
        }
        evaluation = evaluate(session, history.profiles, history.monitor, last, now=last.end)
        found = recovery(session, row, evaluation)
    assert found.recovered is (place is not None)
    assert ("scan by scan" in found.reason) is (place is None)


def test_windows_too_small_to_show_the_shift_close_nothing(history: History) -> None:
    for number in (0, 1):
        fill(history, number, shift=0.25)
        judge(history, number)
    for number in (2, 3, 4):
        history.add(22, at=history.window(number).start + timedelta(hours=1))
        judge(history, number)
    assert only_episode(history).state == EpisodeState.OPEN


def test_a_shift_that_comes_back_after_recovery_is_a_new_episode(history: History) -> None:
    for number in range(6):
        fill(history, number, shift=0.8 if number in (0, 1, 4, 5) else 0.0)
        judge(history, number)
    with history.database.reading() as session:
        newest, oldest = episodes.all_episodes(session)
    assert (oldest.state, newest.state) == (EpisodeState.CLOSED, EpisodeState.OPEN)
    assert newest.onset > history.window(4).start


def test_a_window_of_ones_own_raises_no_alarm(history: History) -> None:
    for number in (0, 1):
        fill(history, number, shift=0.8)
        judge(history, number)
    own = Window(start=history.window(0).start, end=history.window(1).end)
    with history.database.reading() as session:
        evaluation = evaluate(session, history.profiles, history.monitor, own, now=own.end)
    assert evaluation.verdicts[0].verdict.p_value < 0.001
    assert not evaluation.scheduled
    assert not evaluation.alarm
