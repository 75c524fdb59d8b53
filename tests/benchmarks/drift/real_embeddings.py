"""Embeddings of the sample's real scans, by two encoders, made once and kept."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import numpy.typing as npt
from peers import ENVIRONMENTS, HERE
from PIL import Image
from pydicom import dcmread

from api.demo.acquisition import OLD_SOFTWARE, Processing
from api.demo.sample import load_sample

SIDE = 64
#: A small update, far weaker than the demo's: what a service engineer may call a touch.
TOUCHED_SOFTWARE = Processing(version="1.4.3", noise=0.004, edge_amount=0.1, contrast=1.0)
#: children whose scans are also rendered as the touched software sends them
TOUCHED = 2000
Singles = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class RealEmbeddings:
    """One encoder's embeddings, and what is known of the scans."""

    #: [N, d] children, Guangzhou
    children: Singles
    #: [N]
    pneumonia: npt.NDArray[np.bool_]
    #: [2000, d] the first children as the touched software sends them
    touched: Singles
    #: [427, d] adults, NIH
    adults: Singles
    #: [427]
    adult_patients: npt.NDArray[np.int64]
    #: [427] "PA" or "AP"
    views: npt.NDArray[np.str_]
    #: [24, d] MR slices
    magnetic: Singles
    #: [24] manufacturers
    manufacturers: npt.NDArray[np.str_]


ENCODERS = ("mobilenet", "efficientnet")


def real_embeddings(encoder: str, folder: Path) -> RealEmbeddings:
    """Return an encoder's embeddings of the sample, from the folder or made into it."""
    folder.mkdir(parents=True, exist_ok=True)
    sample = load_sample()
    order = np.random.default_rng(0).permutation(len(sample.children))
    children = [sample.children[i] for i in order]
    magnetic = [dcmread(path) for path in _magnetic_files()]
    # Rendered only where their embeddings are not kept yet.
    images: dict[str, Callable[[], list[Singles]]] = {
        "children": lambda: [
            OLD_SOFTWARE.render(_scaled(one.pixels), seed=one.index) for one in children
        ],
        "touched": lambda: [
            TOUCHED_SOFTWARE.render(_scaled(one.pixels), seed=one.index)
            for one in children[:TOUCHED]
        ],
        "adults": lambda: [one.pixels.astype(np.float32) / 255 for one in sample.adults],
        "magnetic": lambda: [_windowed(ds.pixel_array) for ds in magnetic],
    }
    parts = {name: _embedded(encoder, name, many, folder) for name, many in images.items()}
    return RealEmbeddings(
        **parts,
        pneumonia=np.array([one.pneumonia for one in children], dtype=bool),
        adult_patients=np.array([one.patient for one in sample.adults], dtype=np.int64),
        views=np.array([one.view for one in sample.adults]),
        manufacturers=np.array([str(ds.Manufacturer).split()[0].upper() for ds in magnetic]),
    )


def _magnetic_files() -> list[Path]:
    with as_file(files("api.demo") / "sample" / "magnetic") as folder:
        return sorted(folder.glob("*.dcm"))


def _scaled(pixels: npt.NDArray[np.generic]) -> Singles:
    image = Image.fromarray(pixels.astype(np.float32)).resize(
        (112, 112), Image.Resampling.BICUBIC
    )
    return np.clip(np.asarray(image, dtype=np.float32) / 255, 0, 1)


def _windowed(pixels: npt.NDArray[np.generic]) -> Singles:
    values = pixels.astype(np.float32)
    low, high = np.percentile(values, (1, 99))
    return np.clip((values - low) / max(float(high - low), 1.0), 0, 1)


def _sized(image: Singles) -> Singles:
    resized = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(resized, dtype=np.float32), 0, 1)


def _embedded(
    encoder: str, name: str, images: Callable[[], list[Singles]], folder: Path
) -> Singles:
    target = folder / f"{encoder}-{name}.npy"
    if not target.exists():
        source = folder / f"{encoder}-{name}-images.npy"
        np.save(source, np.stack([_sized(image) for image in images()]))
        ours = encoder == "mobilenet"
        python = sys.executable if ours else ENVIRONMENTS / encoder / "bin" / "python"
        with as_file(files("api.demo") / "encoder") as weights:
            command = [str(python), str(HERE / "encode.py"), encoder, str(source), str(target)]
            subprocess.run([*command, *([str(weights)] if ours else [])], check=True)
        source.unlink()
    embeddings: Singles = np.load(target, allow_pickle=False)
    return embeddings
