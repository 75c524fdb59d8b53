"""The database: one engine, typed tables, migrations, and what makes SQLite safe.

SQLite is embedded; PostgreSQL (13 or newer) is reached by pg8000, which speaks its protocol
by itself and is, unlike the drivers around libpq, under no copyleft.

SQLite before 3.51.3 can corrupt a write-ahead log when it is reset while
another connection reads; so the newer of Python's own library and the one in
`pysqlite3` is used, and an older one is refused.
"""

from __future__ import annotations

import os
import sqlite3
import ssl
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import (
    JSON,
    URL,
    BigInteger,
    Connection,
    DateTime,
    Dialect,
    Engine,
    Integer,
    MetaData,
    TypeDecorator,
    create_engine,
    event,
    make_url,
)
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Session

from registry.errors import HomeError, NewerSchemaError, SetupError, StorageFullError

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from sqlalchemy.engine import ExceptionContext

OLDEST_SAFE_SQLITE = (3, 51, 3)
BUSY_SECONDS = 30
MIGRATIONS = Path(__file__).parent / "migrations"

#: Names every constraint alike on every database, so that a migration can drop it by name.
NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcDateTime(TypeDecorator[datetime]):
    """A time that always carries UTC: SQLite would drop the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else _in_utc(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        moment: datetime | None = value
        return None if moment is None else moment.astimezone(UTC)

    # Scans are read and written by the ten thousand, and SQLAlchemy's own way from SQLite's text
    # to a time and back costs several times as much.
    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any] | None:
        return _as_text if dialect.name == "sqlite" else super().bind_processor(dialect)

    def result_processor(
        self, dialect: Dialect, coltype: object
    ) -> Callable[[Any], datetime | None] | None:
        if dialect.name == "sqlite":
            return _of_text
        return super().result_processor(dialect, coltype)


def _in_utc(moment: datetime) -> datetime:
    if moment.tzinfo is UTC:
        return moment
    if moment.utcoffset() is None:
        raise ValueError("a time without a zone cannot be stored")
    return moment.astimezone(UTC)


def _as_text(moment: datetime | None) -> str | None:
    """Return a time as SQLite keeps it: in UTC, to the microsecond, without its zone."""
    if moment is None:
        return None
    return _in_utc(moment).isoformat(" ", "microseconds")[: -len("+00:00")]


def _of_text(text: str | None) -> datetime | None:
    """Return a time that SQLite kept."""
    return None if text is None else datetime.fromisoformat(f"{text}+00:00")


class Base(DeclarativeBase):
    """What every table of the four packages derives from."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it as a class attribute
        datetime: UtcDateTime(),
        # Two thousand million rows are reached in years; SQLite's integers hold 64 bits anyway,
        # and only a column of type INTEGER counts up by itself there.
        int: BigInteger().with_variant(Integer(), "sqlite"),
        dict[str, Any]: JSON(),
        list[Any]: JSON(),
        list[str]: JSON(),
    }


def safe_sqlite() -> ModuleType:
    """Return the DB-API module whose SQLite has no write-ahead-log corruption bug.

    Raises
    ------
    SetupError
        If neither Python's library nor `pysqlite3` is new enough.
    """
    if sqlite3.sqlite_version_info >= OLDEST_SAFE_SQLITE:
        return sqlite3
    from pysqlite3 import dbapi2

    module: ModuleType = dbapi2
    if module.sqlite_version_info < OLDEST_SAFE_SQLITE:
        wanted = ".".join(map(str, OLDEST_SAFE_SQLITE))
        raise SetupError(
            f"SQLite {module.sqlite_version} can corrupt its log; install pysqlite3>=0.6.1 "
            f"(SQLite {wanted} or newer), or use PostgreSQL"
        )
    return module


