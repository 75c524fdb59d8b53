"""How far a request is: what came for each scan, and who is called up in place of whom.

Nothing is stored as labels arrive: what became of a scan follows from its labels, when it is
asked for, so that corrections, disputes and withdrawals count at once, and no crash between a
label and its request can part the two.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor import labels
from monitor.assembling.withdrawing import withdrawn_among
from monitor.evaluating import ask_for_decision
from monitor.labelling.influence import PARAMETERS
from monitor.labelling.truth import Dispute, decide
from monitor.performance.finding import finding_of, is_there
from monitor.requests.tables import (
    LabelRequestItemRow,
    LabelRequestRow,
    Part,
    RequestState,
    UnreadScanRow,
)
from monitor.tables import EpisodeRow, LabelRow, ScanRow
from registry import ledger
from registry.errors import BadInputError, ConflictError


class Became(StrEnum):
    """What became of a scan that was to be read."""

    LABELLED = "labelled"
    #: no label has come
    WAITING = "waiting"
    #: its readers disagree: it waits for an adjudication
    DISPUTED = "disputed"
    #: a label came whose provenance the plan does not accept: it waits for one that it does
    OTHER_PROVENANCE = "of another provenance"
    #: an AI influenced its label, so that it counts as not read
    INFLUENCED = "influenced"
    #: somebody found that it cannot be labelled
    UNREADABLE = "unreadable"
    #: rejected, or superseded, since it was drawn
    WITHDRAWN = "withdrawn"

    @property
    def waits(self) -> bool:
        return self in {Became.WAITING, Became.DISPUTED, Became.OTHER_PROVENANCE}


class Unread(StrEnum):
    """Why a scan cannot be labelled; a code, since a text could name a patient."""

    UNREADABLE = "unreadable"
    NOT_AVAILABLE = "not-available"
    UNDECIDABLE = "undecidable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A scan that was called up, and what became of it."""

    scan: ScanRow
    part: Part
    stratum: int | None
    place: int
    #: of its patient to be in the part, as it stands now; None for training
    chance: float | None
    became: Became
    #: number of the class; None while there is no label that counts
    value: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a request is."""

    items: tuple[Item, ...]
    #: number of the class that the model looks for; None where its results do not say
    finding: int | None

    @property
    def waiting(self) -> int:
        return sum(item.became.waits for item in self.items)

    def of(self, part: Part) -> list[Item]:
        return [item for item in self.items if item.part is part]

    def counts(self, part: Part) -> dict[str, int]:
        """Return how many scans of a part became what."""
        return dict(Counter(item.became.value for item in self.of(part)))

    def labelled(self, part: Part) -> list[ScanRow]:
        return [item.scan for item in self.of(part) if item.became is Became.LABELLED]

    def patients(self, part: Part, *, finding: bool | None = None) -> int:
        """Return how many patients of a part have a label, or one of a class."""
        return len(
            {
                item.scan.person
                for item in self.of(part)
                if item.became is Became.LABELLED
                and finding
                in {None, item.value is not None and is_there(item.value, self.finding)}
            }
        )

    def unread(self, part: Part) -> int:
        """Return how many patients of a part were asked for and have no label that counts."""
        asked = {item.scan.person for item in self.of(part) if not item.became.waits}
        return len(asked) - self.patients(part)


def progress_of(session: Session, row: LabelRequestRow) -> Progress:
    """Return what became of every scan that a request has called up."""
    stored = session.execute(
        select(LabelRequestItemRow, ScanRow)
        .join(ScanRow, ScanRow.id == LabelRequestItemRow.scan)
        .where(LabelRequestItemRow.request == row.id)
        .order_by(LabelRequestItemRow.id)
    ).all()
    called = [(item, scan) for item, scan in stored if _is_called(row, item)]
    ids = [scan.id for _, scan in called]
    known = labels.labels_of(session, ids)
    gone = withdrawn_among(session, ids)
    unread = set(
        session.scalars(select(UnreadScanRow.scan).where(UnreadScanRow.request == row.id))
    )
    return Progress(
        finding=finding_of(session, model=row.model, task=row.task),
        items=tuple(
            _item(
                row,
                item,
                scan,
                rows=known.get((scan.id, row.task), []),
                withdrawn=scan.id in gone,
                unread=scan.id in unread,
            )
            for item, scan in called
        ),
    )


def chance_of(row: LabelRequestRow, part: Part, stratum: int | None) -> float | None:
    """Return the chance of a patient of the frame to be in a part, as the request stands."""
    if part is Part.TRAINING or stratum is None:
        return None
    if part is Part.SELECTION:
        return row.equal_chance
    chance: float = row.strata[stratum]["drawn"] / row.strata[stratum]["patients"]
    return chance


def call_reserve(
    session: Session, row: LabelRequestRow, patients: int, *, actor: str, at: datetime
) -> int:
    """Call up patients of the reserve, and return how many there were.

    Each stratum gives in proportion to what was drawn of it, in its stored order, so that its
    patients keep equal chances: those of the longer draw.
    """
    strata: list[dict[str, int]] = [dict(one) for one in row.strata]
    spare = [one["kept"] - one["drawn"] for one in strata]
    wanted = min(patients, sum(spare))
    if wanted <= 0:
        return 0
    drawn = sum(one["drawn"] for one in strata)
    more = [
        min(left, math.floor(wanted * one["drawn"] / drawn))
        for one, left in zip(strata, spare, strict=True)
    ]
    while sum(more) < wanted:
        # Of those with somebody left, the stratum that lags behind its share most.
        behind = [number for number in range(len(strata)) if more[number] < spare[number]]
        chosen = min(behind, key=lambda n: (more[n] + 1) / strata[n]["drawn"])
        more[chosen] += 1
    for one, count in zip(strata, more, strict=True):
        one["drawn"] += count
    row.strata = strata
    ledger.append(
        session,
        at=at,
        actor=actor,
        kind="labels.reserve_called",
        subject=f"run {row.run}",
        facts={"request": row.id, "patients": wanted, "strata": [dict(o) for o in strata]},
        seals=[row],
    )
    return wanted


def state_unread(
    session: Session,
    row: LabelRequestRow,
    scans: Sequence[int],
    *,
    reason: Unread,
    actor: str,
    at: datetime,
) -> int:
    """Keep that scans of a request cannot be labelled; return how many were not known to be.

    Raises
    ------
    ConflictError
        If the request has ended.
    BadInputError
        If a scan is not among those that the request asks for; nothing is kept then.
    """
    if row.state != RequestState.OPEN:
        raise ConflictError(f"label request {row.id} is {row.state}: nothing is waited for")
    asked = {item.scan.id for item in progress_of(session, row).items}
    for scan in scans:
        if scan not in asked:
            raise BadInputError(
                f"scan {scan} is not among those that label request {row.id} asks for: see "
                f"`driftward label request export {row.id}`"
            )
    known = set(
        session.scalars(select(UnreadScanRow.scan).where(UnreadScanRow.request == row.id))
    )
    added = [
        UnreadScanRow(
            request=row.id, scan=scan, reason=reason.value, stated_by=actor, stated_at=at
        )
        for scan in dict.fromkeys(scans)
        if scan not in known
    ]
    if added:
        session.add_all(added)
        ledger.append(
            session,
            at=at,
            actor=actor,
            kind="labels.unread",
            subject=f"run {row.run}",
            facts={
                "request": row.id,
                "reason": reason.value,
                "scans": [one.scan for one in added],
            },
            seals=added,
        )
        ask_for_decision(session, session.get_one(EpisodeRow, row.episode))
    return len(added)


def ask_for_decisions(session: Session, scans: Iterable[int]) -> None:
    """Queue the decision of every episode whose open request asks for one of these scans."""
    wanted = list(scans)
    episodes: set[int] = set()
    for start in range(0, len(wanted), PARAMETERS):
        episodes |= set(
            session.scalars(
                select(LabelRequestRow.episode)
                .join(LabelRequestItemRow, LabelRequestItemRow.request == LabelRequestRow.id)
                .where(
                    LabelRequestRow.state == RequestState.OPEN,
                    LabelRequestItemRow.scan.in_(wanted[start : start + PARAMETERS]),
                )
            )
        )
    for episode in sorted(episodes):
        ask_for_decision(session, session.get_one(EpisodeRow, episode))


def _is_called(row: LabelRequestRow, item: LabelRequestItemRow) -> bool:
    if item.part != Part.GATE or item.stratum is None:
        return True
    drawn: int = row.strata[item.stratum]["drawn"]
    return item.place < drawn


def _item(
    row: LabelRequestRow,
    item: LabelRequestItemRow,
    scan: ScanRow,
    *,
    rows: Sequence[LabelRow],
    withdrawn: bool,
    unread: bool,
) -> Item:
    part = Part(item.part)
    became, value = _became(rows, row.terms, part)
    if withdrawn:
        became, value = Became.WITHDRAWN, None
    elif unread and became is not Became.LABELLED:
        # Who found it unreadable was wrong if a label came after all.
        became, value = Became.UNREADABLE, None
    return Item(
        scan=scan,
        part=part,
        stratum=item.stratum,
        place=item.place,
        chance=chance_of(row, part, item.stratum),
        became=became,
        value=value,
    )


def _became(
    rows: Sequence[LabelRow], terms: Mapping[str, object], part: Part
) -> tuple[Became, int | None]:
    if not rows:
        return Became.WAITING, None
    truth = decide(rows)
    if isinstance(truth, Dispute):
        return Became.DISPUTED, None
    accepted = terms["provenance"]
    if isinstance(accepted, list) and truth.provenance not in accepted:
        return Became.OTHER_PROVENANCE, None
    may = part is Part.TRAINING and terms["ai_influenced_may_train"] is True
    if truth.ai_influenced and not may:
        return Became.INFLUENCED, None
    return Became.LABELLED, truth.value
