"""The training subprocess: what it leaves, and that nothing it is put through changes it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_bundles import DIMENSION, SIDE, TASK, finding, tiny_bundle

from registry.bundles.bundle import Bundle
from registry.bundles.heads import read_head_state
from retrain import workspace
from retrain.workspace import Role, TrainingJob

#: Enough that a process can be killed between the first checkpoint and the end.
EPOCHS = 24
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("base") / "bundle")


def prepare(folder: Path, base: Bundle, *, separable: bool = False, **changes: object) -> Path:
    """Write a workspace whose two classes differ by how bright most of them are."""
    folder.mkdir()
    rng = np.random.default_rng(4)
    targets = np.arange(72) % 2
    bright = targets if separable else np.where(rng.random(72) < 0.1, 1 - targets, targets)
    pixels = rng.normal(size=(72, 3, SIDE, SIDE)) + 0.5 * bright[:, None, None, None]
    workspace.write_data(
        folder,
        pixels=pixels.astype(np.float32),
        targets=targets.astype(np.int64),
        roles=np.where(np.arange(72) < 48, Role.TRAINING, Role.SELECTION).astype(np.int8),
    )
    job = TrainingJob(
        base=str(base.root),
        task=TASK,
        classes=("normal", "pneumonia"),
        head_only=False,
        epochs=EPOCHS,
        batch_size=16,
        encoder_rate=1e-3,
        head_rate=1e-2,
        weight_decay=1e-4,
        frozen_share=0.0,
        seed=3,
        threads=1,
    )
    workspace.write_job(folder, replace(job, **changes))
    return folder


def start(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "retrain.trainer", folder], env=ONE_THREAD)


def train(folder: Path) -> Path:
    """Train in a process of its own, as in use."""
    assert start(folder).wait(timeout=120) == 0
    return folder


def train_here(folder: Path) -> Path:
    """Train in this process, which saves the seconds that importing torch takes."""
    import torch

    from retrain.trainer import main

    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    try:
        main(folder)
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
    return folder


def learned(folder: Path) -> dict[str, object]:
    """Return everything that training left, but for how long it took."""
    result = folder / workspace.RESULT
    facts = workspace.read_result(folder)
    assert facts is not None
    return {
        **{name: value for name, value in facts.items() if name != "seconds"},
        **{
            str(path.relative_to(result)): path.read_bytes()
            for path in sorted(result.rglob("*.safetensors"))
        },
    }


@pytest.fixture(scope="module")
def undisturbed(base: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_here(prepare(tmp_path_factory.mktemp("undisturbed") / "run", base))


def test_training_learns_and_leaves_encoder_heads_and_facts_that_read_back(
    undisturbed: Path, base: Bundle
) -> None:
    facts = workspace.read_result(undisturbed)
    assert facts is not None
    assert facts["selection_auc"] > 0.75
    assert (facts["training_scans"], facts["selection_scans"]) == (48, 24)
    assert 0 < facts["threshold"] < 1
    result = undisturbed / workspace.RESULT
    heads = read_head_state(result / "heads.safetensors", [finding()], dimension=DIMENSION)
    assert heads[f"{TASK}.weight"].shape == (2, DIMENSION)
    before = load_file(base.encoder_path / "model.safetensors")
    after = load_file(result / "encoder" / "model.safetensors")
    assert {name: value.shape for name, value in after.items()} == {
        name: value.shape for name, value in before.items()
    }


def test_progress_tells_each_epoch_with_its_area_under_the_curve(undisturbed: Path) -> None:
    told = workspace.read_progress(undisturbed)
    ends = [item for item in told if item.selection_auc is not None]
    assert [item.epoch for item in ends] == list(range(1, EPOCHS + 1))
    # `best` is kept by loss: what was written has the smallest that was told.
    facts = workspace.read_result(undisturbed)
    assert facts is not None
    assert facts["selection_loss"] == min(item.loss for item in ends)


def test_the_best_epoch_is_kept_and_not_the_last(base: Bundle, tmp_path: Path) -> None:
    # Fast enough to learn the training scans by heart: the last epoch is not the best.
    folder = train_here(prepare(tmp_path / "run", base, encoder_rate=1e-2, head_rate=3e-2))
    told = workspace.read_progress(folder)
    losses = [item.loss for item in told if item.selection_auc is not None]
    facts = workspace.read_result(folder)
    assert facts is not None
    assert losses[-1] > min(losses) == facts["selection_loss"]


def test_a_training_that_was_killed_goes_on_and_ends_as_if_undisturbed(
    base: Bundle, undisturbed: Path, tmp_path: Path
) -> None:
    folder = prepare(tmp_path / "run", base)
    process = start(folder)
    while not list(folder.glob("checkpoint-*")):
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert workspace.read_result(folder) is None
    told = len(workspace.read_progress(folder))
    train(folder)
    assert learned(folder) == learned(undisturbed)
    resumed = [item.epoch for item in workspace.read_progress(folder)[told:]]
    assert min(resumed) >= 1, "it began again from the first epoch"


def test_what_a_crash_left_half_written_is_ignored(
    base: Bundle, undisturbed: Path, tmp_path: Path
) -> None:
    folder = prepare(tmp_path / "run", base)
    for unfinished in (".checkpoint-9", workspace.RESULT):
        (folder / unfinished).mkdir()
        (folder / unfinished / "state.safetensors").write_bytes(b"half a fi")
    train_here(folder)
    assert learned(folder) == learned(undisturbed)


def test_one_whole_checkpoint_is_kept(undisturbed: Path) -> None:
    [kept] = undisturbed.glob("checkpoint-*")
    assert kept.name == f"checkpoint-{EPOCHS}"
    assert {path.name for path in kept.iterdir()} == {"state.json", "state.safetensors"}
    assert not list(undisturbed.glob(".checkpoint-*"))


def test_a_finished_training_is_not_done_again(undisturbed: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(undisturbed, tmp_path / "run"))
    (folder / workspace.PIXELS).unlink()  # it could not train any more
    before = learned(folder)
    assert learned(train_here(folder)) == before


def test_frozen_layers_stay_and_the_others_move(base: Bundle, tmp_path: Path) -> None:
    from registry.bundles.network import load_embedder

    folder = train_here(prepare(tmp_path / "run", base, epochs=1, frozen_share=0.5))
    before, after = (
        [list(module.parameters(recurse=False)) for module in load_embedder(path).modules()]
        for path in (base.encoder_path, folder / workspace.RESULT / "encoder")
    )
    moved = [
        any(not old.equal(new) for old, new in zip(first, second, strict=True))
        for first, second in zip(before, after, strict=True)
        if first
    ]
    frozen = round(0.5 * len(moved))
    assert moved == [False] * frozen + [True] * (len(moved) - frozen)


def test_a_linear_probe_leaves_the_encoder_as_it_was(base: Bundle, tmp_path: Path) -> None:
    folder = train_here(prepare(tmp_path / "run", base, epochs=1, head_only=True))
    before = load_file(base.encoder_path / "model.safetensors")
    result = folder / workspace.RESULT
    after = load_file(result / "encoder" / "model.safetensors")
    assert all(np.array_equal(before[name], after[name]) for name in before)
    heads = read_head_state(result / "heads.safetensors", [finding()], dimension=DIMENSION)
    assert np.any(heads[f"{TASK}.weight"] != 0), "the head did not learn"


def test_another_seed_gives_another_result(
    base: Bundle, undisturbed: Path, tmp_path: Path
) -> None:
    folder = train_here(prepare(tmp_path / "run", base, seed=4))
    assert learned(folder) != learned(undisturbed)


def test_a_selection_set_without_an_error_leaves_the_probabilities_as_trained(
    base: Bundle, tmp_path: Path
) -> None:
    folder = train_here(prepare(tmp_path / "run", base, separable=True))
    facts = workspace.read_result(folder)
    assert facts is not None
    assert (facts["selection_auc"], facts["temperature"]) == (1.0, 1.0)
