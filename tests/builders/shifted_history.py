"""Half a year of a monitored model with three shifts: an installation as it would have stored it.

Scans are numbers: an embedding is drawn, and what the champion made of it is computed. The three
shifts, by the week in which they begin:

* week 6, for good: a site's scanner gets new software. Where the finding shows in its embeddings
  moves, so that the champion ranks these scans worse; a head that is refitted ranks them well.
* week 13, for three weeks: everything brightens a little and is put right again. Embeddings
  move, and what the champion makes of them does not.
* week 19, for good: another scanner gets new software, and its scores rise, whatever their truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sqlalchemy import insert, select
from sqlalchemy.orm import Session
from tiny_bundles import TASK, finding

from api.assembly import Driftward
from api.initialising import initialise
from api.settings import Settings
from monitor import datasets, references
from monitor.datasets import Purpose
from monitor.monitors import MonitorSpecification, apply_monitor
from monitor.references import EncoderRole
from monitor.tables import EmbeddingRow, LabelRow, ResultRow, ScanRow
from registry import serving
from registry.bundle_import import import_bundle
from registry.bundles.assembly import assemble_bundle
from registry.bundles.bundle import Bundle
from registry.bundles.card import Card, IntendedUse, Tier, TrainingData, UnknownAge
from registry.bundles.heads import HeadState, Task
from registry.bundles.preprocessing import DicomWindow, Preprocessing, Unit
from registry.canonical import sha256
from registry.clock import ReplayClock
from registry.identities import Identity
from registry.versions import VersionRef, VersionRow
from retrain import plans, runs
from retrain.change_plan import Strategy
from retrain.states import RunState
from retrain.strategies.heads import Head, with_head
from retrain.strategies.refitting import Examples, refit

MODEL, MONITOR = "pneumonia", "chest"
ANCHOR = datetime(2026, 3, 2, tzinfo=UTC)
WEEK = timedelta(weeks=1)
WEEKS = 26
UNTIL = ANCHOR + WEEKS * WEEK
#: (site, scanner, share of scans)
SCANNERS = (("north", "Scanner A", 0.6), ("south", "Scanner B", 0.4))
#: week, and the software that comes with it, None where none does
SHIFTS = {6: "south 2.0", 13: None, 19: "north 2.0"}
PREVALENCE = 0.3
#: Of scans that get a label, and days until it comes.
LABELLED_SHARE = 0.5
DAYS_TO_LABEL = (3, 17)

PLAN = """
model: pneumonia
authority: in-house
autonomy: act
modifications:
  acquisition: [recalibration, linear probe, full fine-tuning]
  technical: [recalibration, linear probe]
  pipeline: LoRA
restrict_on: [acquisition]
labels:
  at_least: {at_least}
  provenance: [report]
  locked_share: 0.5
  selection_share: 0.15
training:
  epochs: 5
  batch_size: 32
  encoder_rate: 3.0e-4
  head_rate: 1.0e-3
  weight_decay: 1.0e-4
  frozen_share: 0.5
  replay_ratio: 3.0
gates:
  required:
    - superiority_where_it_drifted
    - non_inferiority_on_reference
    - parity
    - no_patient_on_both_sides
    - label_provenance
  first_version_auc: 0.8
  locked_set_uses: 10
  limits:
    superiority_alpha: 0.025
    non_inferiority_alpha: 0.05
    drifted_margins: {{sensitivity: 0.1, specificity: 0.1, auc: 0.05}}
    reference_margins: {{sensitivity: 0.08, specificity: 0.08, auc: 0.03}}
    minimum_positives: 20
    minimum_negatives: 20
    subgroups:
      declared: []
      sensitivity_margin: 0.1
      specificity_margin: 0.1
      minimum: 30
      harm_alpha: 0.05
    calibration:
      intercept: {{low: -1.0, high: 1.0}}
      slope: {{low: 0.5, high: 2.0}}
      error: 0.1
      bins: 10
      alpha: 0.05
      resamples: 200
      seed: 0
    parity_tolerance: 1.0e-4
limits:
  days_between_promotions: 14
  runs_per_quarter: 6
  compute_hours_per_quarter: 24
  promotions_since_review: 6
approval:
  people: 2
