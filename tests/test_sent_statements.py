"""Which tests run again on another database."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from threading import Thread

import pytest
from databases import on_sqlite
from sent_statements import StatementNotes, fewest_that_send_all
from sources_home import until
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from registry import ledger
from registry.database import Database

pytestmark = on_sqlite


def chosen(tests: Mapping[str, Callable[[], object]], folder: Path) -> set[str]:
    """Return which of these tests would run again."""
    notes = StatementNotes(folder / "notes")
    for name, test in tests.items():
        notes.begin(name)
        test()
    notes.close()
    return fewest_that_send_all([*tests], folder / "notes")


def send(database: Database, statement: str, **values: object) -> Callable[[], object]:
    def sent() -> None:
        with suppress(DBAPIError), database.transaction() as session:
            result = session.execute(text(statement), values)
            if result.returns_rows:
                result.all()

    return sent


def test_what_one_test_sends_no_other_need_send(database: Database, tmp_path: Path) -> None:
    one, other = "SELECT id FROM jobs", "SELECT id FROM ledger_head"
    tests = {
        "sends one": send(database, one),
        "sends both": lambda: [send(database, sql)() for sql in (one, other)],
        "sends the other": send(database, other),
        "sends nothing": lambda: None,
    }
    assert chosen(tests, tmp_path) == {"sends both"}


@pytest.mark.parametrize(
    ("one", "other", "again"),
    [
        (("SELECT :a", 1), ("SELECT :a, 2", 1), {"one", "other"}),
        (("SELECT :a", 1), ("SELECT :a", None), {"one", "other"}),
        (("SELECT :a", 1), ("SELECT   :a", 2), {"one"}),
        (("SELECT 1 WHERE :a > 1", 1), ("SELECT 1 WHERE :a > 1", 2), {"other"}),
        (("INSERT INTO kept VALUES (:a)", 1), ("INSERT INTO kept VALUES (:a)", 0), {"other"}),
    ],
    ids=["words", "types", "values", "rows that it found", "its error"],
)
def test_what_tells_a_statement_from_another(
    database: Database,
    tmp_path: Path,
    one: tuple[str, int],
    other: tuple[str, int | None],
    again: set[str],
) -> None:
    send(database, "CREATE TABLE kept (a INTEGER CHECK (a > 0))")()
    tests = {
        "one": send(database, one[0], a=one[1]),
        "other": send(database, other[0], a=other[1]),
    }
    assert chosen(tests, tmp_path) == again


def test_places_in_our_code_are_told_apart(
    database: Database, tmp_path: Path, now: datetime
) -> None:
    def read(*, twice: bool) -> None:
        with database.reading() as session:
            ledger.verify(session)
            if twice:
                ledger.entries(session)

    with database.transaction() as session:
        ledger.append(session, at=now, actor="test", kind="test", subject="test", facts={})
    head = send(database, "SELECT 1")
    tests = {
        "verifies": lambda: read(twice=False),
        "reads, too": lambda: read(twice=True),
        "sends what is no code's": head,
        "sends it again": head,
    }
    assert chosen(tests, tmp_path) == {"reads, too", "sends what is no code's"}


def test_of_how_many_values_it_lists_only_the_magnitude_counts(
    database: Database, tmp_path: Path
) -> None:
    def listing(number: int) -> Callable[[], object]:
        names = ", ".join(f":v{place}" for place in range(number))
        return send(
            database,
            f"SELECT 1 WHERE 1 IN ({names})",
            **{f"v{place}": place + 2 for place in range(number)},
        )

    tests = {"few": listing(3), "some": listing(5), "many": listing(900)}
    assert chosen(tests, tmp_path) == {"few", "many"}


def test_what_is_not_seen_is_always_sent_again(database: Database, tmp_path: Path) -> None:
    ask = send(database, "SELECT 1")

    def noted() -> bool:
        files = (tmp_path / "notes").iterdir()
        return any("at once in" in file.read_text() for file in files)

    def beside() -> None:
        other = Thread(target=ask)
        with database.transaction():
            other.start()
            until(noted)
        other.join()

    def by_a_process() -> None:
        ask()
        subprocess.run([sys.executable, "-c", ""], check=True)

    tests = {"alone": ask, "by two at once": beside, "by a process": by_a_process}
    assert chosen(tests, tmp_path) == {"by two at once", "by a process"}


def test_a_test_that_was_not_noted_runs(database: Database, tmp_path: Path) -> None:
    assert chosen({"noted": send(database, "SELECT 1")}, tmp_path) == {"noted"}
    tests = ["noted", "new"]
    assert fewest_that_send_all(tests, tmp_path / "notes") == {"noted", "new"}
    assert fewest_that_send_all(tests, tmp_path / "nowhere") == {"noted", "new"}
