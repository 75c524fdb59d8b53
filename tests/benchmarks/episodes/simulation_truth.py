"""What an installation said of the simulated weeks, held against what was done to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from simulation_playing import MONITOR, Player, Sent
from simulation_world import OUTAGE, SHIFTS, WEEK, WEEKLY_SCANS, Kind, Shift, World
from sqlalchemy import select

from monitor.episodes.episodes import all_episodes
from monitor.following import kept
from monitor.silence import alarms as silence_alarms
from monitor.subgroups import Subgroup
from monitor.tables import EpisodeRow, ScanRow, SilenceAlarmRow, StreamRow, VerdictRow
from registry import ledger

#: An onset may be off by a tenth of a week's scans, or by two days.
ONSET_SCANS, ONSET_TIME = WEEKLY_SCANS // 10, timedelta(days=2)
#: An episode must close after its shift's end, and at the latest with the second whole window.
CLOSING_WINDOWS = 3
#: Of the scans of an episode's subgroup and of the shift's place, so many of either are both.
LEAST_OVERLAP = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """The scans of the watched weeks, with what was done to each."""

    rows: Sequence[ScanRow]
    sent: Sequence[Sent]

    def between(self, one: datetime, other: datetime) -> int:
        """Count the scans that arrived between two moments."""
        low, high = sorted((one, other))
        return sum(low <= row.arrived_at < high for row in self.rows)

    def named(self, subgroup: str | None) -> str | None:
        """Return a subgroup with the stations' own names for their pseudonyms."""
        names = {
            row.station: one.visit.scanner.station
            for row, one in zip(self.rows, self.sent, strict=True)
        }
        for pseudonym, name in names.items():
            if subgroup and pseudonym:
                subgroup = subgroup.replace(pseudonym, name)
        return subgroup

    def overlap(self, subgroup: str | None, shift: Shift, world: World) -> float:
        """Return how far a subgroup is the shift's place, while it lasts; 1 is exactly."""
        named = Subgroup.parse(subgroup) if subgroup else None
        both = either = 0
        for row, one in zip(self.rows, self.sent, strict=True):
            since = one.visit.at - world.start
            if not shift.begins <= since < shift.ends:
                continue
            there = shift.touches(one.visit.scanner, since)
            held = named is None or named.holds(row)
            both += there and held
            either += there or held
        return both / either if either else 0.0


def findings(player: Player) -> dict[str, Any]:
    """Return what came of the weeks: episodes, silence alarms, and how it was watched."""
    with player.driftward.database.reading() as session:
        scans = {(row.site, row.instance): row for row in session.scalars(select(ScanRow))}
        watched = [one for one in player.sent if one.visit.week >= 0]
        seen = Watched(
            rows=[scans[one.visit.scanner.site, one.instance] for one in watched],
            sent=watched,
        )
        rows = sorted(all_episodes(session, MONITOR), key=lambda row: row.id)
        told = {
            row.id: [
                entry.facts | {"at": entry.recorded_at.isoformat(), "kind": entry.kind}
                for entry in ledger.entries(session, subject=f"episode {row.id}")
            ]
            for row in rows
        }
        alarms = sorted(
            silence_alarms.all_alarms(session, MONITOR), key=lambda row: row.opened_at
        )
        verdicts = session.scalars(select(VerdictRow).where(VerdictRow.subgroup == "")).all()
        return {
            "scans": len(watched),
            "episodes": _episodes(rows, told, seen, player.world),
            "promised": player.promised.isoformat() if player.promised else None,
            "silence": [_silence(row, player, watched, scans) for row in alarms],
            "windows": sorted(
                [
                    row.start.isoformat(),
                    row.reference,
                    row.scans,
                    round(row.p_value, 4),
                    round(row.persistence_p_value, 4),
                ]
                for row in verdicts
            ),
            "streams": [_stream(row) for row in session.scalars(select(StreamRow))],
            "running_streams": len(kept.running(session, MONITOR)),
            "ledger_valid": ledger.verify(session).valid,
        }


def standing(player: Player) -> list[str]:
    """Return a line for each episode and silence alarm so far, for whoever waits."""
    with player.driftward.database.reading() as session:
        lines = [
            f"episode {row.id} {row.state}, opened {row.opened_at:%m-%d %H:%M}, onset "
            f"{row.onset:%m-%d %H:%M}: {row.cause} at {row.subgroup or 'all scans'}"
            for row in reversed(all_episodes(session, MONITOR))
        ]
        lines += [
            f"{row.kind} {row.subgroup or 'all'} {row.state}, opened {row.opened_at:%m-%d %H:%M}"
            for row in silence_alarms.all_alarms(session, MONITOR)
        ]
        lines += [
            f"stream {row.id}: {row.scans} scans, burn-in {row.burn_in}, evidence "
            f"{row.evidence:.1f}" + (", shifted" if row.shifted else "")
            for row in kept.running(session, MONITOR)
        ]
    return lines


