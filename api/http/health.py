"""Whether the process lives, and whether it can serve."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Response
from pydantic import BaseModel
from sqlalchemy import text

from api.http.access import PUBLIC
from api.http.installation import Installation, Ticking
from registry import outbox
from registry.errors import DriftwardError
from retrain.scheduling import TICK_SECONDS, Schedule

router = APIRouter(tags=["health"])

#: MLflow's aliases may lag behind for so long before we call ourselves not ready.
OLDEST_OUTBOX_SECONDS = 900
#: A tick may fail now and then, where the database is busy; not for so long.
LONGEST_FAILING_SECONDS = 5 * TICK_SECONDS


class Liveness(BaseModel):
    """The process answers."""

    status: str


class Check(BaseModel):
    """What one check found."""

    name: str
    ok: bool
    detail: str


class Readiness(BaseModel):
    """What serving needs, piece by piece."""

    ready: bool
    checks: list[Check]


@router.get("/healthz", summary="Whether the process lives", dependencies=[PUBLIC])
def healthz() -> Liveness:
    """Answer, without looking at anything else."""
    return Liveness(status="alive")


@router.get(
    "/readyz",
    summary="Whether it can serve",
    dependencies=[PUBLIC],
    responses={503: {"model": Readiness, "description": "Something that serving needs fails."}},
)
def readyz(driftward: Installation, schedule: Ticking, response: Response) -> Readiness:
    """Look at the database, its schema, MLflow's store and backlog, and at the schedule."""
    checks = [
        _check("database", lambda: _database(driftward)),
        _check("schema", lambda: _schema(driftward)),
        _check("mlflow", lambda: _mlflow(driftward)),
        _check("outbox", lambda: _outbox(driftward)),
    ]
    if schedule is not None:  # else another process ticks
        checks.append(_check("schedule", lambda: _ticking(schedule)))
    ready = all(check.ok for check in checks)
    if not ready:
        response.status_code = 503
    return Readiness(ready=ready, checks=checks)


def _check(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name=name, ok=True, detail=look())
    except DriftwardError as error:
        return Check(name=name, ok=False, detail=str(error))
    except Exception as error:  # noqa: BLE001 - whatever is wrong, we are not ready
        return Check(name=name, ok=False, detail=type(error).__name__)


def _database(driftward: Installation) -> str:
    with driftward.database.reading() as session:
        session.execute(text("SELECT 1"))
    return "answers"


def _schema(driftward: Installation) -> str:
    driftward.database.require_known_schema()
    return f"revision {driftward.database.revision()}"


def _mlflow(driftward: Installation) -> str:
    driftward.tracking.ping()
    return "answers"


def _outbox(driftward: Installation) -> str:
    with driftward.database.reading() as session:
        untold = outbox.backlog(session)
    if untold is None:
        return "nothing waits"
    if (driftward.clock.now() - untold.since).total_seconds() > OLDEST_OUTBOX_SECONDS:
        raise DriftwardError(f"{untold}: look whether MLflow's store can be written")
    return str(untold)


def _ticking(schedule: Schedule) -> str:
    failing = schedule.failing_seconds
    if failing > LONGEST_FAILING_SECONDS:
        raise DriftwardError(
            f"looking what is due has failed for {failing:.0f} seconds; the log of this process "
            "says why"
        )
    return "looks what is due"
