"""Crashes that one function makes and judges, each time anew: counted, kept, and shown."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [
    str(HERE.parents[1]),
    str(HERE.parent / "benchmarks" / "drift"),
    str(HERE.parent / "builders"),
]

from page import put_table  # noqa: E402
from results import Results  # noqa: E402

from registry.database import Database  # noqa: E402


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """One table of crashes."""

    name: str  #: of the file of results, and of the table's marks in the page
    description: str
    header: str  #: of the columns behind "killed at" and "times"
    places: Sequence[str]  #: each crashed so often, and a row of the table
    crash: Callable[
        [str, int], Mapping[str, Any]
    ]  #: place, number -> facts; `sound` among them
    cells: Callable[
        [Sequence[Mapping[str, Any]]], Sequence[object]
    ]  #: a place's facts -> cells

    def main(self) -> int:
        """Crash what was not crashed yet, show the table, and return 1 if anything is amiss."""
        parser = argparse.ArgumentParser(description=self.description)
        parser.add_argument("--times", type=int, default=20)
        times = parser.parse_args().times
        results = Results(self.name, folder=HERE / "results")
        keys = [f"{place}, {number}" for number in range(times) for place in self.places]
        for key in list(results.missing(keys)):
            place, _, number = key.rpartition(", ")
            results.add(key, place=place, **self.crash(place, int(number)))
            sys.stderr.write(f"{key}\n")
        table, amiss = [], False
        for place in self.places:
            rows = [row for row in results.rows() if row["place"] == place]
            amiss |= not all(row["sound"] for row in rows)
            table.append((place, len(rows), *self.cells(rows)))
        put_table(self.name, f"killed at | times | {self.header}", table)
        return int(amiss)


@cache
def _migrated() -> Path:
    path = Path(tempfile.mkdtemp(prefix="migrated-")) / "driftward.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    database.dispose()
    return path


@contextmanager
def empty_database(folder: Path) -> Iterator[Database]:
    """Put an empty database with every table into a folder."""
    database = Database(f"sqlite:///{shutil.copy(_migrated(), folder)}")
    try:
        yield database
    finally:
        database.dispose()


def of(rows: Sequence[Mapping[str, Any]], part: str, whole: str | None = None) -> str:
    """Return a sum over crashes beside what it should be: another sum, or one a crash."""
    expected = len(rows) if whole is None else sum(row[whole] for row in rows)
    return f"{sum(row[part] for row in rows)} of {expected}"
