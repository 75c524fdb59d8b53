"""Each stream sees each scan once, whatever stops, comes late or changes meanwhile."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from followed_history import LOT, SETTINGS, FollowedHistory
from monitored_history import History
from sqlalchemy import func, select, update

from monitor import references
from monitor.episodes.episodes import EpisodeState
from monitor.following.arranging import MANY_SCANS, following_is_due
from monitor.following.follower import FOLLOW
from monitor.following.incoming import Odd
from monitor.following.settings import StreamSettings
from monitor.following.standing import following
from monitor.tables import EmbeddingRow, ScanRow, StreamRow, StreamScan
from registry import ledger
from registry.errors import LeaseLostError
from registry.jobs import Job, JobQueue
from retrain.scheduling import tick


def test_every_scan_is_seen_once_by_the_stream_of_each_reference(
    followed: FollowedHistory,
) -> None:
    followed.live(2 * LOT + 5)
    followed.follow()
    assert followed.episodes() == []
    for row in followed.streams():
        assert row.scans == 2 * LOT + 5
        assert followed.dealt_with(row) == list(range(row.scans))
        assert row.state == followed.undisturbed(row)
    with followed.database.reading() as session:
        assert ledger.verify(session).valid


def test_the_budget_is_shared_by_the_streams(followed: FollowedHistory) -> None:
    followed.follow()
    # One a month at 20 scans a day is one in 600 scans.
    assert [row.scans_between_false_alarms for row in followed.streams()] == [1200, 1200]


def test_scans_a_day_are_measured_where_nobody_states_them(history: History) -> None:
    followed = FollowedHistory(history, StreamSettings(false_alarms="one per month"))
    followed.follow()
    first, _ = followed.streams()
    # 400 scans of the reference, a week ago.
    assert (first.measured, first.scans_a_day) == (True, pytest.approx(400 / 7))
    assert first.scans_between_false_alarms == 2 * round(30 * 400 / 7)
    assert first.burn_in == 5 * 400
    # Twice as many come, and the budget follows.
    followed.live(900, windows=False, follow=False)
    followed.clock.at = followed.history.anchor + timedelta(days=7)
    followed.follow()
    assert followed.streams()[0].scans_a_day == pytest.approx((400 + 168) / 14)


def test_a_restart_in_the_burn_in_goes_on_where_it_was(history: History) -> None:
    settings = SETTINGS.model_copy(update={"burn_in_scans": 60})
    followed = FollowedHistory(history, settings)
    followed.live(2 * LOT)
    followed.restart()
    followed.live(LOT)
    for row in followed.streams():
        assert row.state == followed.undisturbed(row)
    # The burn-in is over, and it was not longer than it should be.
    followed.live(2 * LOT, shift=0.9, windows=False)
    assert len(followed.episodes()) == 1


def test_a_burn_in_that_was_changed_half_way_stays_and_says_so(history: History) -> None:
    followed = FollowedHistory(history, SETTINGS.model_copy(update={"burn_in_scans": 60}))
    followed.live(LOT)

    def notes() -> list[str]:
        with followed.database.reading() as session:
            standing = following(session, followed.history.monitor)
        return [note for stream in standing.streams for note in stream.notes]

    assert notes() == []
    followed.apply(SETTINGS)
    followed.live(LOT)
    assert [row.burn_in for row in followed.streams()] == [60, 60]
    assert all("stays at the 60 scans that it began with" in note for note in notes())
    assert len(notes()) == 2
    followed.live(LOT)
    assert notes() == []


def test_a_burn_in_raises_no_alarm(history: History) -> None:
    settings = SETTINGS.model_copy(update={"burn_in_scans": 200})
    followed = FollowedHistory(history, settings)
    followed.live(4 * LOT, shift=0.9, windows=False)
    assert followed.episodes() == []


def test_a_burn_in_does_not_learn_the_shift_of_an_open_episode(history: History) -> None:
    settings = SETTINGS.model_copy(update={"burn_in_scans": 1000})
    followed = FollowedHistory(history, settings)
    followed.live(2 * 84, shift=0.9)
    [episode] = followed.episodes()
    assert episode.evidence["alpha"] is not None
    followed.follow()
    assert followed.streams() == []
    with followed.database.reading() as session:
        assert {row.ended_reason for row in session.scalars(select(StreamRow))} == {
            "an episode opened during its burn-in"
        }
        assert not following_is_due(session, history.monitor, now=followed.clock.now())
    followed.live(2 * 84)
    assert followed.episodes()[0].state == EpisodeState.CLOSED
    followed.live(LOT)
    assert [row.scans for row in followed.streams()] == [LOT, LOT]


def test_a_tick_asks_once_and_only_where_there_is_something_to_do(
    followed: FollowedHistory,
) -> None:
    database, clock = followed.database, followed.clock

    def queued() -> int:
        with database.reading() as session:
            query = select(func.count(Job.id)).where(Job.kind == FOLLOW, Job.state == "queued")
            return session.scalar(query) or 0

    tick(database, clock)
    tick(database, clock)
    assert queued() == 1
    followed.worker.drain()
    assert len(followed.streams()) == 2
    tick(database, clock)
    assert queued() == 0
    followed.history.add(3, at=clock.now())
    tick(database, clock)
    assert queued() == 0  # looked a moment ago
    followed.history.add(MANY_SCANS, at=clock.now())
    tick(database, clock)
    assert queued() == 1
    followed.worker.drain()
    clock.at += timedelta(minutes=11)
    followed.history.add(1, at=clock.now())
    tick(database, clock)
    assert queued() == 1


def test_scans_wait_for_the_one_before_them_to_be_embedded(followed: FollowedHistory) -> None:
    followed.live(10, windows=False)
    scans = followed.history.add(5, at=followed.clock.now())
    with followed.database.transaction() as session:
        held = session.scalars(
            select(EmbeddingRow).where(
                EmbeddingRow.scan == scans[2],
                EmbeddingRow.version == followed.history.encoder.id,
            )
        ).one()
        kept_back = (held.batch, held.space, held.vector)
        session.delete(held)
    followed.follow()
    monitoring, champion = followed.streams()
    assert (monitoring.scans, champion.scans) == (12, 15)
    with followed.database.transaction() as session:
        batch, space, vector = kept_back
        session.add(
            EmbeddingRow(
                batch=batch,
                scan=scans[2],
                version=followed.history.encoder.id,
                space=space,
                vector=vector,
            )
        )
    followed.follow()
    assert [row.scans for row in followed.streams()] == [15, 15]


def test_a_scan_that_was_committed_behind_others_is_seen_all_the_same(
    followed: FollowedHistory,
) -> None:
    followed.live(10, windows=False)
    [scan] = followed.history.add(1, at=followed.clock.now())
    last = followed.history.add(3, at=followed.clock.now())[-1]
    with followed.database.transaction() as session:
        # As if its receiver had not committed yet.
        for row in followed.streams():
            session.add(StreamScan(stream=row.id, scan=scan, number=None))
    followed.follow()
    assert {row.newest_scan for row in followed.streams()} == {last}
    with followed.database.transaction() as session:
        for held in session.scalars(select(StreamScan).where(StreamScan.scan == scan)):
            session.delete(held)
    followed.follow()
    assert [row.scans for row in followed.streams()] == [14, 14]


def test_clocks_that_are_wrong_lose_no_scan_and_are_told(followed: FollowedHistory) -> None:
    followed.live(LOT, windows=False)
    now = followed.clock.now()
    followed.history.add(2, at=now + timedelta(days=400))
    followed.history.add(3, at=followed.history.anchor - timedelta(days=30))
    followed.clock.at = now + timedelta(days=3)
    followed.live(2, windows=False, follow=False)
    followed.history.add(4, at=now)
    followed.follow()
    for row in followed.streams():
        assert row.scans == LOT + 2 + 2 + 4
        assert row.counts == {Odd.AHEAD: 2, Odd.BEFORE: 3, Odd.LATE: 4}
    # An onset is never dated by a stamp that cannot be.
    followed.history.add(2, at=now + timedelta(days=400), shift=2.5)
    followed.live(2 * LOT, shift=2.5, windows=False)
    [episode] = followed.episodes()
    assert now < episode.onset <= followed.clock.now()
    low, high = episode.evidence["onset_interval"]
    assert low <= episode.onset.isoformat() <= high


def test_copies_are_scans_and_embeddings_that_are_no_numbers_are_passed_over(
    followed: FollowedHistory,
) -> None:
    followed.follow()
    scans = followed.history.add(9, at=followed.clock.now())
    with followed.database.transaction() as session:
        rows = list(session.scalars(select(EmbeddingRow).where(EmbeddingRow.scan.in_(scans))))
        for row in rows:
            row.vector = rows[0].vector
            if row.scan == scans[4]:
                row.vector = np.full(12, np.inf, dtype="<f2").tobytes()
    followed.follow()
    for stream in followed.streams():
        assert stream.scans == 8
        assert stream.counts == {Odd.UNUSABLE: 1}


def test_a_new_reference_ends_the_streams_and_their_alarms_and_begins_others(
    followed: FollowedHistory,
) -> None:
    followed.live(LOT)
    followed.live(2 * LOT, shift=0.9, windows=False)
    [episode] = followed.episodes()
    old = {row.id for row in followed.streams()}
    history = followed.history
    with followed.database.reading() as session:
        fitted = [
            references.FittedReference(
                encoder=references.EncoderRole(row.encoder),
                version=version,
                profile_digest=row.profile_digest,
                subgroups=(),
            )
            for row, version in zip(
                references.deciding(session, "chest"),
                (history.encoder, history.champion),
                strict=True,
            )
        ]
        scans = list(session.scalars(select(ScanRow)))
    with followed.database.transaction() as session:
        dataset = references.freeze_reference(
            session, scans, description="test", actor="test", at=followed.clock.now()
        )
        references.accept(
            session,
            history.monitor,
            fitted,
            dataset=dataset,
            reason="test",
            actor="test",
            at=followed.clock.now(),
        )
    followed.live(10)
    assert {row.id for row in followed.streams()}.isdisjoint(old)
    assert [row.scans for row in followed.streams()] == [10, 10]
    [row] = followed.episodes()
    assert row.state == EpisodeState.OPEN
    assert {entry["ended_reason"] for entry in row.evidence["streams"]} == {
        "no longer followed scan by scan: its reference was replaced by another"
    }
    # Nobody follows it: the window that it lies in shows it, and it ends with the next one.
    for state in (EpisodeState.OPEN, EpisodeState.CLOSED):
        followed.live(84)
        [row] = followed.episodes()
        assert (row.id, row.state) == (episode.id, state)
    with followed.database.reading() as session:
        assert ledger.verify(session).valid


def test_another_budget_is_taken_over_and_nothing_is_forgotten(
    followed: FollowedHistory,
) -> None:
    followed.live(LOT)
    before = followed.streams()
    followed.apply(SETTINGS.model_copy(update={"false_alarms": "one per quarter"}))
    followed.live(LOT)
    after = followed.streams()
    assert [row.id for row in after] == [row.id for row in before]
    assert [row.scans_between_false_alarms for row in after] == [3600, 3600]
    for row in after:
        assert row.state == followed.undisturbed(row)


def test_a_monitor_that_follows_no_streams_ends_those_that_run(
    followed: FollowedHistory,
) -> None:
    followed.live(LOT)
    followed.apply(None)
    with followed.database.reading() as session:
        assert following_is_due(session, followed.history.monitor, now=followed.clock.now())
    followed.follow()
    assert followed.streams() == []
    with followed.database.reading() as session:
        assert not following_is_due(session, followed.history.monitor, now=followed.clock.now())


def test_a_shift_that_is_no_longer_followed_stays_open_while_windows_show_it(
    followed: FollowedHistory,
) -> None:
    followed.live(84)
    followed.live(LOT, windows=False)
    followed.live(2 * LOT, shift=0.9, windows=False)
    [episode] = followed.episodes()
    followed.apply(None)
    # Of this window the last half shows it, which is no alarm yet.
    followed.live(LOT, shift=0.9)
    [row] = followed.episodes()
    assert (row.id, row.state, row.evidence["alpha"]) == (episode.id, EpisodeState.OPEN, None)
    # Streams that begin anew see the same shift, and open no second episode.
    followed.apply(SETTINGS)
    followed.live(2 * LOT, shift=0.9, windows=False)
    [row] = followed.episodes()
    assert [entry["recovered"] for entry in row.evidence["streams"]] == [
        False,
        False,
        None,
        None,
    ]


def test_a_shift_that_is_no_longer_followed_ends_with_a_window_that_shows_nothing(
    followed: FollowedHistory,
) -> None:
    followed.live(84)
    followed.live(LOT, shift=0.9, windows=False)
    [episode] = followed.episodes()
    followed.apply(None)
    followed.live(LOT, windows=False)
    followed.judged += 1
    followed.clock.at = followed.history.window(2).start
    followed.live(84)
    [row] = followed.episodes()
    assert (row.id, row.state) == (episode.id, EpisodeState.CLOSED)


def test_a_worker_that_lost_its_lease_keeps_nothing(followed: FollowedHistory) -> None:
    followed.live(LOT)
    followed.history.add(5, at=followed.clock.now())
    followed.ask()
    claim = JobQueue(followed.database).claim("slow", [FOLLOW])
    assert claim is not None
    with followed.database.transaction() as session:
        session.execute(update(Job).where(Job.kind == FOLLOW).values(token=Job.token + 1))
    with pytest.raises(LeaseLostError):
        followed.follower.handle(claim)
    assert [row.scans for row in followed.streams()] == [LOT, LOT]
