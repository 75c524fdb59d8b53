"""`driftward monitor stream` and `driftward episode show`, while a shift is followed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from databases import Databases, name_home
from followed_history import LOT, SETTINGS, followed_home

from api.settings import Settings

if TYPE_CHECKING:
    from tests.api.cli.conftest import Run


@pytest.fixture(scope="module")
def homes(
    databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Settings]:
    """Homes that are calm, that have just seen a shift, and that know what it is."""
    folder, kept = tmp_path_factory.mktemp("followed"), {}
    growing = databases.home_at(folder / "growing")
    followed = followed_home(growing)
    for name, scans, shift in (("calm", LOT, 0.0), ("seen", 10, 2.0), ("judged", LOT, 2.0)):
        version = "2.1" if shift else "1.0"
        followed.live(scans, shift=shift, software_version=version, windows=False)
        followed.database.dispose()
        kept[name] = databases.copied_home(growing, folder / name)
    return kept


@pytest.fixture
def followed(
    homes: Mapping[str, Settings],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Path:
    name_home(homes[request.param], monkeypatch)
    return homes[request.param].home


@pytest.mark.parametrize("followed", ["calm"], indirect=True)
def test_a_calm_stream_says_how_near_an_alarm_it_is(followed: Path, driftward: Run) -> None:
    shown = driftward("monitor", "stream", "chest")
    assert shown.code == 0
    assert shown.stdout.splitlines()[0] == (
        "false alarms: one per month, which at 20 scans a day (as its file says) is one in 600 "
        "scans; 2 streams share it, with one in 1,200 each"
    )
    assert "ALARM" not in shown.stdout
    document = driftward("monitor", "stream", "chest", "--json").document
    assert document["scans_between_false_alarms"] == 600
    assert [one["encoder"] for one in document["streams"]] == ["monitoring", "champion"]
    for one in document["streams"]:
        assert (one["state"], one["scans"], one["burn_in_left"]) == ("watching", LOT, 0)
        assert 0 < one["evidence"] < 1
        assert one["seen"] == []


@pytest.mark.parametrize("followed", ["seen"], indirect=True)
def test_an_alarm_says_after_how_many_scans_and_between_when(
    followed: Path, driftward: Run
) -> None:
    shown = driftward("monitor", "stream", "chest").stdout
    document = driftward("monitor", "stream", "chest", "--json").document
    alarm = document["streams"][0]["seen"][0]
    assert alarm["episode"] == 1
    assert alarm["scans"] <= 10
    assert f"ALARM   episode 1: {alarm['says']}" in shown
    assert f"stream after {alarm['scans']} scans, onset between 2026-03-0" in alarm["says"]
    episode = driftward("episode", "show", "1").stdout
    assert "a change of unknown cause" in episode
    assert f"stream  {alarm['says']}" in episode
    assert "such a stream alarms falsely once in 1,200 scans; no window yet" in episode
    assert "fewer than the floor of 20" in episode
    assert "size" not in episode


@pytest.mark.parametrize("followed", ["judged"], indirect=True)
def test_once_judged_an_episode_says_what_it_is_and_how_it_was_seen(
    followed: Path, driftward: Run
) -> None:
    episode = driftward("episode", "show", "1").stdout
    assert "is open: acquisition change" in episode
    assert "size" in episode
    assert "(95 %, by the scans of the place alone: 2026-03-0" in episode
    # What to do first stands before what it is concluded from.
    assert episode.index("look first") < episode.index("why")
    assert "matters suspected: the champion's own space moved, too; no labels yet" in episode
    document = driftward("episode", "show", "1", "--json").document
    assert all(entry["judged"] >= 20 for entry in document["evidence"]["streams"])
    low, high = document["evidence"]["onset_interval"]
    assert low <= document["onset"] <= high


def test_a_closed_episode_asks_for_nothing_and_names_what_stays_restricted(
    homes: Mapping[str, Settings],
    databases: Databases,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    driftward: Run,
) -> None:
    copied = databases.copied_home(homes["judged"], tmp_path / "closed")
    name_home(copied, monkeypatch)
    place = driftward("episode", "show", "1", "--json").document["subgroup"]
    assert place == "software_version=2.1"
    restricted = driftward(
        "restrict", "pneumonia", "--subgroup", place, "--reason", "unlike the reference"
    )
    assert restricted.code == 0
    closed = driftward("episode", "close", "1", "--reason", "looked at")
    assert closed.stdout.splitlines() == [
        "episode 1 is closed: looked at",
        "pneumonia stays restricted for software_version=2.1; `driftward lift pneumonia "
        "--subgroup software_version=2.1 --reason TEXT` takes it back into use",
    ]
    assert "look first" not in driftward("episode", "show", "1").stdout
    assert driftward("episode", "show", "1", "--json").document["first_steps"] == []


def test_an_episode_that_holds_a_burn_in_back_is_named_with_the_ways_out(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driftward: Run
) -> None:
    held_back = databases.home_at(tmp_path / "home")
    followed = followed_home(held_back)
    followed.apply(SETTINGS.model_copy(update={"burn_in_scans": 1000}))
    followed.live(2 * 84, shift=0.9)
    [episode] = followed.episodes()
    followed.database.dispose()
    name_home(held_back, monkeypatch)
    shown = driftward("monitor", "stream", "chest").stdout
    assert (
        f"no stream runs: episode 1, open since {episode.opened_at:%Y-%m-%d %H:%M} UTC, holds "
        "the burn-in back"
    ) in shown
    assert "`driftward episode close 1 --reason TEXT`" in shown
    assert "`driftward reference build chest`" in shown


def test_an_unknown_monitor_is_named(home: Path, driftward: Run) -> None:
    refused = driftward("monitor", "stream", "chest")
    assert refused.code == 1
    assert "there is no monitor chest" in refused.stderr


@pytest.mark.parametrize("followed", ["calm"], indirect=True)
def test_a_window_that_lies_ahead_is_refused(followed: Path, driftward: Run) -> None:
    refused = driftward("check", "chest", "--since", "2999-01-01")
    assert (refused.code, refused.stdout) == (1, "")
    assert "--since 2999-01-01 00:00 lies ahead: it is 20" in refused.stderr
