"""The training subprocess: `python -m retrain.trainer FOLDER`.

It reads a workspace, makes each attempt's candidate, compares them on the selection set, and
leaves a result there. It knows no database and no registry; killed at any moment and started
again, it goes on from its last checkpoint and comes to the same result.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from registry.bundles.bundle import Bundle, read_bundle
from registry.bundles.heads import Task, write_head_state
from registry.bundles.network import write_encoder
from registry.errors import (
    BadInputError,
    DriftwardError,
    InsufficientDataError,
    TrainingFailedError,
)
from retrain.change_plan import Strategy
from retrain.strategies.adaptation import adapt
from retrain.strategies.curve import Point, Tell
from retrain.strategies.embedding import embeddings_of
from retrain.strategies.full import fine_tune
from retrain.strategies.linear_probe import probe
from retrain.strategies.lora import adapt_low_rank
from retrain.strategies.making import (
    Made,
    Work,
    require_weights,
    selection_facts,
)
from retrain.strategies.objectives import objective_of
from retrain.strategies.recalibration import recalibrate
from retrain.strategies.scans import Scans, read_scans
from retrain.workspace import (
    ENCODER,
    HEADS,
    Progress,
    TrainingJob,
    append_progress,
    attempt_folder,
    read_job,
    read_result,
    write_result,
)

MAKERS: Mapping[Strategy, Callable[[Work], Made]] = {
    Strategy.RECALIBRATION: recalibrate,
    Strategy.LINEAR_PROBE: probe,
    Strategy.LORA: adapt_low_rank,
    Strategy.SELF_SUPERVISED: adapt,
    Strategy.FULL: fine_tune,
}


def main(folder: Path) -> None:
    """Train what the workspace asks for.

    Raises
    ------
    TrainingFailedError
        If no attempt could be made; it says why each could not.
    """
    if read_result(folder) is not None:
        return
    job = read_job(folder)
    torch.set_num_threads(job.threads)
    torch.use_deterministic_algorithms(True)
    base = read_bundle(Path(job.base))
    scans = read_scans(folder)
    found = [_attempted(folder, job, index, base, scans) for index in range(len(job.attempts))]
    made = [index for index, facts in enumerate(found) if "refused" not in facts]
    if not made:
        raise TrainingFailedError("; ".join(str(facts["refused"]) for facts in found))
    # The first of equals: attempts stand in the plan's order.
    chosen = min(made, key=lambda index: float(found[index]["selection_loss"]))
    write_result(
        folder,
        {
            **found[chosen],
            "seconds": sum(float(facts.get("seconds", 0.0)) for facts in found),
            "chosen": chosen,
            "attempts": found,
            "base": _base_facts(folder, job, base, scans),
        },
    )


def _attempted(
    folder: Path, job: TrainingJob, index: int, base: Bundle, scans: Scans
) -> dict[str, Any]:
    """Return the facts of an attempt, made now if it was not before."""
    into = attempt_folder(folder, index)
    # Not its parents: a folder that another worker took over is not made anew.
    into.mkdir(exist_ok=True)
    facts = read_result(into)
    if facts is None:
        try:
            facts = _make(folder, into, job, index, base, scans)
        except (BadInputError, InsufficientDataError) as error:
            # Another attempt may fit where this one does not.
            facts = {"strategy": job.attempts[index].strategy.value, "refused": str(error)}
        write_result(into, facts)
    return facts


def _make(
    folder: Path, into: Path, job: TrainingJob, index: int, base: Bundle, scans: Scans
) -> dict[str, Any]:
    started = time.monotonic()
    attempt = job.attempts[index]
    require_weights(base, attempt.strategy)
    made = MAKERS[attempt.strategy](
        Work(
            workspace=folder,
            folder=into,
            base=base,
            objective=objective_of(_task_of(base, job) or job.new_task),
            attempt=attempt,
            scans=scans,
            seed=job.seed,
            threads=job.threads,
            tell=_teller(folder, job, index),
        )
    )
    shutil.rmtree(into / ENCODER, ignore_errors=True)
    if made.embedder is not None:
        write_encoder(made.embedder, into / ENCODER)
    write_head_state(into / HEADS, made.heads)
    return {
        "strategy": attempt.strategy.value,
        **selection_facts(made, scans),
        "seconds": made.earlier_seconds + time.monotonic() - started,
    }


def _teller(folder: Path, job: TrainingJob, index: int) -> Tell:
    def tell(point: Point) -> None:
        append_progress(
            folder,
            Progress(
                epoch=point.epoch,
                epochs=point.epochs,
                step=point.step,
                steps=point.steps,
                loss=point.loss,
                selection_auc=point.selection_auc,
                training_loss=point.training_loss,
                attempt=index,
                attempts=len(job.attempts),
                strategy=job.attempts[index].strategy.value,
            ),
        )

    return tell


def _base_facts(
    folder: Path, job: TrainingJob, base: Bundle, scans: Scans
) -> dict[str, float] | None:
    """Return how good the base is on the selection set, if it has the task."""
    task = _task_of(base, job)
    if task is None:
        return None
    objective = objective_of(task)
    rows = scans.selection
    embeddings = embeddings_of(folder, base, scans, rows, threads=job.threads)
    margins = objective.margins(base.head_state(), embeddings)
    targets, calibration = scans.targets[rows], objective.as_it_is()
    sensitivity, specificity = calibration.operating_point(margins, targets)
    return {
        "selection_loss": calibration.loss(margins, targets),
        "selection_auc": calibration.area(margins, targets),
        "selection_sensitivity": sensitivity,
        "selection_specificity": specificity,
    }


def _task_of(base: Bundle, job: TrainingJob) -> Task | None:
    positive = job.new_task.positive
    return next(
        (replace(task, positive=positive) for task in base.tasks if task.name == job.task), None
    )


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except DriftwardError as error:
        sys.exit(str(error))
