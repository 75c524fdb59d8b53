"""`kill -9` at every crash point of a source's follower, twenty times each, and what was then left.

    python tests/faults/sources.py [--times 20]

Each run kills `driftward source follow` over a home of its own, delivers one instance more while
nobody follows, and has another follow to the end. The number of the run says what becomes of a
folder's files, whether an Orthanc is read by its list or by its feed, and how often the point is
passed unharmed before. What was found is kept line by line in `results/sources.jsonl`; the table
goes into `README.md`.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from counted import Counted, of
from crashed_sources import (
    EACH_FILE,
    FILES,
    FOLDER_POINTS,
    ORTHANC_POINTS,
    Crash,
    crash_on_a_folder,
    crash_on_an_orthanc,
)
from running_orthanc import PASSWORD, USER, RunningOrthanc
from running_receiver import new_home
from sources_home import SourcesHome

from api.assembly import Driftward
from api.settings import Settings

_AFTERWARDS = ("remove", "move", "keep")


def _crash(place: str, number: int) -> Mapping[str, Any]:
    road, _, point = place.partition(", ")
    after = number % FILES if point in EACH_FILE else 0
    with tempfile.TemporaryDirectory(prefix="followed-") as folder, _home(Path(folder)) as home:
        crash = (_on_an_orthanc if road == "an Orthanc" else _on_a_folder)(
            home, Path(folder), point, number, after
        )
    return {**asdict(crash), "sound": crash.sound}


def _on_a_folder(home: SourcesHome, folder: Path, point: str, number: int, after: int) -> Crash:
    # What is kept where it lies is never picked up.
    ways = _AFTERWARDS[:2] if point == "folder: picked up" else _AFTERWARDS
    afterwards = ways[number % len(ways)]
    return crash_on_a_folder(home, folder, point=point, afterwards=afterwards, after=after)


def _on_an_orthanc(
    home: SourcesHome, folder: Path, point: str, number: int, after: int
) -> Crash:
    password = folder / "password"
    password.touch(mode=0o600)
    password.write_text(f"{PASSWORD}\n")
    orthanc = RunningOrthanc(folder / "orthanc")
    orthanc.start()
    try:
        home.apply(
            name="archive",
            kind="orthanc",
            url=orthanc.url,
            site="north",
            username=USER,
            password_file=str(password),
        )
        by_feed = number % 2 == 1
        return crash_on_an_orthanc(home, orthanc, point=point, by_feed=by_feed, after=after)
    finally:
        orthanc.close()


@cache
def _template() -> Path:
    return new_home(Path(tempfile.mkdtemp(prefix="home-")) / "home")


@contextmanager
def _home(folder: Path) -> Iterator[SourcesHome]:
    copied = Path(shutil.copytree(_template(), folder / "home"))
    driftward = Driftward.open(Settings(home=copied))
    try:
        yield SourcesHome(driftward)
    finally:
        driftward.database.dispose()


if __name__ == "__main__":
    sys.exit(
        Counted(
            name="sources",
            description=__doc__.splitlines()[0],
            header="stored in the end, of what was delivered | what is no scan, in quarantine "
            "once | files or feed left as set | rows, files and ledger agree",
            places=[
                *(f"a folder, {point}" for point in FOLDER_POINTS),
                *(f"an Orthanc, {point}" for point in ORTHANC_POINTS),
            ],
            crash=_crash,
            cells=lambda rows: (
                of(rows, "stored", "delivered"),
                of(rows, "quarantined"),
                of(rows, "left_as_set"),
                of(rows, "whole"),
            ),
        ).main()
    )
