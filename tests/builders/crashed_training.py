"""A worker that is killed while it trains or validates, and what the next one makes of it."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from preloaded_workers import expire_leases, start_worker
from small_installation import MODEL, SmallInstallation, plan_text, recipe
from sqlalchemy import func, select

from api.assembly import Driftward
from api.settings import Settings
from registry import ledger
from registry.versions import VersionRow
from retrain import runs
from retrain.starting import start_first_run
from retrain.tables import GateOutcomeRow, RunRow

SCANS = 200
#: In the order in which a run passes them.
TRAINING_POINTS = (
    "train: begun",
    "train: data prepared",
    "train: trained",
    "train: bundle assembled",
    "train: in MLflow",
    "train: before the commit",
    "train: committed",
    "validate: begun",
    "validate: gates evaluated",
    "validate: before the commit",
    "validate: committed",
)
_KILLED = -9
#: A worker that other programs leave hardly any time to takes so long, and no crash is missed.
_PATIENCE_SECONDS = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a run ended, and what stands beside it."""

    state: str
    #: of the candidate's bundle
    bundle: str
    versions: int
    #: (gate, outcome)
    gates: tuple[tuple[str, str], ...]
    #: MLflow's runs of it by their status
    tracked: dict[str, int]
    ledger_is_valid: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Homes:
    """Homes of one run at three moments, from which crashes at later points begin."""

    #: a first version waits to be trained
    queued: Path
    #: its worker was killed when the training had ended
    trained: Path
    #: its worker was killed when the candidate was registered
    registered: Path

    def before(self, point: str) -> Path:
        """Return the latest of them that has not passed a point."""
        if point.startswith("validate:"):
            return self.registered
        reached = TRAINING_POINTS.index(point) > TRAINING_POINTS.index("train: trained")
        return self.trained if reached else self.queued


def homes_of_a_run(root: Path, *, empty_mlflow: Path) -> Homes:
    """Make a home in which a first version waits to be trained, and crash copies of it."""
    queued = _home_with_a_queued_run(root, empty_mlflow=empty_mlflow)
    trained = _crashed(queued, root / "trained", point="train: trained")
    registered = _crashed(trained, root / "registered", point="train: committed")
    return Homes(queued=queued, trained=trained, registered=registered)


def _home_with_a_queued_run(root: Path, *, empty_mlflow: Path) -> Path:
    made = SmallInstallation(root, empty_mlflow=empty_mlflow)
    made.found(plan_text(at_least="100", locked_share="0.3", selection_share="0.2"))
    made.receive(SCANS)
    made.label(since=made.clock.at)
    start_first_run(
        made.driftward.database,
        recipe(epochs="3"),
        since=None,
        until=None,
        seed=1,
        by=made.operator,
        clock=made.clock,
    )
    made.driftward.database.dispose()
    return made.driftward.settings.home


def undisturbed(homes: Homes, folder: Path) -> Ended:
    """Return how the run ends where nobody kills anything."""
    home = Path(shutil.copytree(homes.queued, folder / "home"))
    assert work(home) == 0
    return ended_as(home)


def work(home: Path, *, crash_at: str | None = None) -> int | None:
    """Let a worker do what is queued, and return how its process ended."""
    armed = {} if crash_at is None else {"DRIFTWARD_CRASH_AT": crash_at}
    process = start_worker(home, environment=armed)
    process.join(timeout=_PATIENCE_SECONDS)
    return process.exitcode


def crashed_and_resumed(homes: Homes, folder: Path, *, point: str) -> Ended:
    """Kill a worker at a point, let another go on when the lease has run out, and look."""
    home = _crashed(homes.before(point), folder / "home", point=point)
    assert work(home) == 0
    return ended_as(home)


def _crashed(template: Path, home: Path, *, point: str) -> Path:
    """Copy a home, kill a worker of it at a point, and let its lease run out."""
    shutil.copytree(template, home)
    ended = work(home, crash_at=point)
    assert ended == _KILLED, f"the worker was not killed at {point!r}: it returned {ended}"
    driftward = Driftward.open(Settings(home=home))
    expire_leases(driftward.database)
    driftward.database.dispose()
    return home


def ended_as(home: Path) -> Ended:
    """Return how the run of a home ended."""
    driftward = Driftward.open(Settings(home=home))
    with driftward.database.reading() as session:
        [run] = session.scalars(select(RunRow)).all()
        candidate = session.get(VersionRow, run.candidate) if run.candidate else None
        versions = session.scalar(
            select(func.count(VersionRow.id)).where(VersionRow.model == MODEL)
        )
        found = Ended(
            state=run.state,
            bundle=candidate.bundle_digest if candidate else "",
            versions=versions or 0,
            gates=tuple(
                (gate.name, gate.outcome) for gate in runs.gate_outcomes(session, run.id)
            ),
            tracked=_tracked(driftward, run.id),
            ledger_is_valid=ledger.verify(session).valid,
        )
        assert len(found.gates) == session.scalar(select(func.count(GateOutcomeRow.id)))
    driftward.database.dispose()
    return found


def _tracked(driftward: Driftward, run: int) -> dict[str, int]:
    """Return how many MLflow runs of a run are in sight, by their status."""
    store = driftward.home.mlflow.resolve() / "mlflow.db"
    client = MlflowClient(tracking_uri=f"sqlite:///{store}")
    experiments = [one.experiment_id for one in client.search_experiments()]
    found = client.search_runs(experiments, filter_string=f"tags.`driftward.run` = '{run}'")
    return dict(Counter(one.info.status for one in found))
