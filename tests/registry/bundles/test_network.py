from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from registry.bundles.assembly import assemble_bundle, import_hugging_face
from registry.bundles.bundle import Bundle
from registry.bundles.card import Card
from registry.bundles.heads import Task, TaskKind
from registry.bundles.network import build_network, network_outputs, write_encoder
from registry.bundles.onnx_session import graph_outputs, open_session
from registry.bundles.preprocessing import Preprocessing
from registry.errors import IntegrityError


def some_pixels(n: int = 4) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(n, 3, 32, 32)).astype(np.float32)


def test_the_network_says_what_the_graph_says(stored_bundle: Bundle) -> None:
    network = build_network(stored_bundle)
    pixels = some_pixels()
    by_torch = network_outputs(network, pixels)
    by_graph = graph_outputs(open_session(stored_bundle.graph(), threads=1), pixels)
    assert by_torch.keys() == by_graph.keys()
    for name, value in by_torch.items():
        np.testing.assert_allclose(value, by_graph[name], atol=1e-4)
    embedding, logits = network(torch.from_numpy(pixels))
    assert embedding.shape == (4, 16)
    assert {task: tuple(value.shape) for task, value in logits.items()} == {
        "pneumonia": (4, 2),
        "type": (4, 3),
    }


@pytest.mark.parametrize("kind", ["mobilenet", "vit-classifier"])
def test_a_trained_encoder_becomes_a_bundle_of_another_space(
    kind: str,
    encoder_of: Callable[[str], Path],
    card: Card,
    preprocessing: Preprocessing,
    tmp_path: Path,
) -> None:
    base = import_hugging_face(encoder_of(kind), card, preprocessing, tmp_path / "base")
    task = Task(name="finding", kind=TaskKind.MULTI_CLASS, classes=("no", "yes"))
    network = build_network(base, new_tasks=[task])
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05)
    target = torch.tensor([0, 1, 0, 1])
    for _ in range(2):  # heads start at zero, so the first step moves them alone
        _, logits = network(torch.from_numpy(some_pixels()))
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(logits["finding"], target).backward()
        optimiser.step()

    write_encoder(network.embedder, tmp_path / "trained")
    bundle = assemble_bundle(
        tmp_path / "trained",
        card,
        preprocessing,
        [task],
        network.head_state(),
        out_dir=tmp_path / "bundle",
    )

    assert sorted(path.name for path in (tmp_path / "trained").iterdir()) == [
        "config.json",
        "model.safetensors",
        "pooling.json",
    ]
    assert bundle.pooling == base.pooling
    assert bundle.space != base.space
    trained = network_outputs(network.eval(), some_pixels())
    stored = graph_outputs(open_session(bundle.graph(), threads=1), some_pixels())
    for name, value in trained.items():
        np.testing.assert_allclose(stored[name], value, atol=1e-4 * max(1, abs(value).max()))
    before = graph_outputs(open_session(base.graph(), threads=1), some_pixels())
    change = np.abs(before["embedding"] - stored["embedding"]).max()
    assert change > 1e-5 * np.abs(before["embedding"]).max()


def test_weights_that_changed_since_the_bundle_was_read_are_not_built(bundle: Bundle) -> None:
    with (bundle.root / "encoder/model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\0")
    with pytest.raises(IntegrityError, match=r"encoder/model\.safetensors .* has changed"):
        build_network(bundle)


def test_loading_leaves_transformers_as_talkative_as_it_was(stored_bundle: Bundle) -> None:
    from transformers.utils import logging

    before = (logging.get_verbosity(), logging.is_progress_bar_enabled())
    build_network(stored_bundle)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_the_heads_start_at_zero_without_a_seed(stored_bundle: Bundle) -> None:
    task = Task(name="new", kind=TaskKind.MULTI_LABEL, classes=("a",))
    network = build_network(stored_bundle, new_tasks=[task])
    state = network.head_state()
    assert not state["new.weight"].any()
    stored = stored_bundle.head_state()
    np.testing.assert_array_equal(state["type.weight"], stored["type.weight"])
