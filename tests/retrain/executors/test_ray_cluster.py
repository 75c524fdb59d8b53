"""The same run on a Ray cluster: the same candidate, and what ends in the middle goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from running_ray import ray_cluster
from safetensors.numpy import load_file
from tiny_bundles import tiny_bundle
from training_workspaces import prepared_workspace

from api.assembly import Driftward
from api.settings import Settings
from registry.bundles.bundle import Bundle
from registry.errors import SetupError, TrainingFailedError
from retrain import workspace
from retrain.executors.local import LocalExecutor
from retrain.executors.ray_cluster import RayExecutor
from retrain.workspace import CHECKPOINT, HEADS, PIXELS

pytestmark = pytest.mark.slow
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", "of this test alone, and of nobody else")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        with ray_cluster() as found:
            yield found


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("base") / "bundle")


def weights(folder: Path) -> dict[str, np.ndarray]:
    facts = workspace.read_result(folder)
    assert facts is not None
    made = workspace.attempt_folder(folder, facts["chosen"])
    encoder = load_file(made / workspace.ENCODER / "model.safetensors")
    return {**encoder, **load_file(made / HEADS)}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_cluster_makes_the_candidate_that_the_worker_itself_would(
    address: str, base: Bundle, tmp_path: Path
) -> None:
    here = prepared_workspace(tmp_path / "here", base)
    LocalExecutor(ENVIRONMENT).train(here, tell=lambda: None)
    there = prepared_workspace(tmp_path / "there", base)
    epochs: set[int] = set()
    RayExecutor(address, ENVIRONMENT, gpus=0).train(
        there,
        tell=lambda: epochs.update(one.epoch for one in workspace.read_progress(there)),
    )
    own, other = weights(here), weights(there)
    assert own.keys() == other.keys()
    for name, value in own.items():
        np.testing.assert_allclose(other[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    assert workspace.read_progress(there) == workspace.read_progress(here)
    assert epochs
    assert (there / PIXELS).exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_checkpoints_come_back_and_a_run_goes_on_from_them(
    address: str, base: Bundle, tmp_path: Path
) -> None:
    folder = prepared_workspace(tmp_path / "run", base)
    whole = prepared_workspace(tmp_path / "whole", base)
    LocalExecutor(ENVIRONMENT).train(whole, tell=lambda: None)

    class StoppedError(Exception):
        pass

    def stop_at_a_checkpoint() -> None:
        if any(folder.glob(f"attempt-*/{CHECKPOINT}-*")):
            raise StoppedError

    executor = RayExecutor(address, ENVIRONMENT, gpus=0)
    with pytest.raises(StoppedError):
        executor.train(folder, tell=stop_at_a_checkpoint)
    assert workspace.read_result(folder) is None
    executor.train(folder, tell=lambda: None)
    own, other = weights(whole), weights(folder)
    for name, value in own.items():
        np.testing.assert_allclose(other[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_why_a_training_failed_is_said_as_it_is_here(
    address: str, base: Bundle, tmp_path: Path
) -> None:
    folder = prepared_workspace(tmp_path / "run", base)
    (folder / PIXELS).write_bytes(b"no array")
    with pytest.raises(TrainingFailedError, match="exit code 1"):
        RayExecutor(address, ENVIRONMENT, gpus=0).train(folder, tell=lambda: None)


def test_the_setting_decides_where_candidates_are_trained(tmp_path: Path) -> None:
    there = Driftward(Settings(home=tmp_path, ray_address="127.0.0.1:1"))
    assert isinstance(there.executor, RayExecutor)
    assert isinstance(Driftward(Settings(home=tmp_path)).executor, LocalExecutor)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_cluster_that_does_not_answer_is_named_with_the_way_out(
    base: Bundle, tmp_path: Path
) -> None:
    folder = prepared_workspace(tmp_path / "run", base)
    with pytest.raises(SetupError, match=r"127\.0\.0\.1:1.*DRIFTWARD_RAY_ADDRESS"):
        RayExecutor("127.0.0.1:1", ENVIRONMENT, gpus=0).train(folder, tell=lambda: None)
