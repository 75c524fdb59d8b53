"""The tables of `estimated_performance.py`: errors against the truth, and what intervals hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from monitor.episodes.causes import Cause

MEASURES = ("auc", "sensitivity", "specificity")
#: What each scenario is, as a cause of an episode; None where nothing shifted.
CAUSES: dict[str, Cause | None] = {
    "none": None,
    "prevalence down": Cause.PREVALENCE,
    "prevalence up": Cause.PREVALENCE,
    "covariate shift": Cause.POPULATION,
    "population": Cause.POPULATION,
    "case mix": Cause.CASE_MIX,
    "acquisition": Cause.ACQUISITION,
    "another hospital year": Cause.UNKNOWN,
}


def report(rows: Sequence[dict[str, Any]]) -> str:
    """Return the tables, in Markdown."""
    lines = [_counts(rows), ""]
    for name in MEASURES:
        lines += _errors(rows, name)
    lines += _coverage(rows)
    lines += ["", *_calibrations(rows)]
    return "\n".join(lines)


def _counts(rows: Sequence[dict[str, Any]]) -> str:
    windows = sum(len(row["windows"]) for row in rows)
    return (
        f"{len(rows)} references, {windows} windows; errors in points (hundredths), standard "
        "errors by reference"
    )


def _errors(rows: Sequence[dict[str, Any]], name: str) -> list[str]:
    ways: dict[str, Callable[[dict[str, Any], dict[str, Any]], float | None]] = {
        "told": lambda _, window: _first(window["told"], name),
        "expected, whatever the cause": lambda _, window: _first(
            window["ways"]["expected"], name
        ),
        "of scores alone": lambda _, window: _first(
            window["ways"]["expected of scores alone"], name
        ),
        "difference of confidences": lambda _, window: window["difference"].get(name),
        "thresholded confidence": lambda _, window: window["thresholded"].get(name),
        "NannyML CBPE": lambda _, window: window["nannyml"][name],
        "the reference's own": lambda row, _: row["before"][name],
    }
    lines = [
        f"| {name}: mean absolute error | " + " | ".join(ways) + " |",
        "|---" * (len(ways) + 1) + "|",
    ]
    for scenario in CAUSES:
        cells = []
        for way in ways.values():
            by_reference, told, asked = [], 0, 0
            for row in rows:
                of_scenario = [one for one in row["windows"] if one["scenario"] == scenario]
                found = [(way(row, one), one["truth"][name]) for one in of_scenario]
                gaps = [abs(value - truth) for value, truth in found if value is not None]
                asked, told = asked + len(found), told + len(gaps)
                if gaps:
                    by_reference.append(float(np.mean(gaps)))
            cells.append(_cell(by_reference, told, asked))
        lines.append(f"| {scenario} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _first(told: dict[str, Any] | None, name: str) -> float | None:
    if told is None or "reason" in told:
        return None
    return float(told[name][0])


def _cell(by_reference: Sequence[float], told: int, asked: int) -> str:
    if not by_reference:
        return "no figure" if asked else "–"
    mean = 100 * np.mean(by_reference)
    error = 100 * np.std(by_reference, ddof=1) / np.sqrt(len(by_reference))
    some = "" if told == asked else f" ({told} of {asked})"
    return f"{mean:.1f} ± {error:.1f}{some}"


def _coverage(rows: Sequence[dict[str, Any]]) -> list[str]:
    names = (*MEASURES, "ppv", "npv", "prevalence")
    lines = [
        "| truth inside the 95 % interval | figures | " + " | ".join(names) + " |",
        "|---" * (len(names) + 2) + "|",
    ]
    for scenario, cause in CAUSES.items():
        windows = [one for row in rows for one in row["windows"] if one["scenario"] == scenario]
        ways = [("", [one["told"] for one in windows])]
        if cause is Cause.POPULATION:
            alone = [one["ways"]["expected of scores alone"] for one in windows]
            ways.append((", scores alone", alone))
        for way, estimates in ways:
            told = [
                (estimate, one["truth"])
                for estimate, one in zip(estimates, windows, strict=True)
                if estimate is not None and "reason" not in estimate
            ]
            cells = " | ".join(_held(told, name) for name in names)
            lines.append(f"| {scenario}{way} | {len(told)} of {len(windows)} | {cells} |")
    return lines


def _calibrations(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Compare the ways to calibrate, where a score keeps its meaning as far as it does."""
    lines = [
        "| calibration: mean absolute error, none, covariate shift and population | "
        + " | ".join(MEASURES)
        + " |",
        "|---" * (len(MEASURES) + 1) + "|",
    ]
    kept = [name for name, cause in CAUSES.items() if cause in {None, Cause.POPULATION}]
    for way in ("none", "Platt", "isotonic", "beta"):
        cells = []
        for name in MEASURES:
            by_reference = [
                float(
                    np.mean(
                        [
                            abs(one["calibrations"][way][name] - one["truth"][name])
                            for one in row["windows"]
                            if one["scenario"] in kept
                        ]
                    )
                )
                for row in rows
            ]
            cells.append(_cell(by_reference, 1, 1))
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return lines


def _held(told: Sequence[tuple[dict[str, Any], dict[str, float]]], name: str) -> str:
    held = [
        estimate[name][1] <= truth[name] <= estimate[name][2]
        for estimate, truth in told
        if estimate[name] is not None
    ]
    return f"{np.mean(held):.2f}" if held else "–"
