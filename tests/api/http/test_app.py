from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from believable_home import PSEUDONYM, Stage

from api.assembly import Driftward
from api.http.app import TAGS, create_app
from api.settings import Settings

if TYPE_CHECKING:
    from tests.api.conftest import Serve

#: What stands for a path's parameter, where the history has it.
KNOWN = {
    ("models", "name"): "pneumonia-cxr",
    ("models", "number"): "2",
    ("monitors", "name"): "pneumonia-cxr",
    ("episodes", "number"): "1",
    ("runs", "number"): "2",
    ("scans", "number"): "3",
    ("jobs", "number"): "1",
    ("quarantine", "item"): "0" * 32,
    ("label-requests", "number"): "1",
    ("audit", "name"): "pneumonia-cxr",
    ("audit", "number"): "2",
    ("audit", "scan"): "3",
}


def api_paths(schema: dict[str, Any]) -> list[str]:
    return [
        path
        for path, operations in schema["paths"].items()
        if path.startswith("/api/") and "get" in operations
    ]


def filled(path: str) -> str:
    resource = path.split("/")[3]
    for (owner, name), value in KNOWN.items():
        if owner == resource:
            path = path.replace(f"{{{name}}}", value)
    assert "{" not in path, f"no value is known for {path}"
    return path


def test_every_resource_answers_where_there_is_a_history(serve: Serve) -> None:
    client = serve(Stage.HEALED)
    paths = api_paths(client.get("/openapi.json").json())
    assert len(paths) >= 17
    for path in paths:
        answer = client.get(filled(path))
        # Everything that came in was taken, and no run asked for labels.
        if path == "/api/v1/quarantine/{item}" or path.startswith("/api/v1/label-requests/{"):
            assert answer.status_code == 404
            continue
        assert answer.status_code == 200, (path, answer.text)
        assert answer.content, path


def test_an_empty_home_has_empty_lists_and_no_things(serve: Serve) -> None:
    client = serve(Stage.EMPTY)
    for path in api_paths(client.get("/openapi.json").json()):
        answer = client.get(filled(path))
        if "{" in path:
            assert answer.status_code == 404, path
            assert answer.headers["content-type"] == "application/problem+json", path
        elif path.startswith("/api/v1/ledger"):
            assert answer.status_code == 200  # that the home was made is in the ledger
        elif path == "/api/v1/quarantine/counts":
            assert (answer.json()["items"], answer.json()["counts"]) == (0, [])
        elif path in {"/api/v1/me", "/api/v1/users"}:
            assert "Mei Tanaka" in answer.text
        else:
            assert answer.json() == [], path


def test_no_answer_carries_a_pseudonym(serve: Serve) -> None:
    client = serve(Stage.HEALED)
    for path in [*api_paths(client.get("/openapi.json").json()), "/metrics"]:
        answer = client.get(filled(path) if path != "/metrics" else path)
        assert PSEUDONYM.encode() not in answer.content, path


def test_what_comes_in_over_http_is_known_and_nothing_else_can_be_changed(serve: Serve) -> None:
    client = serve(Stage.EMPTY)
    schema = client.get("/openapi.json").json()
    changing = {
        (method, path)
        for path, operations in schema["paths"].items()
        for method in operations
        if method != "get"
    }
    # Instances, labels, signatures and what runtimes say come in, and change nothing that is there.
    assert changing == {
        # A study and a patient are named in a body, so that they stand in no address.
        ("post", "/api/v1/audit/patients"),
        ("post", "/api/v1/audit/studies"),
        ("post", "/api/v1/labels"),
        ("post", "/api/v1/labels/reports"),
        # Where a runtime is declared, and where not, is a setting of its site's operator.
        ("put", "/api/v1/models/{name}/deployments/{site}/runtime"),
        ("delete", "/api/v1/models/{name}/deployments/{site}/runtime"),
        ("post", "/api/v1/models/{name}/deployments/{site}/attestations"),
        # Out of use one operator may take a model wherever they are, and back.
        ("put", "/api/v1/models/{name}/deployments/{site}/suspension"),
        ("delete", "/api/v1/models/{name}/deployments/{site}/suspension"),
        ("post", "/api/v1/runs/{number}/signatures"),
        ("post", "/dicomweb/{site}/studies"),
        ("post", "/dicomweb/{site}/studies/{study}"),
    }
    answer = client.post("/api/v1/runs")
    assert answer.status_code == 405
    assert answer.json()["title"] == "Method Not Allowed"
    assert answer.headers["allow"] == "GET"


@pytest.fixture
def schema(tmp_path: Any) -> dict[str, Any]:
    return create_app(Driftward(Settings(home=tmp_path))).openapi()


def test_the_description_is_openapi_whose_references_all_lead_somewhere(
    schema: dict[str, Any],
) -> None:
    assert schema["openapi"].startswith("3.1")
    assert schema["info"]["title"] == "Driftward"
    for reference in references(schema):
        node: Any = schema
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_operation_has_a_summary_a_description_and_a_known_tag(
    schema: dict[str, Any],
) -> None:
    tags = {tag["name"] for tag in TAGS}
    identifiers: list[str] = []
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            assert operation["summary"], path
            assert operation["description"], path
            assert set(operation["tags"]) <= tags, path
            identifiers.append(operation["operationId"])
    assert len(identifiers) == len(set(identifiers))


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_pages_that_would_fetch_scripts_from_elsewhere_do_not_exist(
    serve: Serve, path: str
) -> None:
    assert serve(Stage.EMPTY).get(path).status_code == 404