shadow_days: 7
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What scans are drawn from."""

    dimension: int
    seed: int = 0

    def axes(self) -> npt.NDArray[np.float64]:
        """Return orthonormal axes, [d, d]: the finding's, another for it, and the rest."""
        rng = np.random.default_rng([self.seed, 1])
        return np.linalg.qr(rng.normal(size=(self.dimension, self.dimension)))[0].T

    def draw(
        self, truth: npt.NDArray[np.bool_], sites: npt.NDArray[np.str_], week: int, key: int
    ) -> npt.NDArray[np.float32]:
        """Return embeddings of scans of a week, float32 [n, d]."""
        rng = np.random.default_rng([self.seed, 2, key])
        axes = self.axes()
        # Few directions carry most of the variance, as in real embeddings.
        spread = 1.0 + 2.0 / np.sqrt(1.0 + np.arange(self.dimension))
        found = (rng.normal(size=(len(truth), self.dimension)) * spread) @ axes
        moved = (sites == "south") & (week >= 6)
        shows = np.where(moved[:, None], 0.35 * axes[0] + 0.95 * axes[-1], axes[0])
        found += 3.0 * spread[0] * truth[:, None] * shows * 0.8
        found += moved[:, None] * 2.5 * axes[2]
        if 13 <= week < 16:
            found += 3.0 * axes[3]
        found += ((sites == "north") & (week >= 19))[:, None] * (
            2.0 * spread[0] * axes[0] + 2.5 * axes[4]
        )
        return found.astype(np.float32)


