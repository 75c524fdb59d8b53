"""Label requests over HTTP, and on the page of the run that waits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from local_client import everybody
from requested_home import RequestedHome

from api.http.app import create_app


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> RequestedHome:
    return RequestedHome.founded(tmp_path_factory.mktemp("requested"))


@pytest.fixture(scope="module")
def client(home: RequestedHome) -> Iterator[TestClient]:
    with TestClient(
        create_app(home.driftward, recognise=everybody), base_url="http://127.0.0.1:8321"
    ) as made:
        yield made


def test_a_request_and_its_worklist_are_told(home: RequestedHome, client: TestClient) -> None:
    [listed] = client.get("/api/v1/label-requests").json()
    number, run = listed["request"], listed["run"]
    shown = client.get(f"/api/v1/label-requests/{number}").json()
    assert {part["part"] for part in shown["parts"]} == {"gate", "selection", "training"}
    assert sum(one["patients"] for one in shown["strata"]) == 160
    assert shown["outside"]["requested"] == 0
    entries = client.get(f"/api/v1/label-requests/{number}/worklist").json()
    assert [one["place"] for one in entries] == list(range(1, shown["waiting"] + 1))
    assert client.get("/api/v1/label-requests", params={"run": run + 1}).json() == []
    assert client.get("/api/v1/label-requests/99").status_code == 404


def test_the_run_s_page_shows_what_is_waited_for_and_why(
    home: RequestedHome, client: TestClient
) -> None:
    world = home.world
    asked = {scan.id for _, scan in world.items(home.episode)}
    # Some labels came by themselves, most of them of scans that were called positive.
    others = [scan for scan in world.truth if scan not in asked]
    chosen = [scan for scan in others if world.scores[scan] >= 0.5]
    chosen += [scan for scan in others if world.scores[scan] < 0.5][:4]
    world.read([*world.waiting(home.episode)[:10], *chosen])
    page = client.get(f"/runs/{world.run(home.episode).id}").text
    for text in (
        "Labels asked for",
        "Judges (probability sample)",
        "near the threshold",
        "Judged on ",
        "of those called negative came by a label",
        "(Begg and Greenes)",
        "driftward label request export",
    ):
        assert text.lower() in page.lower(), text
    assert "10 of " in page
