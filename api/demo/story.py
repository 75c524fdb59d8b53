"""The demo's story: four weeks of real scans, one software update, one repair.

Nothing of it is scripted in its outcome: scans are taken in, embedded, judged,
decided about, trained on and gated by the same code as anywhere else. Only
time is replayed, and only the delivery of scans and labels is played here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.resources import files

from api.assembly import Driftward
from api.demo.deliveries import SECOND_SITE, SITE, Deliveries, Source
from api.demo.foundation import general_bundle
from api.demo.narration import Narrator
from api.demo.outcome import tell_week
from api.gate_words import gate_lines
from monitor.monitors import (
    WINDOWS_PER_BLOCK,
    MonitorSpecification,
    apply_monitor,
    parse_monitor,
)
from monitor.reference_building import build_references
from registry.bundle_import import import_bundle
from registry.clock import ReplayClock
from registry.errors import GateRefusedError
from registry.identities import Identity
from registry.versions import ref
from retrain import approvals, plans, runs
from retrain.approvals import Meaning
from retrain.plans import apply_plan
from retrain.promotion import promote
from retrain.recipes import parse_recipe
from retrain.scheduling import tick
from retrain.starting import start_first_run
from retrain.states import RunState

WEEKS = 4
HISTORY_WEEKS = 4
UPDATED_FROM_WEEK = 3
HALF_WEEK = timedelta(hours=84)
#: Scans arrive in so many lots a half-week, one each twelve hours.
LOTS_PER_HALF_WEEK = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class StorySettings:
    """What can be chosen of the demo."""

    seed: int
    shift: bool


class Story:
    """Plays the four weeks on one installation."""

    def __init__(
        self,
        driftward: Driftward,
        clock: ReplayClock,
        operator: Identity,
        narrator: Narrator,
        settings: StorySettings,
        *,
        anchor: datetime,
    ) -> None:
        self._driftward = driftward
        self._clock = clock
        self._operator = operator
        self._narrator = narrator
        self._settings = settings
        self._anchor = anchor
        self._worker = driftward.worker()
        self._deliveries = Deliveries(
            driftward.home.root / "inbox",
            seed=settings.seed,
            shift=settings.shift,
            updated_from_week=UPDATED_FROM_WEEK,
        )
        self.seconds = 0.0

    def play(self) -> None:
        """Play the story from its beginning to its end."""
        started = time.monotonic()
        self._found()
        self._reference()
        for week in range(1, WEEKS + 1):
            self._week(week)
        self.seconds = time.monotonic() - started

    def _found(self) -> None:
        """Register the general encoder, take the history in, and derive the task variant."""
        driftward, say = self._driftward, self._narrator
        say.chapter("A foundation model, and a task variant derived from it")
        bundle = general_bundle(driftward.home.work / "general")
        general = import_bundle(
            driftward.database,
            driftward.tracking,
            bundle.root,
            model=bundle.card.name,
            base=None,
            by=self._operator,
            at=self._clock.now(),
        )
        say.line(
            f"{ref(general)}: MobileNetV2, ImageNet weights, {bundle.dimension} dimensions"
        )
        span = HISTORY_WEEKS * WINDOWS_PER_BLOCK * HALF_WEEK
        self._receive(self._deliveries.history(), since=self._anchor - span, span=span)
        self._label(since=self._anchor - span)
        with driftward.database.transaction() as session:
            plan = apply_plan(
                session,
                _configuration("plan.yaml"),
                source="plan.yaml",
                actor=self._operator.name,
                at=self._clock.now(),
            )
        say.line(
            f"change plan {plan.number}: authority {plan.plan.authority.value}, "
            f"autonomy {plan.plan.autonomy.value}"
        )
        run = start_first_run(
            driftward.database,
            parse_recipe(_configuration("recipe.yaml"), source="recipe.yaml"),
            since=None,
            until=self._anchor,
            seed=self._settings.seed,
            by=self._operator,
            clock=self._clock,
        )
        self._work()
        self._sign_and_promote(run.id)

    def _reference(self) -> None:
        driftward, say = self._driftward, self._narrator
        say.chapter("What is usual: the reference")
        monitor = self._specification()
        with driftward.database.transaction() as session:
            apply_monitor(session, monitor, actor=self._operator.name, at=self._clock.now())
        with say.bar("embedding the history") as tell:
            driftward.embedder.embed(monitor.name, tell=tell)
        built = build_references(
            driftward.database,
            driftward.embedder,
            driftward.profiles,
            monitor.name,
            since=None,
            until=self._anchor,
            by=self._operator,
            at=self._clock.now(),
            seed=self._settings.seed,
        )
        say.line(
            f"{built.scans} scans that trained nobody; alarm budget {monitor.alpha_per_week:g} "
            "a week, for two half-weekly windows in a row"
        )

    def _week(self, week: int) -> None:
        updated = self._settings.shift and week >= UPDATED_FROM_WEEK
        self._narrator.chapter(
            f"Week {week}" + (" · the scanner runs new software" if updated else "")
        )
        start = self._anchor + (week - 1) * WINDOWS_PER_BLOCK * HALF_WEEK
        scans = self._deliveries.week(week)
        for half in range(WINDOWS_PER_BLOCK):
            part = scans[half * len(scans) // 2 : (half + 1) * len(scans) // 2]
            self._receive(part, since=start + half * HALF_WEEK, span=HALF_WEEK)
            tick(self._driftward.database, self._clock)
            self._work()
        self._label(since=start)
        self._work()
        with self._driftward.database.reading() as session:
            waiting = [
                run.id
                for run in runs.under_way(session)
                if run.state == RunState.AWAITING_APPROVAL
            ]
        tell_week(self._driftward, self._narrator, start, self._clock.at)
        for run in waiting:
            self._sign_and_promote(run)
        self._widen_plan()

    def _receive(self, scans: Sequence[Source], *, since: datetime, span: timedelta) -> None:
        """Write files lot by lot, and take each lot in when its time has come."""
        lots = max(1, round(span / HALF_WEEK)) * LOTS_PER_HALF_WEEK
        with self._narrator.bar("scans arrive") as tell:
            for number in range(lots):
                lot = scans[number * len(scans) // lots : (number + 1) * len(scans) // lots]
                self._clock.at = since + (number + 0.5) * span / lots
                for site, folder in self._deliveries.write(lot, at=self._clock.at).items():
                    self._driftward.intake.add([folder], site=site)
                tell(number + 1, lots)
        self._clock.at = since + span

    def _label(self, *, since: datetime) -> None:
        """Hand in the labels of what arrived since then."""
        files = self._deliveries.write_labels(since=since, until=self._clock.at)
        for site, path in files.items():
            self._driftward.label_intake.add(path, site=site, by=self._operator)

    def _work(self) -> None:
        """Let a worker do what is queued, and show training as it goes."""
        with self._narrator.training_bar() as tell:
            self._driftward.trainer.tell = tell
            self._worker.drain()
            self._driftward.trainer.tell = None

    def _widen_plan(self) -> None:
        """Let candidates learn from all sites, once one was refused that had learnt from one."""
        with self._driftward.database.reading() as session:
            newest = next(iter(runs.all_runs(session)), None)
            plan = plans.require_plan(session, "pneumonia-cxr")
        if newest is None or newest.state != RunState.REJECTED or newest.plan != plan.id:
            return
        say = self._narrator
        self._tell_gates(newest.id)
        say.line(f"run {newest.id} is refused: {newest.note}")
        _, changes = plans.apply_file(
            self._driftward.database,
            plan.text.replace("sites: [guangzhou]", f"sites: [{SITE}, {SECOND_SITE}]").encode(),
            source="plan.yaml",
            by=self._operator,
            at=self._clock.now(),
        )
        for change in changes:
            say.line(f"the plan is changed: {change.in_words()}")
        tick(self._driftward.database, self._clock)
        self._work()
        with self._driftward.database.reading() as session:
            waiting = next(iter(runs.all_runs(session)))
        self._sign_and_promote(waiting.id)

    def _sign_and_promote(self, run_id: int) -> None:
        """Do what the operator of this demonstration does: look at the gates, sign, promote."""
        with self._driftward.database.transaction() as session:
            run = runs.require_run(session, run_id)
            if run.state != RunState.AWAITING_APPROVAL:
                raise GateRefusedError(f"run {run.id} is {run.state}: {run.note}")
            approvals.sign(
                session,
                run,
                Meaning.APPROVED,
                by=self._operator,
                reason="the demonstration's own operator, having seen the gates",
                at=self._clock.now(),
                decided=approvals.left_to_people(session, run),
            )
            champion = promote(session, run, by=self._operator, at=self._clock.now())
        self._tell_gates(run_id)
        self._narrator.line(f"approved by {self._operator.name}; champion is {ref(champion)}")
        self._work()

    def _tell_gates(self, run: int) -> None:
        with self._driftward.database.reading() as session:
            details = [gate.detail for gate in runs.gate_outcomes(session, run)]
        for line in gate_lines(details):
            self._narrator.line(line)

    def _specification(self) -> MonitorSpecification:
        # After the story nothing more is delivered, and that is no silence to alarm anybody.
        added = f"anchor: {self._anchor.isoformat()}\nsilence: null\n"
        text = f"{_configuration('monitor.yaml')}\n{added}"
        return parse_monitor(text, source="monitor.yaml")


def _configuration(name: str) -> str:
    return (files("api.demo") / "configuration" / name).read_text(encoding="utf-8")
