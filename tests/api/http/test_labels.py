"""Labels over HTTP: rows and reports come in, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from label_reports import as_json, csv_of, diagnostic_report, image, structured_report
from labelled_home import ARRIVED, LabelledHome
from local_client import everybody

from api.http import labels
from api.http.app import create_app

ROWS = "/api/v1/labels"
REPORTS = "/api/v1/labels/reports"
NORTH = {"site": "north"}


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> LabelledHome:
    images = [image(1, study=study) for study in (1, 2)]
    return LabelledHome.founded(tmp_path_factory.mktemp("labelled"), images)


@pytest.fixture
def home(founded: LabelledHome, tmp_path: Path) -> Iterator[LabelledHome]:
    made = founded.copied(tmp_path)
    yield made
    made.driftward.database.dispose()


@pytest.fixture
def client(home: LabelledHome) -> Iterator[TestClient]:
    with TestClient(
        create_app(home.driftward, recognise=everybody),
        base_url="http://127.0.0.1:8321",
        raise_server_exceptions=False,
    ) as made:
        yield made


def row(home: LabelledHome, **changed: Any) -> dict[str, Any]:
    stated = {
        "instance": str(home.images[0].SOPInstanceUID),
        "task": "pneumonia",
        "value": "pneumonia",
        "provenance": "reader",
        "reader": "r1",
        "signed_at": ARRIVED.isoformat(),
        **changed,
    }
    return {name: value for name, value in stated.items() if value != ...}


def test_rows_come_in_as_from_a_file(home: LabelledHome, client: TestClient) -> None:
    body = {"labels": [row(home), row(home, task="findings", value=["nodule"])]}
    answer = client.post(ROWS, params=NORTH, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "added": 2,
        "known": 0,
        "ai_influenced": 0,
        "disputed": 0,
        "passed_over": 0,
    }
    assert client.post(ROWS, params=NORTH, json=body).json()["known"] == 2
    listed = client.get(ROWS).json()
    assert [(one["task"], one["value"], one["classes"]) for one in listed] == [
        ("findings", 1, ["nodule"]),
        ("pneumonia", 1, None),
    ]
    assert listed[0]["influence"] == "signed before any result that could have mattered"
    assert client.get(ROWS, params={"task": "pneumonia", "limit": 5}).json() == listed[1:]
    assert client.get(ROWS, params={"site": "south"}).json() == []
    shown = client.get("/api/v1/scans/1").json()
    assert [one["disputed"] for one in shown["truth"]] == [False, False]
    assert home.ledger_is_valid()


def test_disputes_are_listed_with_what_readers_said(
    home: LabelledHome, client: TestClient
) -> None:
    rows = [row(home), row(home, reader="r2", value=0)]
    assert client.post(ROWS, params=NORTH, json={"labels": rows}).json()["disputed"] == 1
    [found] = client.get(f"{ROWS}/disputed").json()
    assert [one["reader"] for one in found["labels"]] == ["r1", "r2"]
    [agreement] = client.get(f"{ROWS}/agreement").json()
    assert agreement["pairs"] == [
        {"readers": ["r1", "r2"], "scans": 1, "agreed": 0, "kappa": 0.0}
    ]
    page = client.get("/scans/1").text
    assert "pneumonia: disputed, until it is adjudicated" in page
    assert "signed before any result" in page


@pytest.mark.parametrize(
    ("media", "make", "provenance"),
    [
        ("application/dicom", lambda home: structured_report(home.images[:1]), "reader"),
        (
            "application/fhir+json; fhirVersion=4.0",
            lambda home: as_json(diagnostic_report(str(home.images[0].StudyInstanceUID))),
            "report",
        ),
        (
            "text/csv",
            lambda home: csv_of(
                (home.images[0].SOPInstanceUID, "pneumonia", 1, "dataset", "r1", ARRIVED)
            ),
            "dataset",
        ),
    ],
)
def test_reports_come_in_by_their_media_type(
    home: LabelledHome, client: TestClient, media: str, make: Any, provenance: str
) -> None:
    answer = client.post(
        REPORTS, params=NORTH, content=make(home), headers={"content-type": media}
    )
    assert answer.status_code == 200, answer.text
    assert [one["provenance"] for one in client.get(ROWS).json()] == [provenance]


def test_who_sends_a_report_may_say_its_provenance(
    home: LabelledHome, client: TestClient
) -> None:
    answer = client.post(
        REPORTS,
        params={**NORTH, "provenance": "adjudicated"},
        content=structured_report(home.images[:1]),
        headers={"content-type": "application/dicom"},
    )
    assert answer.status_code == 200
    assert home.labels()[0].provenance == "adjudicated"


@pytest.mark.parametrize(
    ("changed", "detail"),
    [
        ({"value": 2}, "labels[1]: value must be 0 to 1, or one of normal, pneumonia"),
        ({"value": True}, "labels[1]: value must be"),
        ({"provenance": "guess"}, "labels[1]: provenance must be reader"),
        ({"reader": ...}, "labels[1] lacks reader"),
        ({"reader": 7}, "labels[1]: reader must be text"),
        ({"name": "Yamada"}, "labels[1] has another key than"),
        ({"signed_at": None}, "labels[1]: signed_at must be an ISO 8601 time"),
        ({"signed_at": "2027-01-01T00:00:00Z"}, "signed_at lies in the future"),
        ({"instance": "1.2.3"}, "1 label names scans that site north never sent (labels[1])"),
    ],
)
def test_one_row_that_cannot_be_used_keeps_all_out(
    home: LabelledHome, client: TestClient, changed: dict[str, Any], detail: str
) -> None:
    answer = client.post(ROWS, params=NORTH, json={"labels": [row(home), row(home, **changed)]})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:driftward:problem:label"
    assert detail in answer.json()["detail"]
    assert "Yamada" not in answer.text
    assert home.labels() == []
    assert len(home.refusals()) == 1


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"labels": 1}', b'{"labels": [1]}', b"\xff"])
def test_a_body_of_another_shape_is_refused(
    home: LabelledHome, client: TestClient, body: bytes
) -> None:
    answer = client.post(
        ROWS, params=NORTH, content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 422
    assert home.labels() == []


def test_a_site_that_sent_nothing_is_refused(home: LabelledHome, client: TestClient) -> None:
    answer = client.post(ROWS, params={"site": "south"}, json={"labels": [row(home)]})
    assert answer.status_code == 422
    assert "there are north" in answer.json()["detail"]
    assert client.post(ROWS, json={"labels": []}).status_code == 422


@pytest.mark.parametrize(
    "media",
    [
        *("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""),
        *("application/fhir+xml", "application/fhir+json; fhirVersion=5.0"),
    ],
)
def test_what_a_page_of_another_site_could_send_is_not_taken(
    home: LabelledHome, client: TestClient, media: str
) -> None:
    for path in (ROWS, REPORTS):
        answer = client.post(path, params=NORTH, content=b"{}", headers={"content-type": media})
        assert answer.status_code == 415, path
    assert home.refusals() == []


def test_a_body_is_read_no_further_than_it_may_be_long(
    home: LabelledHome, client: TestClient
) -> None:
    body = b" " * (labels.LARGEST_BODY + 1)
    answer = client.post(
        ROWS, params=NORTH, content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 413
    assert "16 MB" in answer.json()["detail"]
    assert home.labels() == []
    [refusal] = home.refusals()
    assert refusal.facts["problem"] == "too_large"


def test_a_user_without_an_identity_brings_nothing_in(
    home: LabelledHome, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.access.signing_in.operating_system_user", lambda: "somebody")
    answer = client.post(ROWS, params=NORTH, json={"labels": [row(home)]})
    assert answer.status_code == 401
    assert home.labels() == []
