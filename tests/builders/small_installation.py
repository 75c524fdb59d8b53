"""A whole small installation: real DICOM files, a tiny encoder, a plan that little data can meet."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import numpy as np
from plan_texts import one_site_plan, with_values
from tiny_bundles import tiny_bundle

from api.assembly import Driftward
from api.demo.acquisition import OLD_SOFTWARE, Floats, Processing
from api.demo.radiographs import write_child
from api.demo.sample import load_sample
from api.initialising import initialise
from api.settings import Settings
from registry.bundle_import import import_bundle
from registry.clock import ReplayClock
from registry.identities import Identity
from registry.jobs import Claim, JobQueue
from registry.versions import VersionRow
from registry.worker import JobHandler, Worker
from retrain import runs
from retrain.plans import apply_plan
from retrain.recipes import Recipe, parse_recipe
from retrain.tables import RunRow

ANCHOR = datetime(2026, 3, 2, tzinfo=UTC)
HALF_WEEK = timedelta(hours=84)
SITE, MODEL, ENCODER = "guangzhou", "pneumonia-cxr", "general"
_CONFIGURATION = files("api.demo") / "configuration"


class Inverting(Processing):
    """A software update after which white and black are exchanged: what breaks any model."""

    def render(self, image: Floats, *, seed: int) -> Floats:
        return np.float32(1) - super().render(image, seed=seed)


BROKEN = Inverting(version="2.0.0")


def plan_text(**changes: str) -> str:
    """Return a plan whose gates a few hundred scans can pass; `changes` replace its lines."""
    values = {
        "at_least": "60",
        "locked_share": "0.7",
        "selection_share": "0.1",
        "replay_ratio": "1.0",
        "epochs": "20",
        "batch_size": "16",
        "encoder_rate": "3.0e-3",
        "head_rate": "1.0e-2",
        "first_version_auc": "0.6",
        "reference_margins": "{sensitivity: 0.45, specificity: 0.45, auc: 0.3}",
        "drifted_margins": "{sensitivity: 0.45, specificity: 0.45, auc: 0.3}",
        "minimum_positives": "5",
        "minimum_negatives": "5",
        **changes,
    }
    return one_site_plan(**values)


def recipe(**changes: str) -> Recipe:
    """Return the recipe of a first version whose whole encoder learns."""
    text = (_CONFIGURATION / "recipe.yaml").read_text(encoding="utf-8")
    settings = {
        "base": f"{ENCODER}@1",
        "epochs": "20",
        "batch_size": "16",
        "encoder_rate": "3.0e-3",
        "head_rate": "1.0e-2",
        "frozen_share": "0.0",
        "training_share": "0.25",
        "selection_share": "0.07",
        "locked_share": "0.18",
        **changes,
    }
    return parse_recipe(with_values(text, **settings), source="recipe.yaml")


@dataclass(kw_only=True)
class RecordingWorker:
    """Runs jobs as a worker does, and keeps every claim that was carried out."""

    driftward: Driftward

    def __post_init__(self) -> None:
        self.claims: list[Claim] = []
        handlers = {
            kind: self._recorded(handler) for kind, handler in self.driftward.handlers.items()
        }
        self.worker = Worker(JobQueue(self.driftward.database), handlers)

    def _recorded(self, handler: JobHandler) -> JobHandler:
        def handle(claim: Claim) -> None:
            handler(claim)
            self.claims.append(claim)

        return handle


class SmallInstallation:
    """One home with what comes in from outside: scans, labels, people."""

    def __init__(self, root: Path, *, empty_mlflow: Path) -> None:
        self.clock = ReplayClock(ANCHOR - 4 * HALF_WEEK)
        settings = Settings(home=root / "home", device="cpu", threads=1)
        self.operator: Identity = initialise(
            settings, name="operator", clock=self.clock, key_seed="test"
        )
        self.driftward = Driftward.open(settings, clock=self.clock)
        self.driftward.home.mlflow.mkdir()
        shutil.copyfile(empty_mlflow, self.driftward.home.mlflow / "mlflow.db")
        self.inbox = root / "inbox"
        self.inbox.mkdir()
        self.jobs = RecordingWorker(driftward=self.driftward)
        children = load_sample().children
        self._children = [
            children[index] for index in np.random.default_rng(2).permutation(len(children))
        ]
        self._sent: list[tuple[str, int, datetime]] = []
        self._lots = 0

    def found(self, plan: str) -> VersionRow:
        """Import the general encoder, and put a plan into force."""
        bundle = tiny_bundle(self.inbox.parent / "general")
        version = import_bundle(
            self.driftward.database,
            self.driftward.tracking,
            bundle.root,
            model=ENCODER,
            base=None,
            by=self.operator,
            at=self.clock.at,
        )
        self.apply_plan(plan)
        return version

    def apply_plan(self, plan: str) -> None:
        with self.driftward.database.transaction() as session:
            apply_plan(session, plan, source="plan.yaml", actor="operator", at=self.clock.at)

    def receive(self, count: int, *, software: Processing = OLD_SOFTWARE) -> None:
        """Take children's radiographs in as DICOM files, each of a patient of its own."""
        folder = self.written(count, software=software)
        assert self.driftward.intake.add([folder], site=SITE).added == count

    def written(self, count: int, *, software: Processing = OLD_SOFTWARE) -> Path:
        """Write the next children's radiographs as DICOM files, and return their folder."""
        self._lots += 1
        folder = self.inbox / f"lot-{self._lots}"
        folder.mkdir()
        at = self.clock.at
        for _ in range(count):
            child = self._children[len(self._sent)]
            instance = write_child(
                folder / f"{child.index}.dcm", child, software=software, taken_at=at
            )
            self._sent.append((instance, child.pneumonia, at))
        return folder

    def label(self, *, since: datetime) -> None:
        """Hand in what the readers signed within the hour at most, before any result."""
        self._hand_in([one for one in self._sent if one[2] >= since], reader="r")

    def contradict(self) -> None:
        """Hand in what another reader says of all scans: the contrary."""
        self._hand_in([(uid, 1 - truth, at) for uid, truth, at in self._sent], reader="s")

    def _hand_in(self, labels: Sequence[tuple[str, int, datetime]], *, reader: str) -> None:
        path = self.inbox / f"labels-{self._lots}-{reader}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["instance", "task", "value", "provenance", "reader", "signed_at"])
            for instance, truth, at in labels:
                signed = min(at + timedelta(hours=1), self.clock.at).isoformat()
                writer.writerow([instance, "pneumonia", truth, "dataset", reader, signed])
        self.driftward.label_intake.add(path, site=SITE, by=self.operator)

    def work(self) -> None:
        """Let a worker do all that is queued."""
        self.jobs.worker.drain()

    def run(self, number: int) -> RunRow:
        with self.driftward.database.reading() as session:
            return runs.require_run(session, number)

    def gates(self, number: int, *, words: bool = False) -> dict[str, str]:
        """Return what each gate of a run said, in a word or in a sentence."""
        with self.driftward.database.reading() as session:
            return {
                gate.name: gate.sentence if words else gate.outcome
                for gate in runs.gate_outcomes(session, number)
            }

    def failed_jobs(self) -> Sequence[str]:
        from sqlalchemy import select

        from registry.jobs import Job

        with self.driftward.database.reading() as session:
            return [
                f"{job.key}: {job.error}"
                for job in session.scalars(select(Job).where(Job.state == "failed"))
            ]
