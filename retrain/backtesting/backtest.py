"""Backtesting: a plan replayed on a monitor's past, beside three simpler policies."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.datasets import Purpose
from monitor.statistics.threads import one_thread
from monitor.tables import DatasetMember, EpisodeRow, ScanRow
from registry import serving
from registry.database import Database
from registry.ledger import LedgerEntry
from registry.versions import VersionRow, ref
from retrain import runs
from retrain.backtesting.collecting import collected_rarely, uncollected
from retrain.backtesting.comparing_process import AsRead, ComparedBeside, ToCompare
from retrain.backtesting.comparison import compare
from retrain.backtesting.detectors import Detectors, StreamProcesses
from retrain.backtesting.labelled import LabelledSpan
from retrain.backtesting.past import Past, read_past, scans_of_span
from retrain.backtesting.processes import processes_beside
from retrain.backtesting.question import Question
from retrain.backtesting.replay import Replay, TellMoment
from retrain.backtesting.report import (
    Backtest,
    CausedRun,
    FoundEpisode,
    JudgedWindow,
    PolicyFigures,
    TakenDecision,
)
from retrain.backtesting.scratch import Scratch, scratch_folder
from retrain.backtesting.stored_reading import EmbedPixels, Heads, OpenBundle, StoredReader
from retrain.backtesting.weekly import Floor, weekly
from retrain.change_plan import Autonomy, Strategy
from retrain.states import RunState, has_ended
from retrain.tables import DecisionRow, RunRow

PLAN = "the plan"
_HOUR_SECONDS = 3600


def backtest(
    database: Database,
    question: Question,
    *,
    profiles: Path,
    work: Path,
    open_bundle: OpenBundle,
    embed: EmbedPixels,
    tell: TellMoment | None = None,
) -> Backtest:
    """Answer a question; the installation is read, and nothing in it changes.

    Parameters
    ----------
    profiles : where the installation keeps references' profiles
    work : where a scratch installation may stand meanwhile
    open_bundle, embed : as `StoredReader` asks for them
    tell : told how far the replay has come

    Raises
    ------
    NotFoundError
        If no champion or no reference was in force when the span begins.
    InsufficientDataError
        If nothing is stored of the span.
    """
    with database.reading() as session:
        scans = scans_of_span(session, question)
        hours = recorded_hours(session, question.plan.model)
    with (
        one_thread(),
        collected_rarely(),
        scratch_folder(work) as folder,
        processes_beside(scans) as processes,
    ):
        # Before the past is read: they begin, and one reads it too, meanwhile.
        streams = None if processes is None else StreamProcesses(processes)
        beside = None
        if processes is not None:
            to_compare = ToCompare(
                database=database.url,
                question=question,
                folder=folder,
                profiles=profiles,
                hours=hours,
            )
            beside = ComparedBeside(processes, to_compare)
        with database.reading() as session:
            past = read_past(session, question)
        reader = StoredReader(
            past.champion, past.vectors(), open_bundle=open_bundle, embed=embed
        )
        if beside is not None:
            beside.go_on(AsRead(head=past.head, heads=reader.heads(past.champion)))
        scratch = Scratch(folder, past, reader, profiles=profiles)
        try:
            replay = Replay(scratch, hours, Detectors(scratch, streams))
            with uncollected():
                replay.run(tell=tell)
            return _concluded(scratch, replay, hours, beside)
        finally:
            scratch.database.dispose()


def recorded_hours(session: Session, model: str) -> dict[Strategy, float]:
    """Return what each strategy took on average, by the runs of a model that are on record."""
    taken: dict[Strategy, list[float]] = defaultdict(list)
    for run in runs.all_runs(session, model):
        for attempt in run.settings.get("attempts", []):
            if attempt.get("seconds") is not None:
                taken[Strategy(attempt["strategy"])].append(attempt["seconds"] / _HOUR_SECONDS)
    return {strategy: sum(some) / len(some) for strategy, some in sorted(taken.items())}


def _concluded(
    scratch: Scratch,
    replay: Replay,
    hours: Mapping[Strategy, float],
    beside: ComparedBeside | None,
) -> Backtest:
    question = scratch.past.question
    span = LabelledSpan.of(scratch)
    compared = (beside and beside.comparison()) or compare(scratch, span, hours)
    floor = compared.floor
    with scratch.database.reading() as session:
        found = _Found(session, scratch, replay)
        return Backtest(
            question=question,
            champion=str(ref(scratch.past.champion)),
            scans=found.scans(),
            labelled=len(span.scans),
            windows=found.windows(),
            episodes=found.episodes(),
            decisions=found.decisions(),
            runs=(caused := found.runs()),
            policies=(
                _plan_figures(found, caused, span, floor),
                *compared.policies,
            ),
            floor=floor,
            gates_left_out=tuple(gate.value for gate in question.gates_left_out),
            notes=tuple(_notes(scratch.past, floor)),
        )


class _Found:
    """What a replay left in its scratch installation."""

    def __init__(self, session: Session, scratch: Scratch, replay: Replay) -> None:
        self._session, self._scratch, self._replay = session, scratch, replay
        self.since = scratch.past.question.since
        self._episodes = list(
            session.scalars(
                select(EpisodeRow)
                .where(EpisodeRow.opened_at > self.since)
                .order_by(EpisodeRow.id)
            )
        )
        #: as they are counted here, by their number in the scratch installation
        self.numbers = {row.id: number for number, row in enumerate(self._episodes, start=1)}

    def scans(self) -> int:
        read = self._scratch.reader.vectors
        return sum(scan["id"] in read for scan in self._scratch.past.scans)

    def windows(self) -> tuple[JudgedWindow, ...]:
        length = self._scratch.past.question.monitor.specification.window_length
        found = []
        for entry in self._entries("window.evaluated"):
            facts = json.loads(entry.canonical)["facts"]
            start = datetime.strptime(
                f"{facts['window'].split(' to ')[0]} +0000", "%Y-%m-%d %H:%M %z"
            )
            found.append(
                JudgedWindow(
                    start=start,
                    end=start + length,
                    p_value=facts["p_value"],
                    alpha=facts["alpha"],
                    alarm=facts["alarm"],
                )
            )
        return tuple(found)

    def episodes(self) -> tuple[FoundEpisode, ...]:
        return tuple(self._episode(row) for row in self._episodes)

    def _episode(self, row: EpisodeRow) -> FoundEpisode:
        streams = [
            (one["encoder"], datetime.fromisoformat(one["raised_at"]))
            for one in row.evidence.get("streams", [])
        ]
        first = min((at for _, at in streams), default=None)
        by_stream = first is not None and first <= row.opened_at
        return FoundEpisode(
            number=self.numbers[row.id],
            opened_at=row.opened_at,
            onset=row.onset,
            seen_by="stream" if by_stream else "window",
            cause=row.cause,
            subgroup=row.subgroup,
            impact=row.impact,
            state=row.state,
            ended_at=row.closed_at,
            ended_reason=row.closed_reason,
            stream_alarms=tuple(streams),
        )

    def decisions(self) -> tuple[TakenDecision, ...]:
        return tuple(
            TakenDecision(
                at=row.decided_at,
                episode=self.numbers[row.episode],
                action=row.action,
                reason=row.reason,
                carried_out=row.carried_out,
            )
            for row in self._session.scalars(select(DecisionRow).order_by(DecisionRow.id))
        )

    def run_rows(self) -> list[RunRow]:
        return [
            row
            for row in reversed(runs.all_runs(self._session, self._scratch.model))
            if row.episode in self.numbers
        ]

    def runs(self) -> tuple[CausedRun, ...]:
        return tuple(
            self._run(number, row) for number, row in enumerate(self.run_rows(), start=1)
        )

    def _run(self, number: int, row: RunRow) -> CausedRun:
        begun = [
            entry.recorded_at
            for entry in self._entries("run.queued")
            if entry.subject == f"run {row.id}"
        ]
        assert row.episode is not None  # noqa: S101 - `run_rows` has those of episodes
        settings = row.settings
        return CausedRun(
            number=number,
            episode=self.numbers[row.episode],
            planned_at=row.created_at,
            begun_at=begun[0] if begun else None,
            ended_at=row.changed_at if has_ended(RunState(row.state)) else None,
            state=row.state,
            strategy=row.strategy,
            not_simulated=tuple(settings.get("not_simulated", ())),
            hours=(
                None
                if settings.get("unknown_hours")
                else round(settings.get("seconds", 0.0) / _HOUR_SECONDS, 4)
            ),
            note=row.note,
            held_back=self._replay.held_back.get(row.id),
            gates={
                gate.name: (gate.outcome, gate.sentence)
                for gate in runs.gate_outcomes(self._session, row.id)
            },
        )

    def reigns(self) -> list[tuple[datetime, VersionRow, str]]:
        """Return what served: since when, which version, and why; the first champion first."""
        return [
            (reign.since, self._session.get_one(VersionRow, reign.version), reign.reason)
            for reign in serving.reigns(self._session, self._scratch.model)
        ]

    def labels_used(self) -> int:
        """Count the scans of the span whose labels a run learnt from or was judged on."""
        wanted = (Purpose.TRAINING, Purpose.SELECTION, Purpose.LOCKED_DRIFTED)
        datasets = {
            row.datasets[purpose]
            for row in self.run_rows()
            for purpose in wanted
            if purpose in row.datasets
        }
        query = (
            select(DatasetMember.scan)
            .join(ScanRow, ScanRow.id == DatasetMember.scan)
            .where(DatasetMember.dataset.in_(datasets), ScanRow.arrived_at >= self.since)
            .distinct()
        )
        return len(self._session.scalars(query).all())

    def heads(self, version: VersionRow) -> Heads:
        return self._scratch.reader.heads(version)

    @property
    def task(self) -> str:
        return self._scratch.task

    def _entries(self, kind: str) -> Sequence[LedgerEntry]:
        return self._session.scalars(
            select(LedgerEntry)
            .where(LedgerEntry.kind == kind, LedgerEntry.recorded_at > self.since)
            .order_by(LedgerEntry.sequence)
        ).all()


def _plan_figures(
    found: _Found, caused: Sequence[CausedRun], span: LabelledSpan, floor: Floor | None
) -> PolicyFigures:
    reigns = found.reigns()
    served = [(since, found.heads(version)) for since, version, _ in reigns]
    begun = [run for run in caused if run.begun_at is not None]
    hours = [run.hours for run in begun if run.hours is not None]
    weeks, whole = weekly(span, found.task, [(span.since, served[0][1]), *served[1:]])
    return PolicyFigures(
        name=PLAN,
        rule="as it is written",
        promotions=tuple((since, f"{ref(version)}") for since, version, _ in reigns[1:]),
        runs=len(begun),
        hours=round(sum(hours), 4) if len(hours) == len(begun) else None,
        labels_used=found.labels_used(),
        weeks=tuple(weeks),
        whole=whole,
        below=None if floor is None else sum(map(floor.below, weeks)),
        surely_below=None if floor is None else sum(map(floor.surely_below, weeks)),
        passed_over=(),
    )


def _notes(past: Past, floor: Floor | None) -> list[str]:
    """Return what a reader must know to weigh the figures."""
    question = past.question
    notes = [
        "causes are told by place and equipment alone: pixels are not read again",
        "people are taken to act at once: proposals are taken up, approvals given, and a "
        "candidate promoted as soon as the plan lets it",
    ]
    if question.plan.autonomy is Autonomy.OBSERVE:
        notes[1] = "the plan observes: what it would do is recorded, and nothing is begun"
    if question.gates_left_out:
        left = ", ".join(gate.value for gate in question.gates_left_out)
        notes.append(f"not simulated, as they need pixels or the network: {left}")
    if past.unread:
        notes.append(
            f"{past.unread} scans of the span have no stored embedding by {ref(past.champion)}: "
            "they were left out"
        )
    if floor is None:
        notes.append("the reference has no labels: there is no limit to hold weeks against")
    days = question.look / timedelta(days=1)
    notes.append(f"what came was looked at every {days:g} days: delays are told no finer")
    return notes
