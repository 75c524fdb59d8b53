from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from mlflow import MlflowClient

from registry import outbox, serving
from registry.bundle_store import BundleStore
from registry.bundles.bundle import Bundle, read_bundle
from registry.database import Database
from registry.errors import IntegrityError, LeaseLostError, NotFoundError, TrackingError
from registry.jobs import JobQueue, enqueue
from registry.outbox import OutboxItem
from registry.tracking import DatasetInput, Tracking
from registry.versions import Origin, VersionRow, find, register

# MLflow's own, of its queries under SQLAlchemy 2.1.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader:sqlalchemy.exc.SADeprecationWarning"
)


class Stopped(Tracking):
    """A client whose process is stopped for long before it moves an alias."""

    meanwhile: Callable[[], object] = staticmethod(lambda: None)

    def set_alias(self, model: str, alias: str, version: str) -> None:
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        super().set_alias(model, alias, version)


@pytest.fixture
def client(tracking: Tracking, tmp_path: Path) -> MlflowClient:
    """MLflow's own client of the same store: what anybody else sees there."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def registered(
    database: Database, tracking: Tracking, bundle: Bundle, now: datetime
) -> VersionRow:
    """Store and register a bundle, its news to MLflow waiting in the outbox."""
    run = tracking.start_run("import", params={}, tags={})
    uri = tracking.store_bundle(run, bundle.root)
    with database.transaction() as session:
        version = register(
            session,
            bundle,
            model="chest",
            base=None,
            origin=Origin.IMPORT,
            artifact_uri=uri,
            mlflow_run=run,
            actor="test",
            at=now,
        )
        outbox.put_version(session, version, at=now)
    return version


def promote(
    database: Database, version: VersionRow, now: datetime, *, expected: int | None
) -> None:
    with database.transaction() as session:
        serving.move_champion(
            session,
            find(session, f"chest@{version.number}"),
            expected=expected,
            reason="test",
            kind="champion.promoted",
            actor="test",
            at=now,
        )


def untold(database: Database) -> outbox.Backlog | None:
    with database.reading() as session:
        return outbox.backlog(session)


@pytest.fixture
def two_versions(
    database: Database,
    tracking: Tracking,
    task_bundle: Bundle,
    tmp_path: Path,
    now: datetime,
) -> tuple[VersionRow, VersionRow]:
    other = Path(shutil.copytree(task_bundle.root, tmp_path / "other"))
    card = other / "card.yaml"
    card.write_text(card.read_text().replace("any patient", "any patient at all"))
    return (
        registered(database, tracking, task_bundle, now),
        registered(database, tracking, read_bundle(other), now),
    )


def test_a_run_keeps_its_parameters_tags_metrics_and_end(
    tracking: Tracking, client: MlflowClient
) -> None:
    run = tracking.start_run("fine-tuning", params={"epochs": 5}, tags={"model": "chest"})
    for step, loss in enumerate((0.7, 0.5, 0.4)):
        tracking.log_metrics(run, {"loss": loss, "auc": 1 - loss}, step=step)
    tracking.end_run(run)
    seen = client.get_run(run)
    assert seen.info.run_name == "fine-tuning"
    assert seen.info.status == "FINISHED"
    assert seen.data.params == {"epochs": "5"}
    assert seen.data.tags["model"] == "chest"
    history = [(metric.step, metric.value) for metric in client.get_metric_history(run, "loss")]
    assert history == [(0, 0.7), (1, 0.5), (2, 0.4)]
    assert seen.data.metrics["auc"] == pytest.approx(0.6)


def test_a_run_that_failed_says_so(tracking: Tracking, client: MlflowClient) -> None:
    run = tracking.start_run("fine-tuning", params={}, tags={})
    tracking.end_run(run, failed=True)
    assert client.get_run(run).info.status == "FAILED"


def test_what_a_run_read_is_kept_with_its_whole_digest_and_its_context(
    tracking: Tracking, client: MlflowClient
) -> None:
    run = tracking.start_run("fine-tuning", params={}, tags={})
    contexts = ("training", "locked drifted")
    tracking.log_inputs(
        run,
        [
            DatasetInput(name=f"set {n}", digest=f"{n}" * 64, context=context, scans=100 + n)
            for n, context in enumerate(contexts)
        ],
    )
    inputs = {
        item.tags[0].value: item.dataset for item in client.get_run(run).inputs.dataset_inputs
    }
    assert inputs.keys() == set(contexts)
    assert inputs["training"].name == "set 0"
    assert "1" * 64 in inputs["locked drifted"].source
    assert inputs["locked drifted"].profile == '{"scans": 101}'


def test_a_stored_bundle_comes_back_as_the_same_bundle(
    tracking: Tracking, task_bundle: Bundle, tmp_path: Path
) -> None:
    run = tracking.start_run("import", params={}, tags={})
    uri = tracking.store_bundle(run, task_bundle.root)
    fetched = tracking.fetch(uri, tmp_path / "cache")
    assert read_bundle(fetched).digest == task_bundle.digest


def test_a_stored_bundle_that_is_gone_is_named(tracking: Tracking, tmp_path: Path) -> None:
    gone = (tmp_path / "artifacts" / "gone").as_uri()
    with pytest.raises(NotFoundError, match="restore it from a backup"):
        tracking.fetch(gone, tmp_path / "cache")


def test_a_stored_bundle_that_was_changed_is_not_used(
    database: Database,
    tracking: Tracking,
    two_versions: tuple[VersionRow, VersionRow],
    tmp_path: Path,
) -> None:
    first, second = two_versions
    store = BundleStore(tracking, tmp_path / "cache")
    assert store.open(second).digest == second.bundle_digest
    card = tracking.fetch(first.artifact_uri, tmp_path / "cache") / "card.yaml"
    card.write_text(card.read_text().replace("any patient", "some patients"))
    with pytest.raises(IntegrityError, match=r"chest@1 .*not used"):
        store.open(first)


def test_the_same_run_is_one_version_however_often_it_is_told(
    tracking: Tracking, client: MlflowClient
) -> None:
    runs = [tracking.start_run(f"run {n}", params={}, tags={}) for n in range(2)]
    numbers = [
        tracking.create_version("chest", artifact_uri="file:///nowhere", run_id=run, tags={})
        for run in (runs[0], runs[0], runs[1], runs[0])
    ]
    assert numbers == ["1", "1", "2", "1"]
    assert len(client.search_model_versions("name = 'chest'")) == 2


def test_an_alias_that_nobody_set_is_none(tracking: Tracking) -> None:
    assert tracking.alias("chest", "champion") is None
    run = tracking.start_run("import", params={}, tags={})
    tracking.create_version("chest", artifact_uri="file:///nowhere", run_id=run, tags={})
    assert tracking.alias("chest", "champion") is None


def test_the_alias_follows_the_champion_when_the_outbox_is_delivered(
    database: Database,
    tracking: Tracking,
    client: MlflowClient,
    two_versions: tuple[VersionRow, VersionRow],
    now: datetime,
) -> None:
    first, second = two_versions
    promote(database, first, now, expected=None)
    assert outbox.deliver(database, tracking) == 3
    assert tracking.alias("chest", "champion") == "1"
    promote(database, second, now, expected=first.id)
    assert tracking.alias("chest", "champion") == "1"  # not yet told
    assert outbox.deliver(database, tracking) == 1
    with database.reading() as session:
        champion = serving.require_champion(session, "chest")
    assert tracking.alias("chest", "champion") == champion.mlflow_version == "2"
    shown = client.get_model_version_by_alias("chest", "champion")
    assert shown.tags == {"driftward.version": "chest@2", "digest": second.bundle_digest}
    assert shown.run_id == second.mlflow_run


def test_delivering_again_tells_nothing(
    database: Database,
    tracking: Tracking,
    client: MlflowClient,
    two_versions: tuple[VersionRow, VersionRow],
) -> None:
    assert outbox.deliver(database, tracking) == 2
    assert outbox.deliver(database, tracking) == 0
    assert untold(database) is None
    assert len(client.search_model_versions("name = 'chest'")) == 2


def test_an_alias_that_a_stopped_worker_moved_back_is_put_right(
    database: Database,
    tracking: Tracking,
    tmp_path: Path,
    two_versions: tuple[VersionRow, VersionRow],
    now: datetime,
) -> None:
    first, second = two_versions
    promote(database, first, now, expected=None)
    with database.transaction() as session:
        enqueue(session, kind="deliver", key="deliver", payload={})
    stale = JobQueue(database, lease=timedelta(seconds=-1)).claim("first", ["deliver"])
    stopped = Stopped(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts")

    def another_goes_on() -> None:
        promote(database, second, now, expected=first.id)
        claim = JobQueue(database).claim("second", ["deliver"])
        assert outbox.deliver(database, tracking, claim=claim) == 2
        assert tracking.alias("chest", "champion") == "2"

    stopped.meanwhile = another_goes_on
    with pytest.raises(LeaseLostError, match="second"):
        outbox.deliver(database, stopped, claim=stale)
    assert tracking.alias("chest", "champion") == "1"  # nobody could keep it from this
    assert outbox.deliver(database, tracking) == 1
    assert tracking.alias("chest", "champion") == "2"


def test_what_was_told_but_not_noted_as_told_is_told_again_to_the_same_end(
    database: Database,
    tracking: Tracking,
    client: MlflowClient,
    two_versions: tuple[VersionRow, VersionRow],
    now: datetime,
) -> None:
    promote(database, two_versions[0], now, expected=None)
    outbox.deliver(database, tracking)
    with database.transaction() as session:
        # As a crash between MLflow's answer and the commit would leave it.
        for item in session.query(OutboxItem):
            item.delivered_at = None
        for version in session.query(VersionRow):
            version.mlflow_version = None
    assert outbox.deliver(database, tracking) == 3
    assert len(client.search_model_versions("name = 'chest'")) == 2
    with database.reading() as session:
        numbers = [row.mlflow_version for row in session.query(VersionRow)]
    assert numbers == ["1", "2"]
    assert tracking.alias("chest", "champion") == "1"


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Tracking]:
    """An MLflow server that is not there."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as taken:  # bound, so that nobody else takes it, and never listening
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        yield Tracking(f"http://127.0.0.1:{port}", tmp_path / "elsewhere")


