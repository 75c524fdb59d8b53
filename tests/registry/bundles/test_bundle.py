from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from registry.bundles.bundle import Bundle, read_bundle
from registry.bundles.card import write_card
from registry.errors import BundleError, IncompleteCardError, IntegrityError, ParityError


def test_a_copy_is_the_same_bundle(stored_bundle: Bundle, bundle: Bundle) -> None:
    assert bundle.root != stored_bundle.root
    assert bundle.digest == stored_bundle.digest
    assert bundle.space == stored_bundle.space


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("pytorch_model.bin", r"pytorch_model\.bin can run code"),
        ("encoder/optimizer.pt", r"encoder/optimizer\.pt can run code"),
        ("model.PKL", r"model\.PKL can run code"),
        ("heads.joblib", r"heads\.joblib can run code"),
        ("encoder/modeling.py", r"encoder/modeling\.py can run code"),
        ("README.md", r"README\.md is not part of a bundle"),
        ("encoder/card.yaml", r"encoder/card\.yaml is not part of a bundle"),
        ("encoder.onnx", "not both"),
    ],
)
def test_a_file_that_does_not_belong_is_refused_by_name(
    path: str, says: str, bundle: Bundle
) -> None:
    (bundle.root / path).write_bytes(b"x")
    with pytest.raises(BundleError, match=says):
        read_bundle(bundle.root)


def test_a_folder_that_does_not_belong_is_refused(bundle: Bundle) -> None:
    (bundle.root / "encoder" / "encoder").mkdir()
    with pytest.raises(BundleError, match="directory encoder/encoder is not part"):
        read_bundle(bundle.root)


@pytest.mark.parametrize("path", ["card.yaml", "model.onnx", "encoder", "encoder/config.json"])
def test_a_link_is_refused_wherever_it_leads(path: str, bundle: Bundle, tmp_path: Path) -> None:
    target = bundle.root / path
    target.rename(tmp_path / "elsewhere")
    target.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=f"{path} is a link"):
        read_bundle(bundle.root)


def test_a_missing_file_is_named(stored_bundle: Bundle, tmp_path: Path) -> None:
    for number, path in enumerate(stored_bundle.files):
        copy = Path(shutil.copytree(stored_bundle.root, tmp_path / str(number)))
        (copy / path).unlink()
        with pytest.raises(BundleError, match=f"bundle lacks {path}"):
            read_bundle(copy)


@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_what_is_no_directory_is_no_bundle(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleError, match="is not a directory, so no bundle"):
        read_bundle(tmp_path / name)


def test_an_empty_directory_lacks_everything(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"bundle lacks card\.yaml, encoder/config\.json"):
        read_bundle(tmp_path)


def test_an_incomplete_card_is_named_as_such(bundle: Bundle) -> None:
    card = bundle.root / "card.yaml"
    card.write_text(card.read_text().replace("licence: Apache-2.0", ""))
    with pytest.raises(IncompleteCardError, match="licence"):
        read_bundle(bundle.root)


def test_a_card_may_change_and_parity_still_holds(bundle: Bundle) -> None:
    write_card(bundle.root / "card.yaml", replace(bundle.card, purpose="Something else."))
    changed = read_bundle(bundle.root)
    assert changed.digest != bundle.digest
    assert changed.space == bundle.space


def test_a_graph_of_other_weights_is_refused(
    bundle: Bundle, encoder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    from registry.bundles.assembly import assemble_bundle

    other = assemble_bundle(
        encoder_of("vit"),
        bundle.card,
        bundle.preprocessing,
        bundle.tasks,
        bundle.head_state(),
        out_dir=tmp_path / "other",
    )
    for path in ("model.onnx", "encoder/model.safetensors", "encoder/config.json"):
        copy = Path(shutil.copytree(bundle.root, tmp_path / path.replace("/", "-")))
        shutil.copyfile(other.root / path, copy / path)
        with pytest.raises(BundleError, match=r"parity\.json was measured on other weights"):
            read_bundle(copy)


def test_heads_of_other_tasks_are_refused(bundle: Bundle) -> None:
    path = bundle.root / "heads.json"
    heads = json.loads(path.read_text())
    heads["tasks"][0]["classes"].append("other")
    path.write_text(json.dumps(heads))
    with pytest.raises(BundleError, match="outputs must be"):
        read_bundle(bundle.root)


def test_a_moved_threshold_needs_a_new_bundle(bundle: Bundle) -> None:
    path = bundle.root / "heads.json"
    path.write_text(path.read_text().replace("0.4", "0.1"))
    with pytest.raises(BundleError, match=r"parity\.json was measured on other weights, heads"):
        read_bundle(bundle.root)


def test_a_bundle_cannot_bring_a_wider_tolerance(bundle: Bundle) -> None:
    path = bundle.root / "parity.json"
    record = json.loads(path.read_text())
    record["errors"]["embedding"], record["tolerance"] = 0.5, 1.0
    path.write_text(json.dumps(record))
    with pytest.raises(ParityError, match=r"0\.5 is above 0\.0001"):
        read_bundle(bundle.root)


def test_an_unknown_key_in_any_declaration_is_named(
    stored_bundle: Bundle, tmp_path: Path
) -> None:
    for name in ("preprocessing.json", "heads.json", "parity.json", "encoder/pooling.json"):
        copy = Path(shutil.copytree(stored_bundle.root, tmp_path / name.replace("/", "-")))
        content = json.loads((copy / name).read_text()) | {"surprise": 1}
        (copy / name).write_text(json.dumps(content))
        with pytest.raises(BundleError, match="'surprise'"):
            read_bundle(copy)


def test_a_change_on_disk_is_found(bundle: Bundle) -> None:
    bundle.verify()
    with (bundle.root / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(IntegrityError, match=r"model\.onnx of bundle small has changed"):
        bundle.graph()
    with pytest.raises(IntegrityError, match=r"model\.onnx of bundle small has changed"):
        bundle.verify()


def test_a_task_is_found_by_its_name(stored_bundle: Bundle) -> None:
    assert stored_bundle.task("type").classes == ("effusion", "nodule", "mass")
    with pytest.raises(BundleError, match="no task 'nodule'; it has pneumonia, type"):
        stored_bundle.task("nodule")
