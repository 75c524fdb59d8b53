"""`kill -9` in the middle of a look that fails: it is done once, and no half of it stays."""

from __future__ import annotations

from datetime import timedelta

from databases import on_sqlite
from killed_processes import kill_at
from retraining_rows import MODEL, ledger_is_valid
from sqlalchemy import func, select
from watched_rows import Watched

from registry import serving
from registry.database import Database
from registry.jobs import JobQueue
from registry.serving import Withholding
from registry.worker import Worker
from retrain.scheduling import tick
from retrain.tables import WatchLookRow
from retrain.watching.looking import WATCH, Watcher
from retrain.watching.states import WatchState


@on_sqlite
def test_a_look_that_was_killed_twice_is_done_once(watched: Watched) -> None:
    watched.apply_plan()
    watched.promote()
    watched.read(ill=60, found=20, well=30, cleared=29)
    watched.retraining.clock.at += timedelta(days=1)
    tick(watched.database, watched.retraining.clock)
    url = str(watched.database.engine.url)

    def look() -> None:
        work(Database(url))

    def work(database: Database) -> None:
        watcher = Watcher(database, watched.retraining.clock)
        queue = JobQueue(database, lease=timedelta(0))
        Worker(queue, {WATCH: watcher.handle}).drain()

    for _ in range(2):
        watched.database.dispose()
        kill_at("watch: before the commit", look)
        assert watched.row().state == WatchState.WATCHING
        with watched.database.reading() as session:
            assert session.scalar(select(func.count(WatchLookRow.id))) == 0
    look()
    assert watched.row().state == WatchState.FAILED
    with watched.database.reading() as session:
        assert session.scalar(select(func.count(WatchLookRow.id))) == 1
        [restriction] = serving.restrictions(session, MODEL)
    assert restriction.kind == Withholding.SUSPEND
    assert ledger_is_valid(watched.database)
