"""The jobs that evaluate a window, and that measure performance once labels are there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeAlias

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from monitor import episodes, performance, references
from monitor.embedding import Embedder
from monitor.episodes import Impact
from monitor.evaluation import Evaluation, evaluate, store_verdicts, unjudged_windows
from monitor.monitors import Monitor, require_monitor
from monitor.performance import Performance
from monitor.references import EncoderRole, ProfileStore
from monitor.subgroups import Subgroup
from monitor.tables import EpisodeRow, ResultRow, ScanRow
from monitor.windows import Window
from registry import serving
from registry.canonical import Json
from registry.clock import Clock
from registry.database import Database
from registry.errors import InsufficientDataError
from registry.identities import SYSTEM
from registry.jobs import Claim, enqueue, fence

EVALUATE = "evaluate"
MEASURE = "measure"
#: Asked for when an episode opens or its impact changes; done by `retrain`.
DECIDE = "decide"
REPORT_LENGTH = timedelta(days=7)

Announce: TypeAlias = Callable[[str], None]


def window_payload(monitor: str, window: Window) -> dict[str, Json]:
    """Return a job's payload for one window."""
    return {
        "monitor": monitor,
        "start": window.start.isoformat(),
        "end": window.end.isoformat(),
    }


def _window(claim: Claim) -> Window:
    return Window(
        start=datetime.fromisoformat(claim.payload["start"]),
        end=datetime.fromisoformat(claim.payload["end"]),
    )


class Evaluator:
    """Embeds what a window still lacks, judges it, and records the alarm if there is one."""

    def __init__(
        self, database: Database, profiles: ProfileStore, embedder: Embedder, clock: Clock
    ) -> None:
        self._database = database
        self._profiles = profiles
        self._embedder = embedder
        self._clock = clock

    def handle(self, claim: Claim) -> None:
        """Do the job `evaluate`: payload {monitor, start, end}.

        A job that comes late or twice judges nothing: by now the window was judged,
        or ended before the references were accepted, which took what is usual from it.
        """
        window = _window(claim)
        with self._database.reading() as session:
            monitor = require_monitor(session, claim.payload["monitor"])
            due = unjudged_windows(session, monitor, until=window.end)
        if window in due:
            self.evaluate(monitor.name, window, claim=claim)

    def evaluate(
        self, monitor_name: str, window: Window, *, claim: Claim | None = None
    ) -> Evaluation:
        """Judge one window; its verdicts, and the episode of its alarm, enter together."""
        self._embedder.embed(monitor_name, window=window, claim=claim)
        with self._database.reading() as session:
            monitor = require_monitor(session, monitor_name)
            evaluation = evaluate(session, self._profiles, monitor, window)
        now = self._clock.now()
        with self._database.transaction() as session:
            if claim is not None:
                fence(session, claim)
            store_verdicts(session, evaluation, actor=SYSTEM.name, at=now)
            if evaluation.alarm:
                row = episodes.record_alarm(
                    session, self._profiles, evaluation, actor=SYSTEM.name, at=now
                )
                ask_for_decision(session, row)
        return evaluation


class PerformanceMeter:
    """Measures the champion on labelled scans, and what an open episode did to it."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def handle(self, claim: Claim) -> None:
        """Do the job `measure`: payload {monitor, start, end}."""
        with self._database.transaction() as session:
            fence(session, claim)
            monitor = require_monitor(session, claim.payload["monitor"])
            self._measure_window(session, monitor, _window(claim))
            row = episodes.open_episode(session, monitor.name)
            if row is not None:
                self._measure_impact(session, monitor, row)

    def _measure_window(self, session: Session, monitor: Monitor, window: Window) -> None:
        version = _serving_in(session, monitor, window)
        if version is None:
            return
        try:
            results = performance.labelled_results(
                session, version=version, task=monitor.specification.task, window=window
            )
            measured = performance.measure(results)
        except InsufficientDataError:
            return  # the next labels bring the job back
        performance.store(
            session,
            monitor=monitor.name,
            version=version,
            window=window,
            subgroup="",
            results=results,
            performance=measured,
            actor=SYSTEM.name,
            at=self._clock.now(),
        )

    def _measure_impact(self, session: Session, monitor: Monitor, row: EpisodeRow) -> None:
        champion = serving.require_champion(session, monitor.specification.model)
        baseline = baseline_performance(session, monitor, champion.id)
        subgroup = Subgroup.parse(row.subgroup) if row.subgroup else None
        try:
            results = performance.labelled_results(
                session,
                version=champion.id,
                task=monitor.specification.task,
                window=Window(
                    start=row.onset, end=self._clock.now() + timedelta(microseconds=1)
                ),
                subgroup=subgroup,
                without_ai=True,
            )
            after = performance.measure(results)
        except InsufficientDataError:
            return
        if baseline is None:
            return
        fallen = performance.falls(baseline, after)
        impact = Impact.MEASURED if fallen else Impact.NONE_SHOWN
        evidence: dict[str, Json] = {
            "before": baseline.to_dict(),
            "after": after.to_dict(),
            "scans": len(results.scans),
            "falls": [
                {
                    "measure": fall.measure,
                    "before": fall.before,
                    "after": fall.after,
                    "p_value": fall.p_value,
                }
                for fall in fallen
            ],
        }
        episodes.set_impact(
            session, row, impact, evidence=evidence, actor=SYSTEM.name, at=self._clock.now()
        )
        ask_for_decision(session, row)


def baseline_performance(
    session: Session, monitor: Monitor, version: int
) -> Performance | None:
    """Return a version's performance on its reference, or None where labels lack."""
    dataset = None
    for row in references.deciding(session, monitor.name):
        if row.encoder == EncoderRole.CHAMPION and row.version == version:
            dataset = row.dataset
    if dataset is None:
        return None
    try:
        return performance.measure(
            performance.labelled_results(
                session,
                version=version,
                task=monitor.specification.task,
                dataset=dataset,
                without_ai=True,
            )
        )
    except InsufficientDataError:
        return None


def ask_for_decision(session: Session, row: EpisodeRow) -> None:
    """Queue the decision about an episode, in the transaction that changed it."""
    enqueue(
        session,
        kind=DECIDE,
        key=f"{DECIDE}/episode {row.id}",
        payload={"episode": row.id},
        again=True,
    )


def ask_for_measurement(session: Session, monitor: Monitor, scans: tuple[int, ...]) -> None:
    """Queue a measurement of every report week to which newly labelled scans belong."""
    anchor = monitor.specification.anchor
    arrivals = session.scalars(
        select(ScanRow.arrived_at).where(ScanRow.id.in_(scans), ScanRow.arrived_at >= anchor)
    )
    weeks = sorted({(arrived - anchor) // REPORT_LENGTH for arrived in arrivals})
    for week in weeks:
        start = anchor + week * REPORT_LENGTH
        window = Window(start=start, end=start + REPORT_LENGTH)
        enqueue(
            session,
            kind=MEASURE,
            key=f"{MEASURE}/{monitor.name}/{start.isoformat()}",
            payload=window_payload(monitor.name, window),
            again=True,
        )


def _serving_in(session: Session, monitor: Monitor, window: Window) -> int | None:
    """Return the version whose results were meant for the clinic in most of a window."""
    return session.scalars(
        select(ResultRow.version)
        .join(ScanRow, ScanRow.id == ResultRow.scan)
        .where(
            ResultRow.delivery != "background",
            ResultRow.task == monitor.specification.task,
            ScanRow.arrived_at >= window.start,
            ScanRow.arrived_at < window.end,
        )
        .group_by(ResultRow.version)
        .order_by(func.count().desc())
    ).first()
