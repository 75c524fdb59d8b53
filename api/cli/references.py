"""`driftward reference …` and `driftward check`: what windows are compared with, and how."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import typer

from api.cli.episodes import change_in_words
from api.cli.options import (
    HomeOption,
    JsonOption,
    SinceOption,
    UntilOption,
    as_utc,
    opened,
    show,
    table,
)
from api.cli.stream import stream_lines

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from monitor.episodes.recovery import Recovery
    from monitor.evaluation import Evaluation, ReferenceVerdict
    from monitor.tables import EpisodeRow
    from monitor.windows import Window

app = typer.Typer(name="reference", help="Accept what windows are compared with.")


def add_to(root: typer.Typer) -> None:
    """Add the check to the root."""
    root.command("check")(check)


@app.command("build")
def build(
    monitor: str,
    since: SinceOption = None,
    until: UntilOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build and accept MONITOR's references from the scans of a span."""
    from monitor.reference_building import build_references

    driftward = opened(home)
    built = build_references(
        driftward.database,
        driftward.embedder,
        driftward.profiles,
        monitor,
        since=as_utc(since),
        until=as_utc(until),
        by=driftward.whoever_runs_this(),
        at=driftward.clock.now(),
    )
    document = [
        {"encoder": row.encoder, "space": row.space, "profile": row.profile_digest}
        for row in built.references
    ]
    lines = [
        f"{row.encoder} encoder: {built.scans} scans of {built.patients} patients, profile "
        f"{row.profile_digest[:12]}"
        for row in built.references
    ]
    show(document, as_json=as_json, lines=lines)


