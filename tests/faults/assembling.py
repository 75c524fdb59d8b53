"""`kill -9` at every crash point of assembling series, twenty times each, and what was then left.

    python tests/faults/assembling.py [--times 20]

Each run kills whoever makes scans of one to four series; half of the runs replace scans, because
late slices joined. What was found is kept line by line in `results/assembling.jsonl`; the table
goes into `README.md`.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from counted import Counted, empty_database, of
from crashed_assembling import ASSEMBLE_POINTS, crash_while_assembling
from series_home import SeriesHome
from tiny_bundles import finding, tiny_bundle

from registry.bundles.bundle import Bundle
from registry.bundles.card import Tier
from registry.bundles.preprocessing import Unit
from registry.bundles.scan_units import Reading


def _crash(point: str, number: int) -> Mapping[str, Any]:
    encoder, champion = _bundles()
    with (
        tempfile.TemporaryDirectory(prefix="assembled-") as folder,
        empty_database(Path(folder)) as database,
    ):
        home = SeriesHome(database=database, root=Path(folder))
        home.watch("nodules", encoder=encoder, champion=champion)
        replacing = number % 2 == 1
        series = 1 + number // 2 % 4
        crash = crash_while_assembling(home, point=point, series=series, replacing=replacing)
    return {**asdict(crash), "replacing": replacing, "sound": crash.sound}


@cache
def _bundles() -> tuple[Bundle, Bundle]:
    """Make an encoder and a champion that read series."""
    folder = Path(tempfile.mkdtemp(prefix="bundles-"))
    of_series = {"unit": Unit.SERIES, "reading": Reading(at_most=3)}
    return (
        tiny_bundle(folder / "encoder", **of_series),
        tiny_bundle(
            folder / "champion", tier=Tier.TASK, tasks=[finding()], seed=1, **of_series
        ),
    )


if __name__ == "__main__":
    sys.exit(
        Counted(
            name="assembling",
            description=__doc__.splitlines()[0],
            header="of these replaced a scan | scans in the end, of the series | with every "
            "slice | counted before the commit | rows, files and ledger agree",
            places=ASSEMBLE_POINTS,
            crash=_crash,
            cells=lambda rows: (
                sum(row["replacing"] for row in rows),
                of(rows, "scans", "series"),
                of(rows, "complete", "series"),
                sum(row["counted_before"] for row in rows),
                of(rows, "whole"),
            ),
        ).main()
    )
