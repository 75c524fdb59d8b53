"""A monitored model whose scans come one by one and are followed by streams and windows."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from monitored_history import ANCHOR, History, found
from sqlalchemy import select

from monitor import embeddings
from monitor.episodes import episodes
from monitor.episodes.episode_evidence import gather
from monitor.evaluation import Evaluation, evaluate, store_verdicts
from monitor.following import kept
from monitor.following.follower import FOLLOW, Follower
from monitor.following.settings import StreamSettings
from monitor.monitors import apply_monitor, require_monitor
from monitor.streams import StreamDetector
from monitor.tables import EpisodeRow, ReferenceRow, StreamRow, StreamScan
from monitor.windows import Window
from registry.clock import ReplayClock
from registry.jobs import JobQueue, enqueue
from registry.worker import Worker

if TYPE_CHECKING:
    from api.settings import Settings

#: 1,200 scans to a false alarm in each of two streams; windows of half a week have 84 scans.
SETTINGS = StreamSettings(false_alarms="one per month", scans_a_day=20, burn_in_scans=0)
#: Between two scans: 84 in half a week.
STEP = timedelta(hours=1)
#: Scans that come between two looks.
LOT = 21


class FollowedHistory:
    """Scans that come hour by hour, ticks that ask for jobs, and a worker that does them."""

    def __init__(self, history: History, settings: StreamSettings | None = SETTINGS) -> None:
        self.history, self.database = history, history.database
        self.clock = ReplayClock(ANCHOR)
        self.judged = 0
        self.apply(settings)
        self.restart()

    def restart(self) -> None:
        """Let a new worker take over, which remembers nothing."""
        self.follower = Follower(self.database, self.history.profiles, self.clock)
        self.worker = Worker(JobQueue(self.database), {FOLLOW: self.follower.handle})

    def apply(self, settings: StreamSettings | None) -> None:
        with self.database.transaction() as session:
            monitor = require_monitor(session, "chest")
            specification = monitor.specification.model_copy(update={"stream": settings})
            self.history.monitor = apply_monitor(
                session, specification, actor="test", at=self.clock.now()
            )

    def live(
        self,
        count: int,
        *,
        shift: float = 0.0,
        software_version: str = "1.0",
        site: str = "site",
        follow: bool = True,
        windows: bool = True,
    ) -> list[int]:
        """Let so many scans come, an hour apart; look every half day, judge ended windows."""
        scans: list[int] = []
        for start in range(0, count, LOT):
            lot = min(LOT, count - start)
            scans += self.history.add(
                lot,
                at=self.clock.at + STEP,
                every=STEP,
                shift=shift,
                software_version=software_version,
                site=site,
            )
            self.clock.at += lot * STEP
            if windows and self.clock.at >= self.history.window(self.judged).end:
                self.judge()
            if follow:
                self.follow()
        return scans

    def judge(self) -> Evaluation:
        """Judge the next window as the worker's job does."""
        window = self.history.window(self.judged)
        self.judged += 1
        with self.database.reading() as session:
            evaluation = evaluate(
                session, self.history.profiles, self.history.monitor, window, now=window.end
            )
        with self.database.transaction() as session:
            store_verdicts(session, evaluation, actor="test", at=window.end)
            if evaluation.alarm:
                found = gather(session, self.history.profiles, evaluation)
                episodes.record_alarm(session, evaluation, found, actor="test", at=window.end)
            episodes.close_recovered(session, evaluation, actor="test", at=window.end)
        return evaluation

    def ask(self) -> None:
        """Ask for the job, as a tick does."""
        with self.database.transaction() as session:
            enqueue(
                session,
                kind=FOLLOW,
                key=f"{FOLLOW}/chest",
                payload={"monitor": "chest"},
                again=True,
            )

    def follow(self) -> None:
        """Let the worker show the streams what came."""
        self.ask()
        self.worker.drain()

    def streams(self) -> list[StreamRow]:
        with self.database.reading() as session:
            rows = kept.running(session, "chest")
            for row in rows:
                session.refresh(row, ["state"])
            return rows

    def undisturbed(self, row: StreamRow) -> bytes:
        """Return the state of a stream that saw the same scans in one go."""
        with self.database.reading() as session:
            reference = session.get_one(ReferenceRow, row.reference)
            scans = embeddings.in_window(
                session,
                reference.version,
                Window(start=reference.accepted_at, end=self.clock.now() + timedelta(days=1)),
            )
        detector = StreamDetector(
            self.history.profiles.load(reference.profile_digest),
            scans_between_false_alarms=row.scans_between_false_alarms,
            burn_in=row.burn_in,
            seed=row.id,
        )
        detector.update(scans.vectors, scans.patients)
        return kept.packed(detector)

    def dealt_with(self, row: StreamRow) -> list[int | None]:
        """Return the numbers that a stream gave its scans, in the order of registration."""
        with self.database.reading() as session:
            return list(
                session.scalars(
                    select(StreamScan.number)
                    .where(StreamScan.stream == row.id)
                    .order_by(StreamScan.scan)
                )
            )

    def episodes(self) -> list[EpisodeRow]:
        """Return all episodes, oldest first."""
        with self.database.reading() as session:
            return episodes.all_episodes(session)[::-1]


def followed_home(home: Settings) -> FollowedHistory:
    """Make a home of a monitored model with its references; nothing has come yet."""
    from api.assembly import Driftward
    from api.initialising import initialise

    initialise(home, name="Mei Tanaka")
    driftward = Driftward.open(home)
    found(driftward.database)
    history = History(driftward.database, driftward.profiles)
    history.accept_reference()
    return FollowedHistory(history)
