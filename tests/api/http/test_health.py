from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from believable_home import Stage
from fastapi.testclient import TestClient
from local_client import everybody
from sqlalchemy import update

from api.assembly import Driftward
from api.http.app import create_app
from api.initialising import initialise
from api.settings import Settings
from registry.outbox import OutboxItem

if TYPE_CHECKING:
    from tests.api.conftest import CopyHome, Open


def checks(client: TestClient) -> tuple[int, dict[str, bool], dict[str, str]]:
    answer = client.get("/readyz")
    found = answer.json()["checks"]
    return (
        answer.status_code,
        {check["name"]: check["ok"] for check in found},
        {check["name"]: check["detail"] for check in found},
    )


def test_a_living_process_says_so_without_looking_at_anything(tmp_path: Path) -> None:
    driftward = Driftward(Settings(home=tmp_path / "nothing"))
    with TestClient(
        create_app(driftward, recognise=everybody), base_url="http://localhost"
    ) as client:
        assert client.get("/healthz").json() == {"status": "alive"}


@pytest.mark.slow
# MLflow's own queries are older than the SQLAlchemy that it runs on.
@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
def test_a_whole_installation_is_ready(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    initialise(settings)
    driftward = Driftward.open(settings)
    with TestClient(
        create_app(driftward, recognise=everybody), base_url="http://localhost"
    ) as client:
        status, ok, details = checks(client)
    driftward.database.dispose()
    assert status == 200, details
    assert ok == {"database": True, "schema": True, "mlflow": True, "outbox": True}


def test_an_mlflow_that_does_not_answer_makes_us_not_ready(open_home: Open) -> None:
    home = open_home(Stage.EMPTY).settings
    driftward = Driftward.open(
        home.model_copy(update={"mlflow_uri": "sqlite:////proc/nowhere/mlflow.db"})
    )
    with TestClient(
        create_app(driftward, recognise=everybody), base_url="http://localhost"
    ) as client:
        status, ok, _ = checks(client)
    driftward.database.dispose()
    assert status == 503
    assert ok == {"database": True, "schema": True, "mlflow": False, "outbox": True}


def test_a_database_that_cannot_be_opened_makes_us_not_ready(tmp_path: Path) -> None:
    driftward = Driftward(
        Settings(home=tmp_path / "nothing", mlflow_uri="sqlite:////proc/nowhere/mlflow.db")
    )
    with TestClient(
        create_app(driftward, recognise=everybody), base_url="http://localhost"
    ) as client:
        status, ok, _ = checks(client)
    assert status == 503
    assert not any(ok.values())


def test_changes_that_mlflow_was_not_told_for_long_make_us_not_ready(
    copied_home: CopyHome,
) -> None:
    home = copied_home(Stage.HEALED)
    driftward = Driftward.open(
        home.model_copy(update={"mlflow_uri": "sqlite:////proc/nowhere/mlflow.db"})
    )
    with driftward.database.transaction() as session:
        session.execute(update(OutboxItem).values(delivered_at=None))
    with TestClient(
        create_app(driftward, recognise=everybody), base_url="http://localhost"
    ) as client:
        status, ok, details = checks(client)
    driftward.database.dispose()
    assert status == 503
    assert not ok["outbox"]
    assert "look whether MLflow's store can be written" in details["outbox"]


class Failing:
    """Stands for a schedule whose ticks have failed for so long."""

    def __init__(self, seconds: float) -> None:
        self.failing_seconds = seconds


@pytest.mark.parametrize(("seconds", "ready"), [(0, True), (150, True), (151, False)])
def test_a_schedule_that_fails_for_long_makes_us_not_ready(
    open_home: Open, seconds: float, ready: bool
) -> None:
    driftward = open_home(Stage.EMPTY)
    app = create_app(driftward, recognise=everybody)
    app.state.schedule = Failing(seconds)
    with TestClient(app, base_url="http://localhost") as client:
        status, ok, details = checks(client)
    assert ok["schedule"] is ready, details
    assert status == (200 if ready else 503)
    if not ready:
        assert details["schedule"].startswith("looking what is due has failed for 151 seconds")
