"""The declaration of the pixel pipeline between a stored scan and an encoder's input.

The declaration alone stands here; `monitor.imaging.pixels` carries it out. Two
embeddings may be compared only where both the encoder and this declaration
agree, so its digest is part of every embedding's space.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

from registry.bundles.documents import Section, parse_json, read_json, write_json
from registry.bundles.scan_units import Reading
from registry.canonical import Json, digest_of
from registry.errors import BundleError

# Revision of the fixed steps that carry the declaration out. It is part of
# the digest: when a step changes what it returns, the revision rises, and
# embeddings from before and after are different spaces.
PIPELINE_REVISION = 1

# Below 8 pixels nothing is left of a scan; above 4096 no encoder reads whole
# images, and one batch would fill the memory.
SMALLEST_SIDE, LARGEST_SIDE = 8, 4096
# Beyond 8 times the size no radiograph has a level left to skip.
LARGEST_OVERSAMPLING = 8
# Frames of one scan are embedded together: more of them than this fill a
# batch of their own, and add little to a mean.
MOST_FRAMES = 64


class Unit(StrEnum):
    """What is read as one scan (DICOM's information entities)."""

    INSTANCE = "instance"
    SERIES = "series"
    STUDY = "study"


class Fit(StrEnum):
    """How an image takes the declared size."""

    STRETCH = "stretch"  #: each side by itself; the aspect ratio is not kept
    PAD = "pad"  #: the longer side fits, the rest is black, the image is centred


class Resample(StrEnum):
    """The antialiasing filter of the resize (Pillow's names)."""

    BOX = "box"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomWindow:
    """The VOI LUT or window that the instance itself carries (PS3.3 C.11.2).

    An instance without one takes the range of its stored values.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class PercentileWindow:
    """A linear window between two percentiles of the image's own values."""

    low: float  #: percentile that becomes 0, in [0, 100)
    high: float  #: percentile that becomes 1, above low, at most 100

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 100:
            raise BundleError(
                f"percentile window [{self.low}, {self.high}] is not 0 <= low < high <= 100"
            )


GrayWindow: TypeAlias = DicomWindow | PercentileWindow


@dataclass(frozen=True, slots=True, kw_only=True)
class MiddleFrame:
    """Of several frames the one in the middle; of an even number the earlier of two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanOfFrames:
    """The mean of the embeddings of evenly spaced frames.

    A task says of the scan what it says of the mean embedding.
    """

    most: int  #: all frames where there are no more, otherwise so many of them

    def __post_init__(self) -> None:
        if not 1 <= self.most <= MOST_FRAMES:
            raise BundleError(
                f"frames: a mean of at most {self.most} is not of 1 to {MOST_FRAMES} frames"
            )


Frames: TypeAlias = MiddleFrame | MeanOfFrames


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """From stored pixels to float32 [3, h, w].

    In this order: modality LUT, window to [0, 1] (values outside are clipped,
    MONOCHROME1 is inverted), resize, clip to [0, 1] again (a bicubic filter
    overshoots), three channels (gray is repeated), `(x - mean) / std`.

    An image compressed with wavelets (JPEG 2000, also its high-throughput
    form) holds itself at halves of its size. With `wavelet_oversampling` n the
    smallest of these is decoded that keeps both sides at least n times those
    that the image takes after the resize, and the other steps follow. It is
    many times faster, and nearly the same image; since it is not quite the
    same, it is part of the digest, and without it (None) nothing is skipped.

    Which frames of an instance of several are read is for `frames` to say;
    without it (None) such an instance is refused. Of one frame all read the same.
    Which instances of a series or a study are read is for `reading` to say.

    Raises
    ------
    BundleError
        If a value is impossible; the message names it.
    """

    unit: Unit
    window: GrayWindow
    size: tuple[int, int]  #: (height, width) in pixels
    mean: tuple[float, float, float]  #: per channel, on the scale [0, 1]
    std: tuple[float, float, float]  #: per channel, on the scale [0, 1]
    fit: Fit = Fit.PAD
    resample: Resample = Resample.BICUBIC
    wavelet_oversampling: int | None = None  #: None: images are decoded at their full size
    frames: Frames | None = None  #: None: an image has one frame
    reading: Reading | None = None  #: of a series or a study, and of nothing else

    def __post_init__(self) -> None:
        if self.unit is not Unit.INSTANCE and self.reading is None:
            raise BundleError(
                f"preprocessing: unit {self.unit.value!r} takes a section `reading` that says how "
                "its instances are selected and aggregated; see docs/intake.md"
            )
        if self.unit is Unit.INSTANCE and self.reading is not None:
            raise BundleError(
                "preprocessing: a section `reading` is for units of several instances, and unit "
                f"{self.unit.value!r} is one"
            )
        if self.reading is not None and isinstance(self.frames, MeanOfFrames):
            raise BundleError(
                f"preprocessing: unit {self.unit.value!r} reads one frame of an instance: "
                "declare `frames` as middle, or leave them out"
            )
        for side in self.size:
            if not SMALLEST_SIDE <= side <= LARGEST_SIDE:
                raise BundleError(
                    f"preprocessing: size {list(self.size)} must lie between "
                    f"{SMALLEST_SIDE} and {LARGEST_SIDE} pixels on each side"
                )
        if not all(math.isfinite(value) for value in (*self.mean, *self.std)):
            raise BundleError("preprocessing: mean and std must be finite")
        if not all(value > 0 for value in self.std):
            raise BundleError(f"preprocessing: std {list(self.std)} must be above 0")
        oversampling = self.wavelet_oversampling
        if oversampling is not None and not 1 <= oversampling <= LARGEST_OVERSAMPLING:
            raise BundleError(
                f"preprocessing: wavelet_oversampling {oversampling} must lie between 1 and "
                f"{LARGEST_OVERSAMPLING}, or be left out"
            )

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical declaration; the file's white space does not count."""
        return digest_of(self.to_json())

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one prepared scan: (3, h, w)."""
        return (3, *self.size)

    @property
    def lowest(self) -> tuple[float, ...]:
        """What black becomes, per channel."""
        return tuple((0.0 - m) / s for m, s in zip(self.mean, self.std, strict=True))

    @property
    def highest(self) -> tuple[float, ...]:
        """What white becomes, per channel."""
        return tuple((1.0 - m) / s for m, s in zip(self.mean, self.std, strict=True))

    def to_json(self) -> dict[str, Json]:
        """Return the declaration as it stands in preprocessing.json."""
        window: dict[str, Json]
        match self.window:
            case DicomWindow():
                window = {"kind": "dicom"}
            case PercentileWindow(low=low, high=high):
                window = {"kind": "percentile", "low": float(low), "high": float(high)}
        # What is not declared is not written, so that the digests of bundles
        # that were made before it could be declared stay what they are.
        optional: dict[str, Json] = {}
        if self.wavelet_oversampling is not None:
            optional["wavelet_oversampling"] = self.wavelet_oversampling
        match self.frames:
            case MiddleFrame():
                optional["frames"] = {"kind": "middle"}
            case MeanOfFrames(most=most):
                optional["frames"] = {"kind": "mean", "most": most}
        if self.reading is not None:
            optional["reading"] = self.reading.to_json()
        return {
            "pipeline": PIPELINE_REVISION,
            "unit": self.unit.value,
            "window": window,
            "size": list(self.size),
            "fit": self.fit.value,
            "resample": self.resample.value,
            "mean": [float(value) for value in self.mean],
            "std": [float(value) for value in self.std],
            **optional,
        }

    @classmethod
    def from_json(cls, text: str) -> Preprocessing:
        """Return the declaration in a JSON text.

        Raises
        ------
        BundleError
            If it is not valid, has an unknown key, or asks for a pipeline
            that this version does not have.
        """
        name = "preprocessing.json"
        return _from_section(Section(parse_json(text, name=name), name=name))


def read_preprocessing(path: Path) -> Preprocessing:
    """Return the declaration in the file `path`; see `Preprocessing.from_json`."""
    return _from_section(read_json(path))


def write_preprocessing(path: Path, preprocessing: Preprocessing) -> None:
    """Write the declaration to the file `path`."""
    write_json(path, preprocessing.to_json())


def _from_section(section: Section) -> Preprocessing:
    revision = section.integer("pipeline")
    if revision != PIPELINE_REVISION:
        raise BundleError(
            f"{section.name}: pipeline {revision} is not the one that this version of "
            f"Driftward carries out ({PIPELINE_REVISION}): assemble the bundle again"
        )
    height, width = section.integers("size", count=2)
    mean, std = section.numbers("mean", count=3), section.numbers("std", count=3)
    preprocessing = Preprocessing(
        unit=section.choice("unit", Unit),
        window=_window(section.section("window")),
        size=(height, width),
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
        fit=section.choice("fit", Fit),
        resample=section.choice("resample", Resample),
        wavelet_oversampling=(
            section.integer("wavelet_oversampling")
            if "wavelet_oversampling" in section
            else None
        ),
        frames=_frames(section.section("frames")) if "frames" in section else None,
        reading=Reading.from_section(section.section("reading"))
        if "reading" in section
        else None,
    )
    section.close()
    return preprocessing


def _window(section: Section) -> GrayWindow:
    kind = section.text("kind")
    window: GrayWindow
    match kind:
        case "dicom":
            window = DicomWindow()
        case "percentile":
            window = PercentileWindow(low=section.number("low"), high=section.number("high"))
        case _:
            raise BundleError(f"{section.name}: 'kind' must be one of dicom, percentile")
    section.close()
    return window


def _frames(section: Section) -> Frames:
    kind = section.text("kind")
    frames: Frames
    match kind:
        case "middle":
            frames = MiddleFrame()
        case "mean":
            frames = MeanOfFrames(most=section.integer("most"))
        case _:
            raise BundleError(f"{section.name}: 'kind' must be one of middle, mean")
    section.close()
    return frames
