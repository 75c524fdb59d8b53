"""The pack's pictures, as SVG: a line of windows, and gates' intervals beside their margins."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from api.evidence.gathering import Evidence
from api.gate_words import Difference, differences
from api.pages import wording
from monitor.performance.performance import of_worst_finding

WIDTH = 660
_INK, _MUTED, _LINE, _GOOD, _BAD, _OPEN = (
    *("#131c25", "#566371", "#c9d2da"),
    *("#08775a", "#b93815", "#8f5600"),
)
_TONES = {"passed": _GOOD, "failed": _BAD, "not_evaluable": _OPEN}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One comparison of a gate, in points or hundredths of the AUC."""

    name: str
    outcome: str
    difference: Difference


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One window: where it stands, and how far its interval reaches."""

    label: str
    low: float
    middle: float
    high: float
    marked: bool


def effects(evidence: Evidence) -> Markup | None:
    """Draw the effect of each window against the unbroken reference, or None without windows."""
    points = [
        Point(
            label=wording.day(row.end),
            low=row.effect_low,
            middle=row.effect,
            high=row.effect_high,
            marked=evidence.episode is not None and row.end > evidence.episode.onset,
        )
        for row in evidence.verdicts
    ]
    return _line(
        points,
        title="Effect against the first reference, in standard deviations",
    )


def areas(evidence: Evidence) -> Markup | None:
    """Draw the AUC of each labelled week with its interval, or None without labels."""
    points = []
    measured = [row for row, _ in evidence.performance if row.measures.get("auc") is not None]
    for row in of_worst_finding(measured):
        middle, low, high = row.measures["auc"]
        marked = evidence.episode is not None and row.end > evidence.episode.onset
        points.append(
            Point(label=wording.day(row.end), low=low, middle=middle, high=high, marked=marked)
        )
    return _line(
        points,
        title="AUC on labelled scans, with 95 % intervals",
        most=1.0,
    )


def _line(points: Sequence[Point], *, title: str, most: float = math.inf) -> Markup | None:
    if not points:
        return None
    height, left, right, top, bottom = 190, 52, 12, 26, 30
    low = min(point.low for point in points)
    high = max(point.high for point in points)
    spare = 0.08 * (high - low or 1.0)
    low, high = low - spare, min(high + spare, most)

    def across(index: int) -> float:
        return left + (index + 0.5) * (WIDTH - left - right) / len(points)

    def down(value: float) -> float:
        return top + (high - value) / (high - low) * (height - top - bottom)

    parts = [_text(left, 14, f"{title}; red since the episode began", size=11, ink=_INK)]
    for share in (0.0, 0.5, 1.0):
        value = low + share * (high - low)
        y = down(value)
        parts.append(_rule(left, y, WIDTH - right, y, ink=_LINE))
        parts.append(_text(left - 6, y + 3.5, f"{value:.2f}", anchor="end"))
    route = " ".join(f"{across(i):.1f},{down(one.middle):.1f}" for i, one in enumerate(points))
    parts.append(
        f'<polyline points="{route}" fill="none" stroke="{_MUTED}" stroke-width="1.2"/>'
    )
    every = max(1, len(points) // 8)
    for index, point in enumerate(points):
        x, ink = across(index), _BAD if point.marked else _GOOD
        parts.append(_rule(x, down(point.low), x, down(point.high), ink=ink, width=1.4))
        parts.append(f'<circle cx="{x:.1f}" cy="{down(point.middle):.1f}" r="3" fill="{ink}"/>')
        if index % every == 0:
            parts.append(_text(x, height - 10, point.label, anchor="middle"))
    return _svg(parts, height=height, name=title)


def comparisons(evidence: Evidence) -> Markup | None:
    """Draw each comparison of the gates: its interval, and the margin it is held against."""
    rows = [row for gate in evidence.gates for row in _drawn(gate.detail)]
    if not rows:
        return None
    step, top, left = 19, 34, 300
    height = top + step * len(rows) + 24
    reach = max(
        abs(value)
        for row in rows
        for value in (row.difference.low, row.difference.high, row.difference.margin)
    )
    reach = reach * 1.05 or 1.0

    def across(value: float) -> float:
        return left + (value + reach) / (2 * reach) * (WIDTH - left - 14)

    zero = across(0.0)
    parts = [
        _text(left, 14, "worse than the champion", size=10),
        _text(WIDTH - 14, 14, "better", size=10, anchor="end"),
        _rule(zero, top - 12, zero, height - 22, ink=_MUTED),
        _text(zero, height - 8, "no difference", anchor="middle"),
    ]
    for number, row in enumerate(rows):
        y, ink, found = top + step * number, _TONES[row.outcome], row.difference
        parts.append(_text(0, y + 3.5, row.name, ink=_INK))
        parts.append(_rule(across(found.low), y, across(found.high), y, ink=ink, width=2))
        parts.append(
            f'<circle cx="{across(found.estimate):.1f}" cy="{y:.1f}" r="3.2" fill="{ink}"/>'
        )
        bar = across(found.margin)
        parts.append(_rule(bar, y - 6, bar, y + 6, ink=_INK, width=1.2))
    return _svg(parts, height=height, name="Differences to the champion, with margins")


def _drawn(detail: Mapping[str, Any]) -> Iterator[Compared]:
    """Yield what of an outcome is a difference with an interval: its parts', or its own."""
    for one, found in differences(detail):
        yield Compared(
            name=_shortened(one["name"]), outcome=one["outcome"], difference=found.in_points
        )


def _shortened(name: str) -> str:
    words = name.replace("superiority_where_it_drifted", "where it drifted")
    words = words.replace("non_inferiority_on_reference", "on the reference")
    return words.replace("subgroups/", "").replace("_", " ").replace("/", ", ")


def _text(
    x: float, y: float, words: str, *, size: int = 9, ink: str = _MUTED, anchor: str = "start"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{ink}" '
        f'text-anchor="{anchor}">{escape(words)}</text>'
    )


def _rule(x1: float, y1: float, x2: float, y2: float, *, ink: str, width: float = 0.8) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{ink}" stroke-width="{width}"/>'
    )


def _svg(parts: Sequence[str], *, height: float, name: str) -> Markup:
    return Markup(  # noqa: S704 - every text in it was escaped above
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'width="{WIDTH}" height="{height:.0f}" role="img" aria-label="{escape(name)}" '
        f'font-family="Inter Variable, DejaVu Sans, sans-serif">{"".join(parts)}</svg>'
    )
