"""A real PostgreSQL on a free port of loopback, with a data folder of its own."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from registry.database import Database

#: Where it listens, and a time zone that nobody expects.
_SETTINGS = {
    "max_connections": "40",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
    "timezone": "Australia/Lord_Howe",
}
#: Of one that is made for tests and thrown away with them: it need not survive a power cut.
_THROWN_AWAY = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
    "autovacuum": "off",
    "shared_buffers": "64MB",
}
_USER = "driftward"
#: A copy of a database is some hundred files: twenty times faster in memory than on a disk.
_MEMORY, _ENOUGH_BYTES = Path("/dev/shm"), 2 * 2**30  # noqa: S108


def _folder(*, in_memory: bool) -> Path:
    """Make a folder for a server's data: not below pytest's, where its user could not reach it."""
    if in_memory and (not _MEMORY.is_dir() or shutil.disk_usage(_MEMORY).free < _ENOUGH_BYTES):
        in_memory = False
    return Path(
        tempfile.mkdtemp(prefix="driftward-postgresql-", dir=_MEMORY if in_memory else None)
    )


def _programs() -> Path:
    """Return the folder of the newest server that is installed.

    Without one, a test fails in CI and is skipped elsewhere.
    """
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"),
        key=lambda path: int(path.parts[-3]),
    )
    if found:
        return found[-1].parent
    anywhere = shutil.which("initdb")
    if anywhere is not None:
        return Path(anywhere).resolve().parent
    why = "PostgreSQL is missing: apt-get install postgresql"
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


class RunningPostgresql:
    """A PostgreSQL server; to be stopped."""

    def __init__(self, *, durable: bool = False) -> None:
        """Prepare one; if durable, then on the disk, with the settings that it comes with."""
        self.programs = _programs()
        self._settings = _SETTINGS if durable else _SETTINGS | _THROWN_AWAY
        self._folder = _folder(in_memory=not durable)
        self._password = secrets.token_hex(16)
        # The server refuses to run as root.
        self._owner = "nobody" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        self._template: str | None = None
        #: one connection, since each costs more than what is asked by it
        self._administration: Connection | None = None
        self._copying = ""
        self.port = 0

    def start(self) -> None:
        """Make an empty cluster, start it, and wait until it answers."""
        password = self._folder / "password"
        password.write_text(self._password)
        if os.getuid() == 0:
            for path in (self._folder, password):
                shutil.chown(path, self._owner)
        subprocess.run(
            [
                *(self.programs / "initdb", "--pgdata", self._folder / "data", "--no-sync"),
                *("--username", _USER, "--pwfile", password, "--auth", "scram-sha-256"),
                *("--encoding", "UTF8", "--locale", "C"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            **self._as_owner(),
        )
        for attempt in range(5):
            if self._served(attempt):
                return
        raise RuntimeError((self._folder / "server.log").read_text())

    def _served(self, attempt: int) -> bool:
        """Start on a free port, unless another takes it meanwhile."""
        from running_orthanc import free_port

        self.port = free_port()
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(self.programs / "postgres", "-D", self._folder / "data"),
                    *("-p", str(self.port), *settings),
                ],
                stdout=log,
                stderr=log,
                **self._as_owner(),
            )
        latest = time.monotonic() + 30
        while time.monotonic() < latest and self._process.poll() is None:
            database = Database(self._url("postgres"))
            try:
                database.engine.connect().close()
            except DBAPIError:
                time.sleep(0.05)
            else:
                return True
            finally:
                database.dispose()
        return False

    def _as_owner(self) -> dict[str, object]:
        return {"user": self._owner, "cwd": "/"} if os.getuid() == 0 else {"cwd": "/"}

    def _url(self, name: str) -> str:
        return f"postgresql://{_USER}:{self._password}@127.0.0.1:{self.port}/{name}"

    def empty(self) -> str:
        """Make a database without tables, and return its URL."""
        return self._create(f"empty_{next(self._numbers)}")

    def migrated(self) -> str:
        """Make a database with every table, and return its URL."""
        if self._template is None:
            url = self._create("template_migrated")
            database = Database(url)
            database.migrate()
            database.dispose()
            self._template = "template_migrated"
        return self._create(f"test_{next(self._numbers)}", template=self._template)

    def copied(self, url: str) -> str:
        """Copy a database to which nobody is connected, and return the copy's URL."""
        return self._create(f"test_{next(self._numbers)}", template=url.rpartition("/")[2])

    def _create(self, name: str, *, template: str = "template0") -> str:
        self.administer(f"CREATE DATABASE {name} TEMPLATE {template}{self._copying}")
        return self._url(name)

    def drop(self, url: str) -> None:
        """Throw a database away, whoever is connected to it."""
        self.administer(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def administer(self, statement: str) -> None:
        """Execute a statement that no transaction may hold."""
        if self._administration is None:
            engine = Database(self._url("postgres")).engine
            connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            self._administration = connection
            # As files: written to the log, as is usual since 15, each would be written twice.
            version = connection.exec_driver_sql("SHOW server_version_num").scalar_one()
            self._copying = " STRATEGY FILE_COPY" if int(version) >= 150_000 else ""
        self._administration.exec_driver_sql(statement)

    def stop(self) -> None:
        """Stop it, and throw its data away."""
        if self._administration is not None:
            self._administration.close()
            self._administration.engine.dispose()
            self._administration = None
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # its fast shutdown
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGQUIT)
                self._process.wait()
            self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)