class Database:
    """One database: transactions that write, transactions that read, and its schema."""

    def __init__(self, url: str, *, info: dict[str, Any] | None = None) -> None:
        """Open it; `info` is what each of its sessions carries along, under the same name."""
        self.url = url
        self._info = info or {}
        self.engine = _engine(url)
        # A command that ends says so to a server; nobody has to remember it.
        weakref.finalize(self, _close, self.engine, os.getpid())

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Open a session that commits at the end, or rolls back on any error.

        It takes its turn at once, so that two writers queue instead of failing
        half-way, and each reads what the one before it wrote: the write lock on
        SQLite (BEGIN IMMEDIATE), an advisory lock on PostgreSQL.

        Raises
        ------
        StorageFullError
            If the disk has no room; nothing of the transaction is kept.
        SetupError
            If the file may not be written.
        sqlalchemy.exc.OperationalError
            If the turn does not come within `BUSY_SECONDS`, or the server is away.
        """
        with (
            _faults_named(),
            Session(self.engine, expire_on_commit=False, info=self._info) as session,
            session.begin(),
        ):
            _take_turn(session.connection(), within_seconds=BUSY_SECONDS)
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a session on one consistent snapshot; what it changes is never kept."""
        options: dict[str, Any] = {"read_only": True}
        if self.engine.dialect.name == "postgresql":
            options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        engine = self.engine.execution_options(**options)
        with Session(engine, expire_on_commit=False, info=self._info) as session:
            yield session

    def migrate(self) -> None:
        """Bring the schema to this version's newest revision; nobody is held up if it is there.

        Raises
        ------
        NewerSchemaError
            If a newer Driftward wrote it; nothing is changed.
        """
        from alembic import command

        stored = self.require_known_schema()
        if stored == _migrations().get_current_head():
            return
        with self.engine.begin() as connection:
            # Another process may migrate just now, for as long as that takes.
            _take_turn(connection, within_seconds=0)
            config = _alembic_config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def revision(self) -> str | None:
        """Return the schema revision that is stored, or None for an empty database."""
        from alembic.runtime.migration import MigrationContext

        engine = self.engine.execution_options(read_only=True)
        try:
            with engine.connect() as connection:
                return MigrationContext.configure(connection).get_current_revision()
        except DBAPIError as error:
            way_out = "restore it from a backup, or name another home with --home"
            if self.engine.dialect.name == "postgresql":
                way_out = "start the server, and see that DRIFTWARD_DATABASE_URL names it"
            raise HomeError(
                f"the database {make_url(self.url).render_as_string()} cannot be opened "
                f"({_said(error)}): {way_out}"
            ) from error

    def require_known_schema(self) -> str | None:
        """Return the stored revision; refuse a schema that this version does not know.

        Raises
        ------
        NewerSchemaError
            Named with both revisions and the way out.
        """
        stored = self.revision()
        known = {revision.revision for revision in _migrations().walk_revisions()}
        if stored is not None and stored not in known:
            raise NewerSchemaError(
                f"this home's schema {stored} is newer than this Driftward knows "
                f"(newest: {_migrations().get_current_head()}): upgrade driftward, or choose "
                "another home with --home"
            )
        return stored

    def dispose(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def _close(engine: Engine, opened_by: int) -> None:
    """Close the connections of a database that nobody holds any more.

    In a process that was forked they are still its parent's.
    """
    engine.dispose(close=os.getpid() == opened_by)


def _alembic_config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


@cache
def _migrations() -> ScriptDirectory:
    """Return this version's migrations: to read them takes longer than all else about opening."""
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(_alembic_config())


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        return _postgresql_engine(parsed)
    if parsed.get_backend_name() != "sqlite":
        raise SetupError(
            f"DRIFTWARD_DATABASE_URL names {parsed.get_backend_name()}: Driftward keeps its data "
            "in PostgreSQL (postgresql://USER:PASSWORD@HOST/NAME) or SQLite"
        )
    engine = create_engine(
        url,
        module=safe_sqlite(),
        connect_args={"timeout": BUSY_SECONDS},
        # What an error quotes is logged: a row's values belong into no log.
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        # The driver must not begin transactions by itself: `begin` below does.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        read_only = connection.get_execution_options().get("read_only", False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _postgresql_engine(url: URL) -> Engine:
    mode = url.query.get("sslmode")
    if mode is None and url.host in _LOOPBACK:
        mode = "disable"
    authorities = url.query.get("sslrootcert")
    url = url.difference_update_query(["sslmode", "sslrootcert"])
    engine = create_engine(
        url.set(drivername="postgresql+pg8000"),
        connect_args={
            "ssl_context": _tls(
                None if mode is None else str(mode),
                None if authorities is None else str(authorities),
            ),
            "timeout": None,
            "application_name": "driftward",
        },
        pool_pre_ping=True,
        hide_parameters=True,
    )
    event.listen(engine, "handle_error", _classified)
    return engine


#: Names the queue of writers among a database's advisory locks: "driftwrd" in ASCII.
_TURN = int.from_bytes(b"driftwrd", "big")
#: A writer that says nothing for so long has hung, or its machine is gone: others go on.
_IDLE_SECONDS = 600


def _take_turn(connection: Connection, *, within_seconds: int) -> None:
    """Queue behind the writers that came before, until they commit; 0 waits for ever."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(
            f"SET LOCAL lock_timeout = '{within_seconds}s'; "
            f"SET LOCAL idle_in_transaction_session_timeout = '{_IDLE_SECONDS}s'; "
            f"SELECT pg_advisory_xact_lock({_TURN})"
        )


#: Classes of SQLSTATE that tell of the server or of other sessions, not of the statement:
#: connection, rollback, resources, lock not available, operator intervention.
_OPERATIONAL = ("08", "40", "53", "55", "57")
_INTEGRITY = "23"


def _classified(context: ExceptionContext) -> DBAPIError | None:
    """Give an error the class that DB-API has for it: pg8000 calls nearly all programming errors.

    PostgreSQL's documentation, appendix A, lists the codes.
    """
    error = context.sqlalchemy_exception
    if not isinstance(error, DBAPIError) or error.orig is None:
        return None
    code = _code(error) or ""
    # Without a code, the driver itself found the server away.
    away = not code and type(error.orig).__name__ == "InterfaceError"
    if away or code.startswith("57P"):
        context.is_disconnect = True
    kind: type[DBAPIError]
    if away or code.startswith(_OPERATIONAL):
        kind = OperationalError
    elif code.startswith(_INTEGRITY):
        kind = IntegrityError
    else:
        return None
    return kind(
        error.statement,
        error.params,
        error.orig,
        hide_parameters=error.hide_parameters,
        connection_invalidated=context.is_disconnect,
        ismulti=error.ismulti,
    )


#: Hosts on which nobody is in between.
_LOOPBACK = frozenset({None, "localhost", "127.0.0.1", "::1"})


def _tls(mode: str | None, authorities: str | None) -> ssl.SSLContext | Literal[False] | None:
    """Return how the server is reached, by libpq's words for it, as pg8000 takes it.

    None encrypts where the server offers it, whoever answers; each connection then reads the
    system's certificates, which takes longer than all else about it.
    """
    if mode is None:
        return None
    if mode == "disable":
        return False
    if mode not in {"require", "verify-full"}:
        raise SetupError(
            f"DRIFTWARD_DATABASE_URL: sslmode is {mode}; it can be disable, require (encrypted, "
            "whoever answers) or verify-full (encrypted, the server's certificate checked)"
        )
    try:
        context = ssl.create_default_context(cafile=authorities)
    except (OSError, ssl.SSLError) as error:
        raise SetupError(
            f"DRIFTWARD_DATABASE_URL: sslrootcert {authorities} cannot be read ({error})"
        ) from None
    if mode == "require":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


#: What PostgreSQL calls a full disk, and a server or transaction that only reads.
_DISK_FULL, _READ_ONLY = "53100", "25006"


@contextmanager
def _faults_named() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        said, code = str(error.orig), _code(error)
        if "disk is full" in said or code == _DISK_FULL:
            raise StorageFullError(
                "the disk that holds the database is full: nothing of this change was kept; "
                "free space and try again"
            ) from error
        if code == _READ_ONLY:
            raise SetupError(
                "the database server takes no changes, as a standby does: nothing of this change "
                "was kept; name the primary in DRIFTWARD_DATABASE_URL"
            ) from error
        if "readonly database" in said:
            raise SetupError(
                "the database may be read and not written: nothing of this change was kept; give "
                "this user the right to write its file and folder, and look whether the file "
                "system was mounted read-only after a fault"
            ) from error
        raise


def _code(error: DBAPIError) -> str | None:
    """Return PostgreSQL's code of an error (SQLSTATE), or None where it has none."""
    fields = error.orig.args[0] if error.orig is not None and error.orig.args else None
    return fields.get("C") if isinstance(fields, dict) else None


def _said(error: DBAPIError) -> str:
    """Return what the database said, in one line."""
    fields = error.orig.args[0] if error.orig is not None and error.orig.args else None
    return str(fields.get("M")) if isinstance(fields, dict) else str(error.orig)
