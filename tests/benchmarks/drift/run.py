"""Measure everything about the drift test, or what still lacks, and write the tables.

    python tests/benchmarks/drift/run.py [--quick] [--processes 2] [TABLE ...]

What was measured is kept line by line in `results/`, so that a run can stop and go on. With
`--quick` few units are measured, into `results/quick`, and the README stays as it is.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# Before numpy is loaded, here and in every process that is started.
for _pool in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_pool}_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

import agreement  # noqa: E402  after the thread limits
import large  # noqa: E402
import power  # noqa: E402
import real  # noqa: E402
import report  # noqa: E402
import results  # noqa: E402
import speed  # noqa: E402
import type_one  # noqa: E402
import week_effects  # noqa: E402

TABLES = ("speed", "agreement", "power", "type_one", "week_effects", "real", "large")


def main() -> None:
    """Run the tables that are asked for, all of them by default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", help=f"of {', '.join(TABLES)}")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    unknown = set(chosen.tables) - set(TABLES)
    if unknown:
        parser.error(f"no such table: {', '.join(sorted(unknown))}")
    folder = results.RESULTS / "quick" if chosen.quick else results.RESULTS
    os.environ["DRIFT_RESULTS"] = str(folder)
    for table in chosen.tables or TABLES:
        sys.stderr.write(f"{table} …\n")
        _measure(table, quick=chosen.quick, processes=chosen.processes)
    readme = None if chosen.quick else report.README
    sys.stdout.write(report.write(folder=Path(folder), readme=readme))


def _measure(table: str, *, quick: bool, processes: int) -> None:
    if table == "speed":
        # Alone on the machine, and in turn.
        if quick:
            speed.run(rounds=1, sizes=speed.SIZES[:1])
        else:
            speed.run(rounds=5)
    elif table == "agreement":
        agreement.run(inputs=4 if quick else 24)
    elif table == "power":
        power.run(references=1 if quick else 50, processes=processes)
    elif table == "type_one":
        type_one.run(references=1 if quick else 50, processes=processes)
    elif table == "week_effects":
        week_effects.run(references=1 if quick else 50, processes=processes)
    elif table == "real":
        if quick:
            real.run(references=1, encoders=real.ENCODERS[:1])
        else:
            real.run(references=13)
    elif not quick:
        large.run()


if __name__ == "__main__":
    main()
