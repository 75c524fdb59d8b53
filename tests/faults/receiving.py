"""`kill -9` at every crash point of receiving, twenty times each, and what was then left.

    python tests/faults/receiving.py [--times 20]

Each run kills a receiver at its point while `storescu` sends under several associations, starts it
again, and sends everything once more. The number of the run is also how often the point is passed
unharmed before, so that the crash falls early and late. What was found is kept line by line in
`results/receive.jsonl`, so that a run can stop and go on; the table goes into `README.md`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [
    str(HERE.parents[1]),
    str(HERE.parent / "benchmarks" / "drift"),
    str(HERE.parent / "builders"),
]

from crash_scenario import (  # noqa: E402
    FILES_EACH,
    RECEIVE_POINTS,
    SENDERS,
    crash_while_sending,
)
from page import put_table  # noqa: E402
from results import Results  # noqa: E402
from running_receiver import new_home  # noqa: E402

_SENT = SENDERS * FILES_EACH


def main() -> int:
    """Crash what was not crashed yet, print the table, and return 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20)
    times = parser.parse_args().times
    results = Results("receive", folder=HERE / "results")
    for point in RECEIVE_POINTS:
        for number in range(times):
            key = f"{point}, {number}"
            if key in results.missing([key]):
                results.add(key, point=point, **_crash(point, after=number % 5))
                sys.stderr.write(f"{key}\n")
    return int(_shown(results))


def _crash(point: str, *, after: int) -> dict[str, int | bool]:
    with tempfile.TemporaryDirectory(prefix="crash-") as folder:
        home = new_home(Path(folder) / "home")
        crash = crash_while_sending(home, Path(folder) / "sent", point=point, after=after)
    return {
        "acknowledged": crash.acknowledged,
        "stored": crash.stored,
        "lost": crash.acknowledged_and_lost,
        "after_resend": crash.stored_after_resend,
        "whole": crash.whole,
    }


def _shown(results: Results) -> bool:
    """Show the table, and return whether anything in it is wrong."""
    by_point: dict[str, list[dict[str, int]]] = defaultdict(list)
    for row in results.rows():
        by_point[row["point"]].append(row)
    table, failed = [], False
    for point in RECEIVE_POINTS:
        rows = by_point[point]
        sent = _SENT * len(rows)
        acknowledged, lost, stored, whole = (
            sum(row[name] for row in rows)
            for name in ("acknowledged", "lost", "after_resend", "whole")
        )
        failed |= bool(lost) or stored != sent or whole != len(rows)
        counts = (len(rows), acknowledged, lost, f"{stored} of {sent}")
        table.append((point, *counts, f"{whole} of {len(rows)}"))
    put_table(
        "receive",
        "killed at | times | acknowledged before | of these lost | stored after a resend, "
        "of what was sent | rows, files and ledger agree",
        table,
    )
    return failed


if __name__ == "__main__":
    sys.exit(main())
