"""From a stream's alarm to its episode, and from the end of its shift to the episode's.

What streams saw of an episode stands in its evidence under "streams", one entry an alarm. An
alarm comes after few scans, often too few to be judged; until they are enough the episode's
cause is unknown, and says why. They are judged anew whenever they have doubled, until windows
confirm the shift and speak instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from sqlalchemy.orm import Session

from monitor.episodes import episodes
from monitor.episodes.causes import Cause
from monitor.episodes.episode_evidence import AlarmEvidence, KnownOnset
from monitor.episodes.episodes import EpisodeState, Impact
from monitor.episodes.recovery import saw_the_end
from monitor.evaluation import Evaluation
from monitor.references import EncoderRole
from monitor.tables import EpisodeRow
from registry.canonical import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenShift:
    """An alarm of a stream, in the monitor's terms."""

    stream: int
    #: its place among the stream's alarms
    alarm: int
    #: whose space it was seen in, and against which reference, by id
    encoder: str
    reference: int
    #: the scan that raised it, by id, and its place in the stream
    scan: int
    number: int
    #: from the onset to the alarm, both counted
    scans: int
    onset: datetime
    #: between which it began in 9 of 10 cases
    onset_low: datetime
    onset_high: datetime
    #: members that see it, the clearest first
    leading: tuple[str, ...]
    #: the stream's budget
    scans_between_false_alarms: int
    raised_at: datetime

    def to_dict(self) -> dict[str, Json]:
        """Return it as an episode keeps it."""
        return {
            "stream": self.stream,
            "alarm": self.alarm,
            "encoder": self.encoder,
            "reference": self.reference,
            "scan": self.scan,
            "number": self.number,
            "scans": self.scans,
            "onset": self.onset.isoformat(),
            "onset_interval": [self.onset_low.isoformat(), self.onset_high.isoformat()],
            "leading": list(self.leading),
            "scans_between_false_alarms": self.scans_between_false_alarms,
            "raised_at": self.raised_at.isoformat(),
            # How many there were when they were last judged.
            "judged": 0,
            "ended_at": None,
            "ended_reason": None,
            # Whether it ended because the shift was seen to be over.
            "recovered": None,
        }

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        low, high = document["onset_interval"]
        return cls(
            stream=document["stream"],
            alarm=document["alarm"],
            encoder=document["encoder"],
            reference=document["reference"],
            scan=document["scan"],
            number=document["number"],
            scans=document["scans"],
            onset=datetime.fromisoformat(document["onset"]),
            onset_low=datetime.fromisoformat(low),
            onset_high=datetime.fromisoformat(high),
            leading=tuple(document["leading"]),
            scans_between_false_alarms=document["scans_between_false_alarms"],
            raised_at=datetime.fromisoformat(document["raised_at"]),
        )

    @property
    def first(self) -> int:
        """Place in the stream of the scan that it began with."""
        return self.number - self.scans + 1

    @property
    def known_onset(self) -> KnownOnset:
        return KnownOnset(
            reference=self.reference,
            onset=self.onset,
            low=self.onset_low,
            high=self.onset_high,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedShift:
    """The scans from a stream's onset on, judged as a window; or why they could not be."""

    #: from the onset on, as the stream counts them
    scans: int
    evaluation: Evaluation | None
    found: AlarmEvidence | None
    #: why there is no verdict on them
    lacking: str


def record(
    session: Session,
    monitor: str,
    seen: SeenShift,
    judged: JudgedShift,
    *,
    actor: str,
    at: datetime,
) -> list[EpisodeRow]:
    """Open an episode for a stream's alarm, or enter it into the one that it belongs to.

    An episode whose shift is over for every stream, and that no window confirmed, ends first:
    what a stream sees after it is another shift. Returns every episode that changed.
    """
    still_open = episodes.open_episodes(session, monitor)
    over = [one for one in still_open if _is_over(one)]
    for one in over:
        reason = one.evidence["streams"][-1]["ended_reason"]
        episodes.end(session, one, EpisodeState.CLOSED, reason=reason, actor=actor, at=at)
    place = judged.found.diagnosis.subgroup if judged.found else None
    row = episodes.episode_of([one for one in still_open if one not in over], place)
    kind = "episode.opened" if row is None else "episode.updated"
    if row is None:
        row = episodes.new_episode(monitor, onset=seen.onset, subgroup=place, at=at)
        row.evidence = _nothing_judged(seen, judged.lacking)
        row.cause, row.p_value, row.effect, row.heaviest = Cause.UNKNOWN.value, 1.0, 0.0, []
    _enter(row, seen)
    if seen.encoder == EncoderRole.CHAMPION and "impact" not in row.evidence:
        row.impact = Impact.SUSPECTED.value
    _judge(session, row, seen, judged)
    session.add(row)
    session.flush()
    _tell(session, row, seen, kind, actor=actor, at=at)
    return [*over, row]


def judge_later(
    session: Session,
    row: EpisodeRow,
    seen: SeenShift,
    judged: JudgedShift,
    *,
    actor: str,
    at: datetime,
) -> list[EpisodeRow]:
    """Conclude what an alarm is about, now that there are more scans; returns what changed.

    An alarm that was entered into an episode before its place was known, and that turns out
    to be at another one, gets an episode of its own.
    """
    place = judged.found.diagnosis.subgroup if judged.found else None
    first = not any(one["judged"] for one in row.evidence["streams"] if _is(one, seen))
    if first and is_judged(row) and episodes.episode_of([row], place) is None:
        row.evidence = {
            **row.evidence,
            "streams": [one for one in row.evidence["streams"] if not _is(one, seen)],
        }
        _tell(session, row, seen, "episode.updated", actor=actor, at=at)
        return record(session, row.monitor, seen, judged, actor=actor, at=at)
    _judge(session, row, seen, judged)
    _tell(session, row, seen, "episode.updated", actor=actor, at=at)
    return [row]


def end(
    session: Session,
    monitor: str,
    stream: int,
    *,
    reason: str,
    ended_at: datetime,
    alarm: int | None = None,
    actor: str,
    at: datetime,
) -> None:
    """Enter into the open episodes that a stream no longer sees their shift.

    Parameters
    ----------
    reason : why, as the episode gives it where it ends by this
    ended_at : when the shift was seen to be over
    alarm : whose shift; None for every one of the stream
    """
    for row in episodes.open_episodes(session, monitor):
        changed = [
            {
                **one,
                "ended_at": ended_at.isoformat(),
                "ended_reason": reason,
                "recovered": alarm is not None,
            }
            if one["stream"] == stream and alarm in {None, one["alarm"]} and not _ended(one)
            else one
            for one in row.evidence.get("streams", [])
        ]
        if changed != row.evidence.get("streams", []):
            row.evidence = {**row.evidence, "streams": changed}
            episodes.record_change(
                session,
                row,
                "episode.updated",
                {"monitor": monitor, "stream": stream, "no_longer_seen": reason},
                actor=actor,
                at=at,
            )


def to_judge(
    session: Session, monitor: str, stream: int, *, scans: int, floor: int
) -> list[tuple[EpisodeRow, SeenShift]]:
    """Return a stream's lasting alarms that are to be judged, with the episodes they are in.

    Parameters
    ----------
    scans : that the stream has seen
    floor : fewest scans that are judged
    """
    found = []
    for row in episodes.open_episodes(session, monitor):
        for one in row.evidence.get("streams", []):
            seen = SeenShift.from_dict(one)
            wanted = 2 * _most_judged(row) if one["judged"] else floor
            speaks = not one["judged"] or not _confirmed(row)
            lasts = one["stream"] == stream and not _ended(one)
            if lasts and speaks and scans - seen.first >= wanted:
                found.append((row, seen))
    return found


def is_judged(row: EpisodeRow) -> bool:
    """Return whether anything was concluded of an episode's shift yet."""
    return row.evidence["effect"] is not None


def _enter(row: EpisodeRow, seen: SeenShift) -> None:
    row.evidence = {
        **row.evidence,
        "streams": [*row.evidence.get("streams", []), seen.to_dict()],
    }


def _judge(session: Session, row: EpisodeRow, seen: SeenShift, judged: JudgedShift) -> None:
    """Conclude from an alarm's scans, unless windows, or nearly as many, have spoken."""
    if judged.evaluation is None or judged.found is None:
        return
    more = not _confirmed(row) and judged.scans >= 2 * _most_judged(row)
    if more or not is_judged(row):
        p_value = judged.found.verdict.alarm_p_value
        episodes.conclude(session, row, judged.evaluation, judged.found, p_value=p_value)
    row.evidence = {
        **row.evidence,
        "streams": [
            {**one, "judged": judged.scans} if _is(one, seen) else one
            for one in row.evidence["streams"]
        ],
    }


def _nothing_judged(seen: SeenShift, lacking: str) -> dict[str, Any]:
    """Return an episode's evidence while all that is known is that a stream saw a shift."""
    return {
        "diagnosis": {"cause": Cause.UNKNOWN.value, "subgroup": None, "reasons": [lacking]},
        "place": "not known yet",
        "onset_interval": seen.to_dict()["onset_interval"],
        "displaced_share": None,
        "window": None,
        "encoder": seen.encoder,
        "alpha": None,
        "effect": None,
        "ordinary_effect": None,
        "smallest_effect": None,
        "detectors": [],
        "subgroups": [],
        "not_judged": [lacking],
    }


def _tell(
    session: Session,
    row: EpisodeRow,
    seen: SeenShift,
    kind: str,
    *,
    actor: str,
    at: datetime,
) -> None:
    episodes.record_change(
        session,
        row,
        kind,
        {
            "monitor": row.monitor,
            "stream": seen.stream,
            "encoder": seen.encoder,
            "scans": seen.scans,
            "onset_interval": seen.to_dict()["onset_interval"],
            "cause": row.cause,
            "subgroup": row.subgroup,
            "impact": row.impact,
        },
        actor=actor,
        at=at,
    )


def _is(document: dict[str, Any], seen: SeenShift) -> bool:
    return (document["stream"], document["alarm"]) == (seen.stream, seen.alarm)


def _is_over(row: EpisodeRow) -> bool:
    """Return whether an episode that streams alone saw is over for all of them.

    One that is no longer followed is not: what a stream that takes its place sees is its shift.
    """
    entries = row.evidence.get("streams", [])
    over = (_ended(one) and saw_the_end(one) for one in entries)
    return bool(entries) and not _confirmed(row) and all(over)


def _confirmed(row: EpisodeRow) -> bool:
    """Return whether windows alarmed for an episode's shift."""
    return row.evidence["alpha"] is not None


def _most_judged(row: EpisodeRow) -> int:
    most: int = max(one["judged"] for one in row.evidence["streams"])
    return most


def _ended(document: dict[str, Any]) -> bool:
    return document["ended_at"] is not None
