"""A home with a believable history: a monitored model, a scanner's update, its repair.

Scans are real pixels under made-up numbers for embeddings; everything that is
concluded from them, the product concludes: verdicts, episode, decisions,
impact, promotion and ledger are made by the functions that make them in use.
Training and gates are stood in for by rows, since they take minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from importlib.resources import files

from believable_gates import first_gates, repair_gates
from believable_runs import finish_training, promote, register
from believable_scans import PSEUDONYM, SITE, TASK, Scans, truth_of
from plan_texts import one_site_plan, with_values
from sqlalchemy import select

from api.assembly import Driftward
from api.initialising import initialise
from api.settings import Settings
from monitor import datasets, labels, references
from monitor.embeddings import to_bytes
from monitor.episodes import episodes
from monitor.episodes.episode_evidence import gather
from monitor.evaluating import (
    DECIDE,
    MEASURE,
    PerformanceMeter,
    ask_for_decision,
    ask_for_measurement,
)
from monitor.evaluation import evaluate, store_verdicts
from monitor.labels import Label, Provenance
from monitor.monitors import apply_monitor, parse_monitor, require_monitor
from monitor.references import EncoderRole
from monitor.tables import EmbeddingRow, RefusalRow, ResultRow, ScanRow
from monitor.windows import Window
from registry import ledger
from registry.clock import ReplayClock
from registry.identities import SYSTEM, Identity
from registry.jobs import JobQueue
from registry.versions import VersionRow
from registry.worker import Worker
from retrain import run_data, runs
from retrain.deciding import Decider
from retrain.plans import apply_plan
from retrain.recipes import parse_recipe
from retrain.starting import start_first_run
from retrain.states import RunState

__all__ = ["ANCHOR", "NEW_SOFTWARE", "PSEUDONYM", "Stage", "build"]

ANCHOR = datetime(2026, 3, 2, tzinfo=UTC)
HALF_WEEK = timedelta(hours=84)
WEEK = timedelta(days=7)
MODEL, MONITOR = "pneumonia-cxr", "pneumonia-cxr"
ENCODER = "general-imagenet"
HISTORY_SCANS, WINDOW_SCANS = 700, 190
OLD_SOFTWARE, NEW_SOFTWARE = "5.7", "5.8"
CONFIGURATION = files("api.demo") / "configuration"


class Stage(IntEnum):
    """How far the history goes; each goes on from the one before."""

    EMPTY = 0
    #: a model, its monitor, and no reference
    FOUNDED = 1
    #: a week like the reference
    CALM = 2
    #: the update came; an episode is open and the model restricted
    OPEN = 3
    #: labels measured the impact; a run trains
    TRAINING = 4
    #: every gate passed; an approval is needed
    AWAITING_APPROVAL = 5
    #: the candidate is promoted, and a week of new patients was read by it
    HEALED = 6


def build(
    settings: Settings,
    stage: Stage,
    *,
    reached: Callable[[Stage, Driftward], None] | None = None,
) -> Driftward:
    """Make a home whose history goes as far as `stage`; `reached` is told of each stage."""
    clock = ReplayClock(ANCHOR - 4 * WEEK)
    operator = initialise(settings, name="Mei Tanaka", clock=clock)
    driftward = Driftward.open(settings, clock=clock)
    builder = _Builder(driftward, clock, operator)
    steps: Sequence[Callable[[], None]] = (
        builder.found,
        builder.live_calmly,
        builder.shift,
        builder.measure_and_train,
        builder.pass_gates,
        builder.heal,
    )
    for number, step in enumerate((None, *steps[:stage])):
        if step is not None:
            step()
        if reached is not None:
            reached(Stage(number), driftward)
    return driftward


class _Builder:
    def __init__(self, driftward: Driftward, clock: ReplayClock, operator: Identity) -> None:
        self.driftward, self.clock, self.operator = driftward, clock, operator
        self.database = driftward.database
        self.batch = 0

    # The stages

    def found(self) -> None:
        self.scans = Scans(self.driftward.vault)
        text = with_values(
            (CONFIGURATION / "monitor.yaml").read_text(encoding="utf-8"),
            subgroup_attributes="[software_version, view]",
        )
        now = self.clock.now()
        with self.database.transaction() as session:
            encoder = register(
                session,
                ENCODER,
                "general",
                base=None,
                data=[("ImageNet", 1_281_167, None)],
                by=self.operator.name,
                at=now,
            )
            apply_plan(
                session,
                one_site_plan(at_least="100", minimum_positives="20", minimum_negatives="20"),
                source="plan.yaml",
                actor=self.operator.name,
                at=now,
            )
        self.encoder = encoder.id
        history = self.add_scans(
            HISTORY_SCANS, at=ANCHOR - 3 * WEEK, versions=[self.encoder], spread=2 * WEEK
        )
        self.label(history)
        recipe = (CONFIGURATION / "recipe.yaml").read_text(encoding="utf-8")
        first = start_first_run(
            self.database,
            parse_recipe(recipe, source="recipe.yaml"),
            since=None,
            until=None,
            seed=0,
            by=self.operator,
            clock=self.clock,
        )
        self.clock.at = ANCHOR - WEEK
        self.champion = finish_training(
            self.database, first.id, first_gates(), at=self.clock.now()
        )
        self.promote(first.id)
        self.read(history, [self.champion], at=self.clock.now(), delivery="background")
        with self.database.transaction() as session:
            apply_monitor(
                session,
                parse_monitor(f"{text}\nanchor: {ANCHOR.isoformat()}", source="monitor.yaml"),
                actor=self.operator.name,
                at=self.clock.now(),
            )

    def live_calmly(self) -> None:
        with self.database.reading() as session:
            first = run_data.first_run(session, MODEL)
            trained = {
                scan.id
                for dataset in first.datasets.values()
                for scan in datasets.members(session, dataset)
            }
            rest = [
                scan
                for scan in session.scalars(select(ScanRow).where(ScanRow.site == SITE))
                if scan.id not in trained
            ]
        self.accept_reference(rest, "first reference", at=ANCHOR)
        for number in (0, 1):
            self.window(number)
        self.end_of_week(1)
        self._refuse(at=ANCHOR + WEEK)

    def shift(self) -> None:
        for number in (2, 3):
            self.window(number, shift=0.75, software=NEW_SOFTWARE)
        self.work()

    def measure_and_train(self) -> None:
        self.end_of_week(3)
        with self.database.reading() as session:
            self.run = next(iter(runs.under_way(session))).id
        with self.database.transaction() as session:
            runs.advance(
                session,
                runs.require_run(session, self.run),
                RunState.TRAINING,
                note="trains in a process of its own",
                actor=SYSTEM.name,
                at=self.clock.now(),
            )

    def pass_gates(self) -> None:
        self.clock.at += timedelta(minutes=38)
        self.candidate = finish_training(
            self.database, self.run, repair_gates(), at=self.clock.now()
        )

    def heal(self) -> None:
        self.promote(self.run)
        with self.database.reading() as session:
            run = runs.require_run(session, self.run)
            episode = episodes.require_episode(session, run.episode or 0)
            shifted = run_data.shifted_scans(session, episode, MODEL)
        self.read(
            [scan.id for scan in shifted],
            [self.candidate],
            at=self.clock.now(),
            delivery="background",
        )
        self.champion = self.candidate
        self.accept_reference(shifted, f"run {run.id} promoted it", at=self.clock.now())
        for number in (4, 5):
            self.window(number, shift=0.75, software=NEW_SOFTWARE)
        self.end_of_week(5)

    # What the stages are made of

    def window(self, number: int, *, shift: float = 0.0, software: str = OLD_SOFTWARE) -> None:
        """Let one window pass: scans, results, verdicts, and an episode if there is an alarm."""
        start = ANCHOR + number * HALF_WEEK
        window = Window(start=start, end=start + HALF_WEEK)
        self.clock.at = window.end
        self.add_scans(
            WINDOW_SCANS,
            at=window.start,
            versions=[self.encoder, self.champion],
            spread=HALF_WEEK,
            shift=shift,
            software=software,
        )
        with self.database.reading() as session:
            monitor = require_monitor(session, MONITOR)
            evaluation = evaluate(
                session,
                self.driftward.profiles,
                monitor,
                window,
                now=self.driftward.clock.now(),
            )
        now = self.clock.now()
        with self.database.transaction() as session:
            store_verdicts(session, evaluation, actor=SYSTEM.name, at=now)
            if evaluation.alarm:
                found = gather(session, self.driftward.profiles, evaluation)
                row = episodes.record_alarm(
                    session, evaluation, found, actor=SYSTEM.name, at=now
                )
                ask_for_decision(session, row)
        self.work()

    def end_of_week(self, number: int) -> None:
        """Let the labels of a week come, a little after the week has ended."""
        self.clock.at = ANCHOR + (number + 1) * HALF_WEEK + timedelta(hours=5)
        since = self.clock.now() - WEEK - timedelta(hours=5)
        with self.database.reading() as session:
            scans = list(
                session.scalars(
                    select(ScanRow.id).where(
                        ScanRow.arrived_at >= since, ScanRow.modality == "DX"
                    )
                )
            )
        self.label(scans)
        self.work()

    def work(self) -> None:
        """Do the jobs that need neither a network nor MLflow."""
        handlers = {
            MEASURE: PerformanceMeter(self.database, self.clock).handle,
            DECIDE: Decider(self.database, self.clock).handle,
        }
        Worker(JobQueue(self.database), handlers).drain()

    def add_scans(
        self,
        count: int,
        *,
        at: datetime,
        versions: Sequence[int],
        spread: timedelta,
        shift: float = 0.0,
        software: str = OLD_SOFTWARE,
    ) -> list[int]:
        """Take scans in, each of a patient of its own."""
        self.batch += 1
        with self.database.transaction() as session:
            scans = [
                self.scans.row(self.batch, number, at + spread * (number / count), software)
                for number in range(count)
            ]
            session.add_all(scans)
            ledger.append(
                session,
                at=at,
                actor=SYSTEM.name,
                kind="scans.added",
                subject=SITE,
                facts={"scans": count},
                batches=[(ScanRow, self.batch)],
            )
            ids = [scan.id for scan in scans]
        self.scans.move(ids, shift)
        self.read(ids, versions, at=at + spread, delivery="delivered")
        return ids

    def read(
        self, scans: Sequence[int], versions: Sequence[int], *, at: datetime, delivery: str
    ) -> None:
        """Embed scans, and have the versions with a task say what they see."""
        self.batch += 1
        with self.database.transaction() as session:
            for version in versions:
                row = session.get_one(VersionRow, version)
                for scan in scans:
                    vector = self.scans.embedding(scan, row)
                    session.add(
                        EmbeddingRow(
                            batch=self.batch,
                            scan=scan,
                            version=version,
                            space=row.space,
                            vector=to_bytes(vector),
                        )
                    )
                    if row.tier == "task":
                        session.add(self.scans.result(self.batch, scan, row, at, delivery))
            ledger.append(
                session,
                at=at,
                actor=SYSTEM.name,
                kind="scans.read",
                subject=MONITOR,
                facts={"scans": len(scans)},
                batches=[(EmbeddingRow, self.batch), (ResultRow, self.batch)],
            )

    def label(self, scans: Sequence[int]) -> None:
        """Attach ground truth that was signed when the scan was taken."""
        with self.database.transaction() as session:
            rows = session.scalars(select(ScanRow).where(ScanRow.id.in_(scans))).all()
            found = labels.attach(
                session,
                [
                    Label(
                        line=number,
                        instance=row.instance,
                        task=TASK,
                        value=truth_of(row.id),
                        provenance=Provenance.DATASET,
                        reader="published with the source",
                        signed_at=row.arrived_at,
                    )
                    for number, row in enumerate(rows, start=2)
                ],
                site=SITE,
                actor=self.operator.name,
                at=max(self.clock.now(), *(row.arrived_at for row in rows)),
            )
            if self.clock.now() > ANCHOR:
                ask_for_measurement(session, require_monitor(session, MONITOR), found.scans)

    def accept_reference(self, scans: Sequence[ScanRow], reason: str, *, at: datetime) -> None:
        """Fit and accept references of both encoders."""
        with self.database.transaction() as session:
            versions = [session.get_one(VersionRow, v) for v in (self.encoder, self.champion)]
            chosen = references.eligible(session, scans, versions)
            dataset = references.freeze_reference(
                session, chosen, description=reason, actor=self.operator.name, at=at
            )
        with self.database.reading() as session:
            fitted = [
                references.fit(
                    session,
                    self.driftward.profiles,
                    dataset=dataset.id,
                    encoder=role,
                    version=version,
                    attributes=require_monitor(
                        session, MONITOR
                    ).specification.subgroup_attributes,
                    seed=0,
                )
                for role, version in zip(EncoderRole, versions, strict=True)
            ]
        with self.database.transaction() as session:
            references.accept(
                session,
                require_monitor(session, MONITOR),
                fitted,
                dataset=dataset,
                reason=reason,
                actor=self.operator.name,
                at=at,
            )

    def promote(self, number: int) -> None:
        """Sign and promote, a while after the gates were passed."""
        self.clock.at += timedelta(minutes=25)
        promote(self.database, number, by=self.operator, at=self.clock.now())

    def _refuse(self, *, at: datetime) -> None:
        """Take in MR images that were routed to the model by mistake."""
        self.batch += 1
        with self.database.transaction() as session:
            scans = [
                self.scans.row(self.batch, number, at, "E11", modality="MR")
                for number in range(9)
            ]
            for scan in scans:
                scan.view, scan.site, scan.manufacturer = None, "lakeside", "SIEMENS"
                scan.scanner_model, scan.age_years = "Skyra", 41
            session.add_all(scans)
            session.flush()
            session.add_all(
                RefusalRow(
                    batch=self.batch,
                    scan=scan.id,
                    model=MODEL,
                    reason="modality is not CR or DX" if scan.id % 3 else "age above 5 years",
                    created_at=at,
                )
                for scan in scans
            )
            ledger.append(
                session,
                at=at,
                actor=SYSTEM.name,
                kind="scans.added",
                subject="lakeside",
                facts={"scans": len(scans)},
                batches=[(ScanRow, self.batch), (RefusalRow, self.batch)],
            )
