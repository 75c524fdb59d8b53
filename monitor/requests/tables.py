"""Tables of label requests: which scans are to be read, for what, and with which chance."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from registry.database import Base
from registry.ledger import BatchSealed, Sealed


class Part(StrEnum):
    """What the labels of a request are for; a patient stands in one part alone."""

    #: judges candidates: a probability sample in strata
    GATE = "gate"
    #: chooses the candidate and measures the impact: every patient has the same chance
    SELECTION = "selection"
    #: trains: covers the embeddings, and is no sample of anything
    TRAINING = "training"


class RequestState(StrEnum):
    OPEN = "open"
    #: every scan that was asked for is read, or is known not to be readable
    COMPLETE = "complete"
    #: nothing more is waited for, and what came is not used as this request's
    CANCELLED = "cancelled"


class LabelRequestRow(Sealed, Base):
    """One request: its frame, its draw, and the arithmetic behind it."""

    __tablename__ = "label_requests"
    __table_args__ = (UniqueConstraint("run", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    #: the run that waits, which another package owns
    run: Mapped[int] = mapped_column(index=True)
    #: of the run's requests, from 1
    number: Mapped[int]
    episode: Mapped[int] = mapped_column(ForeignKey("episodes.id"), index=True)
    model: Mapped[str]
    task: Mapped[str]
    #: open, complete, cancelled
    state: Mapped[str]
    seed: Mapped[int]
    #: of what could be drawn: scans and strata
    frame_digest: Mapped[str]
    #: each {name, patients, drawn, kept}: of the frame, asked for, and those with their reserve
    strata: Mapped[list[Any]]
    #: chance of every patient of the frame to be in the selection part
    equal_chance: Mapped[float]
    #: arithmetic, what was left out of the frame, which labels count
    terms: Mapped[dict[str, Any]]
    made_at: Mapped[datetime]
    made_by: Mapped[str]
    ended_at: Mapped[datetime | None]
    #: None while it is open
    ended_reason: Mapped[str | None]


class LabelRequestItemRow(BatchSealed, Base):
    """One scan that is to be read, or waits in the reserve; sealed under the request's number."""

    __tablename__ = "label_request_items"
    __table_args__ = (UniqueConstraint("request", "scan"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    request: Mapped[int] = mapped_column(ForeignKey("label_requests.id"), index=True)
    scan: Mapped[int] = mapped_column(ForeignKey("scans.id"), index=True)
    part: Mapped[str]
    #: position in the request's strata; None for training
    stratum: Mapped[int | None]
    #: of the patient, from 0: in the stratum's random order, or as training takes them
    place: Mapped[int]
    #: of the patient to be drawn for the part; None for training, and of the reserve what it
    #: was before it was called up (then the stratum's is `drawn / patients`)
    chance: Mapped[float | None]


class UnreadScanRow(Sealed, Base):
    """A scan of a request that somebody found cannot be labelled."""

    __tablename__ = "unread_scans"
    __table_args__ = (UniqueConstraint("request", "scan"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    request: Mapped[int] = mapped_column(ForeignKey("label_requests.id"), index=True)
    scan: Mapped[int] = mapped_column(ForeignKey("scans.id"))
    #: a code: `monitor.requests.resolving.Unread`
    reason: Mapped[str]
    stated_by: Mapped[str]
    stated_at: Mapped[datetime]
