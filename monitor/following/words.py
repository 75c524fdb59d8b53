"""What a stream's alarm says, for whoever was woken by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any


def minute(at: datetime) -> str:
    """Return a time as terminals show it: to the minute, with its zone."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def seen_in_words(
    entry: Mapping[str, Any], *, moment: Callable[[datetime], str] = minute
) -> str:
    """Return what a stream saw of an episode, in one sentence.

    Parameters
    ----------
    entry : of the episode's evidence under "streams"
    moment : says a time, with its zone, as the reader knows times
    """
    low, high = (moment(datetime.fromisoformat(bound)) for bound in entry["onset_interval"])
    words = (
        f"seen by the {entry['encoder']} encoder's stream after "
        f"{counted(entry['scans'], 'scan')}, onset between {low} and {high}"
    )
    if entry["ended_at"] is None:
        return words
    return f"{words}; {entry['ended_reason']}"


def onset_level(evidence: Mapping[str, Any]) -> str:
    """Return how sure the interval of an episode's onset is, and what told it if not a stream.

    Parameters
    ----------
    evidence : of the episode
    """
    entries = evidence.get("streams", [])
    if evidence.get("dated_by_place"):
        return "95 %, by the scans of the place alone"
    by_stream = entries and entries[0]["onset_interval"] == evidence["onset_interval"]
    return "90 %" if by_stream else "95 %"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "scan"), counted(1200, "scan")
    ('1 scan', '1,200 scans')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
