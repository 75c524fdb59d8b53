"""The jobs that evaluate a window, and that measure performance once labels are there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeAlias

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from monitor import parts
from monitor.embedding.embedding_plan import EmbedsScans
from monitor.episodes import episodes
from monitor.episodes.attributing import Attributor
from monitor.episodes.episode_evidence import AlarmEvidence, gather
from monitor.episodes.episodes import Impact
from monitor.episodes.further_shifts import PlacedShift, several_shifts
from monitor.evaluation import Evaluation, evaluate, store_verdicts
from monitor.monitors import Monitor, require_monitor
from monitor.performance import performance
from monitor.performance.falls import falls, first_labels, of_several
from monitor.performance.finding import findings_judged
from monitor.references import ProfileStore
from monitor.requests.estimating import impact_scans
from monitor.subgroups import Subgroup
from monitor.tables import EpisodeRow, ResultRow, ScanRow
from monitor.verdict_history import is_judged, unjudged_windows
from monitor.windows import Window
from registry import serving
from registry.canonical import Json
from registry.clock import Clock
from registry.database import Database
from registry.errors import InsufficientDataError
from registry.identities import SYSTEM
from registry.jobs import Claim, enqueue, fence
from registry.versions import ref

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
        self,
        database: Database,
        profiles: ProfileStore,
        embedder: EmbedsScans,
        attributor: Attributor | None,
        clock: Clock,
    ) -> None:
        self._database = database
        self._profiles = profiles
        self._embedder = embedder
        self._attributor = attributor
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
        """Judge one window; its verdicts, and the episode of its alarm, enter together.

        Of a window that is not one of the monitor's own, or has not ended, nothing is kept:
        stored, it would stand in the trend, in the rule of two windows in a row, and for what
        comes until the window ends. Nor does anything follow from a window that was judged
        before: its episode may have ended since, and the shift with it.
        """
        self._embedder.embed(monitor_name, window=window, claim=claim)
        with self._database.reading() as session:
            monitor = require_monitor(session, monitor_name)
            evaluation = evaluate(
                session, self._profiles, monitor, window, now=self._clock.now()
            )
            if not evaluation.scheduled or evaluation.judged_before:
                return evaluation
            # Before anything is written: pixels are read again, and nobody else need wait.
            found = self._shifts(session, evaluation) if evaluation.alarm else []
        now = self._clock.now()
        with self._database.transaction() as session:
            if claim is not None:
                fence(session, claim)
            if is_judged(session, monitor_name, window):
                return replace(evaluation, judged_before=True)  # by another, meanwhile
            store_verdicts(session, evaluation, actor=SYSTEM.name, at=now)
            for evidence, shift in found:
                row = episodes.record_alarm(
                    session, evaluation, evidence, actor=SYSTEM.name, at=now, shift=shift
                )
                ask_for_decision(session, row)
            for row in episodes.close_recovered(session, evaluation, actor=SYSTEM.name, at=now):
                ask_for_decision(session, row)
        return evaluation

    def _shifts(
        self, session: Session, evaluation: Evaluation
    ) -> list[tuple[AlarmEvidence, PlacedShift | None]]:
        """Return what an alarm is about: one shift, or several that last at once."""
        rows = episodes.open_episodes(session, evaluation.monitor.name)
        shifts = several_shifts(evaluation, rows)
        return [
            (
                gather(
                    session,
                    self._profiles,
                    evaluation,
                    attributor=self._attributor,
                    placed=one,
                ),
                one,
            )
            for one in ([None] if shifts is None else shifts)
        ]


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
            for row in episodes.open_episodes(session, monitor.name):
                self.measure_impact(session, monitor, row)

    def _measure_window(self, session: Session, monitor: Monitor, window: Window) -> None:
        version = _serving_in(session, monitor, window)
        if version is None:
            return
        task = monitor.specification.task
        for finding in findings_judged(session, version=version, task=task):
            try:
                results = performance.labelled_results(
                    session, version=version, task=task, window=window, finding=finding
                )
                measured = performance.measure(results)
            except InsufficientDataError:
                continue  # the next labels bring the job back
            performance.store(
                session,
                monitor=monitor.name,
                version=version,
                window=window,
                subgroup="",
                finding=finding,
                results=results,
                performance=measured,
                actor=SYSTEM.name,
                at=self._clock.now(),
            )

    def measure_impact(self, session: Session, monitor: Monitor, row: EpisodeRow) -> None:
        """Measure what one episode did to the champion."""
        champion = serving.require_champion(session, monitor.specification.model)
        findings = findings_judged(
            session, version=champion.id, task=monitor.specification.task
        )
        found = {}
        for finding in findings:
            try:
                found[finding] = self._impact_on(
                    session, monitor, row, champion.id, finding, findings=len(findings)
                )
            except InsufficientDataError:
                continue
        if not found:
            return
        evidence = {
            **(found[""] if "" in found else of_several(found)),
            "version": str(ref(champion)),
        }
        episodes.set_impact(
            session,
            row,
            Impact.MEASURED if evidence["falls"] else Impact.NONE_SHOWN,
            evidence=evidence,
            actor=SYSTEM.name,
            at=self._clock.now(),
        )
        ask_for_decision(session, row)

    def _impact_on(
        self,
        session: Session,
        monitor: Monitor,
        row: EpisodeRow,
        champion: int,
        finding: str,
        *,
        findings: int,
    ) -> dict[str, Json]:
        """Return the evidence of what an episode did to one finding.

        Raises
        ------
        InsufficientDataError
            If there are too few labels to say.
        """
        task = monitor.specification.task
        subgroup = Subgroup.parse(row.subgroup) if row.subgroup else None
        baseline = performance.measure(
            performance.reference_results(
                session, monitor, version=champion, subgroup=subgroup, finding=finding
            )
        )
        results = performance.labelled_results(
            session,
            version=champion,
            task=task,
            window=Window(start=row.onset, end=self._clock.now() + timedelta(microseconds=1)),
            subgroup=subgroup,
            finding=finding,
            without_ai=True,
            only=impact_scans(session, row.id),
        )
        after = performance.measure(results)
        known_at = first_labels(session, results, task=task)
        fallen = falls(baseline, results, known_at=known_at, findings=findings)
        return {
            "before": baseline.to_dict(),
            "after": after.to_dict(),
            "scans": len(results.scans),
            "falls": [fall.to_dict() for fall in fallen],
        }


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
    """Return the version whose results were meant for the clinic in most of a window.

    What served at some sites alone is held to its promises there, and is no monitor's subject yet.
    """
    everywhere = serving.serving_within(
        session, monitor.specification.model, window.start, window.end
    )
    return session.scalars(
        select(ResultRow.version)
        .join(ScanRow, ScanRow.id == ResultRow.scan)
        .where(
            ResultRow.version.in_(everywhere),
            ResultRow.delivery != "background",
            ResultRow.task == monitor.specification.task,
            ScanRow.arrived_at >= window.start,
            ScanRow.arrived_at < window.end,
            *parts.of_arrivals(session, ResultRow.scan, since=window.start, until=window.end),
        )
        .group_by(ResultRow.version)
        .order_by(func.count().desc())
    ).first()
