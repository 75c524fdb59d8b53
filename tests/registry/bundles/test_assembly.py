from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from registry.bundles.assembly import assemble_bundle, import_hugging_face, measure_parity
from registry.bundles.bundle import Bundle, hashed_files, read_bundle, weights_digest
from registry.bundles.card import Card
from registry.bundles.heads import Floats, Task
from registry.bundles.onnx_session import graph_outputs, open_session
from registry.bundles.parity import PARITY_TOLERANCE, write_parity
from registry.bundles.pooling import Pooling
from registry.bundles.preprocessing import Preprocessing
from registry.errors import BundleError, ParityError, StorageFullError


@pytest.fixture
def encoder(encoder_of: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of a tiny ViT's directory, to be changed at will."""
    return Path(shutil.copytree(encoder_of("vit"), tmp_path / "encoder"))


@pytest.mark.parametrize(
    ("kind", "pooling", "dimension"),
    [
        ("mobilenet", Pooling.POOLER, 1280),
        ("vit", Pooling.POOLER, 16),
        ("vit-classifier", Pooling.CLASS_TOKEN, 16),
        ("dinov2", Pooling.POOLER, 16),
        ("convnext", Pooling.POOLER, 16),
    ],
)
def test_a_hugging_face_directory_becomes_a_bundle_whose_two_forms_agree(
    kind: str,
    pooling: Pooling,
    dimension: int,
    encoder_of: Callable[[str], Path],
    card: Card,
    preprocessing: Preprocessing,
    tmp_path: Path,
) -> None:
    bundle = import_hugging_face(encoder_of(kind), card, preprocessing, tmp_path / "bundle")
    assert (bundle.pooling, bundle.dimension, bundle.tasks) == (pooling, dimension, ())
    assert bundle.trainable
    assert 0 < bundle.parity.error <= PARITY_TOLERANCE
    assert read_bundle(bundle.root) == bundle
    # Not only the batches that parity saw, and not a constant.
    pixels = np.random.default_rng(0).normal(size=(7, *preprocessing.shape))
    embedding = graph_outputs(
        open_session(bundle.graph(), threads=1), pixels.astype(np.float32)
    )["embedding"]
    assert embedding.shape == (7, dimension)
    assert embedding.std(axis=0).max() > 0


def test_a_mean_is_the_mean_over_the_feature_map(
    encoder_of: Callable[[str], Path], card: Card, preprocessing: Preprocessing, tmp_path: Path
) -> None:
    from transformers import SegformerModel

    directory = encoder_of("segformer")
    bundle = import_hugging_face(directory, card, preprocessing, tmp_path / "bundle")
    assert bundle.pooling is Pooling.MEAN
    pixels = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        hidden = SegformerModel.from_pretrained(directory).eval()(torch.from_numpy(pixels))
    expected = hidden.last_hidden_state.numpy().mean(axis=(2, 3))
    found = graph_outputs(open_session(bundle.graph(), threads=1), pixels)["embedding"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_heads_are_part_of_the_graph_and_leave_the_space_alone(
    encoder_of: Callable[[str], Path],
    card: Card,
    preprocessing: Preprocessing,
    tasks: tuple[Task, ...],
    heads_of: Callable[..., dict[str, Floats]],
    tmp_path: Path,
) -> None:
    base = import_hugging_face(encoder_of("vit"), card, preprocessing, tmp_path / "base")
    state = heads_of(tasks, base.dimension)
    bundle = assemble_bundle(
        base.encoder_path, card, preprocessing, tasks, state, out_dir=tmp_path / "headed"
    )
    assert bundle.space == base.space
    assert bundle.digest != base.digest
    assert bundle.parity.errors.keys() == {"embedding", "logits_pneumonia", "logits_type"}
    pixels = np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype(np.float32)
    plain = graph_outputs(open_session(base.graph(), threads=1), pixels)
    headed = graph_outputs(open_session(bundle.graph(), threads=1), pixels)
    np.testing.assert_array_equal(headed["embedding"], plain["embedding"])
    for task in tasks:
        expected = plain["embedding"] @ state[f"{task.name}.weight"].T
        expected += state[f"{task.name}.bias"]
        np.testing.assert_allclose(headed[task.output], expected, atol=1e-5)
    np.testing.assert_array_equal(bundle.head_state()["type.weight"], state["type.weight"])


def test_the_same_parts_give_the_same_bytes_wherever_they_are_put_together(
    encoder_of: Callable[[str], Path], card: Card, preprocessing: Preprocessing, tmp_path: Path
) -> None:
    first, second = (
        import_hugging_face(encoder_of("convnext"), card, preprocessing, tmp_path / name)
        for name in ("one", "two")
    )
    assert first.files == second.files
    assert (first.digest, first.space) == (second.digest, second.space)


def test_another_preprocessing_is_another_space(
    stored_bundle: Bundle, card: Card, preprocessing: Preprocessing, tmp_path: Path
) -> None:
    other = import_hugging_face(
        stored_bundle.encoder_path,
        card,
        replace(preprocessing, mean=(0.5, 0.5, 0.5)),
        tmp_path / "bundle",
    )
    assert other.encoder_digest == stored_bundle.encoder_digest
    assert other.space != stored_bundle.space


def test_half_precision_weights_are_read_as_float32(
    encoder: Path, card: Card, preprocessing: Preprocessing, tmp_path: Path
) -> None:
    weights = load_file(encoder / "model.safetensors")
    halved = {name: value.astype(np.float16) for name, value in weights.items()}
    save_file(halved, encoder / "model.safetensors", metadata={"format": "pt"})
    bundle = import_hugging_face(encoder, card, preprocessing, tmp_path / "bundle")
    assert bundle.parity.error <= PARITY_TOLERANCE


def _pickled(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")


def _sharded(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "model-00001-of-00002.safetensors")
    (directory / "model.safetensors.index.json").write_text("{}")


def _configured(**changes: object) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        path = directory / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def _without_a_layer(directory: Path) -> None:
    weights = load_file(directory / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


def _not_finite(directory: Path) -> None:
    weights = load_file(directory / "model.safetensors")
    weights["layernorm.bias"][0] = np.nan
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


def _truncated(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _pooled(text: str) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        (directory / "pooling.json").write_text(text)

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_pickled, "lacks model.safetensors: its weights are a pickle, which is never read"),
        (_sharded, "several files; save them in one"),
        (lambda directory: (directory / "config.json").unlink(), "lacks config.json"),
        (_configured(auto_map={"AutoModel": "evil.Model"}), "'auto_map': code from elsewhere"),
        (_configured(attn_implementation="someone/kernel"), "'attn_implementation' must be"),
        (_configured(model_type="no-such-model"), "encoder cannot be built"),
        (_configured(model_type=None), "names no model_type"),
        (_configured(image_size=64), r"has 1 weights of other sizes .* embeddings\.position"),
        (
            _configured(hidden_size=32),
            r"weights of other sizes than config\.json asks for, .* first",
        ),
        (_configured(model_type="bert"), "BertModel reads no images: name the directory of a"),
        (_configured(num_hidden_layers=3), "lacks 16 of the weights"),
        (_without_a_layer, "lacks 1 of the weights"),
        (_truncated, r"model\.safetensors is damaged or cut short: copy it again"),
        (_pooled('{"pooling": "maximum"}'), "'pooling' must be one of"),
        (_pooled('{"pooling": "mean", "over": 1}'), "'over'"),
    ],
)
def test_an_encoder_that_cannot_be_used_is_refused_and_nothing_is_left(
    change: Callable[[Path], object],
    says: str,
    encoder: Path,
    card: Card,
    preprocessing: Preprocessing,
    tmp_path: Path,
) -> None:
    change(encoder)
    with pytest.raises(BundleError, match=says):
        import_hugging_face(encoder, card, preprocessing, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == [encoder]


def test_an_encoder_that_returns_nan_fails_parity(
    encoder: Path, card: Card, preprocessing: Preprocessing, tmp_path: Path
) -> None:
    _not_finite(encoder)
    with pytest.raises(ParityError, match=r"not finite \(nan or infinity\) in embedding"):
        import_hugging_face(encoder, card, preprocessing, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == [encoder]


def test_an_encoder_of_another_size_is_refused(
    encoder: Path, card: Card, preprocessing: Preprocessing, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=r"cannot read pixels of shape \[3, 64, 64\]"):
        import_hugging_face(
            encoder, card, replace(preprocessing, size=(64, 64)), tmp_path / "bundle"
        )


def test_a_pooler_without_weights_cannot_be_asked_for(
    encoder_of: Callable[[str], Path], card: Card, preprocessing: Preprocessing, tmp_path: Path
) -> None:
    encoder = Path(shutil.copytree(encoder_of("vit-classifier"), tmp_path / "encoder"))
    _pooled('{"pooling": "pooler_output"}')(encoder)
    with pytest.raises(BundleError, match=r"lacks weights for pooler\.dense\.bias"):
        import_hugging_face(encoder, card, preprocessing, tmp_path / "bundle")


def test_a_bundle_is_never_written_over(
    stored_bundle: Bundle, card: Card, preprocessing: Preprocessing
) -> None:
    with pytest.raises(BundleError, match="exists already"):
        import_hugging_face(stored_bundle.encoder_path, card, preprocessing, stored_bundle.root)
    stored_bundle.verify()


def test_heads_that_do_not_fit_leave_nothing_behind(
    encoder_of: Callable[[str], Path],
    card: Card,
    preprocessing: Preprocessing,
    tasks: tuple[Task, ...],
    heads_of: Callable[..., dict[str, Floats]],
    tmp_path: Path,
) -> None:
    for wrong_tasks, state in (
        (tasks, heads_of(tasks, 17)),
        (tasks[:1], heads_of(tasks, 16)),
        ((tasks[0], tasks[0]), heads_of(tasks, 16)),
    ):
        with pytest.raises(BundleError):
            assemble_bundle(
                encoder_of("dinov2"),
                card,
                preprocessing,
                wrong_tasks,
                state,
                out_dir=tmp_path / "bundle",
            )
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named_and_nothing_is_left(
    encoder: Path,
    card: Card,
    preprocessing: Preprocessing,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(StorageFullError, match="no space left for bundle"):
        import_hugging_face(encoder, card, preprocessing, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == [encoder]


def test_a_forged_parity_record_is_found_when_parity_is_measured_again(bundle: Bundle) -> None:
    assert measure_parity(bundle).error == pytest.approx(bundle.parity.error, rel=1e-3)
    path = bundle.root / "encoder/model.safetensors"
    weights = load_file(path)
    weights["layernorm.bias"] = weights["layernorm.bias"] + np.float32(0.01)
    save_file(weights, path, metadata={"format": "pt"})
    forged = replace(bundle.parity, weights=weights_digest(hashed_files(bundle.root)))
    write_parity(bundle.root / "parity.json", forged)
    with pytest.raises(ParityError, match="disagree in embedding"):
        measure_parity(read_bundle(bundle.root))
