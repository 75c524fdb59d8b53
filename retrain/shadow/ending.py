"""The end of a shadow: its comparison enters the ledger, and people may sign."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from registry import crash_points, ledger, serving
from registry.clock import Clock
from registry.database import Database
from registry.identities import SYSTEM
from registry.jobs import Claim, enqueue, fence
from registry.versions import VersionRow, ref
from retrain import plans, runs
from retrain.shadow.comparison import ShadowComparison, compare
from retrain.shadow.reading import count_read, runs_in_shadow, shadow_since
from retrain.states import RunState
from retrain.tables import RunRow

END_SHADOW = "end shadow"
#: The ledger's word for the comparison at the end; signatures are bound to it.
COMPARED = "shadow.compared"


def ask_to_end_shadows(session: Session, *, at: datetime) -> int:
    """Queue the end of each shadow whose time is over, and end those that compare with nothing.

    Returns how many ends were queued.
    """
    due = 0
    for run in runs_in_shadow(session):
        if _supersede(session, run, at=at) or not is_over(session, run, at=at):
            continue
        enqueue(
            session,
            kind=END_SHADOW,
            key=f"{END_SHADOW}/run {run.id}",
            payload={"run": run.id},
            again=True,
        )
        due += 1
    return due


def is_over(session: Session, run: RunRow, *, at: datetime) -> bool:
    """Return whether a run was in shadow for as long, and read as much, as its plan asks."""
    return shadow_since(session, run) is not None and not waits_for(session, run, at=at)


def waits_for(session: Session, run: RunRow, *, at: datetime) -> list[str]:
    """Return what the end of a run's shadow waits for, each in a sentence; empty once it is due."""
    since = shadow_since(session, run)
    rules = plans.by_id(session, run.plan).plan
    if since is None:
        return []
    found = []
    until = since + timedelta(days=rules.shadow_days)
    if at < until:
        found.append(f"{rules.shadow_days:g} days of shadow end {until:%Y-%m-%d %H:%M}")
    if rules.shadow_scans and run.champion_before is not None:
        read = count_read(session, run, since=since, until=at, by_both=True)
        if read < rules.shadow_scans:
            found.append(f"{read} of {rules.shadow_scans} scans were read by both")
    return found


class ShadowEnder:
    """Does the job `end shadow`: payload {run}."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def handle(self, claim: Claim) -> None:
        """Compare, and let the run await approval; a run that moved on meanwhile stays there."""
        now = self._clock.now()
        with self._database.reading() as session:
            run = runs.require_run(session, int(claim.payload["run"]))
            if run.state != RunState.SHADOW or not is_over(session, run, at=now):
                return
            found = comparison(session, run, at=now)
        with self._database.transaction() as session:
            fence(session, claim)
            run = runs.require_run(session, run.id)
            if run.state != RunState.SHADOW or _supersede(session, run, at=now):
                return
            days = plans.by_id(session, run.plan).plan.shadow_days
            note = f"{days:g} days of shadow are over"
            if found is not None:
                note = f"{note}: {found.in_words()}"
                ledger.append(
                    session,
                    at=now,
                    actor=SYSTEM.name,
                    kind=COMPARED,
                    subject=f"run {run.id}",
                    facts=found.to_dict(),
                )
            runs.advance(
                session, run, RunState.AWAITING_APPROVAL, note=note, actor=SYSTEM.name, at=now
            )
            crash_points.reach("shadow: before the commit")
        crash_points.reach("shadow: committed")


def comparison(session: Session, run: RunRow, *, at: datetime) -> ShadowComparison | None:
    """Return how a run in shadow stands; None where it compares with nothing."""
    since = shadow_since(session, run)
    if since is None or run.champion_before is None or at <= since:
        return None
    return compare(session, run, since=since, until=at)


def shadow_record(session: Session, run: RunRow, *, at: datetime) -> dict[str, Any] | None:
    """Return what a run's shadow shows: as it stands, or as it was kept at its end."""
    if run.state == RunState.SHADOW:
        found = comparison(session, run, at=at)
        return None if found is None else found.to_dict()
    kept = ledger.entries(
        session, kind=COMPARED, subject=f"run {run.id}", newest_first=True, limit=1
    )
    return kept[0].facts if kept else None


def _supersede(session: Session, run: RunRow, *, at: datetime) -> bool:
    """End a run whose champion was replaced: what it was compared with no longer serves."""
    if run.champion_before is None:
        return False
    champion = serving.champion(session, run.model)
    if champion is not None and champion.id == run.champion_before:
        return False
    before = ref(session.get_one(VersionRow, run.champion_before))
    now = f"{ref(champion)} serves" if champion is not None else "none serves"
    runs.advance(
        session,
        run,
        RunState.SUPERSEDED,
        note=f"its champion {before} was replaced: {now} now",
        actor=SYSTEM.name,
        at=at,
    )
    return True
