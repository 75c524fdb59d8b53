"""A worker that is stopped for longer than its lease, and is continued when another is done."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from preloaded_workers import expire_leases, start_worker
from sqlalchemy import select

from api.assembly import Driftward
from api.settings import Settings
from monitor.intake.keeping import PURGE
from registry.database import safe_sqlite
from registry.jobs import Job, enqueue

_SECONDS = 200.0
_POLL = 0.005


class StoppedWorker:
    """The worker of a home, stopped in the middle of its job."""

    def __init__(
        self, home: Path, *, at: str | None = None, when: Callable[[], bool] = lambda: False
    ) -> None:
        """Start it, and return when it has stopped.

        Parameters
        ----------
        at : the crash point at which it stops
        when : without a point: stops it, and what it started, as soon as this holds
        """
        self.home, self._log = home, home.with_name(f"{home.name}.log")
        armed = {} if at is None else {"DRIFTWARD_CRASH_AT": at, "DRIFTWARD_CRASH_BY": "stop"}
        self._process: ForkServerProcess = start_worker(home, log=self._log, environment=armed)
        latest = time.monotonic() + _SECONDS
        while not self._is_stopped():
            assert self._process.exitcode is None, f"it ended before it stopped: {self.log}"
            assert time.monotonic() < latest, "it did not stop in time"
            if at is None and when():
                # It leads a group: whatever it started stops with it, as on a suspended machine.
                os.killpg(self.pid, signal.SIGSTOP)
            time.sleep(_POLL)

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def let_another_finish(self) -> None:
        """Let the lease run out, and another worker do all that waits."""
        driftward = Driftward.open(Settings(home=self.home))
        expire_leases(driftward.database)
        driftward.database.dispose()
        another = start_worker(self.home)
        another.join(_SECONDS)
        assert another.exitcode == 0

    def go_on(self) -> str | None:
        """Continue it with another job at hand, and return that job's worker when it has ended."""
        driftward = Driftward.open(Settings(home=self.home))
        with driftward.database.transaction() as session:
            job = enqueue(session, kind=PURGE, key="another", payload={}).id
        os.killpg(self.pid, signal.SIGCONT)
        self._process.join(_SECONDS)
        assert self._process.exitcode == 0, self.log
        with driftward.database.reading() as session:
            worker = session.scalars(
                select(Job.worker).where(Job.id == job, Job.state == "done")
            ).first()
        driftward.database.dispose()
        return worker

    def end(self) -> None:
        """End it, whatever became of it."""
        if self._process.exitcode is None:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.join(_SECONDS)

    def _is_stopped(self) -> bool:
        return is_stopped(self.pid)


def is_stopped(process: int) -> bool:
    """Return whether a process was stopped and not yet continued."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] == "T"


def everything(home: Path) -> dict[str, object]:
    """Return every row of a home's databases but the jobs, and every file of vault and work."""
    found: dict[str, object] = {}
    for path in (home / "driftward.db", home / "mlflow" / "mlflow.db"):
        if not path.exists():
            continue
        connection = safe_sqlite().connect(str(path))
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        for (table,) in tables.fetchall():
            if table != "jobs":
                rows = connection.execute(f'SELECT * FROM "{table}"').fetchall()
                found[f"{path.name}/{table}"] = sorted(map(repr, rows))
        connection.close()
    for folder in (home / "vault", home / "work"):
        for path in folder.rglob("*"):
            if path.is_file():
                name = str(path.relative_to(home))
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
