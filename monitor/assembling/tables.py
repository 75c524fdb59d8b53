"""Tables of what scans are made of, and of what counts no more."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from registry.database import Base
from registry.ledger import BatchSealed


class InstancePlaceRow(Base):
    """Where an instance stands in its series; what its scan is made of is sealed with that."""

    __tablename__ = "instance_places"

    scan: Mapped[int] = mapped_column(
        ForeignKey("scans.id", ondelete="CASCADE"), primary_key=True
    )
    series_number: Mapped[int | None]
    number: Mapped[int | None]
    #: of the centre of its first pixel, in mm within the patient: x, y, z
    position: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    #: direction cosines of its rows and columns: six numbers
    orientation: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    #: how many instances its series and its study have, where the sender said so
    series_instances: Mapped[int | None]
    study_instances: Mapped[int | None]
    #: a capture of a screen or the like: part of no series or study that a model reads
    captured: Mapped[bool]


class AssembledScanRow(BatchSealed, Base):
    """What a series or a study is made of, and why it was taken to be whole."""

    __tablename__ = "assembled_scans"

    scan: Mapped[int] = mapped_column(ForeignKey("scans.id"), primary_key=True)
    #: counts from 1 for each series and study
    revision: Mapped[int]
    instances: Mapped[int]
    #: how many the sender announced, where it did
    expected: Mapped[int | None]
    #: expected, stated, quiet, waited, changed
    settled_by: Mapped[str]
    #: it was taken although instances were missing, or still coming
    incomplete: Mapped[bool]


class ScanMemberRow(BatchSealed, Base):
    """An instance of a series or a study, at its position."""

    __tablename__ = "scan_members"

    scan: Mapped[int] = mapped_column(ForeignKey("scans.id"), primary_key=True)
    member: Mapped[int] = mapped_column(ForeignKey("scans.id"), primary_key=True, index=True)
    #: along the normal, from 0
    position: Mapped[int]


class AssemblyProgressRow(Base):
    """How far instances were assembled into scans of one unit; without it, from the beginning."""

    __tablename__ = "assembly_progress"

    unit: Mapped[str] = mapped_column(primary_key=True)
    #: no instance up to this one, by id, waits to be assembled
    through: Mapped[int]


class WithdrawnScanRow(BatchSealed, Base):
    """A scan that counts nowhere any more; what was made of it before stands."""

    __tablename__ = "withdrawn_scans"

    scan: Mapped[int] = mapped_column(ForeignKey("scans.id"), primary_key=True)
    #: superseded, rejected, emptied
    why: Mapped[str]
    withdrawn_at: Mapped[datetime]


class RejectedInstanceRow(BatchSealed, Base):
    """An instance that a document rejects (IHE RAD TF-3 4.66), whether it came or not."""

    __tablename__ = "rejected_instances"
    __table_args__ = (UniqueConstraint("site", "instance"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    site: Mapped[str]
    #: keyed pseudonym
    instance: Mapped[str]
    #: quality, patient_safety, wrong_worklist_entry, retention_expired
    reason: Mapped[str]
    rejected_at: Mapped[datetime]


class StableGroupRow(Base):
    """A series or a study to which nothing comes any more, as a server said."""

    __tablename__ = "stable_groups"

    site: Mapped[str] = mapped_column(primary_key=True)
    #: keyed pseudonyms
    study: Mapped[str] = mapped_column(primary_key=True)
    #: "" where the whole study is meant
    series: Mapped[str] = mapped_column(primary_key=True)
    #: holds for what arrived until then
    stated_at: Mapped[datetime]
