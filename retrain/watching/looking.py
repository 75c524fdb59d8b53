"""The job that looks at a watched version, at most once a day, and acts as the plan says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from monitor.performance.finding import findings_judged
from monitor.statistics.performance.proportions import Proportion
from registry import crash_points, serving
from registry.canonical import Json
from registry.clock import Clock
from registry.database import Database
from registry.identities import SYSTEM
from registry.jobs import Claim, enqueue, fence
from registry.serving import EVERYWHERE, Withholding
from registry.versions import VersionRow, ref
from retrain import plans, runs
from retrain.gates import promises
from retrain.gates.measures import Measure, estimate
from retrain.gates.promises import LEVEL, Promise
from retrain.gates.results import Results
from retrain.plans import AppliedPlan
from retrain.tables import RunRow, WatchLookRow, WatchRow
from retrain.watching.beginning import end, end_superseded, going_on, looks_of, record
from retrain.watching.judging import MeasureLook, look_at
from retrain.watching.labelled import labelled_in_use
from retrain.watching.rules import WatchRules, WhenItFails
from retrain.watching.signs import Warned, signs
from retrain.watching.states import WatchState

WATCH = "watch champion"
_DAY = timedelta(days=1)


def ask_to_watch(session: Session, *, at: datetime) -> int:
    """Queue today's look of each watch, and end those whose version was replaced.

    Returns how many looks are due.
    """
    due = 0
    for model in sorted({row.model for row in going_on(session)}):
        end_superseded(session, model, at=at)
    for row in going_on(session):
        day = day_of(row, at=at)
        if not _is_due(session, row, day):
            continue
        enqueue(
            session,
            kind=WATCH,
            key=f"{WATCH}/watch {row.id}/day {day}",
            payload={"watch": row.id},
        )
        due += 1
    return due


def day_of(row: WatchRow, *, at: datetime) -> int:
    """Return how many days of a watch are over; what comes after its end belongs to the last."""
    return (min(at, row.until) - row.since) // _DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What one look comes to."""

    day: int
    labelled: int
    measures: Sequence[MeasureLook]
    warnings: Sequence[Warned]
    state: WatchState
    note: str

    def row(self, watch: int, *, at: datetime) -> WatchLookRow:
        return WatchLookRow(
            watch=watch,
            day=self.day,
            looked_at=at,
            state=self.state.value,
            labelled=self.labelled,
            measures=[one.to_dict() for one in self.measures],
            warnings=[one.to_dict() for one in self.warnings],
        )


