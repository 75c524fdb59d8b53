"""Twenty-six weeks of three hospitals through the product: each shift, one episode?

    python tests/benchmarks/episodes/simulation.py [--seeds 1 2] [--weeks 26] [--ordinary]

Real radiographs that ship are sent as DICOM files, an hour's at a time, to an installation of
its own, whose clock is moved; three shifts, a holiday and a silent scanner stand among ordinary
weeks (`simulation_world.py`). `--ordinary` leaves them out, so that every alarm is a false one.
What came of each run is kept in `results/simulation.jsonl`, and that file printed as tables.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

for _pool in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_pool}_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[2]), str(HERE.parent / "drift")]

from results import Results  # noqa: E402  after the thread limits
from simulation_playing import LOOK_HOURS, MONITOR_FILE, Player  # noqa: E402
from simulation_truth import findings, standing  # noqa: E402
from simulation_world import (  # noqa: E402
    HOLIDAY_WEEK,
    HOUR,
    OUTAGE,
    PREVALENCE,
    PREVALENCE_SPREAD,
    SCANNERS,
    SHIFTS,
    SITES,
    WEEK,
    WEEKLY_SCANS,
    WEEKS,
    Shift,
    World,
)

from api.logs import configure_logs  # noqa: E402

#: A Monday; nothing depends on which.
START = datetime(2026, 1, 5, tzinfo=UTC)
DEFAULT_SEEDS = (1, 2, 3, 4, 5)
#: False alarms that may be expected: of windows, streams and silence.
_QUARTER = timedelta(weeks=13)


def main() -> None:
    """Play what is not played yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=DEFAULT_SEEDS)
    parser.add_argument("--weeks", type=int, default=WEEKS)
    parser.add_argument("--ordinary", action="store_true", help="without shifts and events")
    parser.add_argument("--home", type=Path, help="keep the installations below this folder")
    chosen = parser.parse_args()
    configure_logs()
    results = Results("simulation", folder=HERE / "results")
    keys = [_key(seed, chosen.weeks, ordinary=chosen.ordinary) for seed in chosen.seeds]
    for seed, key in zip(chosen.seeds, keys, strict=True):
        if key not in results.missing([key]):
            continue
        world = World(seed=seed, start=START, eventful=not chosen.ordinary)
        with TemporaryDirectory(prefix="driftward-simulation-") as folder:
            home = (chosen.home or Path(folder)) / key.replace(" ", "-")
            results.add(key, **played(world, home, weeks=chosen.weeks))
    sys.stdout.write(tables(results.rows()))


def _key(seed: int, weeks: int, *, ordinary: bool) -> str:
    return f"{'ordinary' if ordinary else 'shifts'} {weeks} weeks seed {seed}"


def played(world: World, home: Path, *, weeks: int) -> dict[str, Any]:
    """Play a world's weeks in a new home, and return what came of them."""
    began, cpu = time.monotonic(), time.process_time()
    player = Player(world=world, home=home)
    player.found()
    for week in range(weeks):
        player.week(week)
        sys.stderr.write(f"{home.name}: week {week + 1} of {weeks}, {_spent(began)}\n")
        sys.stderr.writelines(f"    {line}\n" for line in standing(player))
    return {
        "seed": world.seed,
        "weeks": weeks,
        "eventful": world.eventful,
        **findings(player),
        "cpu_seconds": round(time.process_time() - cpu),
        "wall_seconds": round(time.monotonic() - began),
        "cpu_by_part": {part: round(spent) for part, spent in player.seconds.items()},
    }


def _spent(began: float) -> str:
    return f"{time.monotonic() - began:.0f} s"


