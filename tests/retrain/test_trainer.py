"""The training subprocess: what it leaves, and that nothing it is put through changes it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_bundles import DIMENSION, TASK, finding, tiny_bundle
from training_workspaces import (
    SCANS,
    attempt,
    prepared_workspace,
    train_and_die,
    train_here,
)

from registry.bundles.bundle import Bundle
from registry.bundles.heads import read_head_state
from registry.errors import TrainingFailedError
from retrain import workspace
from retrain.change_plan import Strategy

#: Enough that a process can be killed between the first checkpoint and the end.
EPOCHS = 24
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("base") / "bundle")


@pytest.fixture(scope="module")
def with_head(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A base that has the task already."""
    return tiny_bundle(tmp_path_factory.mktemp("with-head") / "bundle", tasks=[finding()])


def start(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "retrain.trainer", folder], env=ONE_THREAD)


def train(folder: Path) -> Path:
    """Train in a process of its own, as in use."""
    assert start(folder).wait(timeout=120) == 0
    return folder


def learned(folder: Path) -> dict[str, object]:
    """Return everything that training left, but for how long it took."""
    facts = workspace.read_result(folder)
    assert facts is not None
    return {
        "facts": without_seconds(facts),
        **{
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.glob("attempt-*/**/*.safetensors"))
            if not any(part.startswith("checkpoint") for part in path.parts)
        },
    }


def without_seconds(facts: object) -> object:
    if isinstance(facts, dict):
        return {
            name: without_seconds(value)
            for name, value in facts.items()
            if not name.endswith("seconds")
        }
    return [without_seconds(one) for one in facts] if isinstance(facts, list) else facts


