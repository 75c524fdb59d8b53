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
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from dicom_instances import radiograph
from pydicom import dcmwrite
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.assembly import Driftward
from api.initialising import initialise
from api.settings import Settings
from monitor import datasets, episodes, labels, references
from monitor.embeddings import to_bytes
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
from monitor.statistics.proportions import Interval
from monitor.tables import DatasetRow, EmbeddingRow, RefusalRow, ResultRow, ScanRow
from monitor.windows import Window
from registry import ledger
from registry.clock import ReplayClock
from registry.identities import SYSTEM, Identity
from registry.jobs import Job, JobQueue
from registry.outbox import OutboxItem
from registry.versions import ModelRow, VersionRow, ref
from registry.worker import Worker
from retrain import approvals, plans, promotion, run_data, runs
from retrain.deciding import Decider
from retrain.gates.outcome import Gate, GateOutcome, Outcome, all_of
from retrain.plans import apply_plan
from retrain.recipes import parse_recipe
from retrain.starting import start_first_run
from retrain.states import RunState
from retrain.tables import GateOutcomeRow, RunRow

ANCHOR = datetime(2026, 3, 2, tzinfo=UTC)
HALF_WEEK = timedelta(hours=84)
WEEK = timedelta(days=7)
DIMENSION = 12
SITE = "guangzhou"
MODEL, TASK, MONITOR = "pneumonia-cxr", "pneumonia", "pneumonia-cxr"
ENCODER = "general-imagenet"
HISTORY_SCANS, WINDOW_SCANS = 700, 190
OLD_SOFTWARE, NEW_SOFTWARE = "5.7", "5.8"
CONFIGURATION = files("api.demo") / "configuration"
PICTURES = files("api.demo") / "sample" / "children.npz"
#: Pseudonyms that no page, answer or figure may ever carry.
PSEUDONYM = "pseudonym-"

