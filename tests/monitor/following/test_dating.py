"""When a shift began, told by the scans of its place, among which it does not dilute."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from followed_history import STEP, FollowedHistory
from monitored_history import History, found

from monitor.episodes.episodes import EpisodeState
from monitor.following.words import onset_level
from monitor.references import ProfileStore
from registry import ledger
from registry.database import Database

SITES = ("north", "south", "west", "east")
#: Scans of each site before the shift of one.
BEFORE = 30


@pytest.fixture
def four_sites(database: Database, tmp_path: Path) -> FollowedHistory:
    """Streams of a monitor that tests sites, each of which has a past of its own."""
    found(database)
    history = History(database, ProfileStore(tmp_path / "profiles"))
    history.watch("site")
    history.accept_reference(220, shifts=dict.fromkeys(SITES, 0.0))
    return FollowedHistory(history)


def rounds(followed: FollowedHistory, count: int, *, shift: float = 0.0) -> None:
    """Let so many scans come from each site in turn, those of one site shifted."""
    for number in range(count):
        for site in SITES:
            followed.live(
                1,
                site=site,
                shift=shift if site == "east" else 0.0,
                follow=False,
                windows=False,
            )
        if number % 5 == 4:
            followed.follow()


def test_a_shift_at_one_of_four_sites_is_dated_by_the_scans_of_that_site(
    four_sites: FollowedHistory,
) -> None:
    rounds(four_sites, BEFORE)
    began = four_sites.clock.at
    for _ in range(12):
        rounds(four_sites, 5, shift=0.7)
        found = [row for row in four_sites.episodes() if row.subgroup is not None]
        if found:
            break
    [episode] = found
    assert (episode.subgroup, episode.state) == ("site=east", EpisodeState.OPEN)
    low, high = map(datetime.fromisoformat, episode.evidence["onset_interval"])
    assert low <= episode.onset <= high
    by_stream = datetime.fromisoformat(episode.evidence["streams"][0]["onset"])
    # All scans together date it four days late; every fourth is of this site.
    assert by_stream - began > 48 * STEP
    assert abs(episode.onset - began) <= 2 * len(SITES) * STEP
    assert low <= began + STEP <= high + len(SITES) * STEP
    assert onset_level(episode.evidence) == "95 %, by the scans of the place alone"
    with four_sites.database.reading() as session:
        assert ledger.verify(session).valid


def judged_rounds(followed: FollowedHistory, count: int, *, shift: float = 0.0) -> None:
    """The same, and each window is judged once it has ended."""
    for _ in range(0, count, 5):
        rounds(followed, 5, shift=shift)
        while followed.history.window(followed.judged).end <= followed.clock.at:
            followed.judge()


def test_a_place_that_a_window_tells_dates_what_a_stream_saw(
    four_sites: FollowedHistory,
) -> None:
    judged_rounds(four_sites, 35)
    began = four_sites.clock.at
    judged_rounds(four_sites, 25, shift=1.0)
    [episode] = four_sites.episodes()
    # Too few scans of any site had come to tell the place; all together date it late.
    assert (episode.subgroup, episode.evidence["alpha"]) == (None, None)
    assert episode.onset - began > 24 * STEP
    judged_rounds(four_sites, 5, shift=1.0)
    [episode] = four_sites.episodes()
    assert (episode.subgroup, episode.evidence["alpha"]) == ("site=east", 0.005)
    assert abs(episode.onset - began) <= len(SITES) * STEP
    low, high = map(datetime.fromisoformat, episode.evidence["onset_interval"])
    assert low <= episode.onset <= high
    assert onset_level(episode.evidence) == "95 %, by the scans of the place alone"


def test_an_episode_without_a_place_takes_the_one_that_two_windows_in_a_row_name(
    four_sites: FollowedHistory,
) -> None:
    four_sites.apply(None)
    judged_rounds(four_sites, 40)
    began = four_sites.clock.at
    judged_rounds(four_sites, 65, shift=0.45)
    # All scans alone show nothing of it: still it is one, and stays open.
    [episode] = four_sites.episodes()
    assert (episode.subgroup, episode.state) == (None, EpisodeState.OPEN)
    assert episode.evidence["place_named"] == "site=east"
    first_dated = episode.onset
    judged_rounds(four_sites, 25, shift=0.45)
    [episode] = four_sites.episodes()
    assert (episode.subgroup, episode.state) == ("site=east", EpisodeState.OPEN)
    assert abs(episode.onset - began) < abs(first_dated - began)


@pytest.mark.parametrize("rounds_shifted", [65, 90, 150])
def test_an_onset_stays_in_its_interval_while_windows_go_on_showing_the_shift(
    four_sites: FollowedHistory, rounds_shifted: int
) -> None:
    four_sites.apply(None)
    judged_rounds(four_sites, 40)
    judged_rounds(four_sites, rounds_shifted, shift=0.45)
    [episode] = four_sites.episodes()
    with four_sites.database.reading() as session:
        told = ledger.entries(session, subject=f"episode {episode.id}")
    assert len(told) > 1
    low, high = map(datetime.fromisoformat, episode.evidence["onset_interval"])
    assert low <= episode.onset <= high
