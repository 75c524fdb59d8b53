"""Receiving: what native slices wait for while compressed images come beside them.

    python tests/benchmarks/intake/receive_mixed.py [NAME]

One association of DCMTK's `storescu` sends 60 native slices of 512 x 512 x 16 bit to one process
of `driftward receive`: alone, and while others send JPEG 2000 images without loss, of
1024 x 1024 x 16 bit, each of which is decoded once before it is acknowledged. What was measured is
kept line by line in `results/receive_mixed.jsonl`, under NAME (by default "two queues"), so that two
states of the code can be compared: with "one queue", compressed images and native ones waited for
the same two threads.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [
    str(HERE.parents[2]),
    str(HERE.parent / "drift"),
    str(HERE.parents[1] / "builders"),
]

import numpy as np  # noqa: E402
from dicom_instances import as_file, radiograph, set_frames  # noqa: E402
from dicom_programs import program  # noqa: E402
from pydicom.uid import CTImageStorage, JPEG2000Lossless  # noqa: E402
from results import Results  # noqa: E402
from running_receiver import new_home, receiving  # noqa: E402

ROUNDS = 3
NATIVE, COMPRESSED = 60, 12
#: Associations that send compressed images.
BESIDE = (2, 8)
_ROOT = "1.2.826.0.1.3680043.8.498.4"


def main() -> None:
    """Measure what lacks, and print the table."""
    name = sys.argv[1] if len(sys.argv) > 1 else "two queues"
    results = Results("receive_mixed", folder=HERE / "results")
    keys = [f"{name}: {beside} beside, round {n}" for beside in BESIDE for n in range(ROUNDS)]
    for key in results.missing(keys):
        beside = int(key.split(": ")[1].split()[0])
        with tempfile.TemporaryDirectory(prefix="mixed-") as folder:
            results.add(key, name=name, beside=beside, **_round(Path(folder), beside))
    sys.stdout.write(tables(results.rows()))


def tables(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table in Markdown."""
    lines = [
        "| code | associations with JPEG 2000 | native slice alone, ms | beside them, ms | "
        "JPEG 2000 images a second |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, beside in dict.fromkeys((row["name"], row["beside"]) for row in rows):
        own = [row for row in rows if (row["name"], row["beside"]) == (name, beside)]

        def median(what: str, own: list[dict[str, Any]] = own) -> float:
            return statistics.median(row[what] for row in own)

        lines.append(
            f"| {name} | {beside} | {1e3 * median('alone') / NATIVE:.0f} | "
            f"{1e3 * median('mixed') / NATIVE:.0f} | {median('compressed_rate'):.1f} |"
        )
    return "\n".join(lines) + "\n"


def _round(folder: Path, beside: int) -> dict[str, float]:
    random = np.random.default_rng(5)
    native = [_native(folder / name, name, random) for name in ("alone", "mixed")]
    compressed = [_compressed(folder / f"c{number}", number) for number in range(beside)]
    config = folder / "receiver.yaml"
    config.write_text("site: north\nprocesses: 1\n")
    with receiving(new_home(folder / "home"), "--config", str(config)) as receiver:
        # The first compressed image starts the process that decodes.
        _wait([_sender(receiver.port, _compressed(folder / "first", 99, count=1), "-xv")])
        alone = _timed([_sender(receiver.port, native[0])])
        began = time.perf_counter()
        senders = [_sender(receiver.port, one, "-xv") for one in compressed]
        time.sleep(1)  # until they are at it
        mixed = _timed([_sender(receiver.port, native[1])])
        _wait(senders)
        seconds = time.perf_counter() - began
        scans = len(receiver.scans())
    if scans != 2 * NATIVE + beside * COMPRESSED + 1:
        raise RuntimeError(f"{scans} scans came")
    return {
        "alone": alone,
        "mixed": mixed,
        "compressed_rate": beside * COMPRESSED / seconds,
        "cores": os.cpu_count() or 1,
    }


def _native(folder: Path, name: str, random: np.random.Generator) -> Path:
    folder.mkdir(parents=True)
    for index in range(NATIVE):
        samples = random.integers(0, 4096, (512, 512)).astype(np.uint16)
        uid = f"{_ROOT}.{len(name)}.{ord(name[0])}.{index}"
        ds = radiograph(
            samples,
            SOPClassUID=CTImageStorage,
            SOPInstanceUID=uid,
            Modality="CT",
            ViewPosition=None,
        )
        (folder / f"{index}.dcm").write_bytes(as_file(ds))
    return folder


def _compressed(folder: Path, sender: int, *, count: int = COMPRESSED) -> Path:
    import imagecodecs

    folder.mkdir(parents=True)
    random = np.random.default_rng(sender)
    for index in range(count):
        samples = random.integers(0, 4096, (1024, 1024)).astype(np.uint16)
        frame = imagecodecs.jpeg2k_encode(samples, level=0, codecformat="J2K")
        ds = radiograph(samples, SOPInstanceUID=f"{_ROOT}.9.{sender}.{index}")
        ds.BitsStored, ds.HighBit = 16, 15
        set_frames(ds, frame, transfer_syntax=JPEG2000Lossless)
        (folder / f"{index}.dcm").write_bytes(as_file(ds))
    return folder


def _sender(port: int, folder: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [
        program("storescu"),
        *options,
        "+sd",
        "-aec",
        "DRIFTWARD",
        "127.0.0.1",
        str(port),
    ]
    return subprocess.Popen([*command, folder])


def _timed(senders: list[subprocess.Popen[bytes]]) -> float:
    began = time.perf_counter()
    _wait(senders)
    return time.perf_counter() - began


def _wait(senders: list[subprocess.Popen[bytes]]) -> None:
    codes = [sender.wait() for sender in senders]
    if any(codes):
        raise RuntimeError(f"storescu failed: {codes}")


if __name__ == "__main__":
    main()