Floats = npt.NDArray[np.float32]


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
    root: Path, stage: Stage, *, reached: Callable[[Stage, Driftward], None] | None = None
) -> Driftward:
    """Make a home whose history goes as far as `stage`; `reached` is told of each stage."""
    clock = ReplayClock(ANCHOR - 4 * WEEK)
    settings = Settings(home=root)
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
        self.rng = np.random.default_rng(11)
        self.batch = 0
        self.pictures: list[str] = []

    # The stages

    def found(self) -> None:
        self.pictures = self._store_pictures()
        text = (CONFIGURATION / "monitor.yaml").read_text(encoding="utf-8")
        plan = (CONFIGURATION / "plan.yaml").read_text(encoding="utf-8")
        now = self.clock.now()
        with self.database.transaction() as session:
            encoder = self._register(
                session, ENCODER, "general", base=None, data=[("ImageNet", 1_281_167, None)]
            )
            apply_plan(
                session,
                plan.replace("at_least: 300", "at_least: 100"),
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
        self.champion = self.finish_training(first.id, at_gates=_first_gates())
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
        self.candidate = self.finish_training(self.run, at_gates=_repair_gates())

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
            evaluation = evaluate(session, self.driftward.profiles, monitor, window)
        now = self.clock.now()
        with self.database.transaction() as session:
            store_verdicts(session, evaluation, actor=SYSTEM.name, at=now)
            if evaluation.alarm:
                row = episodes.record_alarm(
                    session, self.driftward.profiles, evaluation, actor=SYSTEM.name, at=now
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
                self._scan(number, at + spread * (number / count), software)
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
        self.shifts = {**getattr(self, "shifts", {}), **dict.fromkeys(ids, shift)}
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
                    vector = self._embedding(scan, row)
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
                        session.add(self._result(scan, row, at, delivery))
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
                        value=_truth(row.id),
                        provenance=Provenance.DATASET,
                        reader="published with the source",
                        signed_at=row.arrived_at,
                    )
                    for number, row in enumerate(rows, start=2)
                ],
                site=SITE,
                actor=self.operator.name,
                at=self.clock.now(),
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

    def finish_training(self, number: int, *, at_gates: Sequence[GateOutcome]) -> int:
        """Stand in for training and validation: a candidate, and what the gates said."""
        now = self.clock.now()
        with self.database.transaction() as session:
            run = runs.require_run(session, number)
            training = session.get_one(DatasetRow, run.datasets[datasets.Purpose.TRAINING])
            if run.state == RunState.QUEUED:
                _advance(session, run, RunState.TRAINING, now)
            candidate = self._register(
                session,
                MODEL,
                "task",
                base=run.base,
                data=[(training.description, training.scans, training.digest)],
            )
            run.candidate = candidate.id
            _advance(session, run, RunState.VALIDATING, now + timedelta(minutes=6))
            rows = [
                GateOutcomeRow(
                    run=run.id,
                    name=outcome.name,
                    outcome=outcome.outcome.value,
                    sentence=outcome.sentence,
                    detail=outcome.as_record(),
                    decided_at=now + timedelta(minutes=8),
                )
                for outcome in at_gates
            ]
            session.add_all(rows)
            session.flush()
            ledger.append(
                session,
                at=now + timedelta(minutes=8),
                actor=SYSTEM.name,
                kind="gates.evaluated",
                subject=f"run {run.id}",
                facts={
                    "candidate": str(ref(candidate)),
                    "outcomes": {row.name: row.outcome for row in rows},
                    "plan": plans.by_id(session, run.plan).digest,
                },
                seals=rows,
            )
            _advance(session, run, RunState.AWAITING_APPROVAL, now + timedelta(minutes=8))
            return candidate.id

    def promote(self, number: int) -> None:
        """Sign and promote, and let MLflow have been told."""
        self.clock.at += timedelta(minutes=25)
        now = self.clock.now()
        with self.database.transaction() as session:
            run = runs.require_run(session, number)
            approvals.sign(
                session,
                run,
                approvals.Meaning.APPROVED,
                by=self.operator,
                reason="gates and data read; a demonstration, no patient is treated by it",
                at=now,
            )
            promotion.promote(session, run, by=self.operator, at=now)
            for item in session.scalars(select(OutboxItem)):
                item.delivered_at = now
            for job in session.scalars(select(Job).where(Job.state == "queued")):
                if job.kind not in {MEASURE, DECIDE}:
                    job.state, job.finished_at = "done", datetime.now(UTC)

    def _refuse(self, *, at: datetime) -> None:
        """Take in MR images that were routed to the model by mistake."""
        self.batch += 1
        with self.database.transaction() as session:
            scans = [self._scan(number, at, "E11", modality="MR") for number in range(9)]
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

    def _store_pictures(self) -> list[str]:
        """Put a few real radiographs into the vault, as DICOM."""
        import io

        with np.load(str(PICTURES)) as sample:
            images = sample["images"][:40]
        contents = []
        for image in images:
            stream = io.BytesIO()
            ds = radiograph(image, PatientName=None, PatientID=None, PatientBirthDate=None)
            dcmwrite(stream, ds, enforce_file_format=True)
            contents.append(stream.getvalue())
        return self.driftward.vault.put_all(contents)

    def _scan(
        self, number: int, at: datetime, software: str, *, modality: str = "DX"
    ) -> ScanRow:
        name = f"{PSEUDONYM}{self.batch}-{number}"
        return ScanRow(
            batch=self.batch,
            site=SITE,
            patient=f"{name}-patient",
            study=f"{name}-study",
            series=f"{name}-series",
            instance=f"{name}-instance",
            vault_digest=self.pictures[number % len(self.pictures)],
            pixel_digest=f"{name}-pixels",
            modality=modality,
            body_part="CHEST",
            view="AP" if number % 4 else "PA",
            manufacturer="Carestream",
            scanner_model="DRX-Evolution",
            software_version=software,
            sex="F" if number % 2 else "M",
            age_years=1 + number % 5,
            arrived_at=at,
        )

    def _embedding(self, scan: int, version: VersionRow) -> Floats:
        rng = np.random.default_rng([scan, version.tier == "task"])
        # The champion's own space moves more than the fixed encoder's.
        moved = self.shifts.get(scan, 0.0) * (1.3 if version.tier == "task" else 1.0)
        direction = np.linspace(1.0, 0.2, DIMENSION)
        return (rng.normal(size=DIMENSION) + moved * direction).astype(np.float32)

    def _result(self, scan: int, version: VersionRow, at: datetime, delivery: str) -> ResultRow:
        rng = np.random.default_rng([scan, version.number, 7])
        broken = self.shifts.get(scan, 0.0) > 0 and version.number == 1
        centre = (2.1 if _truth(scan) else -2.1) * (0.45 if broken else 1.0)
        logit = centre + (1.6 if broken else 0.0) + rng.normal(0.0, 1.35)
        positive = float(1 / (1 + np.exp(-logit)))
        return ResultRow(
            batch=self.batch,
            scan=scan,
            version=version.id,
            task=TASK,
            probabilities=[1 - positive, positive],
            threshold=0.5,
            delivery=delivery,
            created_at=at,
        )

    def _register(
        self,
        session: Session,
        model: str,
        tier: str,
        *,
        base: int | None,
        data: Sequence[tuple[str, int, str | None]],
    ) -> VersionRow:
        now = self.clock.now()
        owner = session.get(ModelRow, model)
        if owner is None:
            owner = ModelRow(name=model, tier=tier, created_at=now)
            session.add(owner)
            session.flush()
        number = len(session.scalars(select(VersionRow).where(VersionRow.model == model)).all())
        name = f"{model}@{number + 1}"
        digest = ledger.digest_of(name)
        row = VersionRow(
            model=model,
            number=number + 1,
            tier=tier,
            origin="run" if base else "import",
            base=base,
            bundle_digest=digest,
            encoder_digest=ledger.digest_of([digest]),
            space=f"space of {name}",
            dimension=DIMENSION,
            card=_card(model, tier, data),
            artifact_uri="file:///nowhere",
            mlflow_run=digest[:32],
            mlflow_version=str(number + 1),
            created_at=now,
            created_by=SYSTEM.name if base else self.operator.name,
        )
        session.add(row)
        ledger.append(
            session,
            at=now,
            actor=row.created_by,
            kind="version.registered",
            subject=name,
            facts={"tier": tier, "bundle": digest},
            seals=[owner, row],
        )
        return row


