from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from believable_home import Stage
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.http.problems import MEDIA_TYPE, status_of
from registry import errors
from registry.errors import DriftwardError

if TYPE_CHECKING:
    from tests.api.conftest import Serve

#: Every error by name, as a reader of the API meets it.
EXPECTED = {
    "DriftwardError": 500,
    "BadInputError": 422,
    "BundleError": 422,
    "IncompleteCardError": 422,
    "ParityError": 422,
    "UnreadableScanError": 422,
    "PlanError": 422,
    "MonitorSpecError": 422,
    "LabelError": 422,
    "CheckpointError": 422,
    "EmbeddingsError": 422,
    "SpaceMismatchError": 422,
    "InsufficientDataError": 422,
    "InsufficientReferenceError": 422,
    "NotFoundError": 404,
    "ConflictError": 409,
    "StaleChampionError": 409,
    "LeaseLostError": 409,
    "TransitionError": 409,
    "RefusedError": 403,
    "GateRefusedError": 403,
    "PlanRefusedError": 403,
    "NotPermittedError": 403,
    "RecalledError": 403,
    "RequestRefusedError": 403,
    "SignatureRefusedError": 403,
    "NotSignedInError": 401,
    "TooManyAttemptsError": 429,
    "IntegrityError": 500,
    "TrainingFailedError": 500,
    "SetupError": 503,
    "HomeError": 503,
    "NewerSchemaError": 503,
    "PortInUseError": 503,
    "CheckpointKeyError": 503,
    "SourceError": 503,
    "TrackingError": 503,
    "StorageFullError": 503,
}


def tree(root: type[DriftwardError] = DriftwardError) -> Iterator[type[DriftwardError]]:
    yield root
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child)


def made(kind: type[DriftwardError]) -> DriftwardError:
    """Return an error without asking its constructor, which wants facts of its own."""
    error = kind.__new__(kind)
    Exception.__init__(error, f"a {kind.__name__} and its way out")
    return error


def test_the_table_has_every_error_of_the_tree() -> None:
    assert {kind.__name__ for kind in tree()} == set(EXPECTED)


@pytest.mark.parametrize("kind", list(tree()), ids=lambda kind: kind.__name__)
def test_each_error_becomes_a_problem_of_its_branch_s_status(
    serve_afresh: Serve, kind: type[DriftwardError]
) -> None:
    client = serve_afresh(Stage.EMPTY)
    app = client.app
    assert isinstance(app, FastAPI)

    @app.get("/api/v1/raising")
    def raising() -> None:
        raise made(kind)

    answer = client.get("/api/v1/raising")
    assert answer.status_code == EXPECTED[kind.__name__] == status_of(made(kind))
    assert answer.headers["content-type"] == MEDIA_TYPE
    problem = answer.json()
    assert set(problem) == {"type", "title", "status", "detail", "instance"}
    assert problem["status"] == answer.status_code
    assert problem["detail"] == f"a {kind.__name__} and its way out"
    assert problem["instance"] == "/api/v1/raising"
    assert problem["type"].startswith("urn:driftward:problem:")
    assert problem["title"]


def test_a_foreign_error_tells_nothing_of_its_text(serve_afresh: Serve) -> None:
    client = serve_afresh(Stage.EMPTY)
    app = client.app
    assert isinstance(app, FastAPI)

    @app.get("/api/v1/raising")
    def raising() -> None:
        raise RuntimeError("Yamada^Hanako")

    answer = client.get("/api/v1/raising")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert "Yamada" not in answer.text
    assert answer.headers["content-security-policy"]


def test_a_value_that_cannot_be_read_is_named(serve: Serve) -> None:
    answer = serve(Stage.EMPTY).get("/api/v1/scans", params={"limit": "many"})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert "query.limit" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/monitors/nothing", "/runs/99", "/nowhere"])
def test_a_person_gets_a_page_that_says_what_is_wrong(serve: Serve, path: str) -> None:
    answer = serve(Stage.EMPTY).get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert "Go to the fleet" in answer.text


def test_a_machine_that_asks_a_page_s_neighbour_still_gets_a_problem(
    serve: Serve,
) -> None:
    client: TestClient = serve(Stage.EMPTY)
    answer = client.get("/api/v1/monitors/nothing", headers={"accept": "text/html"})
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert "there is no monitor nothing" in answer.json()["detail"]
