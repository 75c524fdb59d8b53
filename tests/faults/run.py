"""`kill -9` at every named crash point, twenty times each, and what was then left.

    python tests/faults/run.py [--times 20]

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
from results import Results  # noqa: E402
from running_receiver import new_home  # noqa: E402

README = HERE / "README.md"
_BEGIN, _END = "<!-- receive: begin -->", "<!-- receive: end -->"
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
    table, failed = _table(results)
    sys.stdout.write(table)
    page = README.read_text(encoding="utf-8")
    before, _, rest = page.partition(_BEGIN)
    README.write_text(f"{before}{_BEGIN}\n{table}{_END}{rest.partition(_END)[2]}")
    return int(failed)


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


def _table(results: Results) -> tuple[str, bool]:
    by_point: dict[str, list[dict[str, int]]] = defaultdict(list)
    for row in results.rows():
        by_point[row["point"]].append(row)
    lines = [
        "| killed at | times | acknowledged before | of these lost | stored after a resend, "
        "of what was sent | rows, files and ledger agree |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    failed = False
    for point in RECEIVE_POINTS:
        rows = by_point[point]
        lost = sum(row["lost"] for row in rows)
        stored = sum(row["after_resend"] for row in rows)
        whole = sum(row["whole"] for row in rows)
        failed |= bool(lost) or stored != _SENT * len(rows) or whole != len(rows)
        lines.append(
            f"| {point} | {len(rows)} | {sum(row['acknowledged'] for row in rows)} | {lost} | "
            f"{stored} of {_SENT * len(rows)} | {whole} of {len(rows)} |"
        )
    return "\n".join(lines) + "\n", failed


if __name__ == "__main__":
    sys.exit(main())
