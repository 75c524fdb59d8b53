"""What a training leaves in MLflow: inputs, parameters, curves and figures of every attempt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from registry.tracking import DatasetInput, Tracking
from retrain.workspace import Attempt, Progress

#: What a point of a curve is called in MLflow.
_CURVES = {
    "loss": "selection_loss_by_epoch",
    "selection_auc": "selection_auc_by_epoch",
    "training_loss": "training_loss_by_epoch",
}


def record_training(
    tracking: Tracking,
    name: str,
    *,
    params: Mapping[str, object],
    tags: Mapping[str, str],
    inputs: Sequence[DatasetInput],
    attempts: Sequence[Attempt],
    facts: Mapping[str, Any],
    progress: Sequence[Progress],
) -> str:
    """Record a training that has ended, and return its MLflow run, which is still open.

    The run shows the attempt that was chosen. Where there were several, each has a run of
    its own, nested in it.

    Parameters
    ----------
    params : what holds for every attempt
    tags : that every run carries
    attempts, facts, progress : as the workspace has them
    """
    chosen = facts["chosen"]
    run = tracking.start_run(name, params={**params, **_params(attempts[chosen])}, tags=tags)
    tracking.log_inputs(run, inputs)
    _record(tracking, run, facts, [one for one in progress if one.attempt == chosen])
    before = facts.get("base") or {}
    tracking.log_metrics(run, {f"base.{key}": value for key, value in before.items()})
    if len(attempts) > 1:
        for index, attempt in enumerate(attempts):
            nested = tracking.start_run(
                f"{name} attempt {index + 1}: {attempt.strategy.value}",
                params=_params(attempt),
                tags=tags,
                parent=run,
            )
            made = facts["attempts"][index]
            tracking.log_inputs(nested, inputs)
            _record(tracking, nested, made, [one for one in progress if one.attempt == index])
            tracking.set_tag(nested, "driftward.chosen", str(index == chosen).lower())
            if "refused" in made:
                tracking.set_tag(nested, "driftward.refused", made["refused"])
            tracking.end_run(nested, failed="refused" in made)
    return run


def _params(attempt: Attempt) -> dict[str, object]:
    return {**asdict(attempt), "strategy": attempt.strategy.value}


def _record(
    tracking: Tracking, run: str, facts: Mapping[str, Any], progress: Sequence[Progress]
) -> None:
    # A killed training tells an epoch that it repeats a second time, alike.
    ends = {point.epoch: point for point in progress if point.selection_auc is not None}
    tracking.log_curves(
        run,
        {
            epoch: {
                name: value
                for key, name in _CURVES.items()
                if (value := getattr(point, key)) is not None
            }
            for epoch, point in sorted(ends.items())
        },
    )
    numbers = {
        key: value
        for key, value in facts.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    tracking.log_metrics(run, numbers)
