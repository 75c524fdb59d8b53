"""The tick: looks what is due and puts it into the job table. It does no work itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from monitor.assembling.assembler import ASSEMBLE, assembly_is_due
from monitor.assembling.counting import unit_watched
from monitor.episodes import open_episode_ids
from monitor.evaluating import DECIDE, EVALUATE, window_payload
from monitor.following.arranging import following_is_due
from monitor.following.follower import FOLLOW
from monitor.intake.keeping import PURGE
from monitor.monitors import Monitor, all_monitors
from monitor.pending_scans import count_pending
from monitor.silence.watch import WATCH_ARRIVALS, look_is_due
from monitor.verdict_history import unjudged_windows
from registry import outbox
from registry.bundles.preprocessing import Unit
from registry.clock import Clock
from registry.database import Database
from registry.identities import SYSTEM
from registry.jobs import enqueue, enqueue_missing
from registry.ledger.checkpointing import CHECKPOINT
from retrain import runs
from retrain.promotion import ask_for_delivery
from retrain.shadow.ending import ask_to_end_shadows
from retrain.stage_entering import ask_to_enter_stages
from retrain.watching.looking import ask_to_watch

if TYPE_CHECKING:
    from apscheduler.schedulers.background import BackgroundScheduler

EMBED = "embed"
TICK_SECONDS = 30


def tick(database: Database, clock: Clock, *, checkpoints: bool = False) -> int:
    """Queue what is due now, each piece under its own key; returns how many pieces were due.

    Any number of schedulers may tick at once: a key stands for one job.

    Parameters
    ----------
    checkpoints : whether one of the ledger is signed every day
    """
    now = clock.now()
    due = 0
    with database.transaction() as session:
        assembling = assembly_is_due(session, now=now)
        if assembling:
            enqueue(session, kind=ASSEMBLE, key=ASSEMBLE, payload={}, again=True)
            due += 1
        for monitor in all_monitors(session):
            # A window is judged once all that settled within it are scans.
            waits = assembling and unit_watched(session, monitor) is not Unit.INSTANCE
            if not waits:
                due += ask_for_windows(session, monitor, now=now)
            if count_pending(session, monitor):
                enqueue(
                    session,
                    kind=EMBED,
                    key=f"{EMBED}/{monitor.name}",
                    payload={"monitor": monitor.name},
                    again=True,
                )
                due += 1
            due += ask_to_follow(session, monitor, now=now)
            if look_is_due(session, monitor, now=now):
                enqueue(
                    session,
                    kind=WATCH_ARRIVALS,
                    key=f"{WATCH_ARRIVALS}/{monitor.name}",
                    payload={"monitor": monitor.name},
                    again=True,
                )
                due += 1
            ask_for_todays_decisions(session, monitor, now=now)
        # Their keys are the day's, so that any number of ticks make one job of each.
        for kind in (PURGE, CHECKPOINT) if checkpoints else (PURGE,):
            enqueue(session, kind=kind, key=f"{kind}/{now:%Y-%m-%d}", payload={})
        runs.end_abandoned(session, actor=SYSTEM.name, at=now)
        due += ask_to_end_shadows(session, at=now)
        due += ask_to_enter_stages(session, at=now)
        due += ask_to_watch(session, at=now)
        untold = outbox.backlog(session)
        # MLflow is outside: what it is given time for is the real clock's.
        if untold is not None and untold.is_due(datetime.now(UTC)):
            ask_for_delivery(session)
            due += 1
    return due


def ask_for_windows(session: Session, monitor: Monitor, *, now: datetime) -> int:
    """Queue the judgement of each window that has ended; returns how many wait for it."""
    windows = unjudged_windows(session, monitor, until=now)
    for window in windows:
        enqueue(
            session,
            kind=EVALUATE,
            key=f"{EVALUATE}/{monitor.name}/{window.start.isoformat()}",
            payload=window_payload(monitor.name, window),
        )
    return len(windows)


def ask_to_follow(session: Session, monitor: Monitor, *, now: datetime) -> int:
    """Queue a look at the scans that came, if streams have something to do."""
    if not following_is_due(session, monitor, now=now):
        return 0
    enqueue(
        session,
        kind=FOLLOW,
        key=f"{FOLLOW}/{monitor.name}",
        payload={"monitor": monitor.name},
        again=True,
    )
    return 1


def ask_for_todays_decisions(session: Session, monitor: Monitor, *, now: datetime) -> None:
    """Queue a decision about each open episode: limits may allow what they forbade yesterday."""
    enqueue_missing(
        session,
        kind=DECIDE,
        payloads={
            f"{DECIDE}/episode {episode}/{now:%Y-%m-%d}": {"episode": episode}
            for episode in open_episode_ids(session, monitor.name)
        },
    )


def start_scheduler(
    database: Database, clock: Clock, *, checkpoints: bool = False
) -> BackgroundScheduler:
    """Start ticking in the background; the caller shuts the scheduler down."""
    from apscheduler.schedulers.background import BackgroundScheduler

    scheduler = BackgroundScheduler(timezone="UTC")
    scheduler.add_job(
        tick,
        "interval",
        args=[database, clock],
        kwargs={"checkpoints": checkpoints},
        seconds=TICK_SECONDS,
        max_instances=1,
        coalesce=True,
    )
    scheduler.start()
    return scheduler
