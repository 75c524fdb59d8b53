"""Two promotions at once, each a process of its own: one wins, the other is told."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from bare_home import bare_home
from databases import on_each_database
from preloaded_workers import start_command
from retraining_rows import MODEL, Retraining, ledger_is_valid
from sqlalchemy import select
from stopped_workers import is_stopped

from registry import identities, ledger, serving
from registry.identities import Role
from registry.jobs import Job
from registry.serving import Champion, Reign
from registry.versions import ref
from retrain import runs
from retrain.states import RunState

pytestmark = [pytest.mark.slow, on_each_database]

_SECONDS = 120


@pytest.fixture
def rivals(retraining: Retraining) -> tuple[int, int]:
    """Two runs, both compared with the champion and approved; the user of this machine."""
    with retraining.database.transaction() as session:
        identities.bind(
            session,
            name="local",
            os_user=identities.operating_system_user(),
            roles=frozenset(Role),
            at=retraining.now,
        )
    first, second = (retraining.run_awaiting_approval() for _ in range(2))
    for number in (first, second):
        # Commands go by the real clock, and signatures expire by it.
        retraining.approve(number, at=datetime.now(UTC))
    return first, second


@pytest.fixture
def promote(
    retraining: Retraining, tmp_path: Path
) -> Callable[..., tuple[ForkServerProcess, Path]]:
    """Start `driftward promote` of a version."""
    bare_home(tmp_path, retraining.database)

    def start(number: int, **armed: str) -> tuple[ForkServerProcess, Path]:
        log = tmp_path / f"{number}.log"
        environment = {"DRIFTWARD_DATABASE_URL": retraining.database.url, **armed}
        words = ("promote", f"{MODEL}@{number}")
        return start_command(tmp_path, *words, log=log, environment=environment), log

    return start


def require_one_champion(retraining: Retraining, rivals: tuple[int, int], winner: int) -> None:
    """Look that a version serves alone, and that nothing of the other's promotion is there."""
    with retraining.database.reading() as session:
        [champion] = session.scalars(select(Champion).where(Champion.model == MODEL))
        [reign] = session.scalars(
            select(Reign).where(Reign.model == MODEL, Reign.until.is_(None))
        )
        assert champion.version == reign.version
        assert str(ref(serving.require_champion(session, MODEL))) == f"{MODEL}@{winner}"
        states = {number: runs.require_run(session, number).state for number in rivals}
        promoted = {entry.subject for entry in ledger.entries(session, kind="run.promoted")}
        [refused] = ledger.entries(session, kind="promotion.refused")
        jobs = session.scalars(select(Job.key).where(Job.kind == "renew reference")).all()
    won = rivals[winner - 2]
    assert sorted(states.values()) == [RunState.AWAITING_APPROVAL, RunState.PROMOTED]
    assert states[won] == RunState.PROMOTED
    assert promoted == {f"run {retraining.first}", f"run {won}"}
    assert (refused.subject, refused.facts["why"]) == (
        f"{MODEL}@{5 - winner}",
        "StaleChampionError",
    )
    assert list(jobs) == [f"renew reference/run {won}"]
    assert ledger_is_valid(retraining.database)


def test_one_that_comes_while_another_is_about_to_commit_waits_and_is_told(
    retraining: Retraining,
    rivals: tuple[int, int],
    promote: Callable[..., tuple[ForkServerProcess, Path]],
) -> None:
    first, _ = promote(
        2, DRIFTWARD_CRASH_AT="promote: before the commit", DRIFTWARD_CRASH_BY="stop"
    )
    latest = time.monotonic() + _SECONDS
    while not is_stopped(first.pid or 0):
        assert first.exitcode is None, "it ended before it stopped"
        assert time.monotonic() < latest, "it did not stop in time"
        time.sleep(0.01)
    second, said = promote(3)
    second.join(1)
    assert second.exitcode is None  # it waits for its turn
    os.kill(first.pid or 0, signal.SIGCONT)
    for process in (first, second):
        process.join(_SECONDS)
    assert (first.exitcode, second.exitcode) == (0, 1)
    assert f"champion of {MODEL} is {MODEL}@2, not {MODEL}@1" in said.read_text()
    require_one_champion(retraining, rivals, 2)


def test_of_two_that_start_at_once_one_wins(
    retraining: Retraining,
    rivals: tuple[int, int],
    promote: Callable[..., tuple[ForkServerProcess, Path]],
) -> None:
    processes = {number: promote(number)[0] for number in (2, 3)}
    for process in processes.values():
        process.join(_SECONDS)
    codes = {number: process.exitcode for number, process in processes.items()}
    assert sorted(map(str, codes.values())) == ["0", "1"]
    [winner] = [number for number, code in codes.items() if code == 0]
    require_one_champion(retraining, rivals, winner)
