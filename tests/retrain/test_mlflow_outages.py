"""MLflow's server away, silent or failing while a version is promoted: one promotion, told later."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from bare_home import bare_home
from fastapi.testclient import TestClient
from local_client import everybody
from mlflow import MlflowClient
from retraining_rows import MODEL, Retraining, ledger_is_valid, person
from running_mlflow import Line, MlflowLine, running_mlflow

from api.assembly import Driftward
from api.doctor import examine
from api.http.app import create_app
from registry import identities, ledger, outbox, serving
from registry.identities import Role
from registry.jobs import Job, JobState
from registry.versions import VersionRow, find
from retrain import runs
from retrain.promotion import DELIVER_OUTBOX, promote
from retrain.scheduling import tick

pytestmark = [
    pytest.mark.slow,
    # MLflow's own queries use a loader that SQLAlchemy has deprecated.
    pytest.mark.filterwarnings(
        "ignore:The ``noload`` loader:sqlalchemy.exc.SADeprecationWarning"
    ),
]

MEI = person("Mei")


@pytest.fixture(scope="module")
def line(empty_mlflow: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowLine]:
    """A line to a server of MLflow's, which all tests here share."""
    folder = tmp_path_factory.mktemp("served")
    shutil.copyfile(empty_mlflow, folder / "mlflow.db")
    with running_mlflow(folder / "mlflow.db", folder / "artifacts") as made:
        yield made


@pytest.fixture
def driftward(
    retraining: Retraining, line: MlflowLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Driftward]:
    """An installation whose MLflow is a server, and whose champion MLflow knows."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("registry.tracking.PING_SECONDS", 1)
    line.become(Line.OPEN)
    settings = bare_home(tmp_path, retraining.database)
    settings = settings.model_copy(update={"mlflow_uri": line.uri})
    made = Driftward(settings, clock=retraining.clock)
    with retraining.database.transaction() as session:
        session.query(outbox.OutboxItem).delete()
        identities.bind(
            session,
            name="local",
            os_user=identities.operating_system_user(),
            roles=frozenset(Role),
            at=retraining.now,
        )
    store_in_mlflow(made, "general@1", f"{MODEL}@1")
    with retraining.database.transaction() as session:
        champion = serving.require_champion(session, MODEL)
        outbox.put_alias(session, champion, alias="champion", at=retraining.now)
    assert outbox.deliver(made.database, made.tracking) == 1
    yield made
    line.become(Line.OPEN)
    made.database.dispose()


def store_in_mlflow(driftward: Driftward, *names: str) -> None:
    """Give versions, whose rows are all there is of them, a run and a place in MLflow."""
    for name in names:
        run = driftward.tracking.start_run(name, params={}, tags={})
        client = MlflowClient(tracking_uri=driftward.settings.mlflow_uri)
        place = f"{client.get_run(run).info.artifact_uri}/bundle"
        with driftward.database.transaction() as session:
            row = find(session, name)
            row.mlflow_run, row.artifact_uri = run, place
            session.flush()
            ledger.append(
                session,
                at=driftward.clock.now(),
                actor="test",
                kind="test",
                subject=name,
                facts={},
                seals=[row],
            )


def approved_run(retraining: Retraining) -> int:
    number = retraining.run_awaiting_approval()
    retraining.approve(number)
    return number


def untold(driftward: Driftward) -> outbox.Backlog | None:
    with driftward.database.reading() as session:
        return outbox.backlog(session)


def delivery(driftward: Driftward) -> tuple[str, str | None]:
    """Return state and error of the job that tells MLflow."""
    with driftward.database.reading() as session:
        job = session.query(Job).filter(Job.key == DELIVER_OUTBOX).one()
        return job.state, job.error


def in_mlflow(driftward: Driftward, line: MlflowLine) -> str | None:
    """Return the version that MLflow shows as champion, asked past the line."""
    with driftward.database.reading() as session:
        versions = session.query(VersionRow).filter(VersionRow.model == MODEL).all()
    alias = MlflowClient(tracking_uri=line.server_uri).get_model_version_by_alias(
        MODEL, "champion"
    )
    [found] = [row for row in versions if row.mlflow_version == alias.version]
    return f"{found.model}@{found.number}"


#: What the error ends on, for each way in which MLflow is away.
SAID = {
    Line.CUT: "ConnectionRefusedError",
    Line.STALLED: "imeout",
    Line.FAILING: "ResponseError",
}


@pytest.mark.parametrize("state", SAID)
def test_a_promotion_needs_no_mlflow_and_is_told_when_it_is_back(
    retraining: Retraining,
    driftward: Driftward,
    line: MlflowLine,
    monkeypatch: pytest.MonkeyPatch,
    state: Line,
) -> None:
    monkeypatch.setattr(outbox, "FIRST_PAUSE", timedelta(seconds=0.5))
    run = approved_run(retraining)
    candidate = f"{MODEL}@2"
    store_in_mlflow(driftward, candidate)
    line.become(state)

    with driftward.database.transaction() as session:
        promote(session, runs.require_run(session, run), by=MEI, at=retraining.now)
    assert in_mlflow(driftward, line) == f"{MODEL}@1"

    worker = driftward.worker()
    for failures in (1, 2):
        begun = time.monotonic()
        # The renewal of references is queued behind it and is none of this test's.
        with monkeypatch.context() as impatient:
            impatient.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
            assert worker.run_one()
        assert time.monotonic() - begun < 60  # MLflow's own bounds add up to 20 minutes
        found = untold(driftward)
        assert found is not None
        assert (found.waiting, found.failures) == (1, failures)
        assert found.error is not None
        assert SAID[state] in found.error
        job = delivery(driftward)
        assert (job[0], job[1]) == (JobState.FAILED, found.error)
        # It is left alone for a while, and for longer each time.
        assert found.next_try is not None
        pause = found.next_try - datetime.now(UTC)
        assert pause < timedelta(seconds=0.5) * 2 ** (failures - 1)
        if failures == 1:
            time.sleep(max(pause.total_seconds(), 0))
            tick(driftward.database, driftward.clock)
    require_said(driftward, state)

    line.become(Line.OPEN)
    time.sleep(max((found.next_try - datetime.now(UTC)).total_seconds(), 0))
    tick(driftward.database, driftward.clock)
    assert worker.run_one()
    assert untold(driftward) is None
    assert in_mlflow(driftward, line) == candidate
    with driftward.database.reading() as session:
        assert len(ledger.entries(session, kind="run.promoted", subject=f"run {run}")) == 1
        moved = ledger.entries(session, kind="champion.promoted", subject=candidate)
    assert len(moved) == 1
    assert ledger_is_valid(driftward.database)


def require_said(driftward: Driftward, state: Line) -> None:
    """Look that every way in says that MLflow lags, since when and why."""
    since = f"since {driftward.clock.now():%Y-%m-%d %H:%M} UTC"
    [finding] = [item for item in examine(driftward.settings) if item.check == "MLflow"]
    assert not finding.ok
    assert since in finding.detail
    assert SAID[state] in finding.detail
    app = create_app(driftward, recognise=everybody)
    with TestClient(app, base_url="http://127.0.0.1:8321") as client:
        ready = client.get("/readyz")
        assert ready.status_code == 503
        checks = {check["name"]: check for check in ready.json()["checks"]}
        assert not checks["mlflow"]["ok"]
        assert since in checks["outbox"]["detail"]
        figures = client.get("/metrics").text
        assert "driftward_outbox_waiting 1.0" in figures
        assert "driftward_outbox_failures 2.0" in figures
