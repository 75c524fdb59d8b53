from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from databases import on_each_database
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from registry.database import Database
from registry.errors import BadInputError, LeaseLostError
from registry.jobs import (
    MAX_ATTEMPTS,
    RETRY_AFTER,
    Claim,
    Job,
    JobQueue,
    JobState,
    enqueue,
    enqueue_missing,
    fence,
)
from registry.worker import Worker

pytestmark = on_each_database

EXPIRED = timedelta(seconds=-1)


def put(database: Database, key: str, kind: str = "embed") -> int:
    with database.transaction() as session:
        return enqueue(session, kind=kind, key=key, payload={"key": key}).id


def state(database: Database, job: int) -> Job:
    with database.reading() as session:
        return session.get_one(Job, job)


def test_a_key_stands_for_one_job_however_often_it_is_asked_for(database: Database) -> None:
    assert put(database, "embed/1") == put(database, "embed/1")


def test_of_many_keys_those_that_exist_stay_as_they_are(database: Database) -> None:
    put(database, "b", kind="train")
    for _ in range(2):
        with database.transaction() as session:
            enqueue_missing(
                session, kind="embed", payloads={key: {"key": key} for key in "abc"}
            )
    with database.reading() as session:
        jobs = {job.key: (job.kind, job.payload) for job in session.scalars(select(Job))}
    assert jobs == {
        "a": ("embed", {"key": "a"}),
        "b": ("train", {"key": "b"}),
        "c": ("embed", {"key": "c"}),
    }


def test_the_oldest_job_is_handed_out_first_and_once(database: Database) -> None:
    first, second = put(database, "a"), put(database, "b")
    queue = JobQueue(database)
    claims = [queue.claim("worker", ["embed"]) for _ in range(3)]
    assert [claim.job if claim else None for claim in claims] == [first, second, None]


def test_a_worker_takes_only_the_kinds_it_handles(database: Database) -> None:
    put(database, "a", kind="train")
    assert JobQueue(database).claim("worker", ["embed"]) is None


def test_five_workers_at_once_run_each_job_once(database: Database) -> None:
    for number in range(40):
        put(database, f"job-{number}")
    ran: Counter[str] = Counter()
    lock = threading.Lock()

    def handler(claim: Claim) -> None:
        with lock:
            ran[claim.payload["key"]] += 1

    def drain(_: int) -> int:
        return Worker(JobQueue(database), {"embed": handler}).drain()

    with ThreadPoolExecutor(5) as pool:
        assert sum(pool.map(drain, range(5))) == 40
    assert set(ran.values()) == {1}
    assert len(ran) == 40


def test_an_expired_lease_passes_on_and_the_first_worker_writes_nothing(
    database: Database,
) -> None:
    put(database, "a")
    stale = JobQueue(database, lease=EXPIRED).claim("first", ["embed"])
    fresh = JobQueue(database).claim("second", ["embed"])
    assert stale is not None
    assert fresh is not None
    assert fresh.token > stale.token
    with pytest.raises(LeaseLostError, match="second"), database.transaction() as session:
        session.get_one(Job, stale.job).error = "written after the lease was lost"
        fence(session, stale)
    assert state(database, stale.job).error is None
    with pytest.raises(LeaseLostError):
        JobQueue(database).finish(stale)
    JobQueue(database).finish(fresh)
    assert state(database, fresh.job).state == JobState.DONE


def test_a_job_whose_workers_keep_dying_ends_as_failed(database: Database) -> None:
    job = put(database, "a")
    queue = JobQueue(database, lease=EXPIRED)
    for _ in range(MAX_ATTEMPTS):
        assert queue.claim("worker", ["embed"]) is not None
    assert queue.claim("worker", ["embed"]) is None
    assert state(database, job).state == JobState.FAILED


def test_bad_input_fails_a_job_at_once_with_its_reason(database: Database) -> None:
    job = put(database, "a")

    def handler(claim: Claim) -> None:
        raise BadInputError("window 3 holds no scans: widen it")

    assert Worker(JobQueue(database), {"embed": handler}).drain() == 1
    ended = state(database, job)
    assert (ended.state, ended.error) == (JobState.FAILED, "window 3 holds no scans: widen it")


def test_an_unforeseen_error_is_tried_again_and_its_text_is_not_kept(
    database: Database,
) -> None:
    job = put(database, "a")

    def handler(claim: Claim) -> None:
        raise RuntimeError("PatientName DOE^JANE")

    assert Worker(JobQueue(database), {"embed": handler}).drain() == MAX_ATTEMPTS
    ended = state(database, job)
    assert (ended.state, ended.error) == (JobState.FAILED, "RuntimeError in embed")


def test_an_ended_job_can_be_queued_anew(database: Database) -> None:
    job = put(database, "a")
    ran: list[int] = []
    worker = Worker(JobQueue(database), {"embed": lambda claim: ran.append(claim.job)})
    worker.drain()
    with database.transaction() as session:
        enqueue(session, kind="embed", key="a", payload={}, again=True)
    worker.drain()
    assert ran == [job, job]


def test_a_failed_job_may_be_tried_anew_once_an_hour_has_passed(database: Database) -> None:
    job = put(database, "a")
    attempts: list[int] = []

    def handler(claim: Claim) -> None:
        attempts.append(claim.attempt)
        raise BadInputError("the disk is not there")

    def ask() -> None:
        with database.transaction() as session:
            enqueue(session, kind="embed", key="a", payload={}, retry=True)

    worker = Worker(JobQueue(database), {"embed": handler})
    worker.drain()
    ask()
    assert worker.drain() == 0, "it failed just now"
    with database.transaction() as session:
        session.get_one(Job, job).finished_at = datetime.now(UTC) - RETRY_AFTER
    ask()
    assert state(database, job).state == JobState.QUEUED
    worker.drain()
    assert attempts == [1, 1]
    with database.transaction() as session:
        done = session.get_one(Job, job)
        done.state, done.finished_at = JobState.DONE, datetime.now(UTC) - RETRY_AFTER
    ask()
    assert worker.drain() == 0, "what was done is done"


def test_a_database_that_is_busy_for_long_costs_a_job_no_attempt(database: Database) -> None:
    job = put(database, "a")
    left = [MAX_ATTEMPTS + 2]

    def handler(claim: Claim) -> None:
        left[0] -= 1
        if left[0]:
            raise OperationalError("BEGIN IMMEDIATE", {}, Exception("database is locked"))

    Worker(JobQueue(database), {"embed": handler}).drain()
    ended = state(database, job)
    assert (ended.state, ended.attempts, left) == (JobState.DONE, 1, [0])


class Away(JobQueue):
    """A queue whose database is away for the first few times it is asked."""

    times = 2

    def claim(self, worker: str, kinds: list[str]) -> Claim | None:
        self.times -= 1
        if self.times >= 0:
            raise OperationalError("BEGIN IMMEDIATE", {}, Exception("database is locked"))
        return super().claim(worker, kinds)


def test_a_database_that_is_away_for_a_while_ends_no_worker(database: Database) -> None:
    job = put(database, "a")
    queue, stop = Away(database), threading.Event()
    worker = Worker(queue, {"embed": lambda _: stop.set()})
    worker.run_until(stop, idle_seconds=0.01)
    assert queue.times == -1
    assert state(database, job).state == JobState.DONE
