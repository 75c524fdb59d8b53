"""The tables of sources: what was put into force, and how far each has been read."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from registry.database import Base
from registry.ledger import Sealed


class SourceRow(Sealed, Base):
    """A source as it was last applied; one that was removed stays, since its scans do."""

    __tablename__ = "sources"

    name: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    specification: Mapped[dict[str, Any]]
    digest: Mapped[str]
    applied_at: Mapped[datetime]
    removed_at: Mapped[datetime | None]


class SourceProgressRow(Base):
    """How far a source has been read: rewritten after whatever it covers is durable."""

    __tablename__ = "source_progress"

    source: Mapped[str] = mapped_column(ForeignKey("sources.name"), primary_key=True)
    #: what the position belongs to; at another place it begins anew
    place: Mapped[str]
    position: Mapped[dict[str, Any]]
    #: outcome -> instances, since it was first applied
    counts: Mapped[dict[str, Any]]
    #: what is there and not yet read; None where that is not known
    backlog: Mapped[int | None]
    oldest_unread_at: Mapped[datetime | None]
    #: when the server's feed last turned out to be another one, or cleared
    began_anew_at: Mapped[datetime | None]
    last_success_at: Mapped[datetime | None]
    #: since when no look succeeds; None while they do
    failing_since: Mapped[datetime | None]
    #: of the newest look that failed, without patient data
    last_error: Mapped[str | None]
    #: who follows it, and until when another may not
    holder: Mapped[str | None]
    held_until: Mapped[datetime | None]
    #: fencing token: grows with every follower
    token: Mapped[int]


class SourceFileRow(Base):
    """A file that was taken, or set aside, and still lies where it was."""

    __tablename__ = "source_files"

    source: Mapped[str] = mapped_column(ForeignKey("sources.name"), primary_key=True)
    #: keyed digest of its path, which may name a patient
    file: Mapped[str] = mapped_column(primary_key=True)
    #: size and times: a file that changed is another one
    state: Mapped[str]
