"""What the evaluation of a window with 100 subgroups costs, through the database.

    python tests/benchmarks/episodes/subgroup_cost.py

Five attributes of 20 values each, a reference of 7,000 scans, a window of 1,000, 512 dimensions
in each of two encoders' spaces: `monitor.evaluation.evaluate` as the job calls it, its profiles
on disk. What was measured is kept in `results/subgroup_cost.jsonl`.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
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

import monitored_history  # noqa: E402  after the thread limits
import numpy as np  # noqa: E402
from monitored_history import History, found  # noqa: E402
from results import Results  # noqa: E402
from sqlalchemy import select  # noqa: E402

from monitor.evaluation import evaluate  # noqa: E402
from monitor.references import ProfileStore  # noqa: E402
from monitor.tables import ScanRow  # noqa: E402
from registry.database import Database  # noqa: E402

DIMENSION, REFERENCE, WINDOW = 512, 7000, 1000
ATTRIBUTES = ("station", "protocol", "view", "software_version", "scanner_model")
VALUES = 20
ROUNDS = 3


def measure(_: str) -> dict[str, Any]:
    """Build the monitor, and evaluate one window several times."""
    monitored_history.DIMENSION = DIMENSION
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/driftward.db")
        database.migrate()
        found(database)
        history = History(database, ProfileStore(Path(folder) / "profiles"))
        history.watch(*ATTRIBUTES)
        _add(history, REFERENCE, -1)
        start = time.process_time()
        history.accept_reference(0)
        fit = time.process_time() - start
        _add(history, WINDOW, 0)
        alone = []
        for _round in range(ROUNDS):
            with database.reading() as session:
                start = time.process_time()
                evaluation = evaluate(
                    session,
                    history.profiles,
                    history.monitor,
                    history.window(0),
                    now=history.window(0).end,
                )
                alone.append(time.process_time() - start)
        tested = {len(item.subgroups) for item in evaluation.verdicts}
    return {"evaluation": alone, "fit": fit, "subgroups": sorted(tested)}


def _add(history: History, count: int, window: int) -> None:
    """Add scans of a window whose attributes are drawn at random."""
    scans = history.add(count, at=history.window(window).start)
    rng = np.random.default_rng(count)
    with history.database.transaction() as session:
        for row in session.scalars(select(ScanRow).where(ScanRow.id.in_(scans))):
            for attribute in ATTRIBUTES:
                setattr(row, attribute, f"{attribute} {rng.integers(VALUES)}")


def report(row: dict[str, Any]) -> str:
    """Return the table, in Markdown."""
    seconds = ", ".join(f"{one:.1f}" for one in row["evaluation"])
    return "\n".join(
        [
            "### Cost of subgroups",
            "",
            f"CPU seconds on one thread, {ROUNDS} times in turn (the first reads profiles from "
            "disk). Goal: under 10 s.",
            "",
            "| reference | window | dimensions | encoders | subgroups tested | evaluation | fit |",
            "|---|---|---|---|---|---|---|",
            f"| {REFERENCE:,} | {WINDOW:,} | {DIMENSION} | 2 | {max(row['subgroups'])} "
            f"| {seconds} | {row['fit']:.0f} |",
        ]
    )


def main() -> None:
    """Measure what still lacks, and print the table."""
    results = Results("subgroup_cost", folder=HERE / "results")
    results.measure(["subgroups"], measure)
    sys.stdout.write(report(results.rows()[-1]) + "\n")


if __name__ == "__main__":
    main()
