from __future__ import annotations

from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from believable_home import Stage
from fastapi import FastAPI
from fastapi.testclient import TestClient
from local_client import everybody

from api.http.app import create_app
from api.http.security import CONTENT_SECURITY_POLICY, HEADERS, allowed_hosts
from api.pages.rendering import STATIC

if TYPE_CHECKING:
    from tests.api.conftest import Open, Serve

PAGES = [
    "/",
    "/monitors",
    "/monitors/pneumonia-cxr",
    "/runs",
    "/runs/2",
    "/models",
    "/models/pneumonia-cxr",
    "/scans",
    "/scans/3",
    "/ledger",
    "/nowhere",
]


def assets(client: TestClient) -> str:
    assert isinstance(client.app, FastAPI)
    return str(client.app.state.pages.assets)


def test_every_kind_of_answer_has_the_headers(serve: Serve) -> None:
    client = serve(Stage.HEALED)
    asset = f"{assets(client)}/driftward.css"
    for path in [*PAGES, "/api/v1/models", "/api/v1/nothing", "/healthz", "/metrics", asset]:
        answer = client.get(path)
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, (path, name)


def test_pages_and_data_are_kept_by_no_cache_and_assets_for_good(serve: Serve) -> None:
    client = serve(Stage.HEALED)
    for path in ("/", "/api/v1/scans", "/api/v1/scans/3/thumbnail.png"):
        assert client.get(path).headers["cache-control"] == "no-store"
    stylesheet = client.get(f"{assets(client)}/driftward.css")
    assert "immutable" in stylesheet.headers["cache-control"]
    missing = client.get(f"{assets(client)}/nothing.css")
    assert (missing.status_code, missing.headers["cache-control"]) == (404, "no-store")


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere() -> None:
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert "http" not in CONTENT_SECURITY_POLICY
    assert "frame-ancestors 'none'" in CONTENT_SECURITY_POLICY


class Offences(HTMLParser):
    """Collects what the policy would block."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        is_data = values.get("type") == "application/json"
        if tag == "script" and "src" not in values and not is_data:
            self.found.append("an inline script")
        if tag == "style":
            self.found.append("an inline style sheet")
        for name, value in attributes:
            if name == "style" or name.startswith("on"):
                self.found.append(f"an attribute {name}")
            if name in {"src", "href", "action"} and (value or "").startswith(("http", "//")):
                self.found.append(f"{name} to {value}")


@pytest.mark.parametrize("path", PAGES)
def test_no_page_has_anything_that_the_policy_blocks(serve: Serve, path: str) -> None:
    offences = Offences()
    offences.feed(serve(Stage.HEALED).get(path).text)
    assert offences.found == []


def test_no_asset_of_ours_reaches_for_the_internet() -> None:
    for path in STATIC.iterdir():
        if path.suffix in {".css", ".js"}:
            text = path.read_text(encoding="utf-8")
            assert "http://" not in text, path
            assert "https://" not in text, path


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8321", "localhost:8321", "[::1]:8321"]
)
def test_loopback_s_names_are_let_in(serve: Serve, host: str) -> None:
    assert serve(Stage.EMPTY).get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8321", ""])
def test_another_name_that_resolves_to_us_is_turned_away(serve: Serve, host: str) -> None:
    answer = serve(Stage.EMPTY).get("/", headers={"host": host})
    assert answer.status_code == 400
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_name_that_we_are_bound_to_is_let_in(open_home: Open) -> None:
    app = create_app(open_home(Stage.EMPTY), hosts=["127.0.0.7"], recognise=everybody)
    with TestClient(app, base_url="http://127.0.0.7:8321") as client:
        assert client.get("/healthz").status_code == 200
    assert "[::2]" in allowed_hosts(["::2"])
