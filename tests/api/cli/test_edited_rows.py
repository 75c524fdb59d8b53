"""What somebody edits by SQL of watches, their looks and runtimes, `audit verify` names by row."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bare_home import bare_home
from databases import name_home
from monitored_history import History, found
from retraining_rows import MODEL, Retraining, person
from sqlalchemy import text
from tampering import unguarded
from watched_rows import Watched

from monitor.references import ProfileStore
from registry import runtimes
from registry.database import Base, Database
from registry.runtimes import AttestationRow, RuntimeRow
from retrain.tables import WatchLookRow, WatchRow

if TYPE_CHECKING:
    from tests.api.cli.conftest import Run

TABLES: dict[str, type[Base]] = {
    one.__tablename__: one for one in (WatchRow, WatchLookRow, RuntimeRow, AttestationRow)
}
#: What an intruder would like to have been so, table by table.
EDITS = [
    ("watches/1", "state = 'passed'"),
    ("watches/1", "note = 'no fall was found'"),
    ("watches/1", "until = '2026-03-10 00:00:00.000000'"),
    ("watches/1", "run = 1"),
    ("watches/1", "plan = 1, deployment = 'north'"),
    ("watch_looks/1", "state = 'passed'"),
    ("watch_looks/1", "labelled = 6000"),
    ("watch_looks/1", "measures = '[]'"),
    ("watch_looks/1", 'warnings = \'[{"sign": "drift", "sentence": "none"}]\''),
    ("runtimes/pneumonia/north", "silent_after_hours = 8760"),
    ("runtimes/pneumonia/north", "declared_by = 'somebody else'"),
    ("attestations/1", "digest = 'aaaa'"),
    ("attestations/1", "champion = 1"),
    ("attestations/1", "at = '2026-01-01 00:00:00.000000'"),
]


@pytest.fixture
def failed(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """A version that failed its watch, and a runtime that attested another."""
    found(database)
    retraining = Retraining(History(database, ProfileStore(tmp_path / "profiles")))
    name_home(bare_home(tmp_path, database), monkeypatch)
    watched = Watched(retraining)
    watched.apply_plan()
    watched.promote()
    by, now = person("Ola"), retraining.now
    with database.transaction() as session:
        runtimes.declare(session, MODEL, "north", by=by, at=now)
        runtimes.attest(session, MODEL, "north", digest="e" * 64, by=by, at=now)
    watched.read(ill=60, found=20, well=30, cleared=29)
    watched.pass_days()
    retraining.clock.at += timedelta(hours=1)
    return watched


def test_each_edit_is_found_and_names_the_row(driftward: Run, failed: Watched) -> None:
    assert driftward("audit", "verify").code == 0
    for row, edit in EDITS:
        name, _, key = row.partition("/")
        table, place = TABLES[name], tuple(key.split("/")) if "/" in key else int(key)
        with failed.database.reading() as session:
            found = session.get_one(table, place)
            kept = {one.key: getattr(found, one.key) for one in table.__mapper__.column_attrs}
        where = "deployment = 'north'" if "/" in key else f"id = {key}"
        with unguarded(failed.database) as session:
            session.execute(text(f"UPDATE {name} SET {edit} WHERE {where}"))
        verified = driftward("audit", "verify", "--json")
        assert (verified.code, f"row {row} was changed" in verified.stdout) == (1, True), edit
        with unguarded(failed.database) as session:
            changed = session.get_one(table, place)
            for column, value in kept.items():
                setattr(changed, column, value)
    assert driftward("audit", "verify").code == 0


@pytest.mark.parametrize("table", ["watches", "watch_looks", "attestations", "runtimes"])
def test_a_deleted_row_is_found(driftward: Run, failed: Watched, table: str) -> None:
    with unguarded(failed.database) as session:
        # Whatever refers to it would stand in the way of a deletion, so that goes first.
        if table == "watches":
            session.execute(text("DELETE FROM watch_looks"))
        session.execute(text(f"DELETE FROM {table}"))
    verified = driftward("audit", "verify")
    assert verified.code == 1
    assert "was deleted" in verified.stdout + verified.stderr
