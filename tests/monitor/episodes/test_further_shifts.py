"""A shift that begins while another lasts has an episode of its own, and each keeps what it said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from databases import Databases
from monitored_history import History, found

from monitor.episodes import episodes
from monitor.episodes.episodes import EpisodeState
from monitor.evaluating import Evaluator
from monitor.evaluation import Evaluation
from monitor.references import ProfileStore
from monitor.tables import EpisodeRow
from monitor.windows import Window
from registry import ledger
from registry.clock import ReplayClock
from registry.database import Database
from registry.jobs import Claim
from registry.versions import VersionRow

SITES = ("north", "south", "west")


class ReadAlready:
    """Stands for the embedder of scans whose embeddings are in the database."""

    def embed(
        self,
        monitor_name: str,
        *,
        window: Window | None = None,
        extra: Sequence[VersionRow] = (),
        only: Sequence[int] | None = None,
        claim: Claim | None = None,
    ) -> int:
        return 0


@pytest.fixture(scope="module")
def sites_profiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sites") / "profiles"


@pytest.fixture(scope="module")
def founded_sites(databases: Databases, sites_profiles: Path) -> Iterator[Database]:
    """A monitor that tests sites, with references of three: fitted once, copied often."""
    made = databases.migrated()
    found(made)
    history = History(made, ProfileStore(sites_profiles))
    history.watch("site")
    history.accept_reference(300, shifts=dict.fromkeys(SITES, 0.0))
    yield made
    databases.throw_away(made)


@pytest.fixture
def three_sites(
    databases: Databases, founded_sites: Database, sites_profiles: Path
) -> Iterator[History]:
    made = databases.copied(founded_sites)
    yield History(made, ProfileStore(sites_profiles))
    databases.throw_away(made)


def play(
    history: History, number: int, shifts: Mapping[str, float], *, each: int = 80
) -> Evaluation:
    """Let a window of every site's scans come, and judge it as the worker does."""
    window = history.window(number)
    for site in SITES:
        history.add(
            each, at=window.start + timedelta(hours=1), site=site, shift=shifts.get(site, 0.0)
        )
    return judged(history, number)


def judged(history: History, number: int) -> Evaluation:
    """Judge a window as the worker does, when it has ended."""
    window = history.window(number)
    evaluator = Evaluator(
        history.database, history.profiles, ReadAlready(), None, ReplayClock(window.end)
    )
    return evaluator.evaluate("chest", window)


def all_of(history: History) -> list[EpisodeRow]:
    with history.database.reading() as session:
        return list(reversed(episodes.all_episodes(session)))


def test_a_further_shift_is_found_where_the_first_is_not(three_sites: History) -> None:
    history = three_sites
    for number in (0, 1, 2, 3):
        play(history, number, {"south": 1.2} if number else {})
    [first] = all_of(history)
    assert first.subgroup == "site=south"

    for number in (4, 5, 6):
        play(history, number, {"south": 1.2, "north": 1.2})

    south, north = all_of(history)
    assert (south.subgroup, north.subgroup) == ("site=south", "site=north")
    assert south.cause == first.cause
    assert south.evidence["place"] == first.evidence["place"]
    assert north.opened_at == history.window(5).end
    earliest, latest = map(datetime.fromisoformat, north.evidence["onset_interval"])
    assert earliest <= history.window(4).start + timedelta(hours=1) <= latest
    assert north.evidence["apart_from"] == ["site=south"]
    assert "site=south, whose shift is known" in north.evidence["place"]
    # Both go on, and both are brought up to date.
    assert south.evidence["window"] == north.evidence["window"] == str(history.window(6))
    with history.database.reading() as session:
        opened = ledger.entries(session, kind="episode.opened")
        assert [entry.facts["subgroup"] for entry in opened] == ["site=south", "site=north"]
        assert ledger.verify(session).valid


def test_each_closes_when_its_own_place_is_quiet(three_sites: History) -> None:
    history = three_sites
    for number in range(9):
        shifts = {"south": 1.2} if number >= 1 else {}
        if 3 <= number <= 5:
            shifts["north"] = 1.2
        play(history, number, shifts)

    south, north = all_of(history)
    assert south.state == EpisodeState.OPEN
    assert north.state == EpisodeState.CLOSED
    assert north.closed_at == history.window(7).end


def test_what_moves_together_beyond_a_place_is_one_episode(three_sites: History) -> None:
    history = three_sites
    for number in range(8):
        shifts = {"south": 1.2} if number >= 1 else {}
        if number >= 4:
            shifts |= {"north": 1.2, "west": 1.2}
        play(history, number, shifts)

    south, wide = all_of(history)
    assert south.subgroup == "site=south"
    places = {wide.subgroup, *wide.evidence["moved_with"]}
    assert places == {"site=north", "site=west"}


def test_without_a_further_shift_nothing_new_opens(three_sites: History) -> None:
    history = three_sites
    for number in range(12):
        play(history, number, {"south": 1.2} if number >= 1 else {})

    [episode] = all_of(history)
    assert episode.subgroup == "site=south"
    assert "apart_from" not in episode.evidence


def test_a_window_that_is_judged_again_opens_and_changes_nothing(three_sites: History) -> None:
    history = three_sites
    for number in range(3):
        play(history, number, {"south": 1.2} if number else {})
    [episode] = all_of(history)
    with history.database.transaction() as session:
        episodes.end(
            session,
            session.get_one(EpisodeRow, episode.id),
            EpisodeState.CLOSED,
            reason="radiography knows",
            actor="test",
            at=history.window(2).end,
        )
        entered = len(ledger.entries(session))

    again = judged(history, 2)
    assert again.alarm
    assert again.judged_before
    assert [row.state for row in all_of(history)] == [EpisodeState.CLOSED]
    with history.database.reading() as session:
        assert len(ledger.entries(session)) == entered

    # The next window shows that it goes on.
    assert not play(history, 3, {"south": 1.2}).judged_before
    assert [row.state for row in all_of(history)] == [EpisodeState.CLOSED, EpisodeState.OPEN]
    for number in (4, 5, 6):
        play(history, number, {})
    assert {row.state for row in all_of(history)} == {EpisodeState.CLOSED}
    judged(history, 2)
    assert {row.state for row in all_of(history)} == {EpisodeState.CLOSED}


def test_what_is_new_is_counted_from_the_onset_on(three_sites: History) -> None:
    history = three_sites
    for number, updated in ((0, 0), (1, 40), (2, 80)):
        start = history.window(number).start
        for site, count in (("south", 80), ("west", 80), ("north", 80 - updated)):
            history.add(count, at=start + timedelta(hours=1), site=site)
        history.add(
            updated,
            at=start + timedelta(hours=50),
            site="north",
            shift=1.2,
            software_version="2.1",
        )
        judged(history, number)
    [episode] = all_of(history)
    assert episode.onset == history.window(1).start + timedelta(hours=50)
    assert episode.subgroup == "site=north"
    assert episode.evidence["diagnosis"]["reasons"][0].startswith(
        "software version 2.1 is new: 100% of these scans have it"
    )
