"""Encoders as others publish them: imported by the command line, and made first versions of."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml
from plan_texts import with_values
from safetensors.numpy import load_file, save_file
from small_installation import SITE, plan_text
from tiny_bundles import SIDE, tiny_encoder
from training_workspaces import train_here

from api.demo.acquisition import OLD_SOFTWARE
from api.demo.radiographs import write_child
from api.demo.sample import load_sample
from registry.bundles.bundle import Bundle
from retrain.executors.local import LocalExecutor

if TYPE_CHECKING:
    from tests.api.cli.conftest import Run

# MLflow's own, of its queries under SQLAlchemy 2.1.
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")

SCANS = 60
RECIPE = files("api.demo") / "configuration" / "recipe.yaml"
#: What Hugging Face's image processors write, and more keys that are nothing to us.
IMAGE_PROCESSOR = {
    "do_resize": True,
    "do_center_crop": False,
    "image_processor_type": "BitImageProcessor",
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
    "size": {"height": SIDE, "width": SIDE},
}


@pytest.fixture
def card(tmp_path: Path) -> Path:
    path = tmp_path / "card.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "name": "theirs",
                "tier": "general",
                "purpose": "An encoder that somebody else published.",
                "intended_use": {
                    "modalities": [],
                    "body_parts": [],
                    "views": [],
                    "age_years": None,
                    "unknown_age": "accept",
                },
                "not_for": ["any patient"],
                "training_data": [{"digest": None, "description": "theirs", "scans": 0}],
                "licence": "Apache-2.0",
            }
        )
    )
    return path


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A vision transformer as Hugging Face's `save_pretrained` leaves it."""
    return published_as(tmp_path / "published", "vit")