def tables(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the tables of some runs, and a sentence on what is not as it should be."""
    if not rows:
        return "Nothing was played yet.\n"
    parts = [_said(rows), _shifts(rows), _events(rows), _others(rows), _unmet(rows)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _said(rows: Sequence[Mapping[str, Any]]) -> str:
    runs = "; ".join(
        f"{row['key']}: {row['scans']:,} scans, {row['cpu_seconds'] / 60:.0f} minutes of CPU"
        for row in rows
    )
    return (
        f"Real radiographs of children as DICOM files from {len(SCANNERS)} scanners at "
        f"{len(SITES)} sites, some {WEEKLY_SCANS} a week, through intake, ticks and a worker "
        "with nothing moved but the clock. Each scan is another patient: an image of the "
        "sample, turned, moved, scaled and exposed a little differently. A week's images are "
        "drawn anew, for the reference's twelve weeks as for those watched; weeks differ in "
        f"prevalence (± {PREVALENCE_SPREAD:.0%} of {PREVALENCE:.0%}) and gray values. False "
        "alarms: .01 a week of windows, one a quarter of streams, one a quarter of silence. "
        f"{runs}. Ledgers valid: {'all' if all(row['ledger_valid'] for row in rows) else 'NO'}."
    )


def _shifts(rows: Sequence[Mapping[str, Any]]) -> str:
    lines: list[list[str]] = []
    for row, shift in _seeded(rows):
        own = _of(row, shift)
        known = [str(row["seed"]), shift.kind.value, f"{shift.place}, {_moment(shift.begins)}"]
        if not own:
            lines.append([*known, "none " + _mark(False), *[""] * 6])
        lines += [
            [
                *known,
                f"{one['episode']}" + (" (again) " + _mark(False) if one["again"] else ""),
                f"{one['cause']} {_mark(one['right_cause'])}",
                f"{one['subgroup'] or 'all scans'} {_mark(one['right_place'])}",
                f"{one['onset'][5:16].replace('T', ' ')}, {one['onset_off_scans']} scans and "
                f"{one['onset_off_hours'] / 24:+.1f} d off {_mark(one['right_onset'])}",
                f"{one['delay_scans']} scans, {one['delay_hours'] / 24:.1f} d",
                _closing(one),
                one["impact"],
            ]
            for one in own
        ]
    if not lines:
        return ""
    head = (
        "seed",
        "shift",
        "place and true onset",
        "episode",
        "cause it says",
        "place it says",
        "onset it says",
        "opened after",
        "closed after the end",
        "impact",
    )
    return f"Each shift, and the episode of it.\n\n{_table(head, lines)}"


def _events(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what came of the holiday and of the silent scanner."""
    lines: list[list[str]] = []
    for row in rows:
        if not row["eventful"]:
            continue
        raised = _on_holiday(row)
        if row["weeks"] >= HOLIDAY_WEEK:
            lines.append(
                [
                    str(row["seed"]),
                    f"holiday, week {HOLIDAY_WEEK}: a third of the scans",
                    "no alarm",
                    (", ".join(raised) or "no alarm") + " " + _mark(not raised),
                ]
            )
        if row["weeks"] * WEEK > OUTAGE.ends:
            lines.append([str(row["seed"]), *_outage(row)])
    if not lines:
        return ""
    head = ("seed", "event", "what should come", "what came")
    return f"What is no shift.\n\n{_table(head, lines)}"


def _on_holiday(row: Mapping[str, Any]) -> list[str]:
    """Return the alarms of the holiday week and of the one after, but for those of a shift."""
    began = START + (HOLIDAY_WEEK - 1) * WEEK
    return [
        f"{name} {one['opened'][5:16].replace('T', ' ')}"
        for name, part in (("episode", "episodes"), ("silence", "silence"))
        for one in row[part]
        if began <= datetime.fromisoformat(one["opened"]) < began + 2 * WEEK
        and one.get("shift") is None
    ]


def _outage(row: Mapping[str, Any]) -> list[str]:
    promised = row["promised"]
    said = [
        f"{one['kind']} at {', '.join(one['scanners'])} after {one['after_hours']:.0f} h "
        f"({one['received']} came of {one['expected']:.1f}), closed "
        f"{(one['closed'] or 'never')[5:16].replace('T', ' ')}"
        for one in row["silence"]
        if one["right"]
    ]
    return [
        f"{OUTAGE.station} sends nothing, {_moment(OUTAGE.begins)} to {_moment(OUTAGE.ends)}",
        f"a silence alarm of it alone, by {promised[5:16].replace('T', ' ')} as promised"
        if promised
        else "a silence alarm of it alone",
        ("; ".join(said) or "none") + " " + _mark(_silence_right(row)),
    ]


def _silence_right(row: Mapping[str, Any]) -> bool:
    """Return whether the silent scanner was named once, alone, and by when it was promised."""
    right = [one for one in row["silence"] if one["right"]]
    promised = row["promised"]
    if len(right) != 1 or promised is None:
        return False
    opened, by = (datetime.fromisoformat(one) for one in (right[0]["opened"], promised))
    return opened <= by + LOOK_HOURS * HOUR


def _others(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the alarms that nothing explains, beside the budget."""
    lines = [
        [
            str(row["seed"]),
            f"episode {one['episode']}: {one['cause']}, {one['subgroup'] or 'all scans'}",
            ", ".join(seen["encoder"] for seen in one["streams"]) or "windows",
            one["opened"][:16].replace("T", " "),
            (one["closed"] or "open")[:16].replace("T", " "),
        ]
        for row in rows
        for one in _unexplained(row)
    ]
    lines += [
        [
            str(row["seed"]),
            f"{one['kind']} scans, "
            + (", ".join(one["scanners"]) if len(one["scanners"]) < len(SCANNERS) else "all"),
            "silence",
            one["opened"][:16].replace("T", " "),
            (one["closed"] or "open")[:16].replace("T", " "),
        ]
        for row in rows
        for one in row["silence"]
        if not one["right"]
    ]
    weeks = sum(row["weeks"] for row in rows)
    episodes, silence = _budgets(weeks)
    found = sum(len(_unexplained(row)) for row in rows)
    said = (
        f"Other alarms in {weeks} weeks: {found} episodes (budget {episodes:.1f}), "
        f"{len(lines) - found} of silence (budget {silence:.1f})."
    )
    if not lines:
        return said
    return f"{said}\n\n{_table(('seed', 'alarm', 'seen by', 'opened', 'closed'), lines)}"


def _budgets(weeks: int) -> tuple[float, float]:
    """Return how many false episodes, and alarms of silence, so many weeks may have."""
    quarters = weeks * WEEK / _QUARTER
    alphas = float(str(MONITOR_FILE["alpha_per_week"])) * weeks
    return quarters + alphas, quarters


def _unmet(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say plainly what is not as it should be."""
    lacks: list[str] = []
    for row, shift in _seeded(rows):
        own = _of(row, shift)
        wrong = [
            said
            for key, said in (
                ("right_cause", "its cause"),
                ("right_place", "its place"),
                ("right_onset", "its onset"),
                ("right_closing", "when it closes"),
            )
            if own and not own[0][key]
        ]
        if not own:
            wrong = ["an episode"]
        if len(own) > 1:
            wrong.append(f"that it is one episode ({len(own)} opened)")
        if wrong:
            lacks.append(f"seed {row['seed']}, {shift.kind.value}: {', '.join(wrong)}")
    lacks += [
        f"seed {row['seed']}, silence: the silent scanner named once, alone and in time"
        for row in rows
        if row["eventful"] and row["weeks"] * WEEK > OUTAGE.ends and not _silence_right(row)
    ]
    lacks += [
        f"seed {row['seed']}, holiday: {len(raised)} alarms, where none should come"
        for row in rows
        if row["eventful"] and (raised := _on_holiday(row))
    ]
    weeks = sum(row["weeks"] for row in rows)
    false = sum(len(_unexplained(row)) for row in rows)
    if false > _budgets(weeks)[0]:
        lacks.append(f"{false} other episodes, which is more than the budget")
    silent = sum(not one["right"] for row in rows for one in row["silence"])
    if silent > _budgets(weeks)[1]:
        lacks.append(f"{silent} other alarms of silence, which is more than the budget")
    if not lacks:
        return "Nothing lacks of what should come."
    return f"**Not met:** {'; '.join(lacks)}."


def _seeded(rows: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], Shift]]:
    """Return the shifts of all runs that ended within them."""
    return [
        (row, shift)
        for row in rows
        if row["eventful"]
        for shift in SHIFTS
        if shift.ends <= row["weeks"] * WEEK
    ]


def _of(row: Mapping[str, Any], shift: Shift) -> list[Mapping[str, Any]]:
    return [one for one in row["episodes"] if one["shift"] == shift.kind.value]


def _unexplained(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [one for one in row["episodes"] if one["shift"] is None]


def _moment(since_start: timedelta) -> str:
    return f"{START + since_start:%m-%d %H:%M}"


def _closing(one: Mapping[str, Any]) -> str:
    if one["closed_after_hours"] is None:
        return "open " + _mark(False)
    return f"{one['closed_after_hours'] / 24:.1f} d {_mark(one['right_closing'])}"


def _mark(right: bool) -> str:
    return "✓" if right else "✗"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = "| " + " | ".join("---" for _ in head) + " |"
    return "\n".join(
        [f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(line)} |" for line in lines)]
    )


if __name__ == "__main__":
    main()
