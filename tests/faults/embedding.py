"""`kill -9` at every crash point of embedding while `storescu` sends, twenty times each.

    python tests/faults/embedding.py [--times 20]

One home receives and embeds through all crashes of a call. Each time a worker is killed at its
point while three associations send, another goes on once the lease has run out, and whatever was
acknowledged so far must be one scan, read once by each version. What was found is kept line by
line in `results/embed.jsonl`, so that a run can stop and go on; the table goes into `README.md`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [
    str(HERE.parents[1]),
    str(HERE.parent / "benchmarks" / "drift"),
    str(HERE.parent / "builders"),
]

from crashed_embedding import EMBED_POINTS, embedding_home  # noqa: E402
from page import put_table  # noqa: E402
from results import Results  # noqa: E402


def main() -> int:
    """Crash what was not crashed yet, print the table, and return 1 if anything is amiss."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20)
    times = parser.parse_args().times
    results = Results("embed", folder=HERE / "results")
    keys = [f"{point}, {number}" for number in range(times) for point in EMBED_POINTS]
    wanted = list(results.missing(keys))
    if wanted:
        with (
            tempfile.TemporaryDirectory(prefix="embedded-") as place,
            embedding_home(Path(place)) as home,
        ):
            acknowledged = 0
            for key in wanted:
                point, _, number = key.rpartition(", ")
                crash = home.crash(point, after=int(number) % 5)
                now, acknowledged = crash.acknowledged - acknowledged, crash.acknowledged
                facts = {**asdict(crash), "sound": crash.sound, "acknowledged_now": now}
                results.add(key, point=point, **facts)
                sys.stderr.write(f"{key}\n")
    return int(_shown(results))


def _shown(results: Results) -> bool:
    """Show the table, and return whether anything in it is wrong."""
    table, failed = [], False
    for point in EMBED_POINTS:
        rows = [row for row in results.rows() if row["point"] == point]
        sound = sum(row["sound"] for row in rows)
        failed |= sound != len(rows)
        acknowledged = sum(row["acknowledged_now"] for row in rows)
        read = sum(row["embedded_before"] for row in rows)
        table.append((point, len(rows), acknowledged, read, f"{sound} of {len(rows)}"))
    put_table(
        "embed",
        "killed at | times | acknowledged meanwhile | embeddings committed before | "
        "each acknowledged instance there once, read once by each version; "
        "rows, files and ledger agree",
        table,
    )
    return failed


if __name__ == "__main__":
    sys.exit(main())
