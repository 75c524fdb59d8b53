"""Making a request: one draw, stored whole in one transaction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from monitor.requests.frame import NEAR, Frame, patient_vectors, strata_of
from monitor.requests.tables import (
    LabelRequestItemRow,
    LabelRequestRow,
    Part,
    RequestState,
)
from monitor.statistics.sampling.coverage import LARGEST_POOL, covering
from monitor.statistics.sampling.drawing import Draw, allocate, draw
from registry import ledger
from registry.canonical import Json
from registry.errors import InsufficientDataError, NotFoundError

#: Patients kept in reserve, as a share of those drawn for the gates, where there are as many.
RESERVE_SHARE = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How many patients each part asks for."""

    gate: int
    selection: int
    training: int

    @property
    def total(self) -> int:
        return self.gate + self.selection + self.training


def make_request(
    session: Session,
    frame: Frame,
    *,
    run: int,
    episode: int,
    model: str,
    task: str,
    version: int,
    sizes: Sizes,
    favour_near: float,
    seed: int,
    terms: dict[str, Json],
    actor: str,
    at: datetime,
) -> LabelRequestRow:
    """Draw scans and store the request; while one of the run is open, that is returned.

    Parameters
    ----------
    version : whose embeddings training is to cover
    favour_near : chance of patients near the threshold relative to the others', 1 to 3
    seed : of the draw; the same frame, sizes and seed give the same request
    terms : arithmetic and which labels count, kept with the request

    Raises
    ------
    InsufficientDataError
        If the frame does not hold as many patients.
    """
    ledger.wait_turn(session)
    known = open_request(session, run)
    if known is not None:
        return known
    if sizes.total > len(frame.patients):
        raise InsufficientDataError(
            what="patients of whom an honest label can still come",
            needed=sizes.total,
            got=len(frame.patients),
        )
    names, strata = strata_of(frame, wanted=sizes.gate)
    drawn = _drawn(names, strata, sizes=sizes, favour_near=favour_near, seed=seed)
    row = LabelRequestRow(
        run=run,
        number=1 + (_newest_number(session, run) or 0),
        episode=episode,
        model=model,
        task=task,
        state=RequestState.OPEN.value,
        seed=seed,
        frame_digest=frame.digest,
        strata=[
            {
                "name": name,
                "patients": one.size,
                "drawn": one.drawn,
                "kept": len(one.ordered),
            }
            for name, one in zip(names, drawn.strata, strict=True)
        ],
        equal_chance=drawn.equal_chance,
        terms={
            **terms,
            "frame": {
                "patients": len(frame.patients),
                "scans": frame.scans,
                "left_out": dict(frame.left_out),
            },
        },
        made_at=at,
        made_by=actor,
    )
    session.add(row)
    session.flush()
    covered = _covering(session, frame, drawn, sizes.training, version=version, seed=seed)
    items = _items(frame, drawn, covered)
    session.execute(
        insert(LabelRequestItemRow),
        [{**item, "request": row.id, "batch": row.id} for item in items],
    )
    ledger.append(
        session,
        at=at,
        actor=actor,
        kind="labels.requested",
        subject=f"run {run}",
        facts={
            "request": row.id,
            "episode": episode,
            "frame": row.frame_digest,
            "seed": seed,
            "patients": {
                Part.GATE.value: sizes.gate,
                Part.SELECTION.value: sizes.selection,
                Part.TRAINING.value: len(covered),
            },
            "strata": [dict(one) for one in row.strata],
        },
        seals=[row],
        batches=[(LabelRequestItemRow, row.id)],
    )
    return row


def end_request(
    session: Session,
    row: LabelRequestRow,
    state: RequestState,
    *,
    reason: str,
    actor: str,
    at: datetime,
    facts: dict[str, Json] | None = None,
) -> None:
    """End an open request; one that has ended stays as it is."""
    if row.state != RequestState.OPEN:
        return
    row.state, row.ended_at, row.ended_reason = state.value, at, reason
    ledger.append(
        session,
        at=at,
        actor=actor,
        kind=f"labels.request_{state.value}",
        subject=f"run {row.run}",
        facts={"request": row.id, "reason": reason, **(facts or {})},
        seals=[row],
    )


