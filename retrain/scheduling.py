"""The tick: looks what is due and puts it into the job table. It does no work itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from monitor.assembling.assembler import ASSEMBLE, assembly_is_due
from monitor.assembling.counting import unit_watched
from monitor.embedding.pending_scans import count_pending
from monitor.episodes.episodes import open_episode_ids
from monitor.evaluating import DECIDE, EVALUATE, window_payload
from monitor.following.arranging import following_is_due
from monitor.following.follower import FOLLOW
from monitor.intake.keeping import PURGE
from monitor.monitors import Monitor, all_monitors
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

EMBED = "embed"
TICK_SECONDS = 30


def tick(database: Database, clock: Clock, *, checkpoints: bool = False) -> int:
    """Queue what is due now, each piece under its own key; returns how many pieces were due.

    Any number of schedulers may tick at once: a key stands for one job.

    Parameters
    ----------
    checkpoints : whether one of the ledger is signed every day

    Raises
    ------
    ExceptionGroup
        Of what went wrong with single monitors, once all else is queued: a monitor that cannot
        be looked at must not silence the others.
    """
    now = clock.now()
    due = 0
    broken: list[Exception] = []
    with database.transaction() as session:
        assembling = assembly_is_due(session, now=now)
        if assembling:
            enqueue(session, kind=ASSEMBLE, key=ASSEMBLE, payload={}, again=True)
            due += 1
        for monitor in all_monitors(session):
            try:
                with session.begin_nested():
                    due += _ask_for(session, monitor, assembling=assembling, now=now)
            except SQLAlchemyError:
                raise
            except Exception as error:  # noqa: BLE001 - raised again, once others are served
                error.add_note(f"while looking what is due for monitor {monitor.name}")
                broken.append(error)
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
    if broken:
        raise ExceptionGroup("the others' work was queued", broken)
    return due


def _ask_for(session: Session, monitor: Monitor, *, assembling: bool, now: datetime) -> int:
    """Queue what is due for one monitor; returns how many pieces were."""
    due = 0
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
    return due


def ask_for_windows(session: Session, monitor: Monitor, *, now: datetime) -> int:
    """Queue the judgement of each window that has ended; returns how many wait for it.

    A judgement that failed is tried anew: the vault's disk may be there again.
    """
    windows = unjudged_windows(session, monitor, until=now)
    for window in windows:
        enqueue(
            session,
            kind=EVALUATE,
            key=f"{EVALUATE}/{monitor.name}/{window.start.isoformat()}",
            payload=window_payload(monitor.name, window),
            retry=True,
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


class Schedule:
    """Ticks in the background, and knows since when it fails."""

    def __init__(self, database: Database, clock: Clock, *, checkpoints: bool = False) -> None:
        self._database = database
        self._clock = clock
        self._checkpoints = checkpoints
        self._failing_since: float | None = None

    @property
    def failing_seconds(self) -> float:
        """For how long no tick has come to its end in order; 0 where the last one did."""
        since = self._failing_since
        return 0.0 if since is None else time.monotonic() - since

    @contextmanager
    def running(self) -> Iterator[None]:
        """Tick every half a minute until the block ends."""
        from apscheduler.schedulers.background import BackgroundScheduler

        scheduler = BackgroundScheduler(timezone="UTC")
        scheduler.add_job(
            self.tick, "interval", seconds=TICK_SECONDS, max_instances=1, coalesce=True
        )
        scheduler.start()
        try:
            yield
        finally:
            scheduler.shutdown(wait=True)

    def tick(self) -> None:
        """Tick once; what goes wrong is the scheduler's to log."""
        started = time.monotonic()
        try:
            tick(self._database, self._clock, checkpoints=self._checkpoints)
        except Exception:
            if self._failing_since is None:
                self._failing_since = started
            raise
        self._failing_since = None
