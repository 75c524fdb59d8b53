"""Results as they come: one JSON document a line, so that a run can stop and go on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from multiprocessing import get_context
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


class Results:
    """Measured units of one table, kept by key in a file."""

    def __init__(self, name: str, *, folder: Path | None = None) -> None:
        folder = folder or Path(os.environ.get("DRIFT_RESULTS", RESULTS))
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{name}.jsonl"

    def rows(self) -> list[dict[str, Any]]:
        """Return what was measured, the latest of each key."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines()
        by_key = {row["key"]: row for row in map(_parsed, lines) if row is not None}
        return list(by_key.values())

    def missing(self, keys: Iterable[str]) -> Iterator[str]:
        """Yield the keys that are not measured yet."""
        done = {row["key"] for row in self.rows()}
        return (key for key in keys if key not in done)

    def measure(
        self,
        keys: Iterable[str],
        measured: Callable[[str], Mapping[str, Any]],
        *,
        processes: int = 1,
    ) -> None:
        """Measure what is missing, several at once, and keep each as it comes."""
        lacking = list(self.missing(keys))
        if processes == 1:
            for key in lacking:
                self.add(key, **measured(key))
            return
        with get_context("spawn").Pool(processes) as pool:
            for key, facts in zip(lacking, pool.imap(measured, lacking), strict=True):
                self.add(key, **facts)

    def add(self, key: str, **facts: Any) -> None:
        """Keep what was measured of a unit."""
        line = json.dumps({"key": key, **facts}, sort_keys=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def _parsed(line: str) -> dict[str, Any] | None:
    # A run that was killed may leave half a line, which is measured again.
    try:
        row: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return row
