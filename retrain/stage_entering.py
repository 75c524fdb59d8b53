"""The job that takes a staged promotion to its next stage, where the plan lets it go by itself."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry import crash_points
from registry.clock import Clock
from registry.database import Database
from registry.errors import RefusedError, StaleChampionError
from registry.identities import SYSTEM
from registry.jobs import Claim, enqueue, fence
from retrain import plans, runs, staging
from retrain.change_plan import Autonomy
from retrain.promotion import promote
from retrain.states import RunState
from retrain.tables import RunRow

ENTER_STAGE = "enter stage"


def ask_to_enter_stages(session: Session, *, at: datetime) -> int:
    """Queue the next stage of each promotion that waits for nothing; returns how many these are.

    With another autonomy than `act` a person takes each step (`driftward promote`).
    """
    due = 0
    for run in session.scalars(
        select(RunRow).where(RunRow.state == RunState.PROMOTING.value).order_by(RunRow.id)
    ):
        if not _may_go_on(session, run, at=at):
            continue
        enqueue(
            session,
            kind=ENTER_STAGE,
            key=f"{ENTER_STAGE}/run {run.id}",
            payload={"run": run.id},
            again=True,
        )
        due += 1
    return due


def _may_go_on(session: Session, run: RunRow, *, at: datetime) -> bool:
    if plans.by_id(session, run.plan).plan.autonomy is not Autonomy.ACT:
        return False
    return not staging.staging_of(session, run, at=at).waits_for


class StageEnterer:
    """Does the job `enter stage`: payload {run}."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def handle(self, claim: Claim) -> None:
        """Enter the next stage; what has come in between leaves the promotion where it is."""
        now = self._clock.now()
        with self._database.transaction() as session:
            fence(session, claim)
            run = runs.require_run(session, int(claim.payload["run"]))
            if run.state != RunState.PROMOTING or not _may_go_on(session, run, at=now):
                return
            try:
                with session.begin_nested():
                    promote(session, run, by=SYSTEM, at=now)
            except (RefusedError, StaleChampionError) as error:
                runs.annotate(session, run, str(error), actor=SYSTEM.name, at=now)
            crash_points.reach("enter stage: before the commit")
        crash_points.reach("enter stage: committed")