class ShiftedHistory:
    """Makes the installation, and says what it knows of its past."""

    def __init__(self, home: Path, *, scans_a_week: int, dimension: int, seed: int = 0) -> None:
        self.home, self.scans_a_week = home, scans_a_week
        self.world = World(dimension=dimension, seed=seed)
        self.rng = np.random.default_rng([seed, 3])
        self.settings = Settings(home=home, device="cpu", threads=1)
        self.clock = ReplayClock(ANCHOR - 30 * WEEK)
        self._batch = 0
        self.operator: Identity = initialise(self.settings, name="operator", clock=self.clock)
        self.driftward = Driftward.open(self.settings, clock=self.clock)

    def make(self) -> Driftward:
        """Make all of it: a first version, its references, and half a year of scans."""
        self.clock.at = ANCHOR - 20 * WEEK
        head = self._head()
        self.encoder = self._import("general", Tier.GENERAL, {}, ())
        state = with_head({}, TASK, head.head)
        task = finding(threshold=head.calibration.threshold)
        self.task = Task(
            name=task.name,
            kind=task.kind,
            classes=task.classes,
            positive=task.positive,
            threshold=head.calibration.threshold,
            temperature=head.calibration.temperature,
        )
        self.state: HeadState = state
        self.champion = self._import(MODEL, Tier.TASK, state, (self.task,))
        with self.driftward.database.transaction() as session:
            self._plan(session)
            serving.move_champion(
                session,
                session.get_one(VersionRow, self.champion.id),
                expected=None,
                reason="first version",
                kind="champion.promoted",
                actor=self.operator.name,
                at=ANCHOR - 19 * WEEK,
            )
            self.monitor = apply_monitor(
                session,
                MonitorSpecification.model_validate(
                    {
                        "name": MONITOR,
                        "model": MODEL,
                        "task": TASK,
                        "monitoring_encoder": "general@1",
                        "window_hours": 168,
                        "anchor": ANCHOR,
                        "alpha_per_week": 0.005,
                        "subgroup_attributes": ["software_version"],
                        "floor": 20,
                        "silence": None,
                    }
                ),
                actor=self.operator.name,
                at=ANCHOR - 10 * WEEK,
            )
        for week in range(-20, WEEKS):
            self._week(week)
        self._first_run()
        self._accept_reference()
        return self.driftward

    def _head(self) -> object:
        """Fit the champion's head on scans of before."""
        truth = self.rng.random(2000) < PREVALENCE
        embeddings = self.world.draw(truth, np.full(2000, "north"), -30, 1)
        half = 1400
        return refit(
            Head(weight=np.zeros(self.world.dimension), bias=0.0),
            Examples(embeddings=embeddings[:half], targets=truth[:half].astype(np.int64)),
            Examples(embeddings=embeddings[half:], targets=truth[half:].astype(np.int64)),
            tell=lambda _: None,
        )

    def _import(
        self, model: str, tier: Tier, state: HeadState, tasks: tuple[Task, ...]
    ) -> VersionRow:
        folder = self.home.parent / f"bundle-{model}"
        _bundle(folder, tier=tier, tasks=tasks, state=state, dimension=self.world.dimension)
        return import_bundle(
            self.driftward.database,
            self.driftward.tracking,
            folder,
            model=model,
            base=VersionRef(model="general", number=1) if model == MODEL else None,
            by=self.operator,
            at=self.clock.now(),
        )

    def plan_text(self) -> str:
        """Return a plan that repairs by refitting heads, and trains fully where it may."""
        return PLAN.format(at_least=max(90, self.scans_a_week // 2))

    def _plan(self, session: Session) -> None:
        """Apply the plan under which the first version was made: it locks the model."""
        text = self.plan_text().replace("authority: in-house", "authority: none")
        self.first_plan = plans.apply_plan(
            session,
            text,
            source="plan.yaml",
            actor=self.operator.name,
            at=ANCHOR - 20 * WEEK,
        )

    def _week(self, week: int) -> None:
        """Store a week's scans as intake, embedding and labels would leave them."""
        self._batch += 1
        count = self.scans_a_week if week >= -6 else max(40, self.scans_a_week // 3)
        start = ANCHOR + week * WEEK
        rng = np.random.default_rng([self.world.seed, 4, week + 100])
        sites = rng.choice(
            [one for one, *_ in SCANNERS], size=count, p=[s for *_, s in SCANNERS]
        )
        truth = rng.random(count) < PREVALENCE
        at = [start + WEEK * float(part) for part in np.sort(rng.random(count)) * 0.999]
        vectors = self.world.draw(truth, sites, week, week + 100)
        scanner = {site: model for site, model, _ in SCANNERS}
        database = self.driftward.database
        with database.transaction() as session:
            scans = [
                {
                    "batch": self._batch,
                    "site": str(site),
                    "patient": f"patient-{week}-{number}",
                    "study": f"study-{week}-{number}",
                    "series": f"series-{week}-{number}",
                    "instance": f"instance-{week}-{number}",
                    "vault_digest": sha256(f"vault {week} {number}".encode()),
                    "pixel_digest": sha256(f"pixels {week} {number}".encode()),
                    "modality": "DX",
                    "view": "PA",
                    "manufacturer": "Maker",
                    "scanner_model": scanner[str(site)],
                    "software_version": _software(str(site), week),
                    "arrived_at": moment,
                    "unit": "instance",
                }
                for number, (site, moment) in enumerate(zip(sites, at, strict=True))
            ]
            session.execute(insert(ScanRow), scans)
            ids = session.scalars(
                select(ScanRow.id).where(ScanRow.batch == self._batch).order_by(ScanRow.id)
            ).all()
            self._store_readings(session, ids, vectors, at)
            self._store_labels(session, ids, truth, at, rng)

    def _store_readings(
        self,
        session: Session,
        ids: list[int],
        vectors: npt.NDArray[np.float32],
        at: list[datetime],
    ) -> None:
        halves = vectors.astype(np.float16)
        mirrored = np.roll(halves, 1, axis=1)
        for version, stored in ((self.champion, halves), (self.encoder, mirrored)):
            session.execute(
                insert(EmbeddingRow),
                [
                    {
                        "batch": self._batch,
                        "scan": scan,
                        "version": version.id,
                        "space": version.space,
                        "vector": vector.tobytes(),
                    }
                    for scan, vector in zip(ids, stored, strict=True)
                ],
            )
        weight, bias = self.state[f"{TASK}.weight"], self.state[f"{TASK}.bias"]
        said = self.task.probabilities(halves.astype(np.float32) @ weight.T + bias)
        session.execute(
            insert(ResultRow),
            [
                {
                    "batch": self._batch,
                    "scan": scan,
                    "version": self.champion.id,
                    "task": TASK,
                    "probabilities": probabilities,
                    "threshold": self.task.threshold,
                    "delivery": "delivered",
                    "created_at": moment,
                }
                for scan, probabilities, moment in zip(ids, said.tolist(), at, strict=True)
            ],
        )

    def _store_labels(
        self,
        session: Session,
        ids: list[int],
        truth: npt.NDArray[np.bool_],
        at: list[datetime],
        rng: np.random.Generator,
    ) -> None:
        """Store reports for half of the scans, days later; an AI influenced a tenth of them."""
        labelled = rng.random(len(ids)) < LABELLED_SHARE
        days = rng.uniform(*DAYS_TO_LABEL, size=len(ids))
        influenced = rng.random(len(ids)) < 0.1
        rows = [
            {
                "scan": scan,
                "task": TASK,
                "value": int(value),
                "classes": None,
                "provenance": "report",
                "reader": "",
                "signed_at": moment,
                "ai_influenced": bool(by_ai),
                "influence_reason": None,
                "arrived_at": moment + timedelta(days=float(late)),
            }
            for scan, value, moment, late, by_ai, chosen in zip(
                ids, truth, at, days, influenced, labelled, strict=True
            )
            if chosen
        ]
        session.execute(insert(LabelRow), sorted(rows, key=lambda row: row["arrived_at"]))

    def _between(self, session: Session, first: int, last: int) -> list[ScanRow]:
        return list(
            session.scalars(
                select(ScanRow)
                .where(
                    ScanRow.arrived_at >= ANCHOR + first * WEEK,
                    ScanRow.arrived_at < ANCHOR + last * WEEK,
                )
                .order_by(ScanRow.id)
            )
        )

    def _first_run(self) -> None:
        """Let the champion be what a first run made of labelled scans."""
        at = ANCHOR - 8 * WEEK
        with self.driftward.database.transaction() as session:
            champion = session.get_one(VersionRow, self.champion.id)
            run = runs.create(
                session,
                model=MODEL,
                episode=None,
                plan=self.first_plan,
                strategies=(Strategy.FULL,),
                base=session.get_one(VersionRow, self.encoder.id),
                champion=None,
                settings={"task": TASK},
                seed=0,
                note="first version",
                actor=self.operator.name,
                at=at,
            )
            labelled = set(
                session.scalars(
                    select(LabelRow.scan).where(
                        LabelRow.arrived_at < at, LabelRow.ai_influenced.is_(False)
                    )
                )
            )
            parts = datasets.split_by_patient(
                [one for one in self._between(session, -20, -6) if one.id in labelled],
                {
                    Purpose.TRAINING: 0.4,
                    Purpose.SELECTION: 0.1,
                    Purpose.LOCKED_REFERENCE: 0.5,
                },
                salt="first",
            )
            run.datasets = {
                purpose.value: datasets.freeze(
                    session, part, purpose=purpose, description="", actor="operator", at=at
                ).id
                for purpose, part in parts.items()
            }
            run.candidate = champion.id
            for state in (
                RunState.QUEUED,
                RunState.TRAINING,
                RunState.VALIDATING,
                RunState.AWAITING_APPROVAL,
                RunState.PROMOTED,
            ):
                runs.advance(session, run, state, note="", actor="operator", at=at)

    def _accept_reference(self) -> None:
        """Take the six weeks before for what is usual."""
        database, profiles = self.driftward.database, self.driftward.profiles
        with database.transaction() as session:
            dataset = references.freeze_reference(
                session,
                self._between(session, -6, 0),
                description="usual weeks",
                actor="operator",
                at=ANCHOR,
            )
        with database.reading() as session:
            fitted = [
                references.fit(
                    session,
                    profiles,
                    dataset=dataset.id,
                    encoder=role,
                    version=version,
                    attributes=self.monitor.specification.subgroup_attributes,
                    seed=0,
                )
                for role, version in (
                    (EncoderRole.MONITORING, self.encoder),
                    (EncoderRole.CHAMPION, self.champion),
                )
            ]
        with database.transaction() as session:
            references.accept(
                session,
                self.monitor,
                fitted,
                dataset=dataset,
                reason="usual weeks",
                actor="operator",
                at=ANCHOR,
            )


def _software(site: str, week: int) -> str:
    """Return what a site's scanner runs: two products, whose versions are named apart."""
    old, new, since = {"south": ("1.0", "2.0", 6), "north": ("7.0", "7.1", 19)}[site]
    return new if week >= since else old


def _bundle(
    folder: Path, *, tier: Tier, tasks: tuple[Task, ...], state: HeadState, dimension: int
) -> Bundle:
    """Assemble a bundle whose encoder is random: nothing is read by it here."""
    import torch
    import transformers
    from transformers.utils import logging

    torch.manual_seed(len(tasks))
    encoder = transformers.ViTModel(
        transformers.ViTConfig(
            hidden_size=dimension,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=2 * dimension,
            image_size=16,
            patch_size=4,
        ),
        add_pooling_layer=False,
    )
    path = folder.with_name(f"{folder.name}-encoder")
    logging.disable_progress_bar()
    encoder.save_pretrained(path)
    logging.enable_progress_bar()
    card = Card(
        name="tiny",
        tier=tier,
        purpose="Stands in for a model whose embeddings are drawn.",
        intended_use=IntendedUse(modalities=("DX",), unknown_age=UnknownAge.ACCEPT),
        not_for=("any patient",),
        training_data=(TrainingData(digest=None, description="drawn", scans=0),),
        licence="Apache-2.0",
    )
    preprocessing = Preprocessing(
        unit=Unit.INSTANCE,
        window=DicomWindow(),
        size=(16, 16),
        mean=(0.5, 0.5, 0.5),
        std=(0.2, 0.2, 0.2),
    )
    return assemble_bundle(path, card, preprocessing, tasks, state, out_dir=folder)
