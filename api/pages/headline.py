"""What is the matter with a monitored model, in a sentence, and the line under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from api.pages import wording
from api.pages.explanation import fall_in_words
from api.pages.judged import JudgedWindow
from api.pages.standing import Standing, suspended
from monitor.monitors import Monitor
from monitor.tables import EpisodeRow, PerformanceRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """A title that a tired person understands, and what to know besides."""

    title: str
    line: str


def headline(
    standing: Standing,
    monitor: Monitor,
    windows: Sequence[JudgedWindow],
    episodes: Sequence[EpisodeRow],
    weeks: Sequence[PerformanceRow],
    *,
    has_reference: bool,
) -> Headline:
    """Return what to say of a monitor; `episodes` come newest first, the rest oldest first."""
    if standing.episode is not None:
        return _open(standing, standing.episode)
    if not has_reference:
        return Headline(
            title=f"{standing.model} is not watched yet: there is no reference",
            line=f"Make one of scans that are as they should be: "
            f"driftward reference build {monitor.name}",
        )
    if not windows:
        return Headline(
            title=f"No window of {standing.model} has been judged yet",
            line=f"A window is judged once it has ended and has "
            f"{monitor.specification.floor} scans.",
        )
    newest = windows[-1]
    if (
        newest.alarm is False
        and newest.leading.alarm_p_value <= monitor.specification.block_alpha
    ):
        return Headline(
            title="One window differs from the reference; two in a row open an episode",
            line=f"{_window(newest)} {_withheld(standing)}".strip(),
        )
    accepted = next((row for row in episodes if row.state == "accepted"), None)
    if accepted is not None and episodes[0] is accepted:
        return _accepted(standing, accepted, newest, weeks)
    return Headline(
        title="Scans look like the reference",
        line=f"{_window(newest)} {_withheld(standing)}".strip(),
    )


def _open(standing: Standing, episode: EpisodeRow) -> Headline:
    who = wording.sentence(wording.scans_of(episode.subgroup))
    parts = [
        f"{wording.sentence(wording.cause_name(episode.cause))} "
        f"since {wording.day(episode.onset)}"
    ]
    fall = fall_in_words(episode)
    if fall is not None:
        parts.append(f"{fall} there")
    elif "impact" in episode.evidence:
        parts.append("labels show no impact")
    else:
        parts.append(f"impact {episode.impact}, not measured yet")
    sentence = f"{'; '.join(parts)}. {_withheld(standing) or 'The model is in use for all.'}"
    if standing.more_open:
        more = wording.counted(standing.more_open, "more episode")
        sentence += f" {more} {'is' if standing.more_open == 1 else 'are'} open."
    return Headline(title=f"{who} no longer look like the reference", line=sentence)


def _accepted(
    standing: Standing,
    episode: EpisodeRow,
    newest: JudgedWindow,
    weeks: Sequence[PerformanceRow],
) -> Headline:
    who = wording.scans_of(episode.subgroup)
    line = f"{wording.sentence(episode.closed_reason or 'it was accepted')}."
    after = [
        row
        for row in weeks
        if episode.closed_at is not None
        and row.start >= episode.onset
        and standing.champion is not None
        and row.version == standing.champion.id
    ]
    if after:
        auc = wording.with_interval(after[-1].measures["auc"])
        of = f" of {after[-1].finding}" if after[-1].finding else ""
        line += f" AUC{of} on new labels {auc}, n {wording.count(after[-1].scans)}."
    else:
        line += " No labels have come since."
    if newest.trend is not None:
        line += (
            f" The shift is still there in the fixed encoder (effect "
            f"{wording.effect(newest.trend.effect)}), and accepted."
            if newest.trend.effect_low > 0
            else " The fixed encoder no longer sees the shift."
        )
    return Headline(
        title=f"The change in {who} is accepted; {standing.champion_name} reads them",
        line=f"{line} {_withheld(standing)}".strip(),
    )


def _window(newest: JudgedWindow) -> str:
    row = newest.leading
    return (
        f"{wording.span(newest.window.start, newest.window.end)}: "
        f"{wording.count(row.scans)} scans, p = {wording.p_value(row.alarm_p_value)}; "
        f"an effect of {wording.effect(row.smallest_effect)} would have shown."
    )


def _withheld(standing: Standing) -> str:
    if suspended(standing.restrictions):
        return "The model is suspended."
    return f"The model is restricted for {standing.withheld}." if standing.withheld else ""
