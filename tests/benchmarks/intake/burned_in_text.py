"""Text in pixels: what optical recognition finds by its height, and takes for text where none is.

    python tests/benchmarks/intake/burned_in_text.py [--each N] [--seconds S]

The sample's radiographs with a name and a date rendered into them at a random place, and all kinds
of the sample's images as they are. What was measured is kept line by line in
`results/burned_in_text.jsonl`, so that a run can stop and go on.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

for _pool in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_pool}_NUM_THREADS", "1")
HERE = Path(__file__).parent
sys.path[:0] = [
    str(HERE.parents[2]),
    str(HERE.parents[1] / "builders"),
    str(HERE.parent / "drift"),
]

import numpy as np  # noqa: E402  after the thread limits
from burned_in import CAPTION, WHITE, adult, captioned, sample  # noqa: E402
from dicom_instances import radiograph  # noqa: E402
from PIL import Image  # noqa: E402
from pydicom import dcmread  # noqa: E402
from pydicom.dataset import Dataset  # noqa: E402
from results import Results  # noqa: E402

from monitor.intake.burned_in_text import Reader, holds_text, load_reader  # noqa: E402

#: Rows and columns, and heights of the font in pixels.
SIDES: Mapping[int, tuple[int, ...]] = {
    512: (8, 10, 12, 16, 24),
    1024: (10, 12, 16, 24, 32),
    2048: (16, 20, 24, 32, 48),
}
#: Kinds without text: children and adults as the demo has them, adults enlarged, MR slices.
PLAIN = ("children, 112²", "adults, 64²", "adults, 512²", "MR")


def captioned_image(side: int, height: int, index: int) -> Dataset:
    """Return an adult's radiograph with a caption at a random place, as large as it fits."""
    rng = np.random.default_rng([side, height, index])
    pixels = adult(int(rng.integers(len(sample().adults))), side)
    at = (float(rng.uniform(0.02, 0.4)), float(rng.uniform(0.02, 0.9)))
    return radiograph(captioned(pixels, CAPTION, height=height, at=at))


def plain_image(kind: str, index: int) -> Dataset:
    """Return an image of the sample, each another."""
    order = np.random.default_rng(1).permutation
    if kind == "MR":
        files = sample().magnetic
        return dcmread(io.BytesIO(files[order(len(files))[index]]))
    if kind.startswith("children"):
        child = sample().children[order(len(sample().children))[index]]
        small = Image.fromarray(child.pixels).resize((112, 112), Image.Resampling.BICUBIC)
        return radiograph((np.asarray(small).astype(np.uint16) * WHITE) // 255)
    side = 64 if "64" in kind else 512
    return radiograph(adult(int(order(len(sample().adults))[index]), side))


def main() -> None:
    """Measure what still lacks, as far as the time goes, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=8, help="images of each size or kind")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="then stop")
    chosen = parser.parse_args()
    results = Results("burned_in_text", folder=HERE / "results")
    keys = []
    for index in range(chosen.each):
        keys += [f"plain/{kind}/{index}" for kind in PLAIN]
        keys += [f"text/{s}/{height}/{index}" for s, tall in SIDES.items() for height in tall]
    until = time.monotonic() + chosen.seconds
    reader: Reader | None = None
    for key in list(results.missing(keys)):
        if time.monotonic() > until:
            break
        reader = reader or load_reader()
        kind, name, *rest = key.split("/")
        if kind == "plain":
            ds = plain_image(name, int(rest[0]))
        else:
            ds = captioned_image(int(name), int(rest[0]), int(rest[1]))
        began = time.process_time()
        found = holds_text(ds, reader)
        results.add(key, found=found, seconds=round(time.process_time() - began, 2))
    sys.stdout.write(report(results.rows()) + "\n")


def report(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the tables in Markdown."""
    lines = [
        f"A name and a date ({len(CAPTION)} characters) in Pillow's own font, white, at a random "
        "place of radiographs of the sample, which are enlarged:",
        "",
        "| rows and columns | height of the font, pixels | images | found | CPU seconds |",
        "|---|---|---|---|---|",
    ]
    for side, heights in SIDES.items():
        for height in heights:
            of = [row for row in rows if row["key"].startswith(f"text/{side}/{height}/")]
            if of:
                lines.append(f"| {side} | {height} | {_shares(of)} |")
    lines += [
        "",
        "Images of the sample as they are:",
        "",
        "| kind | images | taken for text | CPU seconds |",
        "|---|---|---|---|",
    ]
    for kind in PLAIN:
        of = [row for row in rows if row["key"].startswith(f"plain/{kind}/")]
        if of:
            lines.append(f"| {kind} | {_shares(of)} |")
    return "\n".join(lines)


def _shares(of: Sequence[Mapping[str, Any]]) -> str:
    found = sum(row["found"] for row in of)
    return f"{len(of)} | {found} | {np.median([row['seconds'] for row in of]):.2f}"


if __name__ == "__main__":
    main()
