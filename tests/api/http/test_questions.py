"""An auditor's questions, answered over HTTP from the history that they are about."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from believable_home import PSEUDONYM, Stage
from fastapi.testclient import TestClient

if TYPE_CHECKING:
    from tests.api.conftest import Serve

AUDIT = "/api/v1/audit"


@pytest.fixture
def client(serve: Serve) -> TestClient:
    return serve(Stage.HEALED)


def test_a_scan_is_told_with_what_read_it_and_how_its_model_stood(client: TestClient) -> None:
    newest = client.get("/api/v1/scans", params={"limit": 1}).json()[0]["id"]
    answer = client.get(f"{AUDIT}/scans/{newest}")
    [scan] = answer.json()["scans"]
    served = [one for one in scan["readings"] if one["version"] == "pneumonia-cxr@2"]
    assert served
    standing = served[0]["standing"]
    assert standing["champion"]["version"] == "pneumonia-cxr@2"
    assert [one["meaning"] for one in standing["champion"]["approved_by"]] == ["approved"]
    assert len(standing["plan"]["digest"]) == 64
    assert PSEUDONYM not in answer.text


def test_champions_follow_one_another_without_a_gap(client: TestClient) -> None:
    found = client.get(f"{AUDIT}/models/pneumonia-cxr/champions").json()
    assert [one["version"] for one in found] == ["pneumonia-cxr@1", "pneumonia-cxr@2"]
    assert found[0]["until"] == found[1]["since"]
    moment = found[1]["since"]
    then = client.get(f"{AUDIT}/models/pneumonia-cxr/standing", params={"at": moment}).json()
    assert then["champion"]["version"] == "pneumonia-cxr@2"
    before = client.get(
        f"{AUDIT}/models/pneumonia-cxr/standing", params={"at": found[0]["since"]}
    ).json()
    assert before["champion"]["version"] == "pneumonia-cxr@1"


def test_a_version_says_what_it_and_its_bases_were_trained_on(client: TestClient) -> None:
    found = client.get(f"{AUDIT}/models/pneumonia-cxr/versions/2/training").json()
    assert [one["version"] for one in found] == [
        "pneumonia-cxr@2",
        "pneumonia-cxr@1",
        "general-imagenet@1",
    ]
    data = [one for one in found[0]["data"] if one["stored_here"]]
    assert data
    assert sum(data[0]["sites"].values()) == data[0]["scans"] > 0


@pytest.mark.parametrize(
    ("at", "status"),
    [("2026-03-04T10:00", 422), ("2031-01-01T00:00Z", 422), ("yesterday", 422)],
)
def test_a_time_without_zone_or_yet_to_come_is_refused(
    client: TestClient, at: str, status: int
) -> None:
    answer = client.get(f"{AUDIT}/models/pneumonia-cxr/standing", params={"at": at})
    assert answer.status_code == status


def test_a_study_or_patient_that_never_came_is_named_by_its_site_alone(
    client: TestClient,
) -> None:
    for path, body in (
        ("studies", {"site": "north", "study": "1.2.840.99"}),
        ("patients", {"site": "north", "patient": "SECRET^NAME"}),
    ):
        answer = client.post(f"{AUDIT}/{path}", json=body)
        assert answer.status_code == 404
        assert "north" in answer.json()["detail"]
        assert "SECRET" not in answer.text
        assert "1.2.840" not in answer.text
