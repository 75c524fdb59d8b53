"""The job that trains a run's candidate: freeze the data, train in a subprocess, register."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from sqlalchemy.orm import Session

from monitor.datasets import Purpose
from monitor.embedding.embedding import Embedder
from monitor.tables import DatasetRow
from registry import crash_points, outbox
from registry.bundle_store import BundleStore
from registry.bundles.card import Card, TrainingData
from registry.bundles.heads import Task
from registry.clock import Clock
from registry.database import Database
from registry.errors import (
    BadInputError,
    DriftwardError,
    LeaseLostError,
    TrainingFailedError,
)
from registry.identities import SYSTEM
from registry.jobs import Claim, fence
from registry.tracking import ATTEMPT_TAG, TOKEN_TAG, DatasetInput, Tracking
from registry.versions import Origin, VersionRow, ref, register
from retrain import plans, run_folders, runs, workspace
from retrain.change_plan import TrainingRules, attempts
from retrain.executors.executor import Executor
from retrain.label_meanings import require_labels_fit
from retrain.recipes import Recipe
from retrain.recording import record_training
from retrain.run_examples import examples_of
from retrain.states import RunState
from retrain.tables import RunRow
from retrain.workspace import Attempt, Progress, TrainingJob

if TYPE_CHECKING:
    from registry.bundles.bundle import Bundle

PREPARE_CHUNK = 256

#: Told whenever training has come further: the run, and how far.
TellProgress: TypeAlias = Callable[[int, Progress], None]


class Trainer:
    """Does the job `train`: payload {run}."""

    def __init__(
        self,
        database: Database,
        bundles: BundleStore,
        tracking: Tracking,
        embedder: Embedder,
        clock: Clock,
        *,
        work: Path,
        threads: int,
        executor: Executor,
        tell: TellProgress | None = None,
    ) -> None:
        self._database = database
        self._bundles = bundles
        self._tracking = tracking
        self._embedder = embedder
        self._clock = clock
        self._work = work
        self._threads = threads
        self._executor = executor
        self.tell = tell

    def handle(self, claim: Claim) -> None:
        """Train a run's candidate; a run that fails ends as failed, with its reason."""
        run_id = int(claim.payload["run"])
        run = self._begin(run_id, claim)
        if run is None:
            self._tidy(run_id, claim)
            return
        crash_points.reach("train: begun")
        folder = run_folders.take_over(self._work, run_id, token=claim.token)
        try:
            bundle = self._candidate(run, folder)
            crash_points.reach("train: bundle assembled")
            self._register(run_id, claim, bundle, folder)
        except LeaseLostError:
            shutil.rmtree(folder, ignore_errors=True)
            self._tidy(run_id, claim)
            raise
        except DriftwardError as error:
            self._fail(run_id, claim, str(error))
            self._tidy(run_id, claim)
            raise
        run_folders.remove(self._work, run_id, until=claim.token)

    def _begin(self, run_id: int, claim: Claim) -> RunRow | None:
        """Move the run to training; a run that another attempt brought further is left alone."""
        with self._database.transaction() as session:
            fence(session, claim)
            run = runs.require_run(session, run_id)
            if run.state == RunState.QUEUED:
                runs.advance(
                    session,
                    run,
                    RunState.TRAINING,
                    note="training",
                    actor=SYSTEM.name,
                    at=self._clock.now(),
                )
            return run if run.state == RunState.TRAINING else None

    def _tidy(self, run_id: int, claim: Claim) -> None:
        """End what attempts that came to nothing left in MLflow."""
        with self._database.reading() as session:
            run = runs.require_run(session, run_id)
            key = runs.tracking_key(session, run)
            made = session.get(VersionRow, run.candidate) if run.candidate else None
        self._tracking.end_attempts(
            key, until=claim.token, but=made.mlflow_run if made is not None else None
        )

    def _fail(self, run_id: int, claim: Claim, reason: str) -> None:
        with self._database.transaction() as session:
            fence(session, claim)
            if runs.require_run(session, run_id).state != RunState.TRAINING:
                return  # a person or another plan ended it meanwhile, and said why
            runs.advance(
                session,
                runs.require_run(session, run_id),
                RunState.FAILED,
                note=reason,
                actor=SYSTEM.name,
                at=self._clock.now(),
            )

    def _candidate(self, run: RunRow, folder: Path) -> Bundle:
        from registry.bundles.assembly import assemble_bundle
        from registry.bundles.bundle import read_bundle
        from registry.bundles.heads import read_head_state

        with self._database.reading() as session:
            base = self._bundles.open(session.get_one(VersionRow, run.base))
            rules = _rules(session, run)
            training_data = _training_data(session, run)
        task = _task(run, base)
        if workspace.read_result(folder) is None:
            shutil.rmtree(folder / "bundle", ignore_errors=True)
            self._prepare(run, base, task, folder)
            workspace.write_job(
                folder,
                TrainingJob(
                    base=str(base.root),
                    task=task.name,
                    classes=task.classes,
                    attempts=_attempts(run, rules),
                    seed=run.seed,
                    threads=self._threads,
                    kind=task.kind,
                    finding=task.column,
                ),
            )
            crash_points.reach("train: data prepared")
            self._train(run.id, folder)
            crash_points.reach("train: trained")
        facts = workspace.read_result(folder)
        if facts is None:
            raise TrainingFailedError(f"run {run.id}: training ended without a result")
        if (folder / "bundle").exists():
            return read_bundle(folder / "bundle")
        trained = replace(
            task,
            temperature=facts["temperature"],
            threshold=facts["threshold"],
        )
        made = workspace.attempt_folder(folder, facts["chosen"])
        others = tuple(other for other in base.tasks if other.name != task.name)
        tasks = (*others, trained)
        # Where the encoder was left as it is, its very files are taken, and its space stays.
        encoder = made / workspace.ENCODER
        return assemble_bundle(
            encoder if encoder.exists() else base.encoder_path,
            _card(run, base, training_data),
            base.preprocessing,
            tasks,
            read_head_state(made / workspace.HEADS, tasks, dimension=base.dimension),
            out_dir=folder / "bundle",
        )

    def _prepare(self, run: RunRow, base: Bundle, task: Task, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with self._database.reading() as session:
            # Labels, or another mapping of them, may have come since the run was queued.
            require_labels_fit(session, run, task)
            data = examples_of(session, run, task)
        parts = [
            self._embedder.pixels(base, data.scans[start : start + PREPARE_CHUNK])
            for start in range(0, len(data.scans), PREPARE_CHUNK)
        ]
        workspace.write_data(
            folder,
            pixels=np.concatenate(parts),
            targets=np.array(data.targets, dtype=np.int64),
            roles=np.array(data.roles, dtype=np.int8),
            shifted=np.array(data.shifted, dtype=np.bool_),
        )

    def _train(self, run_id: int, folder: Path) -> None:
        """Train, and tell how far it has come."""
        told = 0

        def tell() -> None:
            nonlocal told
            told = self._tell_new(run_id, folder, told)

        try:
            self._executor.train(folder, tell=tell)
        except TrainingFailedError as error:
            raise TrainingFailedError(f"run {run_id}: {error}") from error

    def _tell_new(self, run_id: int, folder: Path, told: int) -> int:
        progress = workspace.read_progress(folder)
        if self.tell is not None:
            for item in progress[told:]:
                self.tell(run_id, item)
        return len(progress)

    def _register(self, run_id: int, claim: Claim, bundle: Bundle, folder: Path) -> None:
        with self._database.reading() as session:
            run = runs.require_run(session, run_id)
            fence(session, claim)
            key = runs.tracking_key(session, run)
            plan = plans.by_id(session, run.plan)
            rules = _rules(session, run)
            inputs = [
                DatasetInput(
                    name=f"{run.model}-{row.purpose}".replace(" ", "-"),
                    digest=row.digest,
                    context=row.purpose,
                    scans=row.scans,
                )
                for row in _dataset_rows(session, run)
            ]
        facts = workspace.read_result(folder) or {}
        self._tracking.end_attempts(key, until=claim.token)
        mlflow_run = record_training(
            self._tracking,
            f"{run.model} run {run.id}",
            params={
                "seed": run.seed,
                "plan": plan.digest,
                "replay_ratio": rules.replay_ratio,
            },
            tags={
                "driftward.run": str(run.id),
                ATTEMPT_TAG: key,
                TOKEN_TAG: str(claim.token),
                "driftward.bundle": bundle.digest,
            },
            inputs=inputs,
            attempts=workspace.read_job(folder).attempts,
            facts=facts,
            progress=workspace.read_progress(folder),
        )
        uri = self._tracking.store_bundle(mlflow_run, bundle.root)
        self._tracking.end_run(mlflow_run)
        crash_points.reach("train: in MLflow")
        now = self._clock.now()
        with self._database.transaction() as session:
            fence(session, claim)
            run = runs.require_run(session, run_id)
            version = register(
                session,
                bundle,
                model=run.model,
                base=session.get_one(VersionRow, run.base),
                origin=Origin.RUN,
                artifact_uri=uri,
                mlflow_run=mlflow_run,
                actor=SYSTEM.name,
                at=now,
            )
            outbox.put_version(session, version, at=now)
            run.candidate = version.id
            run.strategy = facts["strategy"]
            run.settings = {
                **run.settings,
                "seconds": facts["seconds"],
                "chosen": facts["chosen"],
                "attempts": facts["attempts"],
            }
            runs.advance(
                session,
                run,
                RunState.VALIDATING,
                note=f"candidate {ref(version)} is trained",
                actor=SYSTEM.name,
                at=now,
                facts={
                    "candidate": str(ref(version)),
                    "strategy": run.strategy,
                    "seconds": round(facts["seconds"], 1),
                },
            )
            runs.ask_for_validation(session, run)
            session.flush()
            crash_points.reach("train: before the commit")
        crash_points.reach("train: committed")


def _rules(session: Session, run: RunRow) -> TrainingRules:
    """Return how a run trains: the recipe says it for a first version, else the plan."""
    if "recipe" in run.settings:
        return Recipe.model_validate(run.settings["recipe"]).training
    return plans.by_id(session, run.plan).plan.training


def _attempts(run: RunRow, rules: TrainingRules) -> tuple[Attempt, ...]:
    """Return what a run tries: what its strategies and the candidates of its rules make."""
    return tuple(
        Attempt.of(strategy, changed)
        for strategy, changed in attempts(rules, runs.strategies_of(run))
    )


def _task(run: RunRow, base: Bundle) -> Task:
    """Return the task to learn: the base's own, or the recipe's, which says what the finding is."""
    name = run.settings["task"]
    recipe = run.settings.get("recipe")
    declared = None if recipe is None else Recipe.model_validate(recipe).declared
    for task in base.tasks:
        if task.name == name:
            return task if declared is None else replace(task, positive=declared.positive)
    if declared is None:
        raise BadInputError(f"{base.card.name} has no task {name}: there is nothing to train")
    return declared


def _card(run: RunRow, base: Bundle, training_data: Sequence[TrainingData]) -> Card:
    """Return the candidate's card: the base's for a later version, the recipe's for the first."""
    if "recipe" not in run.settings:
        return replace(base.card, training_data=(*base.card.training_data, *training_data))
    from registry.bundles.card import IntendedUse, Tier, UnknownAge

    recipe = Recipe.model_validate(run.settings["recipe"])
    use = recipe.intended_use
    return Card(
        name=recipe.model,
        tier=Tier(recipe.tier),
        purpose=recipe.purpose,
        intended_use=IntendedUse(
            modalities=tuple(use.modalities),
            body_parts=tuple(use.body_parts),
            views=tuple(use.views),
            age_years=use.age_years,
            unknown_age=UnknownAge(use.unknown_age),
        ),
        not_for=tuple(recipe.not_for),
        training_data=tuple(training_data),
        licence=recipe.licence,
    )


def _dataset_rows(session: Session, run: RunRow) -> list[DatasetRow]:
    return [session.get_one(DatasetRow, dataset) for dataset in run.datasets.values()]


def _training_data(session: Session, run: RunRow) -> list[TrainingData]:
    return [
        TrainingData(digest=row.digest, description=row.description, scans=row.scans)
        for row in _dataset_rows(session, run)
        if row.purpose in {Purpose.TRAINING, Purpose.SELECTION, Purpose.UNLABELLED}
    ]


def progress_of(work: Path, run: int) -> Progress | None:
    """Return how far a run's training has come, while it trains."""
    try:
        folder = run_folders.newest(work, run)
        told = workspace.read_progress(folder) if folder is not None else []
    except (json.JSONDecodeError, OSError):
        return None
    return told[-1] if told else None
