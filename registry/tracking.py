"""MLflow: runs, metrics, dataset inputs, artifacts and aliases. The one module that imports it.

MLflow stores bytes here; nothing of it is ever loaded as code (`load_model`
is never called), and which version is the champion is decided elsewhere.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

from sqlalchemy import make_url

from registry.errors import NotFoundError, TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "driftward"
BUNDLE_FOLDER = "bundle"
#: MLflow's own: the run that another is nested in.
PARENT_TAG = "mlflow.parentRunId"
#: What MLflow takes in one call, at most.
METRICS_PER_CALL = 1000
#: What every attempt at one piece of work is tagged with.
ATTEMPT_TAG = "driftward.attempt"
#: The fencing token under which an attempt was made.
TOKEN_TAG = "driftward.token"  # noqa: S105 - no password
#: A store that cannot be opened is tried so often, for about a second in all: MLflow's own ten
#: attempts take 101 seconds for each of its two stores, and whoever asks waits meanwhile.
STORE_ATTEMPTS = 4
#: A server that is only asked whether it answers has so long for it.
PING_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInput:
    """What a run read: MLflow keeps it as a dataset input."""

    name: str
    digest: str
    #: "training", "selection", "locked drifted", "locked reference"
    context: str
    scans: int


class Tracking:
    """A client of one MLflow store, created at its first use."""

    def __init__(self, uri: str, artifacts: Path) -> None:
        self._uri = uri
        self._artifacts = artifacts

    @cached_property
    def _client(self) -> MlflowClient:
        from mlflow import MlflowClient
        from mlflow.store.db import utils as store

        store.MAX_RETRY_COUNT = STORE_ATTEMPTS
        # Its import sets levels of its own; it tells of its table creation at INFO.
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        return MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)

    @cached_property
    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        self._artifacts.mkdir(parents=True, exist_ok=True)
        return str(
            self._client.create_experiment(
                EXPERIMENT, artifact_location=self._artifacts.resolve().as_uri()
            )
        )

    def ping(self) -> None:
        """Ask the store for something small, and wait a few seconds at most.

        Raises
        ------
        TrackingError
        """
        with self._named("does not answer"):
            if urlparse(self._uri).scheme in {"http", "https"}:
                self._ping_server()
            else:
                self._client.search_experiments(max_results=1)

    def _ping_server(self) -> None:
        """Ask once: whoever looks whether a server answers waits for no second attempt."""
        from mlflow.utils.credentials import get_default_host_creds
        from mlflow.utils.rest_utils import http_request, verify_rest_response

        path = "/api/2.0/mlflow/experiments/search"
        answer = http_request(
            get_default_host_creds(self._uri),
            path,
            "POST",
            json={"max_results": 1},
            timeout=PING_SECONDS,
            max_retries=0,
        )
        verify_rest_response(answer, path)

    @contextmanager
    def _named(self, problem: str) -> Iterator[None]:
        """Name what fails and how, by types alone: a foreign error may quote what it was given."""
        try:
            yield
        except Exception as error:
            cause: BaseException = error
            while (deeper := cause.__cause__ or cause.__context__) is not None:
                cause = deeper
            kinds = dict.fromkeys((type(error).__name__, type(cause).__name__))
            where = make_url(self._uri).render_as_string()
            raise TrackingError(f"MLflow ({where}) {problem}: {', '.join(kinds)}") from error

    def start_run(
        self,
        name: str,
        *,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        parent: str | None = None,
    ) -> str:
        """Open a run, nested in another where `parent` names one, and return its identifier."""
        from mlflow.entities import Param

        nested = {PARENT_TAG: parent} if parent is not None else {}
        run = self._client.create_run(self._experiment, run_name=name, tags={**tags, **nested})
        run_id = str(run.info.run_id)
        self._client.log_batch(
            run_id, params=[Param(key, str(value)) for key, value in params.items()]
        )
        return run_id

    def log_inputs(self, run_id: str, inputs: Sequence[DatasetInput]) -> None:
        """Record what a run reads."""
        from mlflow.entities import Dataset, InputTag
        from mlflow.entities import DatasetInput as MlflowInput

        self._client.log_inputs(
            run_id,
            [
                MlflowInput(
                    Dataset(
                        name=item.name,
                        # MLflow's column holds 36 characters.
                        digest=item.digest[:36],
                        source_type="driftward",
                        source=json.dumps({"digest": item.digest}),
                        profile=json.dumps({"scans": item.scans}),
                    ),
                    tags=[InputTag("mlflow.data.context", item.context)],
                )
                for item in inputs
            ],
        )

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], *, step: int = 0) -> None:
        """Record metrics of one step in one call."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(
            run_id,
            metrics=[Metric(key, float(value), now, step) for key, value in metrics.items()],
        )

    def log_curves(self, run_id: str, points: Mapping[int, Mapping[str, float]]) -> None:
        """Record metrics of many steps, by step, in as few calls as MLflow takes."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(key, float(value), now, step)
            for step, values in points.items()
            for key, value in values.items()
        ]
        for start in range(0, len(metrics), METRICS_PER_CALL):
            self._client.log_batch(run_id, metrics=metrics[start : start + METRICS_PER_CALL])

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        """Tag a run."""
        self._client.set_tag(run_id, key, value)

    def end_run(self, run_id: str, *, failed: bool = False) -> None:
        """Close a run."""
        self._client.set_terminated(run_id, "FAILED" if failed else "FINISHED")

    def delete_run(self, run_id: str) -> None:
        """Put a run out of sight; MLflow keeps a deleted run and can restore it.

        Raises
        ------
        TrackingError
        """
        with self._named(f"does not delete the run {run_id}"):
            self._client.delete_run(run_id)

    def end_attempts(self, key: str, *, until: int, but: str | None = None) -> int:
        """Put out of sight what earlier attempts at a piece of work began; returns how many.

        An attempt that was killed leaves a run that would be shown as running for ever. It is
        ended and deleted (MLflow keeps a deleted run and can restore it), so that the attempt
        that comes to an end stands there alone.

        Parameters
        ----------
        key : the value of `ATTEMPT_TAG` that every attempt carries
        until : fencing token of the newest claim whose attempts are meant; a worker that was
            stopped for long must not end what a later one began
        but : the run that stays with what is nested in it, where one of the attempts came to
            its end
        """
        found = self._client.search_runs(
            [self._experiment], filter_string=f"tags.`{ATTEMPT_TAG}` = '{key}'"
        )
        earlier = [
            run
            for run in found
            if int(run.data.tags.get(TOKEN_TAG, "0")) <= until
            and (but is None or but not in {run.info.run_id, run.data.tags.get(PARENT_TAG)})
        ]
        for run in earlier:
            if run.info.status == "RUNNING":
                self._client.set_terminated(run.info.run_id, "KILLED")
            self._client.delete_run(run.info.run_id)
        return len(earlier)

    def store_bundle(self, run_id: str, directory: Path) -> str:
        """Copy a bundle's files into a run's artifacts, and return their URI."""
        self._client.log_artifacts(run_id, str(directory), BUNDLE_FOLDER)
        root = str(self._client.get_run(run_id).info.artifact_uri)
        return f"{root}/{BUNDLE_FOLDER}"

    def create_version(
        self, model: str, *, artifact_uri: str, run_id: str, tags: Mapping[str, str]
    ) -> str:
        """Register an artifact as a version of `model`, and return MLflow's number for it.

        Asked again for the same run, it returns the version that exists.

        Raises
        ------
        TrackingError
        """
        with self._named(f"does not register a version of {model}"):
            return self._create_version(model, artifact_uri, run_id, tags)

    def _create_version(
        self, model: str, artifact_uri: str, run_id: str, tags: Mapping[str, str]
    ) -> str:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        for version in self._client.search_model_versions(f"name = '{model}'"):
            if version.run_id == run_id:
                return str(version.version)
        created = self._client.create_model_version(
            model, source=artifact_uri, run_id=run_id, tags=dict(tags)
        )
        return str(created.version)

    def set_alias(self, model: str, alias: str, version: str) -> None:
        """Point an alias at a version.

        Raises
        ------
        TrackingError
        """
        with self._named(f"does not move the alias {alias} of {model}"):
            self._client.set_registered_model_alias(model, alias, version)

    def alias(self, model: str, alias: str) -> str | None:
        """Return the version an alias points at, or None."""
        from mlflow.exceptions import MlflowException

        try:
            return str(self._client.get_model_version_by_alias(model, alias).version)
        except MlflowException as error:
            if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                return None
            raise

    def fetch(self, artifact_uri: str, into: Path) -> Path:
        """Return a local directory with a stored bundle's files.

        A local store is read where it lies; any other is downloaded under `into`.

        Raises
        ------
        NotFoundError
            If the artifact is gone.
        """
        parsed = urlparse(artifact_uri)
        if parsed.scheme in {"", "file"}:
            path = Path(unquote(parsed.path))
            if not path.is_dir():
                raise NotFoundError(
                    f"artifact {artifact_uri} is gone: restore it from a backup"
                )
            return path
        from mlflow.artifacts import download_artifacts

        return Path(download_artifacts(artifact_uri=artifact_uri, dst_path=str(into)))
