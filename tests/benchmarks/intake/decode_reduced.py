"""Decoding at reduced resolution: how much faster, and how near the embeddings stay.

    python tests/benchmarks/intake/decode_reduced.py

The sample's real radiographs of adults (64 x 64) are enlarged to 2,048 x 2,048 pixels of 12 bits
and given the quantum noise of a detector, since without it a compressed radiograph would be
small and easy. Each is compressed without loss, stored as intake stores it, and read from there
in full and at reduced resolution, in turn, on one thread. What was measured is kept line by line
in `results/decode_reduced.jsonl`, so that a run can stop and go on.
"""

from __future__ import annotations

import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, TypeVar

for _pool in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_pool}_NUM_THREADS", "1")
HERE = Path(__file__).parent
sys.path[:0] = [
    str(HERE.parents[2]),
    str(HERE.parent / "drift"),
    str(HERE.parents[1] / "builders"),
]

import dicom_instances  # noqa: E402
import imagecodecs  # noqa: E402  after the thread limits
import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
from dicom_instances import KEY, SITE, radiograph, set_frames  # noqa: E402
from PIL import Image as PillowImage  # noqa: E402
from pydicom import dcmread  # noqa: E402
from pydicom.uid import HTJ2KLossless, JPEG2000Lossless  # noqa: E402
from results import Results  # noqa: E402

from api.demo.sample import load_sample  # noqa: E402
from monitor.embedding.encoders import Encoder, load_encoder  # noqa: E402
from monitor.imaging.pixels import decode, prepare  # noqa: E402
from monitor.imaging.wavelets import levels_to_skip  # noqa: E402
from monitor.intake.deidentify import deidentify  # noqa: E402
from monitor.intake.reading import read_instance  # noqa: E402
from registry.bundles.assembly import assemble_bundle  # noqa: E402
from registry.bundles.card import Card, IntendedUse, Tier, TrainingData  # noqa: E402
from registry.bundles.preprocessing import (  # noqa: E402
    DicomWindow,
    PercentileWindow,
    Preprocessing,
    Unit,
)

Value = TypeVar("Value")
SIDE, TARGET = 2048, 224
RADIOGRAPHS = 40
#: Standard deviation of the noise in grays of 4,096.
NOISE = 12.0
OVERSAMPLINGS = (1, 2, 4)
SYNTAXES = {"JPEG 2000": JPEG2000Lossless, "HTJ2K": HTJ2KLossless}
REPEATS = 9
#: Of ImageNet, by which the encoder was trained.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WINDOWS = {"own range": DicomWindow(), "percentiles 1 to 99": PercentileWindow(low=1, high=99)}


def measure(results: Results) -> None:
    """Measure what is missing."""
    results.measure((f"speed/{name}" for name in SYNTAXES), _speed)
    results.measure(
        (
            f"agreement/{name}/{window}/{times}"
            for name in SYNTAXES
            for window in WINDOWS
            for times in OVERSAMPLINGS
        ),
        _agreement,
    )


def tables(results: Results | None = None) -> str:
    """Return the tables in Markdown."""
    rows = {
        row["key"]: row
        for row in (results or Results("decode_reduced", folder=HERE / "results")).rows()
    }
    lines = [
        f"From a stored file of {SIDE:,} × {SIDE:,} pixels, 12 bits, to an input of {TARGET} × "
        f"{TARGET}: read, decoded, windowed between percentiles and resized, on one core; "
        f"median of {REPEATS} rounds in turn. *Oversampling* is what the bundle declares: the "
        "least size of what is decoded, in sizes of the input.",
        "",
        "| compression | oversampling | decoded | ms | times as fast as in full |",
        "|---|---|---|---|---|",
    ]
    for name in SYNTAXES:
        row = rows.get(f"speed/{name}")
        if row is None:
            continue
        full = row["full"]["ms"]
        for label, cell in row.items():
            if label == "key":
                continue
            lines.append(
                f"| {name} | {label if label != 'full' else 'in full'} | {cell['side']}² | "
                f"{cell['ms']:.1f} | {full / cell['ms']:.1f} |"
            )
    lines += [
        "",
        f"The embeddings of {RADIOGRAPHS} real radiographs by the sample's encoder "
        "(MobileNetV2), decoded at reduced resolution and in full: the cosine between the two, "
        "and, for comparison, between one radiograph and the next. *Displaced* is the distance "
        "between the two embeddings in standard deviations of the radiographs' own, per "
        "coordinate (root mean square).",
        "",
        "| compression | window | oversampling | cosine, median | cosine, lowest | displaced | "
        "cosine of two radiographs |",
        "|---|---|---|---|---|---|---|",
    ]
    for key, row in rows.items():
        kind, *place = key.split("/")
        if kind == "agreement":
            name, window, times = place
            lines.append(
                f"| {name} | {window} | {times} | {row['median']:.4f} | {row['lowest']:.4f} | "
                f"{row['displaced']:.3f} | {row['others']:.3f} |"
            )
    return "\n".join(lines) + "\n"


