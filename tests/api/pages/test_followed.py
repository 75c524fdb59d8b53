"""Streams on the pages, over HTTP and in the figures: a home that has just seen a shift."""

from __future__ import annotations

from collections.abc import Iterator
from html import unescape

import pytest
from databases import Databases
from fastapi.testclient import TestClient
from followed_history import LOT, SETTINGS, followed_home
from local_client import everybody
from prometheus_client.parser import text_string_to_metric_families

from api.assembly import Driftward
from api.http.app import create_app
from api.pages import wording
from monitor.following.words import seen_in_words


@pytest.fixture(scope="module")
def shifted(
    databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestClient]:
    """A home whose streams saw a shift, by too few scans to be judged."""
    home = databases.home_at(tmp_path_factory.mktemp("shifted") / "home")
    followed = followed_home(home)
    followed.live(LOT, windows=False)
    followed.live(10, shift=2.0, windows=False)
    followed.database.dispose()
    driftward = Driftward.open(home, clock=followed.clock)
    with TestClient(
        create_app(driftward, recognise=everybody), base_url="http://localhost"
    ) as client:
        yield client
    driftward.database.dispose()


def test_the_api_says_how_each_stream_stands(shifted: TestClient) -> None:
    found = shifted.get("/api/v1/monitors/chest/streams").json()
    assert found["false_alarms"] == "one per month"
    assert found["scans_between_false_alarms"] == 600
    for stream in found["streams"]:
        assert stream["state"] == "shifted"
        [alarm] = stream["seen"]
        assert alarm["episode"] == 1
        assert alarm["onset_interval"][0] <= alarm["onset"] <= alarm["onset_interval"][1]
        assert alarm["leading"]
    [episode] = shifted.get("/api/v1/episodes").json()
    assert episode["cause"] == "unknown"
    assert len(episode["evidence"]["streams"]) == 2


def test_the_page_says_how_the_episode_was_seen(shifted: TestClient) -> None:
    [episode] = shifted.get("/api/v1/episodes").json()
    says = seen_in_words(episode["evidence"]["streams"][0], moment=wording.moment)
    assert "between 2 Mar 2026, 01:00 UTC and 2 Mar 2026, 22:00 UTC" in says
    for path in ("/monitors/chest", "/episodes/1"):
        page = unescape(shifted.get(path).text)
        assert says[1:] in page
        assert "90 %: " in page
        assert "Scan by scan" in page
        # What to do first stands before what it is concluded from.
        assert page.index("Look first") < page.index("Why we think so")
        assert 'class="card look-first"' in page  # which the style sheet puts first on phones
    assert shifted.get("/").status_code == 200


def test_the_figures_count_it(shifted: TestClient) -> None:
    found = {
        (sample.name, sample.labels.get("encoder")): sample.value
        for family in text_string_to_metric_families(shifted.get("/metrics").text)
        for sample in family.samples
        if sample.labels.get("monitor") == "chest"
    }
    for encoder in ("monitoring", "champion"):
        assert found["driftward_stream_scans_total", encoder] == LOT + 10
        assert found["driftward_stream_shifted", encoder] == 1
        assert found["driftward_stream_burn_in_left", encoder] == 0
        assert found["driftward_stream_budget_scans", encoder] == 1200
        assert found["driftward_stream_waiting_scans", encoder] == 0


def test_the_page_names_the_episode_that_holds_a_burn_in_back(
    databases: Databases,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    home = databases.home_at(tmp_path_factory.mktemp("held back") / "home")
    followed = followed_home(home)
    followed.apply(SETTINGS.model_copy(update={"burn_in_scans": 1000}))
    followed.live(2 * 84, shift=0.9)
    [episode] = followed.episodes()
    followed.database.dispose()
    driftward = Driftward.open(home, clock=followed.clock)
    with TestClient(
        create_app(driftward, recognise=everybody), base_url="http://localhost"
    ) as client:
        says = client.get("/api/v1/monitors/chest/streams").json()["lacking"]
        page = unescape(client.get("/monitors/chest").text)
    driftward.database.dispose()
    opened = f"{episode.opened_at:%Y-%m-%d %H:%M} UTC"
    assert says.startswith(f"episode 1, open since {opened}, holds the burn-in back")
    assert f"Scans are not followed one by one: {says}." in page
