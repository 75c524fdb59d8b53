"""Embeddings of a run's scans by an encoder that stays as it is: made once, and kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from monitor.embedding.encoders import load_encoder
from registry.bundles.bundle import Bundle
from registry.bundles.heads import Floats
from retrain.strategies.scans import Rows, Scans

EMBEDDINGS = "embeddings.npy"
#: Scans read from disk at once.
_READ_AT_ONCE = 256


def base_embeddings(folder: Path, bundle: Bundle, scans: Scans, *, threads: int) -> Floats:
    """Return the base's embedding of every scan, [n, d], by the form that a monitor runs.

    Any encoder has them, one that is ONNX alone included. Every attempt of a run shares
    them, so they are kept in the workspace.
    """
    path = folder / EMBEDDINGS
    if not path.exists():
        staging = folder / f".{EMBEDDINGS}.writing.npy"
        every = np.arange(len(scans.targets))
        np.save(staging, embedded(bundle, scans, every, threads=threads), allow_pickle=False)
        staging.replace(path)
    kept: Floats = np.load(path, allow_pickle=False)
    return kept


def embeddings_of(
    folder: Path, bundle: Bundle, scans: Scans, rows: Rows, *, threads: int
) -> Floats:
    """Return the base's embeddings of some rows: kept ones where all were made already."""
    if (folder / EMBEDDINGS).exists():
        return base_embeddings(folder, bundle, scans, threads=threads)[rows]
    return embedded(bundle, scans, rows, threads=threads)


def embedded(bundle: Bundle, scans: Scans, rows: Rows, *, threads: int) -> Floats:
    """Return embeddings of rows by a bundle, made now, [n, d]."""
    encoder = load_encoder(bundle, threads=threads)
    parts = [
        encoder.embed(np.ascontiguousarray(scans.pixels[rows[start : start + _READ_AT_ONCE]]))
        for start in range(0, len(rows), _READ_AT_ONCE)
    ]
    return np.concatenate([part.embeddings for part in parts])
