"""What holds on PostgreSQL alone; what holds on both databases is tested beside SQLite."""

from __future__ import annotations

import pytest
from databases import on_postgresql
from running_postgresql import RunningPostgresql
from sqlalchemy import text

from registry import ledger
from registry.database import Database
from registry.errors import HomeError, SetupError


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