def _truth(scan: int) -> int:
    return int(np.random.default_rng([scan, 3]).random() < 0.6)


def _advance(session: Session, run: RunRow, state: RunState, at: datetime) -> None:
    notes = {
        RunState.TRAINING: "trains in a process of its own",
        RunState.VALIDATING: "gates are evaluated",
        RunState.AWAITING_APPROVAL: "every gate passed",
    }
    runs.advance(session, run, state, note=notes[state], actor=SYSTEM.name, at=at)


def _card(model: str, tier: str, data: Sequence[tuple[str, int, str | None]]) -> dict[str, Any]:
    chest = tier == "task"
    return {
        "name": model,
        "tier": tier,
        "purpose": "finds pneumonia on frontal chest radiographs of children"
        if chest
        else "an encoder for any image",
        "intended_use": {
            "modalities": ["CR", "DX"] if chest else [],
            "body_parts": ["CHEST"] if chest else [],
            "views": ["AP", "PA"] if chest else [],
            "age_years": [1, 5] if chest else None,
            "unknown_age": "accept",
        },
        "not_for": ["any clinical use"] + (["adults"] if chest else []),
        "training_data": [
            {"digest": digest, "description": description, "scans": scans}
            for description, scans, digest in data
        ],
        "licence": "CC-BY-4.0" if chest else "Apache-2.0",
    }


def _outcome(
    name: str,
    estimate: float | None,
    interval: tuple[float, float] | None,
    margin: float | None,
    sentence: str,
    *,
    statistic: str = "difference",
    p_value: float | None = None,
    n: int = 214,
) -> GateOutcome:
    return GateOutcome(
        name=name,
        outcome=Outcome.PASSED,
        statistic=statistic,
        estimate=estimate,
        interval=Interval(low=interval[0], high=interval[1], level=0.95) if interval else None,
        margin=margin,
        p_value=p_value,
        n=n,
        sentence=sentence,
    )


def _integrity_gates() -> list[GateOutcome]:
    return [
        _outcome(
            Gate.PARITY,
            2.1e-6,
            None,
            1e-3,
            "ONNX and torch differ by at most 2.1e-06 on 73 scans.",
            statistic="largest absolute difference",
            n=73,
        ),
        _outcome(
            Gate.PATIENTS,
            0.0,
            None,
            0.0,
            "No patient of the locked sets trained the candidate or its bases.",
            statistic="patients on both sides",
        ),
        _outcome(
            Gate.PROVENANCE,
            0.0,
            None,
            0.0,
            "No label was influenced by an AI.",
            statistic="labels an AI influenced",
        ),
    ]


def _first_gates() -> list[GateOutcome]:
    return [
        _outcome(
            "first_version_auc",
            0.953,
            (0.921, 0.972),
            0.90,
            "AUC 0.953 (95 % interval 0.921 to 0.972; 129 scans): shown to be at least 0.900.",
            statistic="AUC",
            n=129,
        ),
        *_integrity_gates(),
    ]


def _repair_gates() -> list[GateOutcome]:
    drifted, reference = Gate.SUPERIORITY, Gate.NON_INFERIORITY
    return [
        all_of(
            drifted,
            [
                _outcome(
                    f"{drifted}/specificity",
                    0.42,
                    (0.27, 0.55),
                    0.0,
                    "Specificity where it drifted: candidate 92.1 %, champion 50.0 %, "
                    "difference +42.1 points (95 % interval +27.0 to +55.1; 97 scans): "
                    "superior, p < 0.0001 (at most 0.025).",
                    p_value=3e-6,
                    n=97,
                ),
                _outcome(
                    f"{drifted}/sensitivity",
                    -0.016,
                    (-0.081, 0.044),
                    -0.10,
                    "Sensitivity where it drifted: candidate 93.4 %, champion 95.0 %: not "
                    "inferior by a margin of 10.0 points, p = 0.0062 (at most 0.05).",
                    p_value=0.0062,
                    n=97,
                ),
            ],
        ),
        all_of(
            reference,
            [
                _outcome(
                    f"{reference}/{measure}",
                    estimate,
                    (estimate - 0.03, estimate + 0.03),
                    margin,
                    f"{measure.capitalize()} on the reference: not inferior by its margin.",
                    p_value=0.0011,
                    n=129,
                )
                for measure, estimate, margin in (
                    ("sensitivity", -0.008, -0.07),
                    ("specificity", 0.011, -0.12),
                    ("auc", 0.002, -0.03),
                )
            ],
        ),
        *_integrity_gates(),
    ]