def check(
    monitor: str,
    since: SinceOption = None,
    until: UntilOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge one window of MONITOR: by default the newest that has ended."""
    from monitor.episodes.episodes import open_episodes
    from monitor.episodes.recovery import recovery
    from monitor.following.standing import following
    from monitor.monitors import require_monitor
    from monitor.verdict_history import newest_window

    driftward = opened(home)
    with driftward.database.reading() as session:
        specification = require_monitor(session, monitor).specification
    now = driftward.clock.now()
    start, end = as_utc(since), min(as_utc(until) or now, now)
    if start is not None:
        window = _window(start, end, now=now)
    else:
        window = newest_window(specification, until=end)
    evaluation = driftward.evaluator.evaluate(monitor, window)
    with driftward.database.reading() as session:
        followed = following(session, evaluation.monitor)
        episodes = open_episodes(session, monitor)
        # Whether a shift is gone is for the newest windows to say.
        asked = episodes if start is None else []
        judged = [recovery(session, row, evaluation) for row in asked]
    document = {
        **document_of(evaluation),
        "open_episodes": [row.id for row in episodes],
        "stay_open": [one.reason for one in judged],
        "following": followed.to_dict(),
    }
    window_line, headline, *rest = _lines(evaluation)
    lines = [window_line, headline, *_episode_lines(episodes, judged), *rest]
    show(document, as_json=as_json, lines=[*lines, "", *stream_lines(followed)])


def _episode_lines(
    episodes: Sequence[EpisodeRow], judged: Sequence[Recovery] = ()
) -> list[str]:
    """Return what the open episodes are; of many the first, lest they hide the verdict.

    Parameters
    ----------
    judged : whether the shift of each is gone; empty where the window does not tell
    """
    few = episodes[:_MOST_EPISODES]
    shown = []
    for row, gone in zip_longest(few, judged[: len(few)]):
        shown.append(_episode_line(row))
        if gone is not None and not gone.recovered:
            shown.append(f"  it stays open: {gone.reason}")
    more = len(episodes) - len(few)
    return [*shown, f"and {more} more open: `driftward episode list`"] if more else shown


def _episode_line(row: EpisodeRow) -> str:
    """Return what an open episode is, what to do first, and where all of it stands."""
    from monitor.episodes.first_steps import first_steps

    return (
        f"episode {row.id}, open: {change_in_words(row)}, {row.subgroup or 'all scans'}, "
        f"impact {row.impact}; "
        f"first {first_steps(row)[0]}; `driftward episode show {row.id}` has all of it"
    )


def _window(start: datetime, end: datetime, *, now: datetime) -> Window:
    from monitor.windows import Window
    from registry.errors import BadInputError

    if start >= now:
        raise BadInputError(
            f"--since {start:%Y-%m-%d %H:%M} lies ahead: it is {now:%Y-%m-%d %H:%M} UTC"
        )
    if start >= end:
        raise BadInputError(
            f"--since {start:%Y-%m-%d %H:%M} is not before the end, {end:%Y-%m-%d %H:%M}"
        )
    return Window(start=start, end=end)


def document_of(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation as JSON."""
    return {
        "monitor": evaluation.monitor.name,
        "window": str(evaluation.window),
        "p_value": evaluation.p_value,
        "alpha": evaluation.alpha,
        "alarm": evaluation.alarm,
        "scheduled": evaluation.scheduled,
        "judged_before": evaluation.judged_before,
        "notes": list(evaluation.notes),
        "verdicts": [
            {
                "encoder": item.reference.encoder,
                "decides": item.reference.decides,
                "scans": item.verdict.scans,
                "patients": item.verdict.patients,
                "p_value": item.verdict.p_value,
                "week_p_value": item.verdict.week_p_value,
                "persistence_p_value": item.persistence_p_value,
                "effect": [
                    item.verdict.effect.value,
                    item.verdict.effect.low,
                    item.verdict.effect.high,
                ],
                "ordinary_effect": item.verdict.ordinary_effect,
                "smallest_effect": item.verdict.smallest_effect,
                "subsampled": item.verdict.subsampled,
                "detectors": {
                    name: part.p_value for name, part in item.verdict.detectors.items()
                },
                "subgroups": [
                    {
                        "subgroup": str(part.subgroup),
                        "scans": part.verdict.scans,
                        "p_value": part.verdict.p_value,
                        "adjusted_p_value": part.adjusted_p_value,
                        "effect": part.verdict.effect.value,
                        "smallest_effect": part.verdict.smallest_effect,
                        "moved": part.moved,
                        "compared_with": str(part.compared_with or "") or None,
                    }
                    for part in item.subgroups
                ],
            }
            for item in evaluation.verdicts
        ],
    }


#: Open episodes that are printed.
_MOST_EPISODES = 5
#: Subgroups that are printed; the others stand in the JSON document.
_MOST_SUBGROUPS = 10


def _headline(evaluation: Evaluation) -> str:
    """Return what was concluded, in a sentence."""
    if evaluation.p_value is None:
        return "no verdict"
    if not evaluation.scheduled:
        return "a window of your own: nothing is stored, and it raises no alarm"
    before = "; it was judged before, and nothing follows from it anew"
    return f"{_concluded(evaluation, evaluation.p_value)}{before * evaluation.judged_before}"


def _concluded(evaluation: Evaluation, p_value: float) -> str:
    alpha = evaluation.alpha
    if evaluation.alarm:
        return (
            f"ALARM: a shift that persisted (p = {p_value:.2g}, and the budget allows "
            f"{alpha:.2g} in two windows)"
        )
    if p_value <= alpha:
        return (
            f"no alarm: the windows before it showed a shift (p = {p_value:.2g}), this one "
            "shows nothing"
        )
    if any(item.verdict.alarm_p_value <= alpha for item in evaluation.deciding):
        return (
            "no alarm yet: this window shows a shift, and it takes two in a row (p = "
            f"{p_value:.2g} so far, and the budget allows {alpha:.2g})"
        )
    return f"no alarm (p = {p_value:.2g}; it takes {alpha:.2g}, over two windows in a row)"


def _lines(evaluation: Evaluation) -> list[str]:
    lines = [f"{evaluation.monitor.name}, {evaluation.window}", _headline(evaluation)]
    rows = [
        [
            item.reference.encoder + ("" if item.reference.decides else " (trend)"),
            item.verdict.scans,
            f"{item.verdict.alarm_p_value:.2g}",
            f"{item.verdict.effect.value:.2f} "
            f"({item.verdict.effect.low:.2f}–{item.verdict.effect.high:.2f})",
            "–"
            if item.verdict.ordinary_effect is None
            else f"up to {item.verdict.ordinary_effect:.2f}",
            f"{item.verdict.smallest_effect:.2f}",
            item.verdict.leading,
        ]
        for item in evaluation.verdicts
    ]
    if rows:
        header = [
            "encoder",
            "scans",
            "p",
            "effect (95 %)",
            "ordinary weeks",
            "could have seen",
            "led by",
        ]
        lines += ["", *table(rows, header=header)]
    for item in evaluation.deciding[:1]:
        lines += _subgroup_lines(item)
    if evaluation.notes:
        lines += ["", "not judged", *[f"  {note}" for note in evaluation.notes]]
    return lines


def _subgroup_lines(item: ReferenceVerdict) -> list[str]:
    """Return where the shift is, and what was said of the subgroups, the surest first."""
    from monitor.localising import locate

    if not item.subgroups:
        return []
    ordered = sorted(item.subgroups, key=lambda part: part.adjusted_p_value)
    rows = [
        [
            str(part.subgroup),
            part.verdict.scans,
            f"{part.adjusted_p_value:.2g}",
            f"{part.verdict.effect.value:.2f}",
            f"{part.verdict.smallest_effect:.2f}",
            "moved" if part.moved else "",
        ]
        for part in ordered[:_MOST_SUBGROUPS]
    ]
    header = ["subgroup", "scans", "adjusted p", "effect", "could have seen", ""]
    more = len(ordered) - len(rows)
    return [
        "",
        f"where: {locate(item.subgroups, scans=item.verdict.scans).reason}",
        *table(rows, header=header),
        *([f"and {more} more that moved less surely (--json has all)"] if more > 0 else []),
    ]
