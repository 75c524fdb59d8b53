"""Requests as people and programs are shown them: how far each part is, and what the chances are."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from monitor.requests.resolving import Became, Progress, progress_of
from monitor.requests.tables import LabelRequestRow, Part


def describe_request(session: Session, row: LabelRequestRow) -> dict[str, Any]:
    """Return everything about a request but which scans it asks for."""
    progress = progress_of(session, row)
    terms = row.terms
    return {
        "request": row.id,
        "run": row.run,
        "number": row.number,
        "episode": row.episode,
        "model": row.model,
        "task": row.task,
        "state": row.state,
        "seed": row.seed,
        "made_at": row.made_at,
        "made_by": row.made_by,
        "ended_at": row.ended_at,
        "ended_reason": row.ended_reason,
        "scans": len(progress.items),
        "waiting": progress.waiting,
        "parts": [_part(progress, part) for part in Part],
        "strata": [_stratum(row, number, progress) for number in range(len(row.strata))],
        "frame": {**terms["frame"], "digest": row.frame_digest},
        "arithmetic": terms["arithmetic"],
        "provenance": terms["provenance"],
    }


def _part(progress: Progress, part: Part) -> dict[str, Any]:
    items = progress.of(part)
    counts = progress.counts(part)
    return {
        "part": part.value,
        "patients": len({item.scan.person for item in items}),
        "scans": len(items),
        "patients_labelled": progress.patients(part),
        "patients_not_read": progress.unread(part),
        "with_finding": progress.patients(part, finding=True),
        "without_finding": progress.patients(part, finding=False),
        "became": {one.value: counts.get(one.value, 0) for one in Became},
    }


def _stratum(row: LabelRequestRow, number: int, progress: Progress) -> dict[str, Any]:
    one = row.strata[number]
    own = [item for item in progress.of(Part.GATE) if item.stratum == number]
    read = len({item.scan.person for item in own if item.became is Became.LABELLED})
    return {
        "name": one["name"],
        "patients": one["patients"],
        "drawn": one["drawn"],
        "reserve": one["kept"] - one["drawn"],
        "chance": one["drawn"] / one["patients"],
        "read": read,
        # What each who was read stands for, as it stands now.
        "weight": one["patients"] / read if read else None,
    }
