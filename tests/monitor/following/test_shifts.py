"""From a stream's alarm to an episode, and to its end."""

from __future__ import annotations

import pytest
from followed_history import LOT, STEP, FollowedHistory
from sqlalchemy import select, update

from monitor.episodes import episodes
from monitor.episodes.causes import Cause
from monitor.episodes.episodes import EpisodeState, Impact
from monitor.evaluating import DECIDE
from monitor.following.words import seen_in_words
from monitor.tables import EpisodeRow, ScanRow
from registry import ledger
from registry.jobs import Job


def test_a_shift_is_one_episode_that_opens_before_a_window_ends_and_closes_after_it(
    followed: FollowedHistory,
) -> None:
    followed.live(42)
    shifted_at = followed.clock.at + STEP
    followed.live(3 * LOT, shift=0.8, software_version="2.1")
    [episode] = followed.episodes()
    assert episode.opened_at < followed.history.window(1).end
    assert abs(episode.onset - shifted_at) <= 3 * STEP
    assert (episode.cause, episode.subgroup) == (Cause.ACQUISITION, "software_version=2.1")
    # The champion's own space moved.
    assert episode.impact == Impact.SUSPECTED
    first, second = episode.evidence["streams"]
    assert {first["encoder"], second["encoder"]} == {"monitoring", "champion"}
    assert first["scans"] < 25
    assert seen_in_words(first).startswith(
        f"seen by the {first['encoder']} encoder's stream after {first['scans']} scans, onset "
    )
    with followed.database.reading() as session:
        assert session.scalars(select(Job).where(Job.kind == DECIDE)).one().state == "queued"
    # Two windows alarm for it, too: nobody is called again.
    followed.live(126, shift=0.8, software_version="2.1")
    [confirmed] = followed.episodes()
    assert confirmed.opened_at == episode.opened_at
    assert confirmed.evidence["alpha"] is not None
    assert (confirmed.onset, confirmed.evidence["onset_interval"]) == (
        episode.onset,
        episode.evidence["onset_interval"],
    )
    assert len(confirmed.evidence["streams"]) == 2
    # It is over, and that takes two windows and both streams.
    followed.live(5 * 42, software_version="2.1")
    [closed] = followed.episodes()
    assert closed.state == EpisodeState.CLOSED
    assert all(entry["ended_at"] is not None for entry in closed.evidence["streams"])
    assert str(closed.closed_reason).startswith("recovered: in 2 windows in a row")
    with followed.database.reading() as session:
        assert ledger.verify(session).valid


def test_a_shift_that_no_window_shows_closes_when_it_is_over_for_the_streams(
    followed: FollowedHistory,
) -> None:
    followed.live(LOT)
    followed.live(2 * LOT, shift=0.9)
    [episode] = followed.episodes()
    assert episode.state == EpisodeState.OPEN
    assert episode.evidence["alpha"] is None
    followed.live(4 * LOT)
    [episode] = followed.episodes()
    ended = [entry["ended_at"] for entry in episode.evidence["streams"]]
    assert None not in ended
    followed.live(84)
    [episode] = followed.episodes()
    assert episode.state == EpisodeState.CLOSED
    assert str(episode.closed_reason).startswith("recovered: since 2026-03-0")
    assert "one by one" in str(episode.closed_reason)


def test_too_few_scans_to_judge_name_no_cause_until_more_have_come(
    followed: FollowedHistory,
) -> None:
    followed.live(LOT)
    followed.live(10, shift=2.0, software_version="2.1")
    [episode] = followed.episodes()
    assert (episode.cause, episode.subgroup) == (Cause.UNKNOWN, None)
    assert (
        "10 scans are fewer than the floor of 20"
        in (episode.evidence["diagnosis"]["reasons"][0])
    )
    followed.live(20, shift=2.0, software_version="2.1")
    [judged] = followed.episodes()
    assert judged.opened_at == episode.opened_at
    assert (judged.cause, judged.subgroup) == (Cause.ACQUISITION, "software_version=2.1")
    assert all(entry["judged"] >= 20 for entry in judged.evidence["streams"])
    assert judged.heaviest
    assert "estimated" in judged.evidence


def test_an_alarm_is_judged_anew_when_its_scans_have_doubled_and_no_window_has_spoken(
    followed: FollowedHistory,
) -> None:
    followed.live(LOT)
    found = []
    for _ in range(8):
        followed.live(12, shift=1.0, windows=False)
        [episode] = followed.episodes()
        found.append(max(entry["judged"] for entry in episode.evidence["streams"]))
    first = next(scans for scans in found if scans)
    judged = [scans for scans in dict.fromkeys(found) if scans]
    assert judged[:2] == [first, 2 * first]
    assert episode.evidence["window"].startswith("2026-03-0")
    assert episode.p_value < 1e-3