def _stream(row: StreamRow) -> dict[str, Any]:
    return {
        "reference": row.reference,
        "scans": row.scans,
        "burn_in": row.burn_in,
        "scans_between_false_alarms": row.scans_between_false_alarms,
        "counts": row.counts,
        "ended": row.ended_reason,
    }


def _episodes(
    rows: Sequence[EpisodeRow],
    told: Mapping[int, Sequence[Mapping[str, Any]]],
    seen: Watched,
    world: World,
) -> list[dict[str, Any]]:
    """Return each episode beside the shift that it is of; the first of a shift counts."""
    found: list[dict[str, Any]] = []
    taken: set[Kind] = set()
    for row in rows:
        shift = shift_of(row, world)
        document: dict[str, Any] = {
            "episode": row.id,
            "opened": row.opened_at.isoformat(),
            "onset": row.onset.isoformat(),
            "closed": row.closed_at.isoformat() if row.closed_at else None,
            "closed_reason": row.closed_reason,
            "cause": row.cause,
            "subgroup": seen.named(row.subgroup),
            "impact": row.impact,
            "reasons": row.evidence["diagnosis"]["reasons"],
            "place": row.evidence["place"],
            "streams": row.evidence.get("streams", []),
            "told": [
                {key: one.get(key) for key in ("at", "kind", "cause", "subgroup", "window")}
                for one in told[row.id]
            ],
            "shift": None,
        }
        if shift is not None:
            document |= _held_against(row, shift, seen, world) | {
                "shift": shift.kind.value,
                "again": shift.kind in taken,
            }
            taken.add(shift.kind)
        found.append(document)
    return found


def shift_of(row: EpisodeRow, world: World) -> Shift | None:
    """Return the shift that an episode opened for: one that went on then, or had just ended."""
    for shift in SHIFTS if world.eventful else ():
        begins, ends = world.start + shift.begins, world.start + shift.ends
        if begins <= row.opened_at < ends + WEEK and row.onset < ends:
            return shift
    return None


def _held_against(row: EpisodeRow, shift: Shift, seen: Watched, world: World) -> dict[str, Any]:
    begins, ends = world.start + shift.begins, world.start + shift.ends
    off = seen.between(row.onset, begins)
    overlap = seen.overlap(row.subgroup, shift, world)
    closed_in_time = row.closed_at is not None and (
        ends <= row.closed_at <= ends + CLOSING_WINDOWS * WEEK
    )
    return {
        "delay_hours": _hours(row.opened_at - begins),
        "delay_scans": seen.between(begins, row.opened_at),
        "onset_off_hours": _hours(row.onset - begins),
        "onset_off_scans": off,
        "closed_after_hours": _hours(row.closed_at - ends) if row.closed_at else None,
        "right_cause": row.cause == shift.kind.value,
        "overlap": round(overlap, 3),
        "right_place": overlap >= LEAST_OVERLAP,
        "right_onset": off <= ONSET_SCANS or abs(row.onset - begins) <= ONSET_TIME,
        "right_closing": closed_in_time,
    }


def _silence(
    row: SilenceAlarmRow,
    player: Player,
    watched: Sequence[Sent],
    scans: Mapping[tuple[str, str], ScanRow],
) -> dict[str, Any]:
    """Return a silence alarm, and whether it is that of the scanner that was silent."""
    world = player.world
    begins, ends = world.start + OUTAGE.begins, world.start + OUTAGE.ends
    in_time = world.eventful and begins <= row.opened_at < ends + timedelta(hours=12)
    named = Subgroup.parse(row.subgroup) if row.subgroup else None
    stations = sorted(
        {
            one.visit.scanner.station
            for one in watched
            if named is None or named.holds(scans[one.visit.scanner.site, one.instance])
        }
    )
    return {
        "kind": row.kind,
        "subgroup": row.subgroup,
        "scanners": stations,
        "since": row.since.isoformat(),
        "opened": row.opened_at.isoformat(),
        "closed": row.closed_at.isoformat() if row.closed_at else None,
        "closed_reason": row.closed_reason,
        "expected": row.expected,
        "received": row.received,
        "after_hours": _hours(row.opened_at - begins) if in_time else None,
        "right": in_time and stations == [OUTAGE.station] and row.kind == "missing",
    }


def _hours(span: timedelta) -> float:
    return round(span / timedelta(hours=1), 1)