def declared(window: str, oversampling: int | None) -> Preprocessing:
    """Return the preprocessing under test."""
    return Preprocessing(
        unit=Unit.INSTANCE,
        window=WINDOWS[window],
        size=(TARGET, TARGET),
        mean=MEAN,
        std=STD,
        wavelet_oversampling=oversampling,
    )


def input_of(
    content: bytes, preprocessing: Preprocessing
) -> tuple[npt.NDArray[np.float32], int]:
    """Return the encoder's input for a stored file, and the side of what was decoded."""
    ds = dcmread(io.BytesIO(content))
    image = decode(ds, skipped_levels=levels_to_skip(ds, preprocessing))
    return prepare(image, preprocessing), image.values.shape[0]


def _speed(key: str) -> dict[str, Any]:
    content = stored(0, SYNTAXES[key.split("/")[1]])
    ways: dict[str, Preprocessing] = {
        "full": declared("percentiles 1 to 99", None),
        **{str(times): declared("percentiles 1 to 99", times) for times in OVERSAMPLINGS},
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    sides: dict[str, int] = {}
    for _ in range(REPEATS):
        for way, preprocessing in ways.items():
            spent, (_, sides[way]) = timed(lambda p=preprocessing: input_of(content, p))
            seconds[way].append(spent)
    return {
        way: {"ms": 1000 * statistics.median(spent), "side": sides[way]}
        for way, spent in seconds.items()
    }


def _agreement(key: str) -> dict[str, float]:
    _, name, window, times = key.split("/")
    encoder = _encoder()
    full, reduced = (
        encoder.embed(
            np.stack([input_of(content, declared(window, n))[0] for content in _archive(name)])
        ).embeddings.astype(float)
        for n in (None, int(times))
    )
    cosines = np.sum(full * reduced, axis=1) / (
        np.linalg.norm(full, axis=1) * np.linalg.norm(reduced, axis=1)
    )
    unit = full / np.linalg.norm(full, axis=1, keepdims=True)
    spread = full.std(axis=0)
    seen = spread > 0
    displaced = (reduced - full)[:, seen] / spread[seen]
    return {
        "median": float(np.median(cosines)),
        "lowest": float(cosines.min()),
        "displaced": float(np.sqrt(np.mean(displaced**2))),
        "others": float(np.median(np.sum(unit[:-1] * unit[1:], axis=1))),
    }


def stored(index: int, syntax: str) -> bytes:
    """Return a radiograph as the vault keeps it."""
    samples = enlarged(index)
    if syntax == JPEG2000Lossless:
        frame = imagecodecs.jpeg2k_encode(
            samples, codecformat="j2k", reversible=True, level=0, bitspersample=12
        )
        depth = {}
    else:
        frame = imagecodecs.htj2k_encode(samples, reversible=True)
        depth = {"BitsStored": 16, "HighBit": 15}
    ds = radiograph(samples, **depth)
    set_frames(ds, bytes(frame), transfer_syntax=syntax)
    return deidentify(read_instance(dicom_instances.as_file(ds)), site=SITE, key=KEY).content


def enlarged(index: int, side: int = SIDE) -> npt.NDArray[np.uint16]:
    """Return a real radiograph at the size of a detector, with its noise."""
    small = load_sample().adults[index].pixels.astype(np.float32)
    large = PillowImage.fromarray(small).resize((side, side), PillowImage.Resampling.BICUBIC)
    noise = np.random.default_rng(index).normal(0, NOISE, (side, side))
    return np.clip(np.asarray(large) * 14 + 200 + noise, 0, 4095).astype(np.uint16)


def timed(work: Callable[[], Value]) -> tuple[float, Value]:
    """Return how many seconds of a core it took, and what came of it.

    The work is one thread's and waits for nothing, so that on an idle machine
    this is the time on the clock; on a busy one it is still the same.
    """
    started = time.process_time()
    value = work()
    return time.process_time() - started, value


@cache
def _encoder() -> Encoder:
    card = Card(
        name="general",
        tier=Tier.GENERAL,
        purpose="A general image encoder.",
        intended_use=IntendedUse(),
        not_for=("clinical use",),
        training_data=(TrainingData(digest=None, description="ImageNet-1k", scans=1_281_167),),
        licence="BSD-3-Clause",
    )
    folder = Path(tempfile.mkdtemp())
    with as_file(files("api.demo") / "encoder") as weights:
        bundle = assemble_bundle(
            weights, card, declared("own range", None), (), {}, out_dir=folder / "bundle"
        )
    return load_encoder(bundle, device="cpu", threads=1)


@cache
def _archive(name: str) -> tuple[bytes, ...]:
    return tuple(stored(index, SYNTAXES[name]) for index in range(RADIOGRAPHS))


if __name__ == "__main__":
    kept = Results("decode_reduced", folder=HERE / "results")
    measure(kept)
    sys.stdout.write(tables(kept))
