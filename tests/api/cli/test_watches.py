"""A failed watch wherever somebody may look: command line, API, page, metric, evidence, as-of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient
from local_client import local_client
from monitored_history import ANCHOR, History, found
from retraining_rows import MODEL, Retraining
from watched_rows import RULES, Watched

from api.assembly import Driftward
from api.evidence.gathering import gather
from api.evidence.rendering import as_html
from api.initialising import initialise
from api.pages.standing import standing_of
from api.settings import Settings
from monitor.references import ProfileStore
from registry.clock import ReplayClock
from retrain.history.standing import standing_at

if TYPE_CHECKING:
    from tests.api.cli.conftest import Run


@pytest.fixture(scope="module")
def watched_home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Driftward, Watched]:
    """A home whose champion failed its watch on the third day."""
    settings = Settings(home=tmp_path_factory.mktemp("watched") / "home", device="cpu")
    initialise(settings, name="operator")
    driftward = Driftward.open(settings, clock=ReplayClock(ANCHOR))
    found(driftward.database)
    retraining = Retraining(History(driftward.database, ProfileStore(driftward.home.profiles)))
    watched = Watched(retraining)
    watched.apply_plan(RULES)
    watched.promote()
    for right in (19, 17, 0):
        watched.read(ill=20, found=right, well=20, cleared=19)
        watched.pass_days()
    driftward.clock = retraining.clock
    return driftward, watched


@pytest.fixture
def home(watched_home: tuple[Driftward, Watched]) -> Driftward:
    return watched_home[0]


@pytest.fixture
def client(home: Driftward) -> Iterator[TestClient]:
    with local_client(home) as client:
        yield client


def test_the_command_line_says_what_fell_and_offers_the_rollback(
    home: Driftward, driftward: Run
) -> None:
    words = driftward("watch", "show", MODEL, "--home", home.settings.home)
    assert words.code == 0
    assert f"{MODEL}@2 everywhere: failed" in words.stdout
    assert "sensitivity in use is 60.0%" in words.stdout
    assert f"`driftward rollback {MODEL} --from {MODEL}@2 --reason …` restores" in words.stdout
    [one] = driftward("watch", "show", MODEL, "--home", home.settings.home, "--json").document
    assert (one["state"], one["looks"], one["newest_look"]["labelled"]) == ("failed", 3, 120)
    assert one["offered"] == f"driftward rollback {MODEL} --from {MODEL}@2 --reason …"


def test_a_model_that_was_never_watched_is_told_so(home: Driftward, driftward: Run) -> None:
    never = driftward("watch", "show", "general", "--home", home.settings.home)
    assert (never.code, never.stdout) == (
        0,
        "general was never watched: the plan of a promotion says whether (key `watch`)\n",
    )
    nobody = driftward("watch", "show", "nobody", "--home", home.settings.home)
    assert nobody.code == 1
    assert "nobody" in nobody.stderr


def test_the_api_answers_alike(client: TestClient) -> None:
    [one] = client.get(f"/api/v1/models/{MODEL}/watches").json()
    assert (one["version"], one["state"]) == (f"{MODEL}@2", "failed")
    [sensitivity, specificity] = one["newest_look"]["measures"]
    assert (sensitivity["failed"], specificity["failed"]) == (True, False)
    assert sensitivity["limit"] == pytest.approx(0.85)
    assert client.get("/api/v1/models/nobody/watches").status_code == 404


def test_the_model_s_page_shows_it_and_somebody_is_asked_for(
    home: Driftward, client: TestClient
) -> None:
    page = client.get(f"/models/{MODEL}").text
    for said in ("First weeks", "Failed", "60.0%", "85.0%", "driftward rollback"):
        assert said in page, said
    assert "Suspended" in page
    with home.database.reading() as session:
        step = standing_of(
            session, model=MODEL, tier="task", monitor=None, now=home.clock.now()
        ).next_step
    assert step.text.startswith(f"{MODEL}@2 failed its watch")
    assert step.urgent


def test_the_metrics_say_that_it_failed(client: TestClient) -> None:
    text = client.get("/metrics").text
    labels = f'{{deployment="everywhere",model="{MODEL}"}}'
    assert f"driftward_watch_failed{labels} 1.0" in text
    assert f"driftward_watch_going_on{labels} 0.0" in text
    assert f"driftward_watch_labelled_patients{labels} 120.0" in text


def test_the_evidence_of_the_run_has_it(watched_home: tuple[Driftward, Watched]) -> None:
    home, watched = watched_home
    with home.database.reading() as session:
        pack = as_html(gather(session, watched.run, at=home.clock.now()))
    assert "The first weeks in use" in pack
    assert "the champion before it on the reference, 0.900 less 0.05" in pack
    assert "watch.failed" in pack


def test_as_of_says_how_it_stood_on_each_day(watched_home: tuple[Driftward, Watched]) -> None:
    home, watched = watched_home
    since = watched.row().since
    with home.database.reading() as session:
        stood = [
            standing_at(
                session, MODEL, since + 1.001 * number * (watched.row().until - since) / 28
            )
            for number in range(4)
        ]
    states = [one["watches"][0]["state"] for one in stood]
    assert states == ["watching", "watching", "watching", "failed"]
    assert [one["watches"][0]["looks"] for one in stood] == [0, 1, 2, 3]
    assert [bool(one["out_of_use"]) for one in stood] == [False, False, False, True]
