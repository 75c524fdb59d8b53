"""The preprocessing that a Hugging Face encoder was trained with, as its directory declares it."""

from __future__ import annotations

from pathlib import Path

from registry.bundles.documents import Section, read_json
from registry.bundles.preprocessing import DicomWindow, Preprocessing, Resample, Unit
from registry.errors import BundleError

IMAGE_PROCESSOR = "preprocessor_config.json"

#: Pillow's numbers, which Hugging Face writes.
_FILTERS = {2: Resample.BILINEAR, 3: Resample.BICUBIC, 4: Resample.BOX}


def read_image_processor(path: Path) -> Preprocessing:
    """Return the preprocessing of an image processor's file.

    Size, filter, mean and standard deviation are taken from it. What it cannot say is as
    for a radiograph: one instance is one scan, and shown by its own window. Where an image
    processor resizes and then cuts the centre out, the whole image is made that size here,
    for a finding may lie at the border.

    Raises
    ------
    BundleError
        If it declares no size, or a filter or means that cannot be carried out; the way out
        is a preprocessing.json of one's own.
    """
    section = read_json(path)
    try:
        return Preprocessing(
            unit=Unit.INSTANCE,
            window=DicomWindow(),
            size=_size(section),
            mean=_three(section, "image_mean"),
            std=_three(section, "image_std"),
            resample=_filter(section),
        )
    except BundleError as error:
        raise BundleError(
            f"{error}: write a preprocessing.json, and name it with --preprocessing"
        ) from error


def _size(section: Section) -> tuple[int, int]:
    cut = section.take("do_center_crop") if "do_center_crop" in section else False
    key = "crop_size" if cut and "crop_size" in section else "size"
    value = section.take(key)
    if isinstance(value, dict):
        sides = Section(value, name=f"{section.name}: {key}")
        if "shortest_edge" in sides:
            side = sides.integer("shortest_edge")
            return side, side
        return sides.integer("height"), sides.integer("width")
    if isinstance(value, int) and not isinstance(value, bool):
        return value, value
    raise BundleError(f"{section.name}: {key!r} must be a number, or height and width")


def _three(section: Section, key: str) -> tuple[float, float, float]:
    red, green, blue = section.numbers(key, count=3)
    return red, green, blue


def _filter(section: Section) -> Resample:
    number = section.integer("resample") if "resample" in section else 3
    if number not in _FILTERS:
        raise BundleError(f"{section.name}: 'resample' {number} is none of {sorted(_FILTERS)}")
    return _FILTERS[number]
