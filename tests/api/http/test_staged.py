"""A promotion on its way through its stages, as pages, API and evidence tell it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from local_client import everybody
from monitored_history import History, found
from retraining_rows import MODEL, PLAN, Retraining, person

from api.assembly import Driftward
from api.evidence.gathering import gather
from api.evidence.rendering import as_html
from api.http.app import create_app
from api.initialising import initialise
from api.settings import Settings
from registry import runtimes
from retrain import runs
from retrain.promotion import promote

MEI = person("Mei")
STAGES = """
stages:
  - {sites: [clinic], days: 7}
  - {sites: [north], days: 2}
"""


def staged_home(folder: Path) -> tuple[Driftward, int]:
    """Return a home in which version 2 serves at the clinic since three days, and its run."""
    settings = Settings(home=folder / "home", device="cpu", threads=1)
    initialise(settings, name="operator")
    driftward = Driftward.open(settings)
    found(driftward.database)
    made = Retraining(History(driftward.database, driftward.profiles))
    driftward.clock = made.clock
    for site in ("clinic", "north", "south"):
        made.history.add(1, at=made.now - timedelta(days=3), site=site)
    made.apply_plan(f"{PLAN}{STAGES}")
    run = made.run_awaiting_approval()
    made.approve(run, by=MEI)
    with driftward.database.transaction() as session:
        row = runs.require_run(session, run)
        promote(session, row, by=MEI, at=made.now)
        for site in ("clinic", "south"):
            runtimes.declare(session, MODEL, site, by=MEI, at=made.now)
        runtimes.attest(session, MODEL, "south", digest="e" * 64, by=MEI, at=made.now)
    made.clock.at = made.now + timedelta(days=3)
    return driftward, run


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Driftward, int]]:
    made = staged_home(tmp_path_factory.mktemp("staged"))
    yield made
    made[0].database.dispose()


@pytest.fixture
def client(staged: tuple[Driftward, int]) -> Iterator[TestClient]:
    app = create_app(staged[0], recognise=everybody)
    with TestClient(app, base_url="http://127.0.0.1:8321") as made:
        yield made


def test_pages_say_where_which_version_serves_and_what_the_next_stage_waits_for(
    client: TestClient, staged: tuple[Driftward, int]
) -> None:
    for path in (f"/models/{MODEL}?version=2", f"/runs/{staged[1]}"):
        page = client.get(path).text
        assert "7 days at clinic end 2026-03-16 00:00" in page, path
        assert "The runtime at clinic is silent" in page, path
    page = client.get(f"/models/{MODEL}?version=2").text
    assert "is promoted in stages" in page
    assert "Runs another" in page
    assert "which is no version of pneumonia" in page


def test_the_api_says_the_same(client: TestClient, staged: tuple[Driftward, int]) -> None:
    run = client.get(f"/api/v1/runs/{staged[1]}").json()
    assert (run["state"], [one["sites"] for one in run["staging"]["stages"]]) == (
        "promoting",
        [["clinic"], ["north"], []],
    )
    assert len(run["staging"]["waits_for"]) == 2
    first, second = (
        client.get(f"/api/v1/models/{MODEL}/versions/{number}").json() for number in (1, 2)
    )
    assert (first["serves"], second["serves"]) == (["everywhere"], ["clinic"])


def test_a_standing_tells_what_should_serve_from_what_was_attested(client: TestClient) -> None:
    def standing(**asked: str) -> dict[str, object]:
        return dict(client.get(f"/api/v1/audit/models/{MODEL}/standing", params=asked).json())

    south = standing(site="south")
    assert south["champion"]["version"] == f"{MODEL}@1"  # type: ignore[index]
    assert south["runtime"]["digest"] == "e" * 64  # type: ignore[index]
    assert standing(site="clinic")["champion"]["version"] == f"{MODEL}@2"  # type: ignore[index]
    assert standing()["sites"] == {"clinic": f"{MODEL}@2"}


def test_the_evidence_pack_names_the_stages(staged: tuple[Driftward, int]) -> None:
    driftward, run = staged
    with driftward.database.reading() as session:
        page = as_html(gather(session, run, at=driftward.clock.now()))
    stages = page.partition("<h3>Stages</h3>")[2].partition("</table>")[0]
    assert "<td>clinic</td><td>9 Mar" in stages
    assert "<td>north</td><td>not yet</td>" in stages
    assert "<td>everywhere</td><td>not yet</td>" in stages
