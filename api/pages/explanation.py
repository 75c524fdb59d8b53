"""Why an episode was opened: its cause, place, time, impact, and what each detector saw."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from api.pages import states, wording
from api.pages.estimated import estimate_in_words
from api.pages.judged import JudgedWindow
from api.pages.states import State
from monitor.episodes.episodes import Impact
from monitor.episodes.first_steps import first_steps
from monitor.following.words import onset_level, seen_in_words
from monitor.performance.falls import measure_fallen
from monitor.tables import EpisodeRow, VerdictRow

#: Detectors that are shown; the API has all of them.
_MOST_DETECTORS = 8
#: Causes with less of a pattern's votes are not shown.
_LEAST_SHARE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One detector's word on a window."""

    detector: str
    p_value: str
    effect: str
    #: 0 to 100: how far its p-value lies below 1, in powers of ten, out of the most there is
    strength: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LikelyCause:
    """A cause that the shift's pattern speaks for."""

    name: str
    #: of the votes, in words, and as 0 to 100
    share: str
    strength: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeavyScan:
    """A scan that weighs much in the shift."""

    scan: int
    #: part of the squared distance, as a share of the heaviest scan's
    weight: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """An episode, explained."""

    id: int
    state: State
    cause: str
    where: str
    since: str
    opened: str
    ended: str | None
    ended_why: str | None
    impact: str
    #: of the champion on the shift's scans without labels, or why there is no figure
    estimated: str | None
    reasons: tuple[str, ...]
    #: by the pattern, the likeliest first; empty where there is none
    likely: tuple[LikelyCause, ...]
    #: how the place is known
    place: str
    #: where the newest window that was of it sees it, None where that is its place
    place_now: str | None
    #: bounds of the onset, in words, and how sure they are
    onset_interval: str
    onset_level: str
    #: what streams saw of it, one sentence an alarm
    streams: tuple[str, ...]
    #: what to look at first; empty once it ended
    first_steps: tuple[str, ...]
    heaviest: tuple[HeavyScan, ...]


def explain(row: EpisodeRow) -> Explanation:
    """Return why an episode was opened."""
    diagnosis = row.evidence["diagnosis"]
    heaviest = row.heaviest[0]["weight"] if row.heaviest else 0.0
    return Explanation(
        id=row.id,
        state=states.episode_state(row.state),
        cause=wording.cause_name(row.cause),
        where=wording.scans_of(row.subgroup) if row.subgroup else "all scans",
        since=wording.moment(row.onset),
        opened=wording.moment(row.opened_at),
        ended=wording.moment(row.closed_at) if row.closed_at else None,
        ended_why=row.closed_reason,
        impact=impact_in_words(row),
        estimated=estimate_in_words(row),
        reasons=tuple(diagnosis["reasons"]),
        likely=_likely(row.evidence.get("pattern")),
        place=row.evidence["place"],
        place_now=row.evidence.get("place_now"),
        onset_interval=" to ".join(
            wording.moment(datetime.fromisoformat(moment))
            for moment in row.evidence["onset_interval"]
        ),
        onset_level=onset_level(row.evidence),
        streams=tuple(
            seen_in_words(entry, moment=wording.moment)
            for entry in row.evidence.get("streams", [])
        ),
        first_steps=first_steps(row),
        heaviest=tuple(
            HeavyScan(
                scan=item["scan"],
                weight=wording.percent(item["weight"] / heaviest) if heaviest > 0 else "–",
            )
            for item in row.heaviest
        ),
    )


def _likely(pattern: Mapping[str, Any] | None) -> tuple[LikelyCause, ...]:
    """Return the causes that have a percent of the votes or more."""
    shares = pattern.get("shares", []) if pattern else []
    return tuple(
        LikelyCause(name=name, share=wording.percent(share), strength=round(100 * share))
        for name, share in shares
        if share >= _LEAST_SHARE
    )


def impact_in_words(row: EpisodeRow) -> str:
    """Return what a shift did to patients' results, with intervals and numbers of scans."""
    measured: Mapping[str, Any] | None = row.evidence.get("impact")
    if measured is None:
        if row.impact == Impact.SUSPECTED:
            return f"suspected: {_suspicion(row)}; no labels yet"
        return "none shown: the champion's own space did not move; no labels yet"
    labelled = wording.counted(measured["scans"], "labelled scan")
    if "version" in measured:  # kept since a later champion may read them otherwise
        labelled = f"{labelled} read by {measured['version']}"
    if not measured["falls"]:
        return f"none shown on {labelled}: {_after(measured)}"
    return f"measured on {labelled}: {_fallen(measured)}"


def _suspicion(row: EpisodeRow) -> str:
    """Return what made the impact a suspicion; an estimate says how much, so it goes first."""
    fallen = (row.evidence.get("estimated") or {}).get("fallen")
    if fallen:
        return f"below the reference by the estimate without labels: {', '.join(fallen)}"
    return "the champion's own space moved, too"


def fall_in_words(row: EpisodeRow) -> str | None:
    """Return the gravest measured fall for a sentence, or None if none was measured.

    Sensitivity goes first: what it loses are patients whose finding is missed.
    """
    measured = row.evidence.get("impact")
    if not measured or not measured["falls"]:
        return None
    order = ("sensitivity", "specificity", "AUC")
    fall = min(measured["falls"], key=lambda item: order.index(item["measure"]))
    before, after = wording.fraction(fall["before"]), wording.fraction(fall["after"])
    return f"{measure_fallen(fall)} fell from {before} to {after}"


def _fallen(measured: Mapping[str, Any]) -> str:
    parts = []
    for fall in measured["falls"]:
        finding = measured["findings"][fall["finding"]] if "finding" in fall else measured
        after = finding["after"][fall["measure"].lower()]
        parts.append(
            f"{measure_fallen(fall)} {wording.fraction(fall['before'])} → "
            f"{wording.with_interval(after)}"
        )
    return "; ".join(parts)


def _after(measured: Mapping[str, Any]) -> str:
    """Return how well scans of the shift are read; of several findings, each by its name."""
    findings: Mapping[str, Any] = measured.get("findings") or {}
    if not findings:
        return _measures(measured["after"])
    return "; ".join(
        f"{finding} {_measures(one['after'])}" for finding, one in findings.items()
    )


def _measures(values: Mapping[str, Sequence[float]]) -> str:
    return ", ".join(
        f"{'AUC' if name == 'auc' else name} {wording.with_interval(value)}"
        for name, value in values.items()
    )


def evidence_of(window: JudgedWindow) -> tuple[Evidence, ...]:
    """Return what each detector saw in a window, the strongest first."""
    return _evidence(window.leading)


def _evidence(row: VerdictRow) -> tuple[Evidence, ...]:
    detectors: Mapping[str, Mapping[str, float]] = row.detail.get("detectors", {})
    # The least that a p-value of so many draws can be; four powers of ten at least.
    least = min((part["p_value"] for part in detectors.values()), default=1.0)
    most = max(4.0, -math.log10(least))
    strongest = sorted(detectors.items(), key=lambda item: item[1]["p_value"])
    return tuple(
        Evidence(
            detector=name.replace("-", " "),
            p_value=wording.p_value(part["p_value"]),
            effect=wording.effect(part["effect"]),
            strength=round(-100 * math.log10(part["p_value"]) / most),
        )
        for name, part in strongest[:_MOST_DETECTORS]
    )
