"""A plan replayed on half a year of 50,000 scans with three seeded shifts, by the command itself.

The history is made once, in a folder of the system's temporary files, and the command runs twice
on it. Each run is a line of `results/half_year.jsonl`; runs that stand there are not repeated, so
a benchmark that was stopped goes on. Then the tables are printed, and the picture of the last run
lies beside them.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "builders")]

from shifted_history import ANCHOR, MONITOR, SHIFTS, UNTIL, WEEK, ShiftedHistory  # noqa: E402

RESULTS = HERE / "results" / "half_year.jsonl"
PICTURE = HERE / "results" / "half_year.svg"
SCANS_A_WEEK, DIMENSION = 1924, 64
RUNS = 2
_WORDS = {
    6: "south gets new software, ranks are lost",
    13: "three brighter weeks, results as before",
    19: "north gets new software, scores rise",
}


def main() -> None:
    """Run what still lacks, and print the tables."""
    RESULTS.parent.mkdir(exist_ok=True)
    done = _lines()
    if len(done) < RUNS:
        home = _home()
        for number in range(len(done), RUNS):
            line = _measured(home, number)
            with RESULTS.open("a") as file:
                file.write(json.dumps(line) + "\n")
    print("\n".join(_tables(_lines())))  # noqa: T201


def _lines() -> list[dict[str, Any]]:
    if not RESULTS.exists():
        return []
    return [json.loads(line) for line in RESULTS.read_text().splitlines()]


def _home() -> Path:
    """Return the home of the history, made now if it is not there whole."""
    folder = Path(tempfile.gettempdir()) / f"driftward-half-year-{os.getuid()}"
    whole = folder / "plan.yaml"
    if not whole.exists():
        import shutil

        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        history = ShiftedHistory(
            folder / "home", scans_a_week=SCANS_A_WEEK, dimension=DIMENSION
        )
        history.make()
        history.driftward.database.dispose()
        whole.write_text(history.plan_text())
    return folder


def _measured(folder: Path, number: int) -> dict[str, Any]:
    """Run the command once, and return what it took and said."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    answer = subprocess.run(
        [
            sys.executable, "-c", "from api.cli import main; main()",
            "plan", "backtest", MONITOR,
            "--since", f"{ANCHOR:%Y-%m-%d}", "--until", f"{UNTIL:%Y-%m-%d}",
            "--plan", str(folder / "plan.yaml"), "--home", str(folder / "home"),
            "--plot", str(PICTURE), "--json",
        ],
        stdout=subprocess.PIPE, check=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ).stdout  # fmt: skip
    seconds = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    document = json.loads(answer)
    return {
        "run": number + 1,
        "scans": document["scans"],
        "labelled": document["labelled"],
        "dimension": DIMENSION,
        "wall_seconds": round(seconds, 1),
        "cpu_seconds": round(
            after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1
        ),
        "load": round(os.getloadavg()[0], 1),
        "megabytes": round(after.ru_maxrss / 1024),
        "digest": hashlib.sha256(answer).hexdigest(),
        "alarms": document["alarms"],
        "windows": len(document["windows"]),
        "false_alarms": sum(
            one["alarm"] and datetime.fromisoformat(one["end"]) <= ANCHOR + min(SHIFTS) * WEEK
            for one in document["windows"]
        ),
        "episodes": document["episodes"],
        "runs": [{**one, "gates": None} for one in document["runs"]],
        "not_simulated": document["not_simulated"],
        "floor": document["floor"],
        "policies": [
            {key: one[key] for key in one if key not in {"weeks", "passed_over"}}
            for one in document["policies"]
        ],
    }


def _tables(lines: list[dict[str, Any]]) -> Iterator[str]:
    first = lines[0]
    yield (
        f"{first['scans']:,} scans of 26 weeks in {first['dimension']} dimensions, "
        f"{first['labelled']:,} of them labelled; windows of a week and two streams. "
        f"{len({one['digest'] for one in lines})} different answer(s) in {len(lines)} runs; "
        f"{first['false_alarms']} alarms in the six weeks before the first shift."
    )
    yield ""
    yield "| run | CPU seconds | wall seconds | load of the machine | MB |"
    yield "| --- | --- | --- | --- | --- |"
    for one in lines:
        yield (
            f"| {one['run']} | {one['cpu_seconds']} | {one['wall_seconds']} | {one['load']} | "
            f"{one['megabytes']} |"
        )
    yield ""
    yield "| week | shift | seen by | days late | cause | where | what became of it |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for week in SHIFTS:
        yield _shift(first, week)
    yield ""
    yield (
        "| policy | AUC | sensitivity | specificity | weeks below | surely | runs | promotions | "
        "labels |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for one in first["policies"]:
        whole = one["whole_span"]
        figures = [
            f"{whole[name][0]:.3f} ({whole[name][1]:.3f} to {whole[name][2]:.3f})"
            for name in ("auc", "sensitivity", "specificity")
        ]
        yield (
            f"| {one['policy']} | {' | '.join(figures)} | {one['weeks_below']} | "
            f"{one['weeks_surely_below']} | {one['runs']} | {len(one['promotions'])} | "
            f"{one['labels_used']} |"
        )


def _shift(line: dict[str, Any], week: int) -> str:
    began = ANCHOR + week * WEEK
    until = min((ANCHOR + other * WEEK for other in SHIFTS if other > week), default=UNTIL)
    of_shift = [
        one
        for one in line["episodes"]
        if began < datetime.fromisoformat(one["opened_at"]) <= until
    ]
    if not of_shift:
        return f"| {week} | {_WORDS[week]} | not apart from what was open | – | – | – | – |"
    first = of_shift[0]
    opened = datetime.fromisoformat(first["opened_at"])
    runs = [one for one in line["runs"] if one["episode"] == first["episode"]]
    became = [f"run by {one['strategy']}: {one['state']}" for one in runs] or [first["state"]]
    return (
        f"| {week} | {_WORDS[week]} | {first['seen_by']} | "
        f"{(opened - began) / timedelta(days=1):.1f} | {first['cause']} | "
        f"{first['subgroup'] or 'everywhere'} | {', '.join(became)} |"
    )


if __name__ == "__main__":
    main()
