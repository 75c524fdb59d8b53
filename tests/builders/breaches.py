"""Many breaches at once, and schedulers and workers in processes of their own that take them up."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
from monitored_history import ANCHOR, History, found
from plan_texts import with_values
from retraining_rows import AT_LEAST, MODEL, PLAN, SUBGROUP, Retraining, seal
from running_receiver import new_home
from sqlalchemy import func, select, update
from sqlalchemy.exc import OperationalError

from api.assembly import Driftward
from api.logs import configure_logs
from api.settings import Settings
from monitor.episodes.causes import Cause
from monitor.episodes.episodes import EpisodeState, Impact
from monitor.evaluating import DECIDE, ask_for_decision
from monitor.labels import Provenance
from monitor.tables import EpisodeRow
from registry import ledger
from registry.jobs import Job, JobQueue, JobState
from registry.outbox import OutboxItem
from registry.serving import Restriction
from registry.worker import Worker
from retrain import plans
from retrain.runs import TRAIN, VALIDATE
from retrain.scheduling import tick
from retrain.states import RunState
from retrain.tables import DecisionRow, RunRow

#: Every so many breaches one whose impact labels have measured: its run is queued at once.
MEASURED_EVERY = 4
_PLAN = with_values(PLAN, runs_per_quarter="1000")
_ANOTHER = f"{_PLAN}\n# reviewed\n"
#: A scheduler ticks every thirty seconds; here the day is short.
_TICK_PAUSE = 5.0


log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What stands in the tables when all breaches were taken up."""

    breaches: int
    #: breaches with exactly one run under the plan in force
    one_run: int
    #: runs of the plan that was in force before
    earlier_runs: int
    #: those of them that are superseded
    earlier_superseded: int
    #: breaches of which every step was decided once under the plan in force
    decided_once: int
    #: runs that are queued, under the plan in force
    queued: int
    #: jobs that train one of them
    training_jobs: int
    #: places of which the model is taken out of use
    restricted: int
    #: how often each of them at most
    restricted_at_most: int
    #: jobs that a worker still holds
    claimed: int
    failed: int
    #: jobs whose worker stopped, or met an error
    tried_again: int
    #: how often schedulers looked
    ticks: int
    #: workers that did a job and lived to say so
    workers: int
    ledger_is_valid: bool
    seconds: float

    @property
    def sound(self) -> bool:
        """Return whether every breach was taken up exactly once."""
        each = self.breaches == self.one_run == self.decided_once
        once = self.queued == self.training_jobs and self.restricted_at_most == 1
        ended = self.earlier_superseded == self.earlier_runs
        nothing_left = self.claimed == self.failed == 0
        return each and once and ended and nothing_left and self.ledger_is_valid


def home_with_breaches(root: Path, count: int) -> Driftward:
    """Found a home with a plan, labelled scans of a shift, and as many open episodes of it."""
    driftward = Driftward(Settings(home=new_home(root / "home")))
    found(driftward.database)
    made = Retraining(History(driftward.database, driftward.profiles))
    made.apply_plan(_PLAN)
    made.shifted(3 * AT_LEAST, provenance=Provenance.DATASET)
    with driftward.database.transaction() as session:
        # Of rows without bundles there is nothing to tell MLflow.
        session.execute(update(OutboxItem).values(delivered_at=made.now))
        rows = []
        for number in range(count):
            measured = number % MEASURED_EVERY == 0
            row = EpisodeRow(
                monitor="chest",
                state=EpisodeState.OPEN.value,
                opened_at=made.now,
                onset=ANCHOR,
                cause=Cause.ACQUISITION.value,
                subgroup=SUBGROUP if measured else f"station=room {number % 10}",
                impact=(Impact.MEASURED if measured else Impact.SUSPECTED).value,
                p_value=0.001,
                effect=1.0,
                evidence={"impact": {"scans": AT_LEAST}} if measured else {},
                heaviest=[],
            )
            rows.append(row)
        session.add_all(rows)
        seal(session, "episode.opened", *rows)
    return driftward


def take_up(
    driftward: Driftward,
    *,
    schedulers: int,
    workers: int,
    within_seconds: float,
    meanwhile: Callable[[Sequence[subprocess.Popen[bytes]]], None] = lambda _: None,
) -> Taken:
    """Let schedulers and workers run until every breach is decided, under two plans in turn.

    Parameters
    ----------
    meanwhile : called with the workers when the first decisions are made
    """
    settings = (str(driftward.settings.home), driftward.database.url)
    started = time.monotonic()
    ticking = [_process("schedule", *settings) for _ in range(schedulers)]
    working = [_process("work", *settings) for _ in range(workers)]
    try:
        latest = started + within_seconds
        _wait(lambda: _decisions(driftward) > 0, latest)
        meanwhile(working)
        _wait(lambda: _decisions(driftward) >= _breaches(driftward), latest)
        _apply_another_plan(driftward)
        _wait(lambda: not _waiting(driftward), latest)
        ticks = sum(int(_ended(process)) for process in ticking)
        _wait(lambda: not _waiting(driftward), latest)
        did = sum(int(_ended(process)) > 0 for process in working if process.poll() is None)
    finally:
        for process in (*ticking, *working):
            process.kill()
            process.wait()
    return _found(driftward, ticks=ticks, workers=did, seconds=time.monotonic() - started)


