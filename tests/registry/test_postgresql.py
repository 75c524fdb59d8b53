"""What holds on PostgreSQL alone; what holds on both databases is tested beside SQLite."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from databases import on_postgresql
from running_postgresql import RunningPostgresql
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError, OperationalError

from registry import ledger
from registry.database import _TURN, Database
from registry.errors import HomeError, SetupError
from registry.jobs import Job, enqueue


def _somebody_waits(database: Database) -> bool:
    query = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND wait_event_type = 'Lock' AND wait_event = 'advisory'"
    )
    with database.reading() as session:
        return session.scalar(query) == 1


def _ask(database: Database, key: str) -> int:
    with database.transaction() as session:
        return enqueue(session, kind="decide", key=key, payload={}).id


@on_postgresql
def test_writers_queue_so_that_one_sees_what_the_other_wrote(database: Database) -> None:
    with ThreadPoolExecutor(1) as threads:
        with database.transaction() as session:
            mine = enqueue(session, kind="decide", key="episode 1", payload={}).id
            other = threads.submit(_ask, database, "episode 1")
            while not _somebody_waits(database):
                assert not other.done()
        assert other.result() == mine
    with database.reading() as session:
        assert session.scalar(select(func.count(Job.id))) == 1


@on_postgresql
def test_a_writer_whose_turn_does_not_come_is_told_as_on_sqlite(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.database.BUSY_SECONDS", 1)
    with database.transaction(), pytest.raises(OperationalError, match="lock timeout"):
        _ask(database, "episode 1")
    assert _ask(database, "episode 1") == 1


@on_postgresql
def test_a_server_that_ends_a_session_costs_one_transaction(database: Database) -> None:
    with database.transaction() as session:
        session.scalar(text("SELECT 1"))
    with pytest.raises(OperationalError), database.transaction() as session:
        with database.reading() as other:
            other.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        session.scalar(text("SELECT 1"))
    assert _ask(database, "episode 1") == 1


@on_postgresql
def test_numbers_go_on_beyond_32_bits(database: Database) -> None:
    with database.transaction() as session:
        session.execute(text("SELECT setval('jobs_id_seq', 2147483647)"))
    assert _ask(database, "episode 1") == 2**31
    with database.transaction() as session:
        session.execute(text("ALTER TABLE ledger_head DISABLE TRIGGER USER"))
        session.execute(text("UPDATE ledger_head SET sequence = 9007199254740991"))
    with database.reading() as session:
        assert session.scalar(text("SELECT sequence FROM ledger_head")) == 2**53 - 1


def test_two_processes_may_migrate_at_once(postgresql: RunningPostgresql) -> None:
    url = postgresql.empty()
    databases = [Database(url), Database(url)]
    with ThreadPoolExecutor(1) as threads:
        with databases[0].engine.begin() as connection:
            # The first is under way: it holds its turn.
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_TURN})"))
            others = threads.submit(databases[1].migrate)
            with pytest.raises(TimeoutError):
                others.result(0.3)
        databases[0].migrate()
        others.result()
    assert databases[0].revision() == databases[1].revision() is not None
    for database in databases:
        database.dispose()


@on_postgresql
def test_a_row_that_another_must_precede_is_an_error_of_integrity(database: Database) -> None:
    with pytest.raises(IntegrityError), database.transaction() as session:
        session.execute(
            text(
                "INSERT INTO restrictions (model, kind, reason, since) "
                "VALUES ('nobody', 'suspended', 'test', '2026-03-02T12:00:00Z')"
            )
        )


@on_postgresql
def test_a_function_that_was_made_harmless_is_found(database: Database) -> None:
    with database.transaction() as session:
        session.execute(
            text(
                "CREATE OR REPLACE FUNCTION driftward_append_only() RETURNS trigger "
                "LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"
            )
        )
    with database.reading() as session:
        assert "ledger_refuses_update" in ledger.verify(session).unguarded


@on_postgresql
def test_what_reads_sees_one_moment_and_changes_nothing(database: Database) -> None:
    count = text("SELECT count(*) FROM models")
    with database.reading() as reader:
        assert reader.scalar(count) == 0
        with database.transaction() as session:
            session.execute(
                text("INSERT INTO models VALUES ('chest', 'task', '2026-03-02T12:00:00Z')")
            )
        assert reader.scalar(count) == 0
    with (
        pytest.raises(SetupError, match="takes no changes"),
        database.transaction() as session,
    ):
        session.execute(text("SET TRANSACTION READ ONLY"))
        session.execute(text("DELETE FROM models"))


def test_a_server_that_does_not_answer_is_named_without_its_password(
    postgresql: RunningPostgresql,
) -> None:
    url = postgresql.empty()
    for wrong in (
        "postgresql://driftward:sesame@127.0.0.1:1/driftward",
        f"{url[: url.index('://') + 3]}driftward:sesame@{url.rpartition('@')[2]}",
        f"{url}_gone",
    ):
        database = Database(wrong)
        with pytest.raises(HomeError, match="DRIFTWARD_DATABASE_URL") as raised:
            database.require_known_schema()
        database.dispose()
        assert "sesame" not in str(raised.value)
        assert url.split(":")[2].partition("@")[0] not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://u@h/d", "names mysql: Driftward keeps its data in PostgreSQL"),
        ("postgresql://u:p@h/d?sslmode=prefer", "sslmode is prefer; it can be disable"),
        ("postgresql://u:p@h/d?sslmode=verify-full&sslrootcert=/nowhere", "cannot be read"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(url: str, said: str) -> None:
    with pytest.raises(SetupError, match=said):
        Database(url)


def test_an_encrypted_connection_is_asked_for_and_not_given_up(
    postgresql: RunningPostgresql,
) -> None:
    # The server has no certificate: the driver must not go on in the clear.
    database = Database(f"{postgresql.empty()}?sslmode=require")
    with pytest.raises(HomeError, match="cannot be opened"):
        database.require_known_schema()
    database.dispose()
