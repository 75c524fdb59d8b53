"""`driftward plan backtest …`: what a plan would have done with a monitor's past."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.options import (
    HomeOption,
    JsonOption,
    SinceOption,
    UntilOption,
    as_utc,
    opened,
    show,
    table,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from api.assembly import Driftward
    from retrain.backtesting.question import Question
    from retrain.backtesting.report import Backtest, CausedRun, FoundEpisode, PolicyFigures
    from retrain.backtesting.weekly import Figure, WeekFigures


def backtest(
    monitor: str,
    since: SinceOption = None,
    until: UntilOption = None,
    plan: Annotated[
        Path | None,
        typer.Option(
            "--plan",
            metavar="FILE.yaml",
            help="A plan that need not be in force; by default the one that is.",
            show_default=False,
        ),
    ] = None,
    every_days: Annotated[
        float,
        typer.Option("--every-days", help="Between two updates of the periodic policy.", min=1),
    ] = 28,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            help="Draw the comparison into this .svg or .png.",
            show_default=False,
        ),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay a plan on MONITOR's past: alarms, decisions, runs and promotions it would have caused.

    Nothing is changed, and the plan need not be in force. It stands beside three simpler
    policies on the same labels: never updating, by the calendar, and by measured falls. From
    the time on when the monitor's first reference was accepted, until now, unless told otherwise.
    """
    driftward = opened(home)
    if plot is not None:
        _require_drawable(plot)
    question = _question(driftward, monitor, since, until, plan, every_days)
    found = driftward.backtest(question, tell=_progress(question))
    if plot is not None:
        from api.backtest_picture import draw

        draw(found, plot)
    show(found.to_dict(), as_json=as_json, lines=_lines(found))


def _question(
    driftward: Driftward,
    monitor: str,
    since: datetime | None,
    until: datetime | None,
    plan: Path | None,
    every_days: float,
) -> Question:
    from retrain.backtesting.question import ask

    with driftward.database.reading() as session:
        return ask(
            session,
            monitor,
            since=as_utc(since),
            until=as_utc(until) or driftward.clock.now(),
            text=None if plan is None else text_of(plan),
            source="the plan in force" if plan is None else plan.name,
            period=timedelta(days=every_days),
        )


def _require_drawable(plot: Path) -> None:
    from registry.errors import BadInputError

    if plot.suffix not in {".svg", ".png"}:
        raise BadInputError(f"{plot} is neither .svg nor .png: name a file that ends so")
    if not plot.parent.is_dir():
        raise BadInputError(f"{plot} cannot be written: there is no folder {plot.parent}")


def _progress(question: Question) -> Callable[[datetime], None] | None:
    """Return what tells a person at a terminal how far the replay has come."""
    if not sys.stderr.isatty():
        return None
    whole = question.until - question.since

    def tell(moment: datetime) -> None:
        share = (moment - question.since) / whole
        end = "\n" if moment >= question.until else ""
        sys.stderr.write(f"\rreplayed until {moment:%Y-%m-%d}, {share:4.0%}{end}")
        sys.stderr.flush()

    return tell


def _lines(found: Backtest) -> Iterator[str]:
    question = found.question
    yield (
        f"{question.source} ({question.digest[:12]}) on {question.monitor.name}, "
        f"{question.since:%Y-%m-%d} to {question.until:%Y-%m-%d}, {found.champion} to begin with"
    )
    yield (
        f"{found.scans:,} scans, {found.labelled:,} labelled; {found.alarms} of "
        f"{len(found.windows)} windows alarmed"
    )
    yield ""
    yield from _episode_lines(found)
    yield from _run_lines(found)
    yield from _policy_lines(found)
    for note in found.notes:
        yield f"* {note}"


def _episode_lines(found: Backtest) -> Iterator[str]:
    if not found.episodes:
        yield "no episode would have opened"
        yield ""
        return
    header = ["episode", "opened", "delay", "seen by", "cause", "where", "impact", "decisions"]
    yield from table([_episode_cells(found, one) for one in found.episodes], header=header)
    yield ""


def _episode_cells(found: Backtest, episode: FoundEpisode) -> list[object]:
    made = [one for one in found.decisions if one.episode == episode.number]
    return [
        episode.number,
        f"{episode.opened_at:%Y-%m-%d}",
        f"{episode.delay_hours / 24:.1f} days",
        episode.seen_by,
        episode.cause,
        episode.subgroup or "everywhere",
        episode.impact,
        ", ".join(one.action if one.carried_out else f"({one.action})" for one in made) or "-",
    ]


def _run_lines(found: Backtest) -> Iterator[str]:
    if not found.runs:
        return
    header = ["run", "episode", "begun", "strategy", "state", "why"]
    yield from table([_run_cells(one) for one in found.runs], header=header)
    if found.not_simulated:
        counts = ", ".join(f"{name} {count}" for name, count in found.not_simulated.items())
        yield f"not simulated, as they change the encoder: {counts}"
    yield ""


def _run_cells(run: CausedRun) -> list[object]:
    return [
        run.number,
        run.episode,
        f"{run.begun_at:%Y-%m-%d}" if run.begun_at else "-",
        run.strategy,
        run.state,
        run.note,
    ]


def _policy_lines(found: Backtest) -> Iterator[str]:
    header = [
        "policy",
        "AUC",
        "sensitivity",
        "specificity",
        "weeks below",
        "surely",
        "runs",
        "promotions",
        "labels",
        "hours",
    ]
    yield from table([_policy_cells(one) for one in found.policies], header=header)
    if found.floor is not None:
        floor = found.floor
        yield (
            f"below: AUC {floor.auc:.3f}, sensitivity {floor.sensitivity:.3f} or specificity "
            f"{floor.specificity:.3f}; surely: with the whole 95 % interval"
        )
    yield ""


def _policy_cells(one: PolicyFigures) -> list[object]:
    return [
        one.name,
        *(_words(one.whole, name) for name in ("auc", "sensitivity", "specificity")),
        "-" if one.below is None else f"{one.below} of {len(one.weeks)}",
        "-" if one.surely_below is None else one.surely_below,
        one.runs,
        len(one.promotions),
        one.labels_used,
        "unknown" if one.hours is None else f"{one.hours:.1f}",
    ]


def _words(week: WeekFigures, name: str) -> str:
    figure: Figure | None = week.figures[name]
    if figure is None:
        return "-"
    return f"{figure.estimate:.3f} ({figure.low:.3f} to {figure.high:.3f})"