def test_a_later_alias_never_overtakes_one_that_could_not_be_told(
    database: Database,
    tracking: Tracking,
    unreachable: Tracking,
    two_versions: tuple[VersionRow, VersionRow],
    now: datetime,
) -> None:
    first, second = two_versions
    promote(database, first, now, expected=None)
    promote(database, second, now, expected=first.id)
    with pytest.raises(
        TrackingError, match=r"register a version of chest: .*ConnectionRefusedError"
    ):
        outbox.deliver(database, unreachable)
    found = untold(database)
    assert found is not None
    assert (found.waiting, found.failures) == (4, 1)
    assert outbox.deliver(database, tracking) == 4
    assert tracking.alias("chest", "champion") == "2"


def test_a_server_that_does_not_answer_fails_its_ping(unreachable: Tracking) -> None:
    with pytest.raises(TrackingError, match=r"does not answer: .*ConnectionRefusedError"):
        unreachable.ping()


def test_a_store_that_cannot_be_opened_is_said_within_seconds(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").mkdir()  # where a file should be
    tracking = Tracking(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts")
    begun = time.monotonic()
    with pytest.raises(TrackingError, match=r"does not answer: .*OperationalError"):
        tracking.ping()
    assert time.monotonic() - begun < 60  # MLflow's own attempts take 101 seconds a store
