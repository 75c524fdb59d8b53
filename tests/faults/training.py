"""`kill -9` at every crash point of training and validation, and how the run then ended.

    python tests/faults/training.py [--times 20]

Each time a worker is killed at its point, another goes on once the lease has run out, and the run
must end as an undisturbed one does: the same candidate to the byte, one version, one run in MLflow,
the same gates, a ledger that verifies. What was found is kept line by line in
`results/training.jsonl`, so that a run can stop and go on; the table goes into `README.md`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [
    str(HERE.parents[1]),
    str(HERE.parent / "benchmarks" / "drift"),
    str(HERE.parent / "builders"),
]

from crashed_training import (  # noqa: E402
    TRAINING_POINTS,
    crashed_and_resumed,
    ended_as,
    home_with_a_queued_run,
    work,
)
from results import Results  # noqa: E402

from registry.tracking import Tracking  # noqa: E402

README = HERE / "README.md"
_BEGIN, _END = "<!-- training: begin -->", "<!-- training: end -->"


def main() -> int:
    """Crash what was not crashed yet, print the table, and return 1 if any run ended otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20)
    times = parser.parse_args().times
    results = Results("training", folder=HERE / "results")
    # Round by round, so that every point has been crashed at when it is stopped early.
    keys = [f"{point}, {number}" for number in range(times) for point in TRAINING_POINTS]
    wanted = list(results.missing(keys))
    if wanted:
        with tempfile.TemporaryDirectory(prefix="crashed-") as place:
            _crash(wanted, Path(place), results)
    table, failed = _table(results)
    sys.stdout.write(table)
    page = README.read_text(encoding="utf-8")
    before, _, rest = page.partition(_BEGIN)
    README.write_text(f"{before}{_BEGIN}\n{table}{_END}{rest.partition(_END)[2]}")
    return int(failed)


def _crash(keys: list[str], place: Path, results: Results) -> None:
    store = place / "mlflow" / "mlflow.db"
    store.parent.mkdir()
    Tracking(f"sqlite:///{store}", store.parent / "artifacts").ping()
    (place / "template").mkdir()
    template = home_with_a_queued_run(place / "template", empty_mlflow=store)
    whole = Path(shutil.copytree(template, place / "undisturbed"))
    if work(whole) != 0:
        raise RuntimeError("an undisturbed worker did not end by itself")
    undisturbed = ended_as(whole)
    for number, key in enumerate(keys):
        point = key.rpartition(", ")[0]
        folder = place / f"crash-{number}"
        folder.mkdir()
        ended = crashed_and_resumed(template, folder, point=point)
        shutil.rmtree(folder)
        results.add(
            key,
            point=point,
            state=ended.state,
            alike=ended == undisturbed,
            versions=ended.versions,
            tracked=ended.tracked,
            ledger_is_valid=ended.ledger_is_valid,
        )
        sys.stderr.write(f"{key}\n")


def _table(results: Results) -> tuple[str, bool]:
    lines = [
        "| killed at | times | ended as if undisturbed | versions of the model | runs in MLflow "
        "| ledger verifies |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    failed = False
    for point in TRAINING_POINTS:
        rows = [row for row in results.rows() if row["point"] == point]
        alike = sum(row["alike"] for row in rows)
        valid = sum(row["ledger_is_valid"] for row in rows)
        failed |= alike != len(rows)
        versions = max((row["versions"] for row in rows), default=0)
        tracked = max((sum(row["tracked"].values()) for row in rows), default=0)
        lines.append(
            f"| {point} | {len(rows)} | {alike} of {len(rows)} | {versions} | {tracked} | "
            f"{valid} of {len(rows)} |"
        )
    return "\n".join(lines) + "\n", failed


if __name__ == "__main__":
    sys.exit(main())