@pytest.fixture(scope="module")
def undisturbed(base: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_here(prepared_workspace(tmp_path_factory.mktemp("undisturbed") / "run", base))


def test_training_learns_and_leaves_encoder_heads_and_facts_that_read_back(
    undisturbed: Path, base: Bundle
) -> None:
    facts = workspace.read_result(undisturbed)
    assert facts is not None
    assert facts["selection_auc"] > 0.75
    assert (facts["training_scans"], facts["selection_scans"]) == (48, 24)
    assert 0 < facts["threshold"] < 1
    made = undisturbed / "attempt-0"
    heads = read_head_state(made / workspace.HEADS, [finding()], dimension=DIMENSION)
    assert heads[f"{TASK}.weight"].shape == (2, DIMENSION)
    before = load_file(base.encoder_path / "model.safetensors")
    after = load_file(made / workspace.ENCODER / "model.safetensors")
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
    best = ends[facts["best_epoch"] - 1]
    assert best.loss == min(item.loss for item in ends)
    # The temperature that is fitted to what was kept can only lower it.
    assert facts["selection_loss"] <= best.loss


def test_the_best_epoch_is_kept_and_not_the_last(base: Bundle, tmp_path: Path) -> None:
    # Fast enough to learn the training scans by heart: the last epoch is not the best.
    folder = train_here(
        prepared_workspace(tmp_path / "run", base, attempt(encoder_rate=1e-2, head_rate=3e-2))
    )
    told = workspace.read_progress(folder)
    losses = [item.loss for item in told if item.selection_auc is not None]
    facts = workspace.read_result(folder)
    assert facts is not None
    assert losses[-1] > min(losses) == losses[facts["best_epoch"] - 1]
    assert facts["selection_loss"] <= min(losses)


@pytest.mark.slow
def test_a_training_that_was_killed_goes_on_and_ends_as_if_undisturbed(
    base: Bundle, undisturbed: Path, tmp_path: Path
) -> None:
    folder = prepared_workspace(tmp_path / "run", base)
    process = start(folder)
    while not list(folder.glob("attempt-0/checkpoint-*")):
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


#: After how many words of progress each is in the middle: in the third of four epochs, each of
#: which says three, after the third of the penalties, or its only step.
IN_THE_MIDDLE = {
    Strategy.RECALIBRATION: 1,
    Strategy.LINEAR_PROBE: 3,
    Strategy.LORA: 8,
    Strategy.SELF_SUPERVISED: 8,
    Strategy.FULL: 8,
}


@pytest.mark.slow
@pytest.mark.parametrize("strategy", list(Strategy))
def test_every_strategy_that_was_killed_in_the_middle_comes_to_the_same_candidate(
    with_head: Bundle, tmp_path: Path, strategy: Strategy
) -> None:
    tried = attempt(strategy=strategy, epochs=4, adaptation_epochs=4, lora_rank=2)

    def prepared(name: str) -> Path:
        return prepared_workspace(
            tmp_path / name, with_head, tried, agreeing=True, scans=3 * SCANS
        )

    whole, killed = prepared("whole"), prepared("killed")
    train_here(whole)
    train_and_die(killed, told=IN_THE_MIDDLE[strategy])
    assert workspace.read_result(killed) is None
    told = len(workspace.read_progress(killed))
    train_here(killed)
    assert learned(killed) == learned(whole)
    if strategy not in {Strategy.RECALIBRATION, Strategy.LINEAR_PROBE}:
        resumed = [item.epoch for item in workspace.read_progress(killed)[told:]]
        assert min(resumed) == 2, "it went on from the checkpoint of its second epoch"


def test_what_a_crash_left_half_written_is_ignored(
    base: Bundle, undisturbed: Path, tmp_path: Path
) -> None:
    folder = prepared_workspace(tmp_path / "run", base)
    for unfinished in (".checkpoint-9", workspace.ENCODER):
        (folder / "attempt-0" / unfinished).mkdir(parents=True)
        (folder / "attempt-0" / unfinished / "state.safetensors").write_bytes(b"half a fi")
    train_here(folder)
    assert learned(folder) == learned(undisturbed)


def test_one_whole_checkpoint_is_kept(undisturbed: Path) -> None:
    [kept] = undisturbed.glob("attempt-0/checkpoint-*")
    assert kept.name == f"checkpoint-{EPOCHS}"
    assert {path.name for path in kept.iterdir()} == {"state.json", "state.safetensors"}
    assert not list(undisturbed.glob("attempt-0/.checkpoint-*"))


def test_a_finished_training_is_not_done_again(undisturbed: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(undisturbed, tmp_path / "run"))
    (folder / workspace.PIXELS).unlink()  # it could not train any more
    before = learned(folder)
    assert learned(train_here(folder)) == before


def test_frozen_layers_stay_and_the_others_move(base: Bundle, tmp_path: Path) -> None:
    from registry.bundles.network import load_embedder

    folder = train_here(
        prepared_workspace(tmp_path / "run", base, attempt(epochs=1, frozen_share=0.5))
    )
    before, after = (
        [list(module.parameters(recurse=False)) for module in load_embedder(path).modules()]
        for path in (base.encoder_path, folder / "attempt-0" / workspace.ENCODER)
    )
    moved = [
        any(not old.equal(new) for old, new in zip(first, second, strict=True))
        for first, second in zip(before, after, strict=True)
        if first
    ]
    frozen = round(0.5 * len(moved))
    assert moved == [False] * frozen + [True] * (len(moved) - frozen)


@pytest.mark.parametrize("strategy", [Strategy.LINEAR_PROBE, Strategy.RECALIBRATION])
def test_what_changes_no_encoder_leaves_none_behind(tmp_path: Path, strategy: Strategy) -> None:
    base = tiny_bundle(tmp_path / "bundle", tasks=[finding()])
    folder = train_here(
        prepared_workspace(tmp_path / "run", base, attempt(strategy=strategy), agreeing=True)
    )
    made = folder / "attempt-0"
    assert not (made / workspace.ENCODER).exists()
    before = base.head_state()[f"{TASK}.weight"]
    after = read_head_state(made / workspace.HEADS, [finding()], dimension=DIMENSION)
    moved = not np.array_equal(before, after[f"{TASK}.weight"])
    assert moved == (strategy is Strategy.LINEAR_PROBE)


def test_attempts_are_compared_on_the_selection_set_and_all_are_told(
    base: Bundle, tmp_path: Path
) -> None:
    tried = (
        attempt(strategy=Strategy.RECALIBRATION),
        attempt(strategy=Strategy.LORA, epochs=6),
        attempt(epochs=6),
    )
    folder = train_here(prepared_workspace(tmp_path / "run", base, *tried))
    facts = workspace.read_result(folder)
    assert facts is not None
    made = facts["attempts"]
    assert [one["strategy"] for one in made] == [one.strategy.value for one in tried]
    assert "nothing to recalibrate" in made[0]["refused"]
    best = min((1, 2), key=lambda index: made[index]["selection_loss"])
    assert facts["chosen"] == best
    assert {one.attempt for one in workspace.read_progress(folder)} == {1, 2}


def test_low_rank_updates_are_merged_so_that_an_ordinary_encoder_remains(
    base: Bundle, tmp_path: Path
) -> None:
    low_rank = attempt(strategy=Strategy.LORA, epochs=3, lora_rank=2)
    folder = train_here(prepared_workspace(tmp_path / "run", base, low_rank))
    before = load_file(base.encoder_path / "model.safetensors")
    after = load_file(folder / "attempt-0" / workspace.ENCODER / "model.safetensors")
    assert before.keys() == after.keys()
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved
    for name in moved:
        assert re.search(r"(q_proj|k_proj|v_proj|o_proj|query|key|value|attention)", name)
        assert np.linalg.matrix_rank(after[name] - before[name], tol=1e-6) <= 2


def test_an_encoder_without_attention_says_which_strategies_fit(tmp_path: Path) -> None:
    base = tiny_bundle(tmp_path / "bundle", architecture="convnext")
    low_rank = attempt(strategy=Strategy.LORA)
    with pytest.raises(TrainingFailedError, match=r"has none: recalibration, .* fit it"):
        train_here(prepared_workspace(tmp_path / "run", base, low_rank))


@pytest.mark.parametrize("architecture", ["vit", "dinov2", "convnext", "swin"])
def test_every_kind_of_encoder_is_exported_embeds_and_trains(
    tmp_path: Path, architecture: str
) -> None:
    base = tiny_bundle(tmp_path / "bundle", architecture=architecture)
    tried = [
        attempt(strategy=strategy, epochs=1)
        for strategy in (Strategy.LINEAR_PROBE, Strategy.FULL, Strategy.LORA)
        if (strategy, architecture) != (Strategy.LORA, "convnext")
    ]
    folder = train_here(prepared_workspace(tmp_path / "run", base, *tried))
    facts = workspace.read_result(folder)
    assert facts is not None
    assert not [one["refused"] for one in facts["attempts"] if "refused" in one]


def test_patience_ends_a_training_that_no_longer_improves(base: Bundle, tmp_path: Path) -> None:
    eager = attempt(encoder_rate=1e-2, head_rate=3e-2, patience=2, epochs=60)
    folder = train_here(prepared_workspace(tmp_path / "run", base, eager))
    ends = [
        one.loss for one in workspace.read_progress(folder) if one.selection_auc is not None
    ]
    assert len(ends) < 60
    assert ends.index(min(ends)) == len(ends) - 3


def test_another_seed_gives_another_result(
    base: Bundle, undisturbed: Path, tmp_path: Path
) -> None:
    folder = train_here(prepared_workspace(tmp_path / "run", base, seed=4))
    assert learned(folder) != learned(undisturbed)


def test_a_selection_set_without_an_error_leaves_the_probabilities_as_trained(
    base: Bundle, tmp_path: Path
) -> None:
    folder = train_here(prepared_workspace(tmp_path / "run", base, separable=True))
    facts = workspace.read_result(folder)
    assert facts is not None
    assert (facts["selection_auc"], facts["temperature"]) == (1.0, 1.0)
