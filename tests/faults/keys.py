"""`kill -9` at every crash point of changing keys, twenty times each, and what was then found.

    python tests/faults/keys.py [--times 20]

Each run kills whoever rotates the keys of pseudonyms, or drops one; others then take the same
instances in again, and rotate once more. What was found is kept line by line in
`results/keys.jsonl`; the table goes into `README.md`.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from counted import Counted, empty_database, of
from crashed_keys import KEY_POINTS, crash_while_changing_keys
from keyed_site import Site

_NOW = datetime(2026, 3, 2, tzinfo=UTC)


def _crash(point: str, number: int) -> Mapping[str, Any]:
    with (
        tempfile.TemporaryDirectory(prefix="keys-") as folder,
        empty_database(Path(folder)) as database,
    ):
        site = Site(Path(folder), database, _NOW)
        crash = crash_while_changing_keys(site, point=point, changed_before=number % 4)
    return {
        **asdict(crash),
        "as_expected": crash.newest == crash.newest_expected,
        "sound": crash.sound,
    }


if __name__ == "__main__":
    sys.exit(
        Counted(
            name="keys",
            description=__doc__.splitlines()[0],
            header="the right key in force | exactly the keys held that are | sent again, of "
            "these the same scan | ledger verifies",
            places=KEY_POINTS,
            crash=_crash,
            cells=lambda rows: (
                of(rows, "as_expected"),
                of(rows, "held"),
                of(rows, "known", "resent"),
                of(rows, "verified"),
            ),
        ).main()
    )
