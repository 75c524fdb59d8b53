"""The picture of a backtest: four policies week by week, with the plan's doings below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.errors import BadInputError
from retrain.backtesting.report import Backtest, PolicyFigures
from retrain.backtesting.weekly import MEASURES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: One a policy, told apart without colour by their dashes, too (Okabe and Ito 2008).
_STYLES = (
    ("#0072B2", "solid", 2.2),
    ("#7F7F7F", "dotted", 1.6),
    ("#E69F00", "dashed", 1.4),
    ("#CC79A7", "dashdot", 1.4),
)
#: Where a lane has several marks at one place: none hides another.
_LEVELS = (0.0, 0.3, -0.3, 0.6)
#: A mark's width, as a share of the span.
_MARK = 0.012
#: Left and right of the span, as a share of it.
_MARGIN = 0.03
#: Dates that fit side by side, and the span from which on matplotlib counts in months.
_DATES, _MONTHS = 9, timedelta(weeks=22)
_TITLES = {"auc": "AUC", "sensitivity": "Sensitivity", "specificity": "Specificity"}


def draw(found: Backtest, path: Path) -> None:
    """Draw into an .svg or .png that stands alone; the same backtest gives the same bytes.

    Raises
    ------
    BadInputError
        If the file cannot be written.
    """
    with _settings():
        metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        try:
            picture_of(found).savefig(path, dpi=130, metadata=metadata)
        except OSError as error:
            raise BadInputError(
                f"{path} cannot be written ({error.strerror}): name a file that can"
            ) from error


def picture_of(found: Backtest) -> Figure:
    """Return the picture itself: a row for each measure, and one for what the plan would do."""
    with _settings():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        # No window.
        figure = Figure(figsize=(10, 9), layout="constrained")
        FigureCanvasAgg(figure)
        rows = figure.subplots(
            len(MEASURES) + 1, 1, sharex=True, height_ratios=[*[3] * len(MEASURES), 2]
        )
        for axes, measure in zip(rows, MEASURES, strict=False):
            _measure(axes, found, measure)
        _doings(rows[-1], found)
        _dates(rows[-1], found)
        # Beside the data, which may lie anywhere.
        figure.legend(
            *rows[0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=len(found.policies),
            frameon=False,
        )
        question = found.question
        figure.suptitle(
            f"{question.monitor.name}: {question.source} on "
            f"{question.since:%Y-%m-%d} to {question.until:%Y-%m-%d}",
            fontsize=11,
        )
    return figure


def _settings() -> AbstractContextManager[None]:
    """Set what makes a picture the same wherever it is drawn."""
    import matplotlib as mpl

    # Nothing in the file may differ from one run to the next.
    return mpl.rc_context({"svg.hashsalt": "driftward", "font.size": 9.0, "timezone": "UTC"})


def _measure(axes: Axes, found: Backtest, measure: str) -> None:
    for policy, (colour, dashes, width) in zip(found.policies, _STYLES, strict=True):
        weeks = [week for week in policy.weeks if week.figures[measure] is not None]
        axes.plot(
            [_day(week.start) for week in weeks],
            [_estimate(week.figures[measure]) for week in weeks],
            color=colour,
            linestyle=dashes,
            linewidth=width,
            label=policy.name,
        )
    _band(axes, found.policies[0], measure)
    for at, _ in found.policies[0].promotions:
        axes.axvline(_day(at), color=_STYLES[0][0], linewidth=0.8, alpha=0.6)
    if found.floor is not None:
        axes.axhline(getattr(found.floor, measure), color="#D55E00", linewidth=0.9)
        axes.annotate(
            "the plan's limit",
            (1, getattr(found.floor, measure)),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            color="#D55E00",
            fontsize=8,
        )
    axes.set_ylabel(_TITLES[measure])
    axes.spines[["top", "right"]].set_visible(False)


def _estimate(figure: Any) -> float:
    return float(figure.estimate)


def _band(axes: Axes, policy: PolicyFigures, measure: str) -> None:
    """Draw the 95 % interval of the plan's line."""
    known = [(week.start, week.figures[measure]) for week in policy.weeks]
    shown = [(start, figure) for start, figure in known if figure is not None]
    axes.fill_between(
        [_day(start) for start, _ in shown],
        [figure.low for _, figure in shown],
        [figure.high for _, figure in shown],
        color=_STYLES[0][0],
        alpha=0.12,
        linewidth=0,
    )


