"""A thousand breaches, five schedulers and five workers at once: one run per episode and plan.

    python tests/faults/scheduling.py [--times 1] [--breaches 1000]

Schedulers and workers are processes on one database. Meanwhile one worker is killed, whose job
another takes over when the lease has run out, and another plan comes into force, under which all
is decided anew. What was found is kept line by line in `results/breaches.jsonl`, so that a run
can stop and go on; the table goes into `README.md`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [
    str(HERE.parents[1]),
    str(HERE.parent / "benchmarks" / "drift"),
    str(HERE.parent / "builders"),
]

from breaches import home_with_breaches, take_up  # noqa: E402
from page import put_table  # noqa: E402
from results import Results  # noqa: E402

AT_ONCE = 5
_WITHIN_SECONDS = 3600


def main() -> int:
    """Let them be taken up, print the table, and return 1 if any was not taken up once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--breaches", type=int, default=1000)
    asked = parser.parse_args()
    results = Results("breaches", folder=HERE / "results")
    keys = [f"{asked.breaches} breaches, {number}" for number in range(asked.times)]
    for key in list(results.missing(keys)):
        with tempfile.TemporaryDirectory(prefix="breaches-") as place:
            taken = take_up(
                home_with_breaches(Path(place), asked.breaches),
                schedulers=AT_ONCE,
                workers=AT_ONCE,
                within_seconds=_WITHIN_SECONDS,
                meanwhile=_kill_one,
            )
        results.add(key, sound=taken.sound, **asdict(taken))
        sys.stderr.write(f"{key}\n")
    return int(_shown(results))


def _kill_one(workers: Sequence[subprocess.Popen[bytes]]) -> None:
    workers[0].kill()
    workers[0].wait()


def _shown(results: Results) -> bool:
    """Show the table, and return whether anything in it is wrong."""
    table = [
        (
            row["breaches"],
            row["one_run"],
            row["decided_once"],
            f"{row['earlier_superseded']} of {row['earlier_runs']}",
            f"{row['training_jobs']} of {row['queued']}",
            f"{row['claimed']} / {row['failed']}",
            row["ticks"],
            "yes" if row["ledger_is_valid"] else "no",
            row["seconds"],
        )
        for row in results.rows()
    ]
    put_table(
        "breaches",
        "breaches | with one run under the plan in force | each step decided once | runs of the "
        "earlier plan superseded | queued runs with one job | jobs still claimed / failed | "
        "ticks | ledger verifies | seconds",
        table,
    )
    return not all(row["sound"] for row in results.rows())


if __name__ == "__main__":
    sys.exit(main())