def test_an_episode_that_a_person_closed_is_not_opened_again_by_the_same_shift(
    followed: FollowedHistory,
) -> None:
    followed.live(LOT)
    followed.live(2 * LOT, shift=0.8, windows=False)
    with followed.database.transaction() as session:
        row = episodes.require_episode(session, 1)
        episodes.end(
            session,
            row,
            EpisodeState.CLOSED,
            reason="known",
            actor="test",
            at=followed.clock.now(),
        )
    followed.live(3 * LOT, shift=0.8, windows=False)
    [episode] = followed.episodes()
    assert episode.closed_reason == "known"
    assert all(row.shifted for row in followed.streams())


def test_what_follows_a_shift_that_is_over_is_another_episode(
    followed: FollowedHistory,
) -> None:
    followed.live(LOT)
    followed.live(2 * LOT, shift=0.9, windows=False)
    followed.live(5 * LOT, windows=False)
    assert not any(row.shifted for row in followed.streams())
    followed.live(2 * LOT, shift=-0.9, windows=False)
    first, second = followed.episodes()
    assert first.state == EpisodeState.CLOSED
    assert second.state == EpisodeState.OPEN
    assert second.onset > first.onset
    with followed.database.reading() as session:
        assert ledger.verify(session).valid


def test_a_site_that_appears_is_named_where_it_carries_the_shift(
    followed: FollowedHistory,
) -> None:
    followed.history.watch("site")
    followed.live(2 * LOT)
    # The known one goes on beside it.
    for _ in range(4):
        followed.live(10, site="new", shift=0.9, windows=False, follow=False)
        followed.live(10, windows=False)
    [episode] = followed.episodes()
    assert episode.subgroup == "site=new"


@pytest.mark.parametrize(
    ("cause", "place"),
    [(Cause.UNKNOWN, "site=new"), (Cause.ACQUISITION, "scanner_model=Model")],
)
def test_a_place_told_by_few_scans_is_told_anew_by_more_until_a_cause_is_named_with_it(
    followed: FollowedHistory, cause: Cause, place: str
) -> None:
    followed.history.watch("site")
    followed.live(2 * LOT)

    def more(times: int) -> EpisodeRow:
        for _ in range(times):
            followed.live(10, site="new", shift=0.9, windows=False, follow=False)
            followed.live(10, windows=False)
        [episode] = followed.episodes()
        return episode

    judged = max(entry["judged"] for entry in more(3).evidence["streams"])
    assert judged
    with followed.database.transaction() as session:
        row = episodes.require_episode(session, 1)
        # All that the first scans could tell, were its site's too few to be tested.
        row.subgroup, row.cause = "scanner_model=Model", cause
        episodes.record_change(
            session, row, "episode.updated", {}, actor="test", at=followed.clock.now()
        )
    episode = more(5)
    assert max(entry["judged"] for entry in episode.evidence["streams"]) >= 2 * judged
    assert episode.subgroup == place


def test_scans_whose_attribute_vanished_are_followed_and_no_place_is_made_up(
    followed: FollowedHistory,
) -> None:
    followed.live(2 * LOT)
    scans = followed.live(2 * LOT, shift=0.9, windows=False, follow=False)
    with followed.database.transaction() as session:
        session.execute(
            update(ScanRow).where(ScanRow.id.in_(scans)).values(software_version=None)
        )
    followed.follow()
    [episode] = followed.episodes()
    assert episode.subgroup is None
    assert len(episode.evidence["streams"]) == 2


def test_an_alarm_whose_place_turns_out_to_be_another_gets_an_episode_of_its_own(
    followed: FollowedHistory,
) -> None:
    followed.history.watch("site")
    followed.live(LOT)
    with followed.database.transaction() as session:
        # One that windows opened, elsewhere.
        row = EpisodeRow(
            monitor="chest",
            state=EpisodeState.OPEN,
            opened_at=followed.clock.now(),
            onset=followed.clock.now(),
            cause=Cause.UNKNOWN,
            subgroup="site=elsewhere",
            impact=Impact.NONE_SHOWN,
            p_value=0.001,
            effect=0.5,
            evidence={"alpha": 0.005, "effect": [0.5, 0.4, 0.6], "smallest_effect": 0.3},
            heaviest=[],
        )
        session.add(row)
        session.flush()
        episodes.record_change(
            session, row, "episode.opened", {}, actor="test", at=followed.clock.now()
        )
    followed.live(10, site="new", shift=2.0, windows=False)
    assert len(followed.episodes()) == 1
    followed.live(30, windows=False, follow=False)
    followed.live(30, site="new", shift=2.0, windows=False)
    elsewhere, own = followed.episodes()
    assert elsewhere.evidence["streams"] == []
    assert own.subgroup == "site=new"
    assert len(own.evidence["streams"]) == 2
    with followed.database.reading() as session:
        assert ledger.verify(session).valid
