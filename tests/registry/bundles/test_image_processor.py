from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from registry.bundles.image_processor import read_image_processor
from registry.bundles.preprocessing import DicomWindow, Resample, Unit
from registry.errors import BundleError

#: As DINOv2's directory has it.
DINOV2 = {
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_processor_type": "BitImageProcessor",
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 256},
}


def written(place: Path, **changes: Any) -> Path:
    path = place / "preprocessor_config.json"
    kept = {key: value for key, value in {**DINOV2, **changes}.items() if value is not None}
    path.write_text(json.dumps(kept))
    return path


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({}, (224, 224)),
        ({"do_center_crop": False}, (256, 256)),
        ({"do_center_crop": None}, (256, 256)),
        ({"crop_size": 196}, (196, 196)),
        ({"do_center_crop": False, "size": {"height": 518, "width": 512}}, (518, 512)),
        ({"do_center_crop": False, "size": 384}, (384, 384)),
    ],
)
def test_the_size_that_the_network_sees_is_taken(
    tmp_path: Path, changes: dict[str, Any], size: tuple[int, int]
) -> None:
    found = read_image_processor(written(tmp_path, **changes))
    assert found.size == size
    assert (found.unit, found.window) == (Unit.INSTANCE, DicomWindow())
    assert found.mean == (0.485, 0.456, 0.406)
    assert found.std == (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    ("number", "filter_"),
    [
        (2, Resample.BILINEAR),
        (3, Resample.BICUBIC),
        (4, Resample.BOX),
        (None, Resample.BICUBIC),
    ],
)
def test_pillow_s_number_of_a_filter_is_read(
    tmp_path: Path, number: int | None, filter_: Resample
) -> None:
    assert read_image_processor(written(tmp_path, resample=number)).resample is filter_


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"resample": 0}, "'resample' 0 is none of"),
        ({"image_mean": None}, "lacks 'image_mean'"),
        ({"image_std": [0.2, 0.2]}, "must be a list of 3"),
        ({"do_center_crop": False, "size": None}, "lacks 'size'"),
        ({"do_center_crop": False, "size": {"longest_edge": 5}}, "lacks 'height'"),
        ({"do_center_crop": False, "size": 1}, "must lie between"),
    ],
)
def test_what_cannot_be_carried_out_is_named_with_the_way_out(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(BundleError, match="name it with --preprocessing") as refused:
        read_image_processor(written(tmp_path, **changes))
    assert problem in str(refused.value)
