"""Every strategy trains every kind of task, goes on after a kill, and a first version of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tiny_bundles import DIMENSION, SIDE, tiny_bundle
from training_workspaces import attempt, train_and_die, train_here

from registry.bundles.bundle import Bundle
from registry.bundles.heads import Task, TaskKind, read_head_state
from registry.bundles.network import build_network, network_outputs
from retrain import workspace
from retrain.change_plan import Strategy
from retrain.workspace import Role, TrainingJob

SCANS = 216
TRIAGE = Task(
    name="triage",
    kind=TaskKind.MULTI_CLASS,
    classes=("normal", "fluid", "mass"),
    positive="fluid",
    threshold=0.5,
)
CHEST = Task(name="chest", kind=TaskKind.MULTI_LABEL, classes=("fluid", "mass"), threshold=0.5)
#: Two classes whose first one is the finding: no margin of the second over the first.
REVERSED = Task(
    name="reversed",
    kind=TaskKind.MULTI_CLASS,
    classes=("fluid", "normal"),
    positive="fluid",
    threshold=0.5,
)
TASKS = (TRIAGE, CHEST, REVERSED)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("several") / "bundle", tasks=TASKS)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("bare") / "bundle")


def prepared(
    folder: Path, base: Bundle, said: Bundle, task: Task, *strategies: Strategy, epochs: int = 3
) -> Path:
    """Write a workspace whose labels are what a bundle's head says, and something else of a few."""
    folder.mkdir()
    rng = np.random.default_rng(4)
    bright = rng.integers(0, 3, size=SCANS)
    pixels = rng.normal(size=(SCANS, 3, SIDE, SIDE)) + 0.5 * bright[:, None, None, None]
    targets = _said_by(said, pixels.astype(np.float32), task, rng)
    numbers, training = np.arange(SCANS), SCANS * 2 // 3
    workspace.write_data(
        folder,
        pixels=pixels.astype(np.float32),
        targets=targets,
        roles=np.where(numbers < training, Role.TRAINING, Role.SELECTION).astype(np.int8),
        shifted=numbers >= training // 3,
    )
    tried = [
        attempt(strategy=one, epochs=epochs, adaptation_epochs=epochs, lora_rank=2)
        for one in strategies
    ]
    workspace.write_job(
        folder,
        TrainingJob(
            base=str(base.root),
            task=task.name,
            classes=task.classes,
            attempts=tuple(tried),
            seed=3,
            threads=1,
            kind=task.kind,
            finding=task.column,
        ),
    )
    return folder


def _said_by(
    bundle: Bundle, pixels: npt.NDArray[np.float32], task: Task, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    logits = network_outputs(build_network(bundle), pixels)[task.output]
    centred = logits - np.median(logits, axis=0)
    if task.kind is TaskKind.MULTI_LABEL:
        said = (centred > 0).astype(np.int64)
        wrong = rng.random(said.shape) < 0.15
        return np.where(wrong, 1 - said, said)
    said = centred.argmax(axis=1).astype(np.int64)
    drawn = rng.integers(0, len(task.classes), size=SCANS)
    return np.where(rng.random(SCANS) < 0.15, drawn, said)


def learned(folder: Path) -> dict[str, Any]:
    facts = workspace.read_result(folder)
    assert facts is not None
    kept = {name: value for name, value in facts["attempts"][0].items() if name != "seconds"}
    heads = (folder / "attempt-0" / workspace.HEADS).read_bytes()
    return {**kept, "heads": heads}


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
@pytest.mark.parametrize("strategy", list(Strategy))
def test_every_strategy_makes_a_candidate_that_is_read_as_it_was_judged(
    base: Bundle, tmp_path: Path, strategy: Strategy, task: Task
) -> None:
    folder = train_here(prepared(tmp_path / "run", base, base, task, strategy))
    facts = workspace.read_result(folder)
    assert facts is not None
    [made] = facts["attempts"]
    assert "refused" not in made
    assert 0.0 < made["threshold"] < 1.0
    heads = read_head_state(folder / "attempt-0" / workspace.HEADS, TASKS, dimension=DIMENSION)
    before = base.head_state()
    for other in TASKS:
        if other.name != task.name:
            assert np.array_equal(heads[f"{other.name}.weight"], before[f"{other.name}.weight"])
    moved = any(
        not np.array_equal(heads[f"{task.name}.{part}"], before[f"{task.name}.{part}"])
        for part in ("weight", "bias")
    )
    assert moved
    # What the base says of the selection is told beside it.
    assert facts["base"]["selection_auc"] > 0.7


@pytest.mark.parametrize("task", [TRIAGE, CHEST], ids=lambda task: task.name)
def test_a_base_without_the_task_gets_a_head_for_it(
    base: Bundle, bare: Bundle, tmp_path: Path, task: Task
) -> None:
    strategies = (Strategy.LINEAR_PROBE, Strategy.LORA, Strategy.FULL)
    folder = train_here(prepared(tmp_path / "run", bare, base, task, *strategies, epochs=8))
    facts = workspace.read_result(folder)
    assert facts is not None
    assert not [one for one in facts["attempts"] if "refused" in one]
    assert facts["selection_auc"] > 0.65
    assert facts["base"] is None
    made = folder / f"attempt-{facts['chosen']}" / workspace.HEADS
    heads = read_head_state(made, [task], dimension=DIMENSION)
    assert heads[f"{task.name}.weight"].shape == (len(task.classes), DIMENSION)


@pytest.mark.slow
@pytest.mark.parametrize("task", [TRIAGE, CHEST], ids=lambda task: task.name)
@pytest.mark.parametrize(
    ("strategy", "told"), [(Strategy.LINEAR_PROBE, 3), (Strategy.LORA, 8), (Strategy.FULL, 8)]
)
def test_one_that_was_killed_in_the_middle_comes_to_the_same_candidate(
    base: Bundle, tmp_path: Path, task: Task, strategy: Strategy, told: int
) -> None:
    whole, killed = (
        prepared(tmp_path / name, base, base, task, strategy, epochs=6)
        for name in ("whole", "killed")
    )
    train_here(whole)
    train_and_die(killed, told=told)
    train_here(killed)
    assert learned(killed) == learned(whole)
