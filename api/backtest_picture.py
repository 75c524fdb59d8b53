"""The picture of a backtest: four policies week by week, with the plan's doings below."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.errors import BadInputError
from retrain.backtesting.report import Backtest, PolicyFigures
from retrain.backtesting.weekly import MEASURES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: One a policy, told apart without colour by their dashes, too (Okabe and Ito 2008).
_STYLES = (
    ("#0072B2", "solid", 2.2),
    ("#7F7F7F", "dotted", 1.6),
    ("#E69F00", "dashed", 1.4),
    ("#CC79A7", "dashdot", 1.4),
)
_TITLES = {"auc": "AUC", "sensitivity": "Sensitivity", "specificity": "Specificity"}


def draw(found: Backtest, path: Path) -> None:
    """Draw into an .svg or .png that stands alone; the same backtest gives the same bytes.

    Raises
    ------
    BadInputError
        If the file cannot be written.
    """
    import matplotlib as mpl

    # No window, and nothing in the file that differs from one run to the next.
    with mpl.rc_context({"svg.hashsalt": "driftward", "font.size": 9.0, "timezone": "UTC"}):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 9), layout="constrained")
        FigureCanvasAgg(figure)
        rows = figure.subplots(
            len(MEASURES) + 1, 1, sharex=True, height_ratios=[*[3] * len(MEASURES), 2]
        )
        for axes, measure in zip(rows, MEASURES, strict=False):
            _measure(axes, found, measure)
        _doings(rows[-1], found)
        rows[0].legend(loc="lower left", ncols=4, frameon=False)
        question = found.question
        figure.suptitle(
            f"{question.monitor.name}: {question.source} on "
            f"{question.since:%Y-%m-%d} to {question.until:%Y-%m-%d}",
            fontsize=11,
        )
        metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        try:
            figure.savefig(path, dpi=130, metadata=metadata)
        except OSError as error:
            raise BadInputError(
                f"{path} cannot be written ({error.strerror}): name a file that can"
            ) from error


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
    for policy, (colour, _, _) in zip(found.policies, _STYLES, strict=True):
        _marks(axes, [at for at, _ in policy.promotions], 0, "^", colour)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", linewidth=0.3)
    axes.xaxis_date()


def _marks(axes: Axes, at: Sequence[datetime], lane: int, marker: str, colour: str) -> None:
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
