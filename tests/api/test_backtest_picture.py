"""A backtest's picture can be read, whatever span it is of and whatever happened in it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from api.backtest_picture import picture_of
from retrain.backtesting.report import PolicyFigures
from retrain.backtesting.weekly import MEASURES, Figure, WeekFigures

if TYPE_CHECKING:
    from matplotlib import figure as mpl

    from retrain.backtesting.report import Backtest

SINCE = datetime(2026, 10, 26, 9, 30, tzinfo=UTC)
POLICIES = ("the plan", "never", "periodic", "performance-triggered")


def backtest(span: timedelta, *promotions: Sequence[datetime]) -> Backtest:
    """Return a backtest with a figure a week, of which nothing but policies is known."""
    low = Figure(estimate=0.6, low=0.5, high=0.7)
    weeks = tuple(
        WeekFigures(
            start=SINCE + number * timedelta(weeks=1),
            scans=100,
            positives=50,
            figures=dict.fromkeys(MEASURES, low),
        )
        for number in range(max(1, span // timedelta(weeks=1)))
    )
    policies = tuple(
        PolicyFigures(
            name=name,
            rule="",
            promotions=tuple((at, "") for at in at_times),
            runs=0,
            hours=None,
            labels_used=0,
            weeks=weeks,
            whole=weeks[0],
            below=None,
            surely_below=None,
            passed_over=(),
        )
        for name, at_times in zip(POLICIES, [*promotions, (), (), (), ()][:4], strict=True)
    )
    question = SimpleNamespace(
        monitor=SimpleNamespace(name="chest"),
        source="plan.yaml",
        since=SINCE,
        until=SINCE + span,
    )
    return cast(
        "Backtest",
        SimpleNamespace(
            question=question,
            policies=policies,
            windows=(),
            episodes=(),
            runs=(),
            floor=None,
        ),
    )


def drawn(found: Backtest) -> mpl.Figure:
    figure = picture_of(found)
    figure.draw_without_rendering()
    return figure


@pytest.mark.parametrize("days", [1, 3, 9, 10, 34, 63, 64, 100, 153, 154, 182, 400, 2000])
def test_dates_do_not_run_into_each_other(days: int) -> None:
    axes = drawn(backtest(timedelta(days=days))).axes[-1]
    low, high = axes.get_xlim()
    boxes = [
        label.get_window_extent()
        for tick, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
        if low <= tick <= high
    ]
    assert boxes
    gaps = [after.x0 - before.x1 for before, after in pairwise(boxes)]
    assert all(gap > 2 for gap in gaps), gaps


def test_the_legend_lies_beside_what_is_drawn() -> None:
    figure = drawn(backtest(timedelta(days=34)))
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(POLICIES)
    box = legend.get_window_extent()
    assert not any(box.overlaps(axes.get_window_extent()) for axes in figure.axes)
    assert not any(
        box.overlaps(label.get_window_extent()) for label in figure.axes[-1].get_xticklabels()
    )


def test_promotions_of_one_day_stand_above_each_other() -> None:
    day = SINCE + timedelta(days=20)
    alone = SINCE + timedelta(days=5)
    found = backtest(timedelta(days=34), [day], [], [alone, day], [day + timedelta(hours=2)])
    lines = [line for line in drawn(found).axes[-1].get_lines() if line.get_marker() == "^"]
    heights = [float(line.get_ydata()[0]) for line in lines]  # type: ignore[index,arg-type]
    assert heights == [0.0, 0.0, 0.3, -0.3]
