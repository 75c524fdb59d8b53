"""Watches: how often a version fails that keeps its promise, and how soon falls are found.

    python tests/benchmarks/gates/watches.py

The champion before had a sensitivity of 90 % on the locked set, the margin is 5 points, and the
watch of 28 days has an error rate of 5 %, of which sensitivity gets a half. Beside the looks of
the product stand weekly looks with an equal part each (Bonferroni), and betting (a test that may
be stopped at any time). What was counted is kept in `results/watches.jsonl`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import numpy as np
from simulated import generator, kept, share, table

from monitor.statistics.performance.independent_differences import independent_difference
from monitor.statistics.performance.proportions import Proportion, proportion
from monitor.statistics.performance.sequential_falls import fall_in_sequence
from retrain.gates.measures import Measure
from retrain.gates.promises import LEVEL, Promise
from retrain.watching.judging import look_at

SIMULATIONS = 400
DAYS, ERROR_RATE, LEAST = 28, 0.05, 20
BEFORE, MARGIN = 0.90, 0.05
#: sensitivity in use, and what it is called
IN_USE = {
    "as before": 0.90,
    "5 points lower, at the limit": 0.85,
    "10 points lower": 0.80,
    "20 points lower": 0.70,
}
#: patients with the finding on the locked set, and labelled a day in use
SETTINGS = {"60, 2": (60, 2), "60, 8": (60, 8), "200, 2": (200, 2), "200, 8": (200, 8)}
RULES = ("daily", "weekly", "betting")


def keys() -> list[str]:
    """Return every cell."""
    return [f"{setting}/{name}" for setting in SETTINGS for name in IN_USE]


def measured(key: str) -> dict[str, float]:
    """Simulate watches, and count failures, their days and labels by rule."""
    setting, name = key.split("/")
    locked, a_day = SETTINGS[setting]
    rng = generator(key)
    found: dict[str, list[tuple[int, int]]] = {rule: [] for rule in RULES}
    for _ in range(SIMULATIONS):
        promise = Promise(
            measure=Measure.SENSITIVITY,
            of="the champion before it",
            measured=proportion(rng.random(locked) < BEFORE, level=LEVEL),
            margin=MARGIN,
        )
        ends = np.cumsum(rng.poisson(a_day, DAYS))
        right = rng.random(int(ends[-1])) < IN_USE[name]
        for rule, looked in (("daily", _daily), ("weekly", _weekly), ("betting", _betting)):
            day = looked(promise, right, ends)
            if day is not None:
                found[rule].append((day, int(ends[day - 1])))
    return {
        figure: value
        for rule, failures in found.items()
        for figure, value in _figures(rule, failures)
    }


def _figures(rule: str, failures: Sequence[tuple[int, int]]) -> list[tuple[str, float]]:
    failed = [(f"{rule} failed", len(failures) / SIMULATIONS)]
    if not failures:
        return failed
    days, labels = zip(*failures, strict=True)
    return [
        *failed,
        (f"{rule} day", float(np.median(days))),
        (f"{rule} labels", float(np.median(labels))),
    ]


def _daily(promise: Promise, right: np.ndarray, ends: np.ndarray) -> int | None:
    before = None
    for day in range(1, DAYS + 1):
        seen = right[: ends[day - 1]]
        look = look_at(
            Measure.SENSITIVITY,
            proportion(seen, level=LEVEL) if len(seen) else None,
            [promise],
            patients=len(seen),
            needed=LEAST,
            before=before,
            spend=ERROR_RATE / 2 * day / DAYS,
        )
        if look.failed:
            return day
        before = look.to_dict()
    return None


def _weekly(promise: Promise, right: np.ndarray, ends: np.ndarray) -> int | None:
    weeks = DAYS // 7
    for day in range(7, DAYS + 1, 7):
        seen = right[: ends[day - 1]]
        if len(seen) >= LEAST and _p_value(promise, seen) <= ERROR_RATE / 2 / weeks:
            return day
    return None


def _p_value(promise: Promise, seen: np.ndarray) -> float:
    now: Proportion = proportion(seen, level=LEVEL)
    return independent_difference(now, promise.measured, level=LEVEL).p_greater(MARGIN)


def _betting(promise: Promise, right: np.ndarray, ends: np.ndarray) -> int | None:
    def failed(day: int) -> bool:
        seen = right[: ends[day - 1]].astype(float)
        if not len(seen):
            return False
        fall = fall_in_sequence(seen, promise.measured, margin=MARGIN)
        return fall.p_value <= ERROR_RATE / 2

    # The evidence is the largest so far: once enough, it stays so.
    return _first(failed) if failed(DAYS) else None


def _first(holds: Callable[[int], bool]) -> int:
    low, high = 1, DAYS
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def tables() -> str:
    """Return the table in Markdown."""
    rows = [
        (
            *row["key"].split("/"),
            *(_cell(row, rule) for rule in RULES),
        )
        for row in kept("watches").rows()
    ]
    head = (
        "positives on the locked set, labelled a day",
        "sensitivity in use",
        "daily looks (the product's)",
        "weekly, a quarter each",
        "betting",
    )
    lines = [
        f"{SIMULATIONS} watches of {DAYS} days a row, one measure with its half of an error rate of "
        f"{ERROR_RATE:g}, a benchmark of {BEFORE:.0%} less {100 * MARGIN:.0f} points. How many "
        "failed; in brackets the median day of failing, and the labelled positives by then. The "
        "first two rows of each setting keep the promise, and may fail in at most .025:",
        "",
        *table(head, rows),
    ]
    return "\n".join(lines) + "\n"


def _cell(row: dict[str, float], rule: str) -> str:
    failed = share(row[f"{rule} failed"])
    if not row[f"{rule} failed"]:
        return failed
    return f"{failed} (day {row[f'{rule} day']:.0f}, {row[f'{rule} labels']:.0f})"


if __name__ == "__main__":
    kept("watches").measure(keys(), measured)
    sys.stdout.write(tables())
