"""`kill -9` at every crash point of training and validation, and how the run then ended.

    python tests/faults/training.py [--times 20]

Each time a worker is killed at its point, another goes on once the lease has run out, and the run
must end as an undisturbed one does: the same candidate to the byte, one version, one run in MLflow,
the same gates, a ledger that verifies. A crash at a later point begins where an earlier one had
left the run, which spares its training. What was found is kept line by line in
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
    homes_of_a_run,
    undisturbed,
)
from page import put_table  # noqa: E402
from results import Results  # noqa: E402

from registry.tracking import Tracking  # noqa: E402


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
    return int(_shown(results))


def _crash(keys: list[str], place: Path, results: Results) -> None:
    store = place / "mlflow" / "mlflow.db"
    store.parent.mkdir()
    Tracking(f"sqlite:///{store}", store.parent / "artifacts").ping()
    (place / "homes").mkdir()
    homes = homes_of_a_run(place / "homes", empty_mlflow=store)
    expected = undisturbed(homes, place / "undisturbed")
    for number, key in enumerate(keys):
        point = key.rpartition(", ")[0]
        folder = place / f"crash-{number}"
        folder.mkdir()
        ended = crashed_and_resumed(homes, folder, point=point)
        shutil.rmtree(folder)
        results.add(
            key,
            point=point,
            state=ended.state,
            alike=ended == expected,
            versions=ended.versions,
            tracked=ended.tracked,
            ledger_is_valid=ended.ledger_is_valid,
        )
        sys.stderr.write(f"{key}\n")


def _shown(results: Results) -> bool:
    """Show the table, and return whether anything in it is wrong."""
    table, failed = [], False
    for point in TRAINING_POINTS:
        rows = [row for row in results.rows() if row["point"] == point]
        alike = sum(row["alike"] for row in rows)
        valid = sum(row["ledger_is_valid"] for row in rows)
        failed |= alike != len(rows)
        versions = max((row["versions"] for row in rows), default=0)
        tracked = max((sum(row["tracked"].values()) for row in rows), default=0)
        there = (versions, tracked, f"{valid} of {len(rows)}")
        table.append((point, len(rows), f"{alike} of {len(rows)}", *there))
    put_table(
        "training",
        "killed at | times | ended as if undisturbed | versions of the model | runs in MLflow | "
        "ledger verifies",
        table,
    )
    return failed


if __name__ == "__main__":
    sys.exit(main())
