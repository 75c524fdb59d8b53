"""`kill -9` at every crash point of shadow, approval, promotion, stages, references, rollback.

    python tests/faults/promoting.py [--times 20]

Each time the command, or the worker, is killed at its point in a copy of a home as it was left
before; the same command is then given again, and what stands must be what an undisturbed one
leaves: one champion, MLflow in line, the reference of who serves, nothing twice in the ledger.
What was found is kept line by line in `results/promoting.jsonl`, so that a run can stop and go on;
the table goes into `README.md`.
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

from crashed_promotion import STEPS, crash, life_of_a_champion  # noqa: E402
from page import put_table  # noqa: E402
from results import Results  # noqa: E402

from registry.tracking import Tracking  # noqa: E402

_PLACES = [(step, point) for step, points in STEPS.items() for point in points]


def main() -> int:
    """Crash what was not crashed yet, print the table, and return 1 if any ended otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20)
    times = parser.parse_args().times
    results = Results("promoting", folder=HERE / "results")
    # Round by round, so that every point has been crashed at when it is stopped early.
    keys = [f"{step}, {point}, {number}" for number in range(times) for step, point in _PLACES]
    wanted = list(results.missing(keys))
    if wanted:
        with tempfile.TemporaryDirectory(prefix="crashed-") as place:
            _crash(wanted, Path(place), results)
    return int(_shown(results))


def _crash(keys: list[str], place: Path, results: Results) -> None:
    store = place / "mlflow" / "mlflow.db"
    store.parent.mkdir()
    Tracking(f"sqlite:///{store}", store.parent / "artifacts").ping()
    (place / "life").mkdir()
    life = life_of_a_champion(place / "life", empty_mlflow=store)
    for number, key in enumerate(keys):
        step, point, _ = key.split(", ")
        folder = place / f"crash-{number}"
        folder.mkdir()
        found = crash(life, step, point, folder)
        shutil.rmtree(folder)
        results.add(
            key,
            step=step,
            point=point,
            sound_when_killed=found.left.sound,
            alike=found.ended == life.after[step],
            again=found.code,
            champions=found.ended.most_at_a_place,
            ledger_is_valid=found.ended.whole,
        )
        sys.stderr.write(f"{key}\n")


def _shown(results: Results) -> bool:
    """Show the table, and return whether anything in it is wrong."""
    table, failed = [], False
    for step, point in _PLACES:
        rows = [row for row in results.rows() if (row["step"], row["point"]) == (step, point)]
        sound, alike, valid = (
            sum(row[name] for row in rows)
            for name in ("sound_when_killed", "alike", "ledger_is_valid")
        )
        failed |= not len(rows) == sound == alike == valid
        champions = max((row["champions"] for row in rows), default=0)
        of = f"of {len(rows)}"
        counts = (f"{sound} {of}", f"{alike} {of}", champions, f"{valid} {of}")
        table.append((step, point, len(rows), *counts))
    put_table(
        "promoting",
        "step | killed at | times | sound when killed | ended as if undisturbed | "
        "champions at a place | ledger verifies",
        table,
    )
    return failed


if __name__ == "__main__":
    sys.exit(main())
