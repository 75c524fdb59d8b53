"""Receiving for ten minutes under 32 associations: does memory stay where it was?

    python tests/benchmarks/intake/receive_endurance.py [--minutes 10]

32 senders of DCMTK's `storescu` send one batch after the other, each under a new association, new
slices each time, while the memory of every process of the receiver is read. What was measured is
kept in `results/receive_endurance.jsonl`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [
    str(HERE.parents[2]),
    str(HERE.parent / "drift"),
    str(HERE.parents[1] / "builders"),
]

import numpy as np  # noqa: E402
from dicom_instances import as_file, radiograph  # noqa: E402
from dicom_programs import program  # noqa: E402
from pydicom.uid import CTImageStorage  # noqa: E402
from results import Results  # noqa: E402
from running_receiver import RunningReceiver, new_home, receiving  # noqa: E402

ASSOCIATIONS = 32
MINUTES = 10.0
BATCH = 5
_ROOT = "1.2.826.0.1.3680043.8.498.4"


def main() -> None:
    """Measure what lacks, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=MINUTES)
    minutes = parser.parse_args().minutes
    results = Results("receive_endurance", folder=HERE / "results")
    measure(results, minutes=minutes)
    sys.stdout.write(tables(results))


def measure(results: Results, *, minutes: float = MINUTES) -> None:
    """Send for some minutes, where that was not measured yet."""
    key = f"{minutes:g} minutes"
    if key in results.missing([key]):
        with tempfile.TemporaryDirectory(prefix="endurance-") as folder:
            results.add(key, **_endured(Path(folder), minutes * 60))


def tables(results: Results) -> str:
    """Return the table in Markdown."""
    lines = [
        "| for | associations | scans | failed | resident, all processes: after a tenth, most, "
        "at the end |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in results.rows():
        early, most, end = (f"{row[name] / 2**20:.0f} MiB" for name in ("early", "most", "end"))
        lines.append(
            f"| {row['key']} | {row['associations']} | {row['scans']} | {row['failed']} | "
            f"{early}, {most}, {end} |"
        )
    lines += [
        "",
        "32 senders at once, each under one new association after the other; a page that "
        "processes share is counted once.",
        "",
    ]
    return "\n".join(lines)


def _endured(folder: Path, seconds: float) -> dict[str, Any]:
    config = folder / "receiver.yaml"
    config.write_text("site: north\n")
    home = new_home(folder / "home")
    with receiving(home, "--config", str(config)) as receiver:
        ends = time.monotonic() + seconds
        outcomes: list[int] = []
        senders = [
            threading.Thread(
                target=_send_until, args=(ends, receiver.port, folder / str(n), n, outcomes)
            )
            for n in range(ASSOCIATIONS)
        ]
        for sender in senders:
            sender.start()
        memory = _memory_until(ends, receiver)
        for sender in senders:
            sender.join()
        scans = len(receiver.scans())
    return {
        "associations": len(outcomes),
        "failed": sum(code != 0 for code in outcomes),
        "scans": scans,
        "early": memory[len(memory) // 10],
        "most": max(memory),
        "end": memory[-1],
    }


def _send_until(ends: float, port: int, folder: Path, sender: int, outcomes: list[int]) -> None:
    folder.mkdir()
    pixels = np.random.default_rng(sender).integers(0, 4096, (512, 512)).astype(np.uint16)
    batch = 0
    while time.monotonic() < ends:
        for index in range(BATCH):
            ds = radiograph(
                pixels,
                SOPClassUID=CTImageStorage,
                SOPInstanceUID=f"{_ROOT}.{sender}.{batch}.{index}",
                Modality="CT",
                ViewPosition=None,
            )
            (folder / f"{index}.dcm").write_bytes(as_file(ds))
        outcomes.append(
            subprocess.run(
                [
                    program("storescu"),
                    "+sd",
                    "-aec",
                    "DRIFTWARD",
                    "127.0.0.1",
                    str(port),
                    folder,
                ],
                check=False,
            ).returncode
        )
        batch += 1


def _memory_until(ends: float, receiver: RunningReceiver) -> list[int]:
    memory = [receiver.resident_bytes()]
    while time.monotonic() < ends:
        time.sleep(1)
        memory.append(receiver.resident_bytes())
    return memory


if __name__ == "__main__":
    main()