def _apply_another_plan(driftward: Driftward) -> None:
    """Put a later plan into force while decisions are being made, and ask for all of them anew."""
    with driftward.database.transaction() as session:
        plans.apply_plan(session, _ANOTHER, source="plan.yaml", actor="test", at=ANCHOR)
        for row in session.scalars(select(EpisodeRow)).all():
            ask_for_decision(session, row)


def _found(driftward: Driftward, *, ticks: int, workers: int, seconds: float) -> Taken:
    with driftward.database.reading() as session:
        plan = plans.require_plan(session, MODEL).id
        runs = session.scalars(select(RunRow).where(RunRow.episode.is_not(None))).all()
        current = Counter(run.episode for run in runs if run.plan == plan)
        earlier = [run for run in runs if run.plan != plan]
        queued = {run.id for run in runs if run.plan == plan and run.state == RunState.QUEUED}
        steps = Counter(
            (row.episode, row.action)
            for row in session.scalars(select(DecisionRow).where(DecisionRow.plan == plan))
        )
        jobs = session.scalars(select(Job)).all()
        places = Counter(
            session.scalars(select(Restriction.subgroup).where(Restriction.until.is_(None)))
        )
        decided = Counter(episode for (episode, _), times in steps.items() if times == 1)
        states = Counter(job.state for job in jobs)
        return Taken(
            breaches=_breaches(driftward),
            one_run=sum(times == 1 for times in current.values()),
            earlier_runs=len(earlier),
            earlier_superseded=sum(run.state == RunState.SUPERSEDED for run in earlier),
            # A restriction, and a request for labels or a run.
            decided_once=sum(times == 2 for times in decided.values()),
            queued=len(queued),
            training_jobs=sum(
                job.kind == TRAIN and job.payload["run"] in queued for job in jobs
            ),
            restricted=len(places),
            restricted_at_most=max(places.values()),
            claimed=states[JobState.RUNNING],
            failed=states[JobState.FAILED],
            tried_again=sum(job.attempts > 1 for job in jobs),
            ticks=ticks,
            workers=workers,
            ledger_is_valid=ledger.verify(session).valid,
            seconds=round(seconds, 1),
        )


def _process(part: str, home: str, url: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, __file__, part, home, url], stdout=subprocess.PIPE)


def _ended(process: subprocess.Popen[bytes]) -> bytes:
    """End a process as an operator would, and return what it counted."""
    process.terminate()
    counted = process.communicate(timeout=60)[0]
    assert process.returncode == 0, f"a process ended with {process.returncode}"
    return counted


def _wait(there: Callable[[], bool], latest: float) -> None:
    while not there():
        assert time.monotonic() < latest, "not done in time"
        time.sleep(0.1)


def _breaches(driftward: Driftward) -> int:
    with driftward.database.reading() as session:
        return session.scalar(select(func.count(EpisodeRow.id))) or 0


def _decisions(driftward: Driftward) -> int:
    with driftward.database.reading() as session:
        return session.scalar(select(func.count(DecisionRow.id))) or 0


def _waiting(driftward: Driftward) -> bool:
    """Return whether a decision is still due, or made just now."""
    return JobQueue(driftward.database).waiting([DECIDE]) > 0


def _schedule(driftward: Driftward, stop: threading.Event) -> int:
    ticks = 0
    while not stop.is_set():
        try:
            tick(driftward.database, driftward.clock)
            ticks += 1
        except OperationalError:
            # As the scheduler does: what one tick could not write, the next one does.
            log.warning("no tick: the database was busy for too long")
        stop.wait(_TICK_PAUSE)
    return ticks


def _work(driftward: Driftward, stop: threading.Event) -> int:
    """Do every kind of job but training, for which the rows have no bundles."""
    handlers = {
        kind: handle
        for kind, handle in driftward.handlers.items()
        if kind not in {TRAIN, VALIDATE}
    }
    worker = Worker(JobQueue(driftward.database), handlers)
    worker.run_until(stop, idle_seconds=0.1)
    with driftward.database.reading() as session:
        done = select(func.count(Job.id)).where(Job.worker == worker.name)
        return session.scalar(done) or 0


def _main(part: str, home: str, url: str) -> None:
    configure_logs()
    driftward = Driftward.open(Settings(home=Path(home), database_url=url))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    counted = {"schedule": _schedule, "work": _work}[part](driftward, stop)
    sys.stdout.write(f"{counted}\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