def _doings(axes: Axes, found: Backtest) -> None:
    """Draw what the plan would have done: alarms, episodes, runs and promotions."""
    lanes = ["promotions", "runs", "episodes", "alarms"]
    axes.set_yticks(range(len(lanes)), lanes)
    axes.set_ylim(-0.6, len(lanes) - 0.4)
    _marks(axes, [one.end for one in found.windows if one.alarm], 3, "|", "#000000")
    streams = [at for one in found.episodes for _, at in one.stream_alarms]
    _marks(axes, streams, 3, "v", "#D55E00")
    for episode in found.episodes:
        end = episode.ended_at or found.question.until
        axes.plot(
            [_day(episode.onset), _day(episode.opened_at)], [2, 2], color="#D55E00", linewidth=2
        )
        axes.plot(
            [_day(episode.opened_at), _day(end)],
            [2, 2],
            color="#000000",
            linewidth=5,
            alpha=0.35,
        )
        axes.annotate(
            f"{episode.number}: {episode.cause}, {episode.subgroup or 'everywhere'}",
            (_day(episode.opened_at), 2),
            xytext=(2, 5),
            textcoords="offset points",
            fontsize=7.5,
        )
    for run in found.runs:
        begun = run.begun_at or run.planned_at
        axes.plot(
            [_day(run.planned_at), _day(run.ended_at or found.question.until)],
            [1, 1],
            color=_STYLES[0][0],
            linewidth=3,
            alpha=0.35,
        )
        _marks(axes, [begun], 1, "o", _STYLES[0][0])
        axes.annotate(
            f"{run.strategy}: {run.state}",
            (_day(begun), 1),
            xytext=(2, 5),
            textcoords="offset points",
            fontsize=7.5,
        )
    _promotions(axes, found)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", linewidth=0.3)


def _promotions(axes: Axes, found: Backtest) -> None:
    width = _MARK * (found.question.until - found.question.since)
    taken: list[tuple[datetime, float]] = []
    for policy, (colour, _, _) in zip(found.policies, _STYLES, strict=True):
        for at, _ in policy.promotions:
            near = {level for moment, level in taken if abs(moment - at) < width}
            level = next((one for one in _LEVELS if one not in near), _LEVELS[0])
            taken.append((at, level))
            _marks(axes, [at], level, "^", colour)


def _dates(axes: Axes, found: Backtest) -> None:
    """Show the span that was asked for, with dates apart: days, Mondays or months."""
    axes.xaxis_date()
    since, until = found.question.since, found.question.until
    span = until - since
    margin = _MARGIN * span
    axes.set_xlim(_day(since - margin), _day(until + margin))
    if span >= _MONTHS:
        return
    first = since.replace(hour=0, minute=0, second=0, microsecond=0)
    step = timedelta(days=1)
    if span > _DATES * step:
        first -= first.weekday() * step
        step = timedelta(weeks=math.ceil(span / timedelta(weeks=_DATES)))
    shown = [first + number * step for number in range(math.ceil((until - first) / step) + 1)]
    days = [day for day in shown if since - margin <= day <= until + margin]
    axes.set_xticks([_day(day) for day in days], [f"{day:%Y-%m-%d}" for day in days])


def _marks(axes: Axes, at: Sequence[datetime], lane: float, marker: str, colour: str) -> None:
    axes.plot(
        [_day(one) for one in at],
        [lane] * len(at),
        marker=marker,
        linestyle="none",
        color=colour,
        markersize=6,
    )


def _day(moment: datetime) -> float:
    """Return a time as axes count it: in days since 1970."""
    return moment.timestamp() / 86400
