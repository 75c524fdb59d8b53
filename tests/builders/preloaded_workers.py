"""Workers, and other commands, in processes of their own that find their libraries loaded.

Each is forked from a server that has imported what a worker imports, which costs more than the
work of a small job. Everything else is its own: its process, its connections, its end.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from sqlalchemy import update

from registry.database import Database
from registry.jobs import Job, JobState

_LIBRARIES = (
    "api.cli",
    "api.assembly",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "monitor.embedding.encoders",
    "onnxscript",
    "registry.bundles.assembly",
    "registry.bundles.network",
    "retrain.deciding",
    "retrain.promotion",
    "retrain.renewal",
    "retrain.signing",
    "retrain.training",
    "retrain.validating",
    # Its models are imported when one is opened, which takes as long as the rest of a job.
    "transformers.models.vit.modeling_vit",
)
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload([*_LIBRARIES])


def start_worker(
    home: Path,
    *,
    drain: bool = True,
    log: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> ForkServerProcess:
    """Start `driftward work` in a session of its own; what it says goes into `log`.

    With `drain` it ends when no job waits.
    """
    words = ["work", *(["--drain"] if drain else [])]
    return start_command(home, *words, log=log, environment=environment)


def start_command(
    home: Path,
    *words: str,
    log: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> ForkServerProcess:
    """Start `driftward` with these words in a session of its own."""
    settings = {
        **os.environ,
        "DRIFTWARD_HOME": str(home),
        "DRIFTWARD_THREADS": "1",
        **(environment or {}),
    }
    process = _SERVER.Process(target=_run, args=(["driftward", *words], settings, log))
    process.start()
    return process


def expire_leases(database: Database) -> None:
    """Let every lease run out at once, which takes a minute of real time.

    Whatever happened to a job's workers before counts as one attempt.
    """
    with database.transaction() as session:
        session.execute(
            update(Job)
            .where(Job.state == JobState.RUNNING)
            .values(leased_until=_LONG_AGO, attempts=1)
        )


def _run(command: list[str], environment: Mapping[str, str], log: Path | None) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    sink = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(sink, stream)
    from api.cli import main

    sys.argv = command
    main()