class Watcher:
    """Does the job `watch champion`: payload {watch}."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def handle(self, claim: Claim) -> None:
        """Look once for a day; a job that comes twice, or late, looks once for all days so far."""
        now = self._clock.now()
        with self._database.reading() as session:
            row = session.get_one(WatchRow, int(claim.payload["watch"]))
            seen = self._see(session, row, now)
        if seen is None:
            return
        with self._database.transaction() as session:
            fence(session, claim)
            row = session.get_one(WatchRow, row.id)
            end_superseded(session, row.model, at=now)
            if row.state != WatchState.WATCHING or not _is_due(session, row, seen.day):
                return
            _write(session, row, seen, at=now)
            crash_points.reach("watch: before the commit")

    def _see(self, session: Session, row: WatchRow, now: datetime) -> _Seen | None:
        day = day_of(row, at=now)
        if row.state != WatchState.WATCHING or not _is_due(session, row, day):
            return None
        plan, run = plans.by_id(session, row.plan), runs.require_run(session, row.run)
        rules = plan.plan.watch
        if rules is None:
            return None
        task = run.settings["task"]
        results = {
            finding: labelled_in_use(
                session, row, task=task, rules=plan.plan.labels, at=now, finding=finding
            )
            for finding in findings_judged(session, version=row.version, task=task)
        }
        promised, before = promised_by(session, run), _newest(session, row)
        measures = [
            look
            for finding, one in results.items()
            for look in measured(
                one,
                promised,
                rules,
                before=before,
                spent_share=min(1.0, day / rules.days) / len(results),
                finding=finding,
            )
        ]
        warnings = signs(session, row, task=task, at=now)
        state, note = _verdict(measures, warnings, rules, over=day >= rules.days)
        return _Seen(
            day=day,
            labelled=max(
                0 if one is None else len(np.unique(one.patients)) for one in results.values()
            ),
            measures=measures,
            warnings=warnings,
            state=state,
            note=note,
        )


def promised_by(session: Session, run: RunRow) -> list[Promise]:
    """Return what the gates of a run promised, by their record."""
    return [
        promise
        for gate in runs.gate_outcomes(session, run.id)
        for promise in promises.read(gate.detail)
    ]


def measured(
    results: Results | None,
    promised: Sequence[Promise],
    rules: WatchRules,
    *,
    before: Mapping[str, Mapping[str, Any]],
    spent_share: float,
    finding: str = "",
) -> list[MeasureLook]:
    """Look at each measure of a plan's rules; they share its error rate equally.

    So do the findings of a task of several.

    Parameters
    ----------
    before : the records of the look before this one, by measure
    spent_share : of the error rate that may be spent by now, for this finding, in (0, 1]
    """
    found = []
    for name in rules.measures:
        measure = Measure(name.value)
        has_finding = measure is Measure.SENSITIVITY
        patients = 0 if results is None else results.patients_with(finding=has_finding)
        found.append(
            look_at(
                measure,
                None if results is None or not patients else _proportion(measure, results),
                promised,
                patients=patients,
                needed=rules.least_labels,
                before=before.get(
                    f"{measure.value} of {finding}" if finding else measure.value
                ),
                spend=rules.error_rate / len(rules.measures) * spent_share,
                finding=finding,
            )
        )
    return found


def _proportion(measure: Measure, results: Results) -> Proportion | None:
    found = estimate(measure, results, level=LEVEL)
    return found if isinstance(found, Proportion) else None


def _verdict(
    measures: Sequence[MeasureLook],
    warnings: Sequence[Warned],
    rules: WatchRules,
    *,
    over: bool,
) -> tuple[WatchState, str]:
    failed = [one.in_words() for one in measures if one.failed]
    if failed:
        return WatchState.FAILED, "; ".join(failed)
    grounds = [one.sentence for one in warnings if one.sign in rules.suspend_on]
    if grounds:
        return WatchState.FAILED, f"by the plan a warning suspends: {'; '.join(grounds)}"
    said = "; ".join(one.in_words() for one in measures)
    if not over:
        return WatchState.WATCHING, said
    if all(one.evaluable for one in measures):
        return WatchState.PASSED, f"no fall was found in {rules.days} days: {said}"
    return WatchState.NOT_EVALUABLE, said


def _is_due(session: Session, row: WatchRow, day: int) -> bool:
    looks = looks_of(session, row)
    return day >= 1 and (not looks or looks[-1].day < day)


def _newest(session: Session, row: WatchRow) -> dict[str, Mapping[str, Any]]:
    """Return what the newest look kept of each measure."""
    looks = looks_of(session, row)
    return {one["measure"]: one for one in looks[-1].measures} if looks else {}


def _write(session: Session, row: WatchRow, seen: _Seen, *, at: datetime) -> None:
    look = seen.row(row.id, at=at)
    session.add(look)
    if seen.state is WatchState.WATCHING:
        facts: dict[str, Json] = {
            "day": seen.day,
            "labelled": seen.labelled,
            "note": seen.note,
        }
        record(session, row, "watch.looked", facts, at=at, look=look)
        return
    end(session, row, seen.state, note=seen.note, at=at, look=look)
    if seen.state is WatchState.FAILED:
        _suspend(session, row, plans.by_id(session, row.plan), seen.note, at=at)


def _suspend(
    session: Session, row: WatchRow, plan: AppliedPlan, note: str, *, at: datetime
) -> None:
    """Take the model out of use in the deployment, if the plan says so."""
    rules = plan.plan.watch
    if rules is None or rules.when_it_fails is not WhenItFails.SUSPEND:
        return
    version = session.get_one(VersionRow, row.version)
    everywhere = row.deployment == EVERYWHERE
    serving.withhold(
        session,
        model=row.model,
        kind=Withholding.SUSPEND if everywhere else Withholding.RESTRICT,
        subgroup=None if everywhere else f"site={row.deployment}",
        reason=f"{ref(version)} failed its watch: {note}",
        actor=SYSTEM.name,
        at=at,
        because_of=version,
    )