def open_request(session: Session, run: int) -> LabelRequestRow | None:
    """Return the request of a run that is still waited for."""
    return session.scalars(
        select(LabelRequestRow).where(
            LabelRequestRow.run == run, LabelRequestRow.state == RequestState.OPEN
        )
    ).first()


def newest_request(session: Session, run: int) -> LabelRequestRow | None:
    """Return the newest request of a run that was not cancelled."""
    return session.scalars(
        select(LabelRequestRow)
        .where(LabelRequestRow.run == run, LabelRequestRow.state != RequestState.CANCELLED)
        .order_by(LabelRequestRow.id.desc())
    ).first()


def all_requests(session: Session, run: int | None = None) -> list[LabelRequestRow]:
    """Return requests, newest first."""
    query = select(LabelRequestRow).order_by(LabelRequestRow.id.desc())
    if run is not None:
        query = query.where(LabelRequestRow.run == run)
    return list(session.scalars(query))


def require_request(session: Session, number: int) -> LabelRequestRow:
    """Return a request.

    Raises
    ------
    NotFoundError
    """
    row = session.get(LabelRequestRow, number)
    if row is None:
        raise NotFoundError(
            f"there is no label request {number}: see `driftward label request list`"
        )
    return row


def _newest_number(session: Session, run: int) -> int | None:
    return session.scalar(
        select(func.max(LabelRequestRow.number)).where(LabelRequestRow.run == run)
    )


def _drawn(
    names: Sequence[str], strata: Sequence[int], *, sizes: Sizes, favour_near: float, seed: int
) -> Draw:
    counts = np.bincount(strata, minlength=len(names)).tolist()
    drawn = allocate(
        counts,
        wanted=sizes.gate,
        favour=[favour_near if name == NEAR else 1.0 for name in names],
        equal=sizes.selection,
    )
    spare = len(strata) - sizes.total
    share = min(RESERVE_SHARE, spare / sizes.gate)
    return draw(
        strata,
        drawn,
        reserve=[math.floor(share * count) for count in drawn],
        equal=sizes.selection,
        seed=seed,
    )


def _covering(
    session: Session, frame: Frame, drawn: Draw, count: int, *, version: int, seed: int
) -> list[int]:
    """Return the patients, by position in the frame, whose scans are to train."""
    left = sorted(patient for stratum in drawn.strata for patient in stratum.left)
    if len(left) > LARGEST_POOL:
        chosen = np.random.default_rng([seed, 1]).choice(left, LARGEST_POOL, replace=False)
        left = sorted(int(one) for one in chosen)
    if count == 0 or not left:
        return []
    pool = [frame.patients[one] for one in left]
    taken = covering(patient_vectors(session, pool, version=version), count)
    return [left[one] for one in taken]


def _items(frame: Frame, drawn: Draw, covered: Sequence[int]) -> list[dict[str, object]]:
    def of(
        patient: int, part: Part, stratum: int | None, place: int, chance: float | None
    ) -> list[dict[str, object]]:
        return [
            {
                "scan": scan,
                "part": part.value,
                "stratum": stratum,
                "place": place,
                "chance": chance,
            }
            for scan in frame.patients[patient].scans
        ]

    items = []
    for number, one in enumerate(drawn.strata):
        for place, patient in enumerate(one.ordered):
            items += of(patient, Part.GATE, number, place, one.chance)
        for place, patient in enumerate(one.equal):
            items += of(patient, Part.SELECTION, number, place, drawn.equal_chance)
    for place, patient in enumerate(covered):
        items += of(patient, Part.TRAINING, None, place, None)
    return items
