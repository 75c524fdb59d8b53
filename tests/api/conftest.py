"""Homes with a believable history, each stage made once and served as often as needed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TypeAlias

import pytest
from believable_home import Stage, build
from fastapi.testclient import TestClient
from local_client import everybody

from api.assembly import Driftward
from api.http.app import create_app
from api.settings import Settings
from registry.clock import ReplayClock
from registry.ledger import entries

ADDRESS = "http://127.0.0.1:8321"

#: Opens a stage's home: the same copy for every test, so that none may change it.
Open: TypeAlias = Callable[[Stage], Driftward]
#: Serves a stage's home, without a socket.
Serve: TypeAlias = Callable[[Stage], TestClient]


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[Stage, Path]:
    """One home for each stage."""
    folder = tmp_path_factory.mktemp("homes")

    def keep(stage: Stage, driftward: Driftward) -> None:
        connection = driftward.database.engine.raw_connection()
        connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        shutil.copytree(folder / "growing", folder / stage.name.lower())

    build(folder / "growing", max(Stage), reached=keep).database.dispose()
    return {stage: folder / stage.name.lower() for stage in Stage}


@pytest.fixture(scope="session")
def open_home(homes: Mapping[Stage, Path]) -> Iterator[Open]:
    opened: list[Driftward] = []

    @cache
    def open_stage(stage: Stage) -> Driftward:
        driftward = Driftward.open(Settings(home=homes[stage]))
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