@pytest.fixture
def trained_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in this process: four more would each take the seconds that importing torch takes."""

    def train(executor: LocalExecutor, folder: Path, *, tell: Callable[[], None]) -> None:
        train_here(folder)
        tell()

    monkeypatch.setattr(LocalExecutor, "train", train)


def published_as(directory: Path, architecture: str) -> Path:
    tiny_encoder(directory, architecture=architecture)
    (directory / "preprocessor_config.json").write_text(json.dumps(IMAGE_PROCESSOR))
    return directory


@pytest.mark.slow
@pytest.mark.usefixtures("trained_here")
def test_encoders_of_every_kind_come_in_take_a_head_and_train_where_they_have_weights(
    driftward: Run, home: Path, tmp_path: Path, card: Path, general_bundle: Bundle
) -> None:
    frozen = tmp_path / "frozen.onnx"
    shutil.copyfile(general_bundle.root / "model.onnx", frozen)
    declared = general_bundle.root / "preprocessing.json"
    first = ("import", "--tier", "general", "--card", card, "--json")
    for name in ("vit", "dinov2", "convnext"):
        source = published_as(tmp_path / name, name)
        done = driftward("model", *first, source, "--name", name)
        assert done.document["version"] == f"{name}@1", done.stderr
    done = driftward("model", *first, frozen, "--name", "frozen", "--preprocessing", declared)
    assert done.document["version"] == "frozen@1", done.stderr

    receive_and_label(driftward, tmp_path)
    made_by = {
        "vit": "LoRA",
        "dinov2": "full fine-tuning",
        "convnext": "[full fine-tuning, linear probe]",
        "frozen": "linear probe",
    }
    for encoder, strategy in made_by.items():
        plan, recipe = tmp_path / "plan.yaml", tmp_path / "recipe.yaml"
        plan.write_text(
            plan_text(model=f"of-{encoder}", at_least="60", first_version_auc="0.0")
        )
        recipe.write_text(first_version(encoder, strategy))
        assert driftward("plan", "apply", plan).code == 0
        assert driftward("run", "start", recipe, "--json").document["state"] == "queued"
    assert driftward("work", "--drain").code == 0

    runs = driftward("run", "list", "--json").document
    assert {run["model"]: run["state"] for run in runs} == {
        f"of-{encoder}": "awaiting approval" for encoder in made_by
    }
    for run in runs:
        candidate = driftward("model", "show", run["candidate"], "--json").document
        base = driftward("model", "show", candidate["base"], "--json").document
        kept = candidate["space"] == base["space"]
        assert kept == (run["strategy"] == "linear probe")


def receive_and_label(driftward: Run, place: Path) -> None:
    inbox, report = place / "inbox", place / "labels.csv"
    inbox.mkdir()
    at = datetime(2026, 3, 2, tzinfo=UTC)
    children = load_sample().children
    # Both findings, in turn: the sample is sorted by nothing, and most have pneumonia.
    sick = [child for child in children if child.pneumonia][: SCANS // 2]
    well = [child for child in children if not child.pneumonia][: SCANS // 2]
    with report.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["instance", "task", "value", "provenance", "reader", "signed_at"])
        for child in sick + well:
            path = inbox / f"{child.index}.dcm"
            instance = write_child(path, child, software=OLD_SOFTWARE, taken_at=at)
            signed = at.isoformat()
            writer.writerow(
                [instance, "pneumonia", child.pneumonia, "dataset", "reader", signed]
            )
    assert driftward("scan", "add", inbox, "--site", SITE).code == 0
    assert driftward("label", "import", report, "--site", SITE).code == 0


def first_version(encoder: str, strategy: str) -> str:
    text = with_values(
        RECIPE.read_text(encoding="utf-8"),
        model=f"of-{encoder}",
        base=f"{encoder}@1",
        epochs="3",
        batch_size="16",
        frozen_share="0.0",
        training_share="0.40",
        selection_share="0.20",
        locked_share="0.30",
    )
    return f"{text}strategy: {strategy}\n"


def test_a_strategy_that_would_change_a_frozen_encoder_is_refused_before_anything_is_queued(
    driftward: Run, home: Path, tmp_path: Path, card: Path, general_bundle: Bundle
) -> None:
    frozen, recipe = tmp_path / "frozen.onnx", tmp_path / "recipe.yaml"
    shutil.copyfile(general_bundle.root / "model.onnx", frozen)
    words = ("model", "import", frozen, "--name", "frozen", "--tier", "general", "--card", card)
    preprocessing = ("--preprocessing", general_bundle.root / "preprocessing.json")
    assert driftward(*words, *preprocessing).code == 0
    recipe.write_text(first_version("frozen", "LoRA"))
    done = driftward("run", "start", recipe)
    assert done.code == 1
    assert "LoRA changes the encoder" in done.stderr
    assert "linear probe" in done.stderr
    assert driftward("run", "list", "--json").document == []


def test_a_recipe_names_only_what_can_make_a_first_version(
    driftward: Run, home: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    for strategy, problem in (
        ("recalibration", "recalibration repairs a model, and a first version has to be made"),
        ("none", "a first version has to be made: by linear probe, LoRA, full fine-tuning"),
    ):
        recipe.write_text(first_version("vit", strategy))
        done = driftward("run", "start", recipe)
        assert done.code == 1
        assert "recipe.yaml:" in done.stderr
        assert problem in done.stderr


def test_an_encoder_that_says_nothing_of_itself_is_refused_with_the_way_out(
    driftward: Run,
    home: Path,
    tmp_path: Path,
    published: Path,
    card: Path,
    general_bundle: Bundle,
) -> None:
    bare = Path(shutil.copytree(published, tmp_path / "bare"))
    (bare / "preprocessor_config.json").unlink()
    odd = Path(shutil.copytree(published, tmp_path / "odd"))
    (odd / "preprocessor_config.json").write_text(
        json.dumps({**IMAGE_PROCESSOR, "size": "large"})
    )
    dead = Path(shutil.copytree(published, tmp_path / "dead"))
    weights = load_file(dead / "model.safetensors")
    save_file(
        {name: np.zeros_like(value) for name, value in weights.items()},
        dead / "model.safetensors",
        metadata={"format": "pt"},
    )
    named = ("--card", card)
    for source, more, problem in (
        (published, (), "name it with --card"),
        (bare, named, "name it with --preprocessing"),
        (
            odd,
            named,
            "'size' must be a number, or height and width: write a preprocessing.json",
        ),
        (dead, named, "gives every scan the same embedding"),
        (published, (*named, "--embedding", "x"), "--embedding is for an ONNX file"),
        (general_bundle.root, named, "is a bundle, or nothing that one can be made of"),
        (tmp_path / "absent.onnx", (*named, "--preprocessing", card), "not valid JSON"),
    ):
        done = driftward("model", "import", source, "--name", "x", "--tier", "general", *more)
        assert done.code == 1, source
        assert problem in done.stderr, done.stderr
    assert driftward("model", "list", "--json").document == []
    assert not list((home / "work").glob("import-*"))
