"""Receiving: how many scans a second, beside a receiver that only writes files.

    python tests/benchmarks/intake/receive_throughput.py

Eight associations of DCMTK's `storescu` send 512 x 512 x 16-bit slices, in turn to `driftward
receive` (de-identified, synced and committed before each acknowledgement) and to DCMTK's
`storescp --fork` (writes files, syncs nothing). Rounds are interleaved; what was measured is kept
line by line in `results/receive_throughput.jsonl`, so that a run can stop and go on.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
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
from running_orthanc import free_port  # noqa: E402
from running_receiver import RunningReceiver, new_home, receiving  # noqa: E402

ROUNDS = 7
ASSOCIATIONS = 8
FILES_EACH = 60
_ROOT = "1.2.826.0.1.3680043.8.498.3"
_TICKS = os.sysconf("SC_CLK_TCK")
OURS, PEER = "driftward receive", "storescp --fork"


def main() -> None:
    """Measure what lacks, and print the table."""
    results = Results("receive_throughput", folder=HERE / "results")
    measure(results)
    sys.stdout.write(tables(results))


def measure(results: Results) -> None:
    """Run the rounds that lack, both receivers in each."""
    for number in range(ROUNDS):
        key = f"round {number}"
        if key in results.missing([key]):
            with tempfile.TemporaryDirectory(prefix="receive-") as folder:
                results.add(key, **_round(Path(folder), number))


def tables(results: Results) -> str:
    """Return the table in Markdown."""
    rows = results.rows()
    lines = [
        "| receiver | scans a second, median | fastest, slowest | server's CPU a scan, ms |",
        "| --- | --- | --- | --- |",
    ]
    for name, what in (("ours", OURS), ("peer", PEER)):
        rates = [row[name]["scans"] / row[name]["seconds"] for row in rows]
        cpu = [1e3 * row[name]["cpu_seconds"] / row[name]["scans"] for row in rows]
        lines.append(
            f"| {what} | {statistics.median(rates):.0f} | {max(rates):.0f}, {min(rates):.0f} | "
            f"{statistics.median(cpu):.1f} |"
        )
    faster = statistics.median(row["peer"]["seconds"] / row["ours"]["seconds"] for row in rows)
    lines += [
        "",
        f"{len(rows)} interleaved rounds of {ASSOCIATIONS} associations x {FILES_EACH} slices on "
        f"{os.cpu_count()} cores, senders included; within a round ours took "
        f"1/{faster:.2f} of the peer's time (median).",
        "",
    ]
    return "\n".join(lines)


def _round(folder: Path, number: int) -> dict[str, Any]:
    sent = [_written(folder / "sent" / str(sender), number, sender) for sender in range(8)]
    runs = [("ours", _ours), ("peer", _peers)]
    if number % 2:
        runs.reverse()
    return {name: run(folder, sent) for name, run in runs}


def _written(folder: Path, number: int, sender: int) -> Path:
    folder.mkdir(parents=True)
    random = np.random.default_rng((number, sender))
    for index in range(FILES_EACH):
        samples = random.integers(0, 4096, (512, 512)).astype(np.uint16)
        ds = radiograph(
            samples,
            SOPClassUID=CTImageStorage,
            SOPInstanceUID=f"{_ROOT}.{number}.{sender}.{index}",
            Modality="CT",
            ViewPosition=None,
        )
        (folder / f"{index}.dcm").write_bytes(as_file(ds))
    return folder


def _ours(folder: Path, sent: list[Path]) -> dict[str, float]:
    config = folder / "receiver.yaml"
    config.write_text("site: north\n")
    home = new_home(folder / "home")
    with receiving(home, "--config", str(config)) as receiver:
        before = _cpu_seconds(receiver)
        seconds = _send(receiver.port, sent)
        used = _cpu_seconds(receiver) - before
        scans = len(receiver.scans())
    return {"seconds": seconds, "cpu_seconds": used, "scans": scans}


def _peers(folder: Path, sent: list[Path]) -> dict[str, float]:
    received = folder / "received"
    received.mkdir()
    port = free_port()
    server = subprocess.Popen(
        [program("storescp"), "--fork", "-od", received, str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(1)
    try:
        seconds = _send(port, sent)
        time.sleep(0.5)  # until its last child has ended and been waited for
        fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
        used = sum(map(int, fields[11:15])) / _TICKS  # its own and its ended children's
    finally:
        server.kill()
        server.wait()
    return {
        "seconds": seconds,
        "cpu_seconds": used,
        "scans": len(list(received.iterdir())),
    }


def _send(port: int, folders: list[Path]) -> float:
    """Send every folder under an association of its own, at once; return the seconds taken."""
    began = time.perf_counter()
    senders = [
        subprocess.Popen(
            [program("storescu"), "+sd", "-aec", "DRIFTWARD", "127.0.0.1", str(port), folder]
        )
        for folder in folders
    ]
    codes = [sender.wait() for sender in senders]
    if any(codes):
        raise RuntimeError(f"storescu failed: {codes}")
    return time.perf_counter() - began


def _cpu_seconds(receiver: RunningReceiver) -> float:
    total = 0
    for process in (receiver.process.pid, *receiver.children()):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:13]))
    return total / _TICKS


if __name__ == "__main__":
    main()
