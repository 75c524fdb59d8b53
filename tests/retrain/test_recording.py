"""What anybody else sees of a training in MLflow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from training_workspaces import attempt

from registry.tracking import DatasetInput, Tracking
from retrain.change_plan import Strategy
from retrain.recording import record_training
from retrain.workspace import Attempt, Progress

# MLflow's own, of its queries under SQLAlchemy 2.1.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader:sqlalchemy.exc.SADeprecationWarning"
)

TRIED = (
    attempt(strategy=Strategy.LORA, lora_rank=4),
    attempt(epochs=2, layer_decay=0.8),
    attempt(strategy=Strategy.SELF_SUPERVISED),
)
MADE = [
    {"strategy": "LoRA", "selection_loss": 0.5, "selection_auc": 0.8, "seconds": 3.0},
    {"strategy": "full fine-tuning", "selection_loss": 0.3, "selection_auc": 0.9},
    {"strategy": "self-supervised adaptation", "refused": "too few scans"},
]
INPUTS = [
    DatasetInput(name=f"m-{context}", digest=context[0] * 64, context=context, scans=9)
    for context in ("training", "unlabelled")
]


@pytest.fixture
def recorded(mlflow_home: Path) -> tuple[MlflowClient, Run, dict[str, Run]]:
    """The run of a training that chose the second of three attempts, and those of the attempts."""
    uri = f"sqlite:///{mlflow_home / 'mlflow.db'}"
    tracking = Tracking(uri, mlflow_home / "artifacts")
    number = record_training(
        tracking,
        "m run 7",
        params={"seed": 3},
        tags={"driftward.run": "7"},
        inputs=INPUTS,
        attempts=TRIED,
        facts={
            **MADE[1],
            "chosen": 1,
            "attempts": MADE,
            "base": {"selection_auc": 0.7},
        },
        progress=[
            *curve(0, TRIED[0], losses=(0.6, 0.5)),
            *curve(1, TRIED[1], losses=(0.4, 0.3)),
        ],
    )
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.get_run(number).info.experiment_id
    others = client.search_runs(
        [experiment], filter_string=f"tags.`mlflow.parentRunId` = '{number}'"
    )
    return client, client.get_run(number), {run.data.params["strategy"]: run for run in others}


def curve(number: int, tried: Attempt, *, losses: tuple[float, ...]) -> Iterator[Progress]:
    """Yield what a training tells: a step of each epoch, and its end; the first epoch twice."""
    for epoch, loss in [(0, losses[0]), *enumerate(losses)]:
        told = {
            "epochs": len(losses),
            "steps": 9,
            "attempt": number,
            "attempts": len(TRIED),
            "strategy": tried.strategy.value,
        }
        yield Progress(epoch=epoch, step=0, loss=9.9, selection_auc=None, **told)
        yield Progress(
            epoch=epoch + 1,
            step=9,
            loss=loss,
            selection_auc=1 - loss,
            training_loss=loss / 2,
            **told,
        )


def values(client: MlflowClient, run: Run, key: str) -> dict[int, float]:
    return {
        point.step: point.value for point in client.get_metric_history(run.info.run_id, key)
    }


def test_the_run_has_the_parameters_and_figures_of_the_attempt_that_was_chosen(
    recorded: tuple[MlflowClient, Run, dict[str, Run]],
) -> None:
    _, run, _ = recorded
    assert run.data.tags["driftward.run"] == "7"
    params = run.data.params
    assert (params["seed"], params["strategy"]) == ("3", "full fine-tuning")
    assert (params["layer_decay"], params["lora_layers"]) == ("0.8", "attention")
    assert run.data.metrics["selection_loss"] == 0.3
    assert run.data.metrics["base.selection_auc"] == 0.7


def test_its_curves_have_a_point_for_each_epoch_however_often_that_was_told(
    recorded: tuple[MlflowClient, Run, dict[str, Run]],
) -> None:
    client, run, attempts = recorded
    assert values(client, run, "selection_loss_by_epoch") == {1: 0.4, 2: 0.3}
    assert values(client, run, "selection_auc_by_epoch") == {1: 0.6, 2: 0.7}
    assert values(client, run, "training_loss_by_epoch") == {1: 0.2, 2: 0.15}
    other = attempts["LoRA"]
    assert values(client, other, "selection_loss_by_epoch") == {1: 0.6, 2: 0.5}


def test_each_attempt_has_a_run_of_its_own_that_says_whether_it_was_chosen_or_refused(
    recorded: tuple[MlflowClient, Run, dict[str, Run]],
) -> None:
    _, _, attempts = recorded
    assert {name: run.data.tags["driftward.chosen"] for name, run in attempts.items()} == {
        "LoRA": "false",
        "full fine-tuning": "true",
        "self-supervised adaptation": "false",
    }
    refused = attempts["self-supervised adaptation"]
    assert refused.data.tags["driftward.refused"] == "too few scans"
    assert refused.info.status == "FAILED"
    assert attempts["LoRA"].data.params["lora_rank"] == "4"
    assert attempts["LoRA"].data.metrics["seconds"] == 3.0


def test_every_run_names_the_datasets_that_it_read(
    recorded: tuple[MlflowClient, Run, dict[str, Run]],
) -> None:
    _, run, attempts = recorded
    for one in (run, *attempts.values()):
        read = {item.tags[0].value: item.dataset.name for item in one.inputs.dataset_inputs}
        assert read == {"training": "m-training", "unlabelled": "m-unlabelled"}
