"""The replay: the product's own jobs, done on a clock that is moved through the past."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TypeAlias

from sqlalchemy.orm import Session

from monitor.episodes.episodes import open_episodes
from monitor.evaluating import DECIDE, EVALUATE, Evaluator, PerformanceMeter
from monitor.following.follower import FOLLOW, Follower
from monitor.monitors import Monitor, require_monitor
from registry.errors import DriftwardError
from registry.jobs import Claim, JobQueue
from registry.worker import JobHandler, Worker
from retrain import runs
from retrain.backtesting.detectors import Detectors
from retrain.backtesting.people import let_people_act
from retrain.backtesting.question import looks
from retrain.backtesting.refitting_runs import RefittingTrainer
from retrain.backtesting.scratch import Scratch
from retrain.change_plan import Strategy
from retrain.deciding import Decider
from retrain.promotion import RENEW_REFERENCE
from retrain.renewal import ReferenceRenewer
from retrain.runs import TRAIN, VALIDATE
from retrain.scheduling import ask_for_todays_decisions, ask_for_windows, ask_to_follow
from retrain.states import RunState
from retrain.validating import Validator

#: How often labels that came are measured, where a decision hangs on it.
MEASURE_EVERY = timedelta(weeks=1)
#: Told after each look: the moment up to which all is replayed.
TellMoment: TypeAlias = Callable[[datetime], None]


class Replay:
    """Lets a scratch installation live through a span, look by look."""

    def __init__(
        self, scratch: Scratch, hours: Mapping[Strategy, float], detectors: Detectors
    ) -> None:
        self._scratch = scratch
        self._question = scratch.past.question
        self._meter = PerformanceMeter(scratch.database, scratch.clock)
        self._broken: Exception | None = None
        handlers = _handlers(scratch, hours, detectors)
        self._worker = Worker(
            JobQueue(scratch.database),
            {kind: self._remembering(handler) for kind, handler in handlers.items()},
        )
        self._measured_at = self._question.since
        #: that came since then
        self._labels = 0
        #: why a promotion that was ready had to wait, by run
        self.held_back: dict[int, str] = {}

    def run(self, *, tell: TellMoment | None = None) -> None:
        """Replay the whole span."""
        for moment in looks(self._question):
            self._look(moment)
            if tell is not None:
                tell(moment)

    def _look(self, moment: datetime) -> None:
        self._scratch.clock.at = moment
        self._labels += self._scratch.deliver()
        with self._scratch.database.transaction() as session:
            monitor = require_monitor(session, self._question.monitor.name)
            if self._labels and moment >= self._measured_at + MEASURE_EVERY:
                self._measure(session, monitor)
                self._labels, self._measured_at = 0, moment
            self._ask(session, monitor, moment)
        self._do_what_waits()
        with self._scratch.database.transaction() as session:
            for run in runs.under_way(session):
                why = let_people_act(session, run, at=moment)
                if why is not None:
                    self.held_back.setdefault(run.id, why)
        self._do_what_waits()

    def _do_what_waits(self) -> None:
        self._worker.drain()
        if self._broken is not None:
            raise self._broken

    def _remembering(self, handler: JobHandler) -> JobHandler:
        """Let a fault in a job end the replay: without it, what comes after would be untrue.

        A job that is refused is another matter: so it would have been at the time.
        """

        def handle(claim: Claim) -> None:
            try:
                handler(claim)
            except DriftwardError:
                raise
            except Exception as error:
                self._broken = self._broken or error
                raise

        return handle

    def _measure(self, session: Session, monitor: Monitor) -> None:
        """Measure the impact of the open episodes whose decisions still hang on it.

        A run is begun once an impact is measured, and every step is decided by then.
        """
        for episode in open_episodes(session, monitor.name):
            run = runs.of_episode(session, episode.id, self._scratch.plan.id)
            if run is None or run.state == RunState.AWAITING_LABELS:
                self._meter.measure_impact(session, monitor, episode)

    @staticmethod
    def _ask(session: Session, monitor: Monitor, moment: datetime) -> None:
        ask_for_windows(session, monitor, now=moment)
        ask_to_follow(session, monitor, now=moment)
        ask_for_todays_decisions(session, monitor, now=moment)


class _NoMetrics:
    """Where a candidate that exists nowhere else keeps no figures."""

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        pass


def _handlers(
    scratch: Scratch, hours: Mapping[Strategy, float], detectors: Detectors
) -> Mapping[str, JobHandler]:
    database, profiles, clock = scratch.database, scratch.profiles, scratch.clock
    evaluator = Evaluator(database, profiles, scratch, None, clock)
    since = scratch.past.question.since

    def evaluate(claim: Claim) -> None:
        # What ended before the span was judged then, or not at all.
        if datetime.fromisoformat(claim.payload["end"]) > since:
            evaluator.handle(claim)

    return {
        EVALUATE: evaluate,
        FOLLOW: Follower(database, profiles, clock, detectors=detectors).handle,
        DECIDE: Decider(database, clock).handle,
        TRAIN: RefittingTrainer(scratch, hours).handle,
        VALIDATE: Validator(database, scratch.reader, _NoMetrics(), clock).handle,
        RENEW_REFERENCE: ReferenceRenewer(database, profiles, scratch, clock).handle,
    }
