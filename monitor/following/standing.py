"""How a monitor's streams stand, for every way of reading them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from monitor import references
from monitor.alarm_budget import scans_between_false_alarms
from monitor.episodes.episodes import open_episodes
from monitor.following import kept
from monitor.following.arranging import may_begin
from monitor.following.incoming import Odd, waiting
from monitor.following.words import counted, seen_in_words
from monitor.monitors import Monitor
from monitor.tables import EpisodeRow, ReferenceRow, StreamRow
from registry.canonical import Json
from registry.versions import VersionRow, ref

#: What is said of scans that are odd.
_NOTES = {
    Odd.AHEAD: "stamped after now, and seen all the same: a clock is, or was, wrong",
    Odd.LATE: "stamped over a day before others that came earlier: seen as they came",
    Odd.BEFORE: "stamped before the reference was accepted, and passed over: windows leave "
    "them out, too",
    Odd.WITHDRAWN: "superseded or rejected before they were seen, and passed over",
    Odd.AGAIN: "later revisions of series or studies that were seen before, and passed over",
    Odd.UNUSABLE: "have embeddings that are no numbers, and were passed over",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStanding:
    """One stream."""

    encoder: str
    version: str
    started_at: datetime
    looked_at: datetime
    scans: int
    burn_in: int
    #: scans that came since, and that it has not seen
    waiting: int
    #: wealth as a share of what an alarm takes, 0 to 1
    evidence: float
    #: whether its last alarm's shift lasts
    shifted: bool
    scans_between_false_alarms: int
    #: what it saw of open episodes: number of the episode, and the entry
    seen: tuple[tuple[int, dict[str, Any]], ...]
    notes: tuple[str, ...]

    @property
    def burn_in_left(self) -> int:
        return max(0, self.burn_in - self.scans)

    @property
    def state(self) -> str:
        """What it does, in a word or two."""
        if self.shifted:
            return "shifted"
        return "burning in" if self.burn_in_left else "watching"

    def to_dict(self) -> dict[str, Json]:
        return {
            "encoder": self.encoder,
            "version": self.version,
            "state": self.state,
            "started_at": self.started_at.isoformat(),
            "looked_at": self.looked_at.isoformat(),
            "scans": self.scans,
            "waiting": self.waiting,
            "burn_in": self.burn_in,
            "burn_in_left": self.burn_in_left,
            "evidence": self.evidence,
            "scans_between_false_alarms": self.scans_between_false_alarms,
            "seen": [
                {"episode": episode, "says": seen_in_words(entry), **entry}
                for episode, entry in self.seen
            ],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """All streams of a monitor, and the budget that they share."""

    #: None where the monitor follows no streams
    false_alarms: str | None
    #: None before the first stream began
    scans_a_day: float | None
    measured: bool
    streams: tuple[StreamStanding, ...]
    #: why there is no stream where one is wanted
    lacking: str | None

    @property
    def scans_between_false_alarms(self) -> int | None:
        """Mean number of scans to a false alarm of the monitor."""
        if not self.streams:
            return None
        return self.streams[0].scans_between_false_alarms // len(self.streams)

    @property
    def budget(self) -> str:
        """The budget in words and scans."""
        if self.false_alarms is None:
            return "scans are not followed one by one: the monitor's file says `stream: null`"
        if self.scans_a_day is None or self.scans_between_false_alarms is None:
            return f"false alarms: {self.false_alarms}"
        source = "measured" if self.measured else "as its file says"
        asked = scans_between_false_alarms(self.false_alarms, scans_a_day=self.scans_a_day)
        words = (
            f"false alarms: {self.false_alarms}, which at {self.scans_a_day:.0f} scans a day "
            f"({source}) is one in {asked:,} scans"
        )
        now = self.scans_between_false_alarms
        if now != asked:
            # More was asked for than a stream can keep, or it was not taken over yet.
            from monitor.streams import LEAST_BUDGET  # costs what scipy costs

            when = "as fewer cannot be kept" if now == LEAST_BUDGET else "until the next look"
            words = f"{words}; it is one in {now:,} {when}"
        if len(self.streams) == 1:
            return words
        each = self.streams[0].scans_between_false_alarms
        return f"{words}; {len(self.streams)} streams share it, with one in {each:,} each"

    def to_dict(self) -> dict[str, Json]:
        return {
            "false_alarms": self.false_alarms,
            "scans_a_day": self.scans_a_day,
            "measured": self.measured,
            "scans_between_false_alarms": self.scans_between_false_alarms,
            "says": self.budget,
            "streams": [one.to_dict() for one in self.streams],
            "lacking": self.lacking,
        }


def following(session: Session, monitor: Monitor) -> Following:
    """Return how a monitor's streams stand."""
    settings = monitor.specification.stream
    rows = kept.running(session, monitor.name) if settings is not None else []
    still_open = open_episodes(session, monitor.name)
    return Following(
        false_alarms=settings.false_alarms if settings is not None else None,
        scans_a_day=rows[0].scans_a_day if rows else None,
        measured=rows[0].measured if rows else settings is None or settings.scans_a_day is None,
        streams=tuple(
            _standing(session, row, still_open, settings.burn_in_scans if settings else None)
            for row in rows
        ),
        lacking=None if rows or settings is None else _lacking(session, monitor),
    )


