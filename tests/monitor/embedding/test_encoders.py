from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from monitor.embedding.encoders import Encoder, load_encoder
from registry.bundles.assembly import assemble_bundle
from registry.bundles.bundle import Bundle, read_bundle
from registry.bundles.card import Card, IntendedUse, Tier, TrainingData
from registry.bundles.heads import Floats, Task, TaskKind
from registry.bundles.network import build_network, network_outputs
from registry.bundles.preprocessing import DicomWindow, Preprocessing, Unit
from registry.errors import (
    BadInputError,
    EmbeddingsError,
    IntegrityError,
    SetupError,
    SpaceMismatchError,
)

D = 16
PREPROCESSING = Preprocessing(
    unit=Unit.INSTANCE,
    window=DicomWindow(),
    size=(32, 64),
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
CARD = Card(
    name="small",
    tier=Tier.TASK,
    purpose="Stands in for a classifier in tests.",
    intended_use=IntendedUse(),
    not_for=("any patient",),
    training_data=(TrainingData(digest=None, description="random weights", scans=0),),
    licence="Apache-2.0",
)
TASKS = (
    Task(
        name="pneumonia",
        kind=TaskKind.MULTI_CLASS,
        classes=("normal", "pneumonia"),
        positive="pneumonia",
        threshold=0.4,
        temperature=2.0,
    ),
    Task(name="findings", kind=TaskKind.MULTI_LABEL, classes=("effusion", "nodule", "mass")),
)


def heads() -> dict[str, Floats]:
    rng = np.random.default_rng(5)
    return {
        f"{task.name}.{part}": rng.normal(size=shape).astype(np.float32)
        for task in TASKS
        for part, shape in (
            ("weight", (len(task.classes), D)),
            ("bias", (len(task.classes),)),
        )
    }


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A ConvNeXt with two heads; shared, so nobody may change its files."""
    from transformers import ConvNextConfig, ConvNextModel
    from transformers.utils import logging

    root = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    config = ConvNextConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, D])
    logging.disable_progress_bar()
    ConvNextModel(config).save_pretrained(root / "encoder")
    logging.enable_progress_bar()
    return assemble_bundle(
        root / "encoder", CARD, PREPROCESSING, TASKS, heads(), out_dir=root / "bundle"
    )


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A third party's ONNX encoder with our heads."""
    root = tmp_path_factory.mktemp("frozen")
    weight = np.random.default_rng(1).normal(size=(D, 3, 4, 4)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["map"], strides=[4, 4]),
            helper.make_node("GlobalMaxPool", ["map"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["features"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", D])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (root / "theirs.onnx").write_bytes(model.SerializeToString())
    return assemble_bundle(
        root / "theirs.onnx", CARD, PREPROCESSING, TASKS, heads(), out_dir=root / "bundle"
    )


@pytest.fixture(scope="module")
def encoder(bundle: Bundle) -> Encoder:
    return load_encoder(bundle, "cpu", threads=1, batch=4)


def some_pixels(n: int = 11) -> Floats:
    return np.random.default_rng(2).normal(size=(n, 3, 32, 64)).astype(np.float32)


def test_every_scan_gets_an_embedding_and_calibrated_probabilities(encoder: Encoder) -> None:
    encoded = encoder.embed(some_pixels())
    assert encoded.embeddings.shape == (11, D)
    assert encoded.embeddings.dtype == np.float32
    state = heads()
    assert encoded.probabilities.keys() == {"pneumonia", "findings"}
    for task in TASKS:
        logits = encoded.embeddings @ state[f"{task.name}.weight"].T
        logits += state[f"{task.name}.bias"]
        found = encoded.probabilities[task.name]
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, task.probabilities(logits), atol=1e-5)
    np.testing.assert_allclose(encoded.probabilities["pneumonia"].sum(axis=1), 1, atol=1e-6)


def test_the_same_pixels_give_the_same_bits(bundle: Bundle, encoder: Encoder) -> None:
    again = load_encoder(bundle, "cpu", threads=1, batch=4)
    first, second = encoder.embed(some_pixels()), again.embed(some_pixels())
    np.testing.assert_array_equal(first.embeddings, second.embeddings)
    for task, values in first.probabilities.items():
        np.testing.assert_array_equal(second.probabilities[task], values)


@pytest.mark.parametrize(("threads", "batch"), [(1, 1), (1, 32), (2, 3), (None, None)])
def test_batches_and_threads_do_not_matter_beyond_rounding(
    threads: int | None, batch: int | None, bundle: Bundle, encoder: Encoder
) -> None:
    other = load_encoder(bundle, "cpu", threads=threads, batch=batch)
    np.testing.assert_allclose(
        other.embed(some_pixels()).embeddings,
        encoder.embed(some_pixels()).embeddings,
        atol=1e-5,
    )


def test_pixels_need_not_lie_in_one_piece(encoder: Encoder) -> None:
    pixels = some_pixels()
    strided = np.asfortranarray(pixels)
    np.testing.assert_array_equal(
        encoder.embed(strided).embeddings, encoder.embed(pixels).embeddings
    )


def test_no_scans_give_no_rows(encoder: Encoder) -> None:
    encoded = encoder.embed(some_pixels(0))
    assert encoded.embeddings.shape == (0, D)
    assert encoded.probabilities["findings"].shape == (0, 3)


def test_the_torch_network_of_the_gpu_path_embeds_into_the_same_space(
    bundle: Bundle, encoder: Encoder
) -> None:
    run = partial(network_outputs, build_network(bundle), device="cpu")
    by_torch = replace(encoder, run=run, batch=3).embed(some_pixels())
    by_graph = encoder.embed(some_pixels())
    np.testing.assert_allclose(by_torch.embeddings, by_graph.embeddings, atol=1e-4)
    for task in ("pneumonia", "findings"):
        np.testing.assert_allclose(
            by_torch.probabilities[task], by_graph.probabilities[task], atol=1e-5
        )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_embeds_into_the_same_space(bundle: Bundle, encoder: Encoder) -> None:
    on_gpu = load_encoder(bundle, "auto")
    assert on_gpu.device == "cuda"
    np.testing.assert_allclose(
        on_gpu.embed(some_pixels()).embeddings,
        encoder.embed(some_pixels()).embeddings,
        atol=1e-4,
    )


def test_a_frozen_encoder_embeds_and_classifies(frozen: Bundle) -> None:
    encoder = load_encoder(frozen, "cpu", threads=1)
    encoded = encoder.embed(some_pixels())
    assert encoded.embeddings.shape == (11, D)
    assert encoded.probabilities["pneumonia"].shape == (11, 2)
    assert encoder.space == frozen.space


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_without_a_gpu_auto_means_cpu_and_cuda_is_refused(
    bundle: Bundle, frozen: Bundle
) -> None:
    assert load_encoder(bundle).device == "cpu"
    for either in (bundle, frozen):
        with pytest.raises(SetupError, match="cuda cannot be had"):
            load_encoder(either, "cuda")


@pytest.mark.parametrize(
    ("pixels", "says"),
    [
        (
            np.zeros((2, 3, 64, 32), np.float32),
            r"\[n, 3, 32, 64\], got float32 \[2, 3, 64, 32\]",
        ),
        (np.zeros((3, 32, 64), np.float32), r"got float32 \[3, 32, 64\]"),
        (np.zeros((2, 1, 32, 64), np.float32), r"got float32 \[2, 1, 32, 64\]"),
        (np.zeros((2, 3, 32, 64)), "got float64"),
        (np.zeros((2, 3, 32, 64), np.uint8), "got uint8"),
        (np.full((2, 3, 32, 64), np.nan, np.float32), "not finite"),
        (np.full((2, 3, 32, 64), np.inf, np.float32), "not finite"),
    ],
)
def test_pixels_that_the_bundles_preprocessing_cannot_have_made_are_refused(
    pixels: np.ndarray, says: str, encoder: Encoder
) -> None:
    with pytest.raises(BadInputError, match=says):
        encoder.embed(pixels)


def test_values_that_overflow_on_the_way_are_an_error_and_no_embedding(
    frozen: Bundle,
) -> None:
    huge = np.full((1, 3, 32, 64), 3e38, np.float32)
    with pytest.raises(EmbeddingsError, match="not finite"):
        load_encoder(frozen, "cpu").embed(huge)


def test_another_space_is_refused(encoder: Encoder) -> None:
    encoder.require_space(encoder.bundle.space)
    with pytest.raises(SpaceMismatchError, match="never compared"):
        encoder.require_space("0" * 64)


@pytest.mark.parametrize(
    ("device", "options", "says"),
    [
        ("tpu", {}, "'tpu' is none of"),
        ("cpu", {"threads": 0}, "threads must be at least 1, got 0"),
        ("cpu", {"batch": -1}, "batch must be at least 1, got -1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    device: str, options: dict[str, int], says: str, bundle: Bundle
) -> None:
    with pytest.raises(BadInputError, match=says):
        load_encoder(bundle, device, **options)


def test_a_graph_that_changed_since_the_bundle_was_read_is_not_run(
    bundle: Bundle, tmp_path: Path
) -> None:
    copy = read_bundle(Path(shutil.copytree(bundle.root, tmp_path / "copy")))
    with (copy.root / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(IntegrityError, match=r"model\.onnx of bundle small has changed"):
        load_encoder(copy, "cpu")


def test_frames_of_one_scan_are_averaged_before_a_task_speaks(encoder: Encoder) -> None:
    pixels, counts = some_pixels(), (1, 3, 5, 2)
    alone, together = encoder.embed(pixels), encoder.embed(pixels, frames=counts)
    parts = np.split(alone.embeddings.astype(np.float64), np.cumsum(counts)[:-1])
    means = np.stack([part.mean(axis=0) for part in parts])
    assert np.allclose(together.embeddings, means, atol=1e-6)
    state = heads()
    for task in TASKS:
        logits = means @ state[f"{task.name}.weight"].T + state[f"{task.name}.bias"]
        expected = task.probabilities(logits.astype(np.float32))
        assert np.allclose(together.probabilities[task.name], expected, atol=1e-5)


def test_scans_of_one_frame_are_embedded_to_the_same_bits(encoder: Encoder) -> None:
    pixels = some_pixels()
    alone, counted = encoder.embed(pixels), encoder.embed(pixels, frames=[1] * 11)
    assert np.array_equal(alone.embeddings, counted.embeddings)


@pytest.mark.parametrize("counts", [(5, 5), (11, 0), (6, 6), ()])
def test_counts_that_are_not_those_of_the_frames_are_refused(
    encoder: Encoder, counts: tuple[int, ...]
) -> None:
    with pytest.raises(BadInputError, match="frames"):
        encoder.embed(some_pixels(), frames=counts)
