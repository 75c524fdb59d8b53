"""The gates of a run: each comparison with its interval drawn beside the margin, and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api import gate_words
from api.gate_words import Difference
from api.pages import states, wording
from api.pages.states import State
from retrain.gates.outcome import Outcome

BAR_WIDTH = 168
#: how far beyond the widest margin bars reach; what lies farther out ends in an arrow
_BEYOND = 1.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Coordinates of a difference in a drawing that is `BAR_WIDTH` wide."""

    low: float
    high: float
    #: None where it lies beyond the drawing
    estimate: float | None
    margin: float
    zero: float
    #: the interval goes on beyond the drawing
    cut_low: bool
    cut_high: bool
    #: what it shows, for those who do not see it
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GateLine:
    """One gate, or one comparison within a gate."""

    name: str
    state: State
    passed: bool
    statistic: str
    estimate: str
    interval: str
    margin: str
    p_value: str
    n: str
    sentence: str
    #: how often its locked set has judged
    uses: str | None
    bar: Bar | None
    parts: tuple[GateLine, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GateTable:
    """All gates of a run."""

    lines: tuple[GateLine, ...]
    #: whether anything is drawn
    drawn: bool


def gate_table(details: Sequence[Mapping[str, Any]]) -> GateTable:
    """Return the table of outcomes' records; all its bars have one scale."""
    margins = [
        abs(found.in_points.margin)
        for detail in details
        for _, found in gate_words.differences(detail)
    ]
    reach = _BEYOND * max(margins, default=0.0) or 10.0
    return GateTable(
        lines=tuple(_line(detail, reach) for detail in details), drawn=bool(margins)
    )


def _line(detail: Mapping[str, Any], reach: float) -> GateLine:
    found = gate_words.difference(detail)
    interval = detail["interval"]
    if found is not None:
        estimate, spanned, margin = found.size, found.interval, found.limit
    else:
        estimate, margin = (wording.quantity(detail[key]) for key in ("estimate", "margin"))
        spanned = (
            f"{wording.quantity(interval['low'])} to {wording.quantity(interval['high'])}"
            if interval
            else "–"
        )
    name = gate_words.gate_name(detail["name"])
    return GateLine(
        name=name if "/" in detail["name"] else wording.sentence(name),
        state=states.gate_state(detail["outcome"]),
        passed=detail["outcome"] == Outcome.PASSED,
        statistic=detail["statistic"],
        estimate=estimate,
        interval=spanned,
        margin=margin,
        p_value=wording.p_value(detail["p_value"]) if detail["p_value"] is not None else "–",
        n=wording.count(detail["n"]),
        sentence=detail["sentence"],
        uses=gate_words.uses(detail),
        bar=_bar(found, reach),
        parts=tuple(_line(part, reach) for part in detail["parts"]),
    )


def _bar(found: Difference | None, reach: float) -> Bar | None:
    if found is None:
        return None
    points = found.in_points

    def across(value: float) -> float:
        inside = min(max(value, -reach), reach)
        return round(4 + (inside + reach) / (2 * reach) * (BAR_WIDTH - 8), 1)

    return Bar(
        low=across(points.low),
        high=across(points.high),
        estimate=across(points.estimate) if abs(points.estimate) <= reach else None,
        margin=across(points.margin),
        zero=across(0.0),
        cut_low=points.low < -reach,
        cut_high=points.high > reach,
        label=f"{found.size}, from {found.interval}; margin {found.limit}",
    )