def _standing(
    session: Session, row: StreamRow, still_open: list[EpisodeRow], wanted: int | None
) -> StreamStanding:
    """Return how a stream stands; `wanted` is the burn-in that its monitor's file states."""
    reference = session.get_one(ReferenceRow, row.reference)
    version = str(ref(session.get_one(VersionRow, reference.version)))
    left = waiting(session, row)
    notes = [
        f"{counted(row.counts[odd], 'scan')} {words}"
        for odd, words in _NOTES.items()
        if odd in row.counts
    ]
    if left:
        notes.append(
            f"{counted(left, 'scan')} came since and wait until {version} has embedded them"
        )
    if wanted is not None and wanted != row.burn_in and row.scans < row.burn_in:
        notes.append(
            f"its burn-in stays at the {counted(row.burn_in, 'scan')} that it began with: the "
            f"file's burn_in_scans of {wanted:,} is for streams that begin later, with another "
            "reference or after `stream: null`"
        )
    return StreamStanding(
        encoder=reference.encoder,
        version=version,
        started_at=row.started_at,
        looked_at=row.looked_at,
        scans=row.scans,
        burn_in=row.burn_in,
        waiting=left,
        evidence=float(np.exp(row.evidence)) if row.scans else 0.0,
        shifted=row.shifted,
        scans_between_false_alarms=row.scans_between_false_alarms,
        seen=tuple(
            (episode.id, entry)
            for episode in still_open
            for entry in episode.evidence.get("streams", [])
            if entry["stream"] == row.id
        ),
        notes=tuple(notes),
    )


def _lacking(session: Session, monitor: Monitor) -> str:
    if not references.deciding(session, monitor.name):
        return f"there is no reference yet: `driftward reference build {monitor.name}`"
    if not may_begin(session, monitor):
        return held_back(monitor.name, open_episodes(session, monitor.name))
    return "streams begin while `driftward up`, or `serve` and `work`, run"


def held_back(monitor: str, still_open: Sequence[EpisodeRow]) -> str:
    """Say which open episodes hold a burn-in back, since when, and what ends that."""
    named = " and ".join(
        f"episode {row.id}, open since {row.opened_at:%Y-%m-%d %H:%M} UTC,"
        for row in still_open
    )
    one = len(still_open) == 1
    commands = ", ".join(
        f"`driftward episode close {row.id} --reason TEXT`" for row in still_open
    )
    return (
        f"{named} {'holds' if one else 'hold'} the burn-in back, which would take "
        f"{'its shift' if one else 'their shifts'} for ordinary. Windows watch meanwhile, and "
        f"streams begin once {'it' if one else 'each'} has ended: by itself when two windows "
        "show nothing. Where scans are to stay like this, build a reference of them "
        f"(`driftward reference build {monitor}`); where nothing is the matter, close it "
        f"({commands})"
    )
