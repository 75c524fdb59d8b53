"""Homes with a believable history, each stage made once and served as often as needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TypeAlias

import pytest
from believable_home import Stage, build
from databases import Databases
from fastapi.testclient import TestClient
from local_client import everybody

from api.assembly import Driftward
from api.http.app import create_app
from api.settings import Settings
from registry.clock import ReplayClock
from registry.ledger import entries

ADDRESS = "http://127.0.0.1:8321"

Homes: TypeAlias = Mapping[Stage, Settings]
CopyHome: TypeAlias = Callable[[Stage], Settings]
#: Opens a stage's home: the same copy for every test, so that none may change it.
Open: TypeAlias = Callable[[Stage], Driftward]
#: Serves a stage's home, without a socket.
Serve: TypeAlias = Callable[[Stage], TestClient]


@pytest.fixture(scope="session")
def homes(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Homes:
    """One home for each stage; to be copied, and never opened."""
    folder = tmp_path_factory.mktemp("homes")
    kept: dict[Stage, Settings] = {}

    def keep(stage: Stage, driftward: Driftward) -> None:
        driftward.database.dispose()
        kept[stage] = databases.copied_home(growing, folder / stage.name.lower())

    growing = databases.home_at(folder / "growing")
    build(growing, max(Stage), reached=keep).database.dispose()
    return kept


@pytest.fixture
def copied_home(databases: Databases, homes: Homes, tmp_path: Path) -> Iterator[CopyHome]:
    """Copies a stage's home, for a test to change."""
    copies: list[Settings] = []

    def copy(stage: Stage) -> Settings:
        copies.append(databases.copied_home(homes[stage], tmp_path / "home"))
        return copies[-1]

    yield copy
    for home in copies:
        databases.throw_away_database(home)


@pytest.fixture(scope="session")
def open_home(
    databases: Databases, homes: Homes, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Open]:
    opened: list[Driftward] = []
    folder = tmp_path_factory.mktemp("opened")

    @cache
    def open_stage(stage: Stage) -> Driftward:
        driftward = Driftward.open(
            databases.copied_home(homes[stage], folder / stage.name.lower())
        )
        opened.append(driftward)
        with driftward.database.reading() as session:
            newest = max(entry.recorded_at for entry in entries(session))
        driftward.clock = ReplayClock(newest + timedelta(minutes=12))
        return driftward

    yield open_stage
    for driftward in opened:
        driftward.database.dispose()


@pytest.fixture
def serve_afresh(open_home: Open) -> Iterator[Serve]:
    """Serve a stage by an application of the test's own, which it may change."""
    clients: list[TestClient] = []

    def serve_stage(stage: Stage) -> TestClient:
        clients.append(_client(open_home(stage)))
        return clients[-1]

    yield serve_stage
    for client in clients:
        client.close()


@pytest.fixture(scope="session")
def serve(open_home: Open) -> Iterator[Serve]:
    """Serve a stage by an application that all tests share."""
    clients: list[TestClient] = []

    @cache
    def serve_stage(stage: Stage) -> TestClient:
        clients.append(_client(open_home(stage)))
        return clients[-1]

    yield serve_stage
    for client in clients:
        client.close()


def _client(driftward: Driftward) -> TestClient:
    app = create_app(driftward, recognise=everybody)
    return TestClient(app, base_url=ADDRESS, raise_server_exceptions=False)
