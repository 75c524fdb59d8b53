"""What a backtest found: alarms, decisions, runs and promotions, and four policies side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from registry.canonical import Json
from retrain.backtesting.question import Question
from retrain.backtesting.weekly import Floor, WeekFigures

HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedWindow:
    """One of the monitor's windows."""

    start: datetime
    end: datetime
    p_value: float | None
    alpha: float
    alarm: bool

    def to_dict(self) -> dict[str, Json]:
        return {
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
            "p_value": self.p_value,
            "alpha": self.alpha,
            "alarm": self.alarm,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundEpisode:
    """An episode that would have opened."""

    number: int
    opened_at: datetime
    #: when its shift began, as it was told then
    onset: datetime
    #: "window" or "stream", whichever came first
    seen_by: str
    cause: str
    subgroup: str | None
    impact: str
    state: str
    ended_at: datetime | None
    ended_reason: str | None
    #: of streams: encoder and moment of each
    stream_alarms: tuple[tuple[str, datetime], ...]

    @property
    def delay_hours(self) -> float:
        """From the onset to the opening."""
        return round((self.opened_at - self.onset) / HOUR, 2)

    def to_dict(self) -> dict[str, Json]:
        return {
            "episode": self.number,
            "opened_at": self.opened_at.isoformat(),
            "onset": self.onset.isoformat(),
            "delay_hours": self.delay_hours,
            "seen_by": self.seen_by,
            "cause": self.cause,
            "subgroup": self.subgroup,
            "impact": self.impact,
            "state": self.state,
            "ended_at": self.ended_at.isoformat() if self.ended_at else None,
            "ended_reason": self.ended_reason,
            "stream_alarms": [
                {"encoder": encoder, "raised_at": at.isoformat()}
                for encoder, at in self.stream_alarms
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenDecision:
    """A decision that would have been made."""

    at: datetime
    episode: int
    action: str
    reason: str
    #: by the plan itself; else a person is asked
    carried_out: bool

    def to_dict(self) -> dict[str, Json]:
        return {
            "at": self.at.isoformat(),
            "episode": self.episode,
            "action": self.action,
            "reason": self.reason,
            "carried_out": self.carried_out,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CausedRun:
    """A run that would have been begun."""

    number: int
    episode: int
    planned_at: datetime
    #: None where it never left the wait for labels
    begun_at: datetime | None
    ended_at: datetime | None
    state: str
    #: that made its candidate, or stand first among those it may try
    strategy: str
    not_simulated: tuple[str, ...]
    #: of training, by the model's recorded runs; None where nothing is recorded of a strategy
    hours: float | None
    note: str
    #: why its promotion had to wait, None where it did not
    held_back: str | None
    #: name -> (outcome, sentence)
    gates: Mapping[str, tuple[str, str]]

    def to_dict(self) -> dict[str, Json]:
        return {
            "run": self.number,
            "episode": self.episode,
            "planned_at": self.planned_at.isoformat(),
            "begun_at": self.begun_at.isoformat() if self.begun_at else None,
            "ended_at": self.ended_at.isoformat() if self.ended_at else None,
            "state": self.state,
            "strategy": self.strategy,
            "not_simulated": list(self.not_simulated),
            "hours": self.hours,
            "note": self.note,
            "held_back": self.held_back,
            "gates": [
                {"name": name, "outcome": outcome, "sentence": sentence}
                for name, (outcome, sentence) in self.gates.items()
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFigures:
    """What one policy did, cost and kept."""

    name: str
    rule: str
    #: (when, why)
    promotions: tuple[tuple[datetime, str], ...]
    runs: int
    #: of training; None where nothing is recorded of what it would have run
    hours: float | None
    labels_used: int
    weeks: tuple[WeekFigures, ...]
    whole: WeekFigures
    #: None where the reference has no labels
    below: int | None
    surely_below: int | None
    #: moments at which it would have updated and could not
    passed_over: tuple[tuple[datetime, str], ...]

    def to_dict(self) -> dict[str, Json]:
        return {
            "policy": self.name,
            "rule": self.rule,
            "promotions": [
                {"at": at.isoformat(), "reason": reason} for at, reason in self.promotions
            ],
            "runs": self.runs,
            "hours": self.hours,
            "labels_used": self.labels_used,
            "weeks_below": self.below,
            "weeks_surely_below": self.surely_below,
            "whole_span": self.whole.to_dict(),
            "weeks": [week.to_dict() for week in self.weeks],
            "passed_over": [
                {"at": at.isoformat(), "reason": reason} for at, reason in self.passed_over
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtest:
    """The answer to one question."""

    question: Question
    champion: str
    #: in the span: read, labelled
    scans: int
    labelled: int
    windows: tuple[JudgedWindow, ...]
    episodes: tuple[FoundEpisode, ...]
    decisions: tuple[TakenDecision, ...]
    runs: tuple[CausedRun, ...]
    #: the plan's first
    policies: tuple[PolicyFigures, ...]
    floor: Floor | None
    #: gates of the plan that were left out
    gates_left_out: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def alarms(self) -> int:
        return sum(window.alarm for window in self.windows)

    @property
    def not_simulated(self) -> dict[str, int]:
        """How often a strategy that changes the encoder would have been tried, by its name."""
        counts = Counter(name for run in self.runs for name in run.not_simulated)
        return dict(sorted(counts.items()))

    def to_dict(self) -> dict[str, Json]:
        """Return everything; the same question on the same past gives the same document."""
        question = self.question
        document: dict[str, Any] = {
            "monitor": question.monitor.name,
            "model": question.plan.model,
            "champion": self.champion,
            "since": question.since.isoformat(),
            "until": question.until.isoformat(),
            "plan": {"source": question.source, "digest": question.digest},
            "scans": self.scans,
            "labelled": self.labelled,
            "alarms": self.alarms,
            "windows": [one.to_dict() for one in self.windows],
            "episodes": [one.to_dict() for one in self.episodes],
            "decisions": [one.to_dict() for one in self.decisions],
            "runs": [one.to_dict() for one in self.runs],
            "not_simulated": {
                "strategies": self.not_simulated,
                "gates": list(self.gates_left_out),
            },
            "floor": self.floor.to_dict() if self.floor else None,
            "policies": [one.to_dict() for one in self.policies],
            "notes": list(self.notes),
        }
        return document


def policy(name: str, policies: Sequence[PolicyFigures]) -> PolicyFigures:
    """Return the policy of that name."""
    [found] = [one for one in policies if one.name == name]
    return found
