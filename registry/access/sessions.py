"""Sessions: what a browser holds after a sign-in; ended by sign-out, by rest, or by age."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, Session, mapped_column

from registry import ledger
from registry.canonical import sha256
from registry.database import Base
from registry.identities import IdentityRow

#: Without a request; and in all.
REST, AGE = timedelta(minutes=30), timedelta(hours=12)
#: How exactly the last request is kept: each would else be a write.
_GRAIN = timedelta(seconds=60)


class SessionRow(ledger.Kept, ledger.Sealed, Base):
    """One session; the browser's secret is known here by its digest alone."""

    __tablename__ = "sessions"
    __unsealed__ = frozenset({"seen_at"})

    id: Mapped[str] = mapped_column(primary_key=True)
    identity: Mapped[str] = mapped_column(ForeignKey("identities.name"), index=True)
    begun_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


def begin(session: Session, identity: str, *, address: str | None, at: datetime) -> str:
    """Begin a session, and return the secret that the browser is to hold."""
    secret = secrets.token_urlsafe(32)
    row = SessionRow(id=_digest(secret), identity=identity, begun_at=at, seen_at=at)
    session.add(row)
    ledger.append(
        session,
        at=at,
        actor=identity,
        kind="session.begun",
        subject=identity,
        facts={"address": address},
        seals=[row],
    )
    return secret


def resume(session: Session, secret: str, *, at: datetime) -> tuple[IdentityRow, bool] | None:
    """Return whose a session is, if it goes on, and whether `touch` is due."""
    row = session.get(SessionRow, _digest(secret))
    if row is None or row.ended_at is not None:
        return None
    if at >= row.begun_at + AGE or at >= row.seen_at + REST:
        return None
    owner = session.get_one(IdentityRow, row.identity)
    if owner.disabled_at is not None:
        return None
    if owner.password_set_at is not None and owner.password_set_at > row.begun_at:
        # Whoever knew the former password is out.
        return None
    return owner, at >= row.seen_at + _GRAIN


def touch(session: Session, secret: str, *, at: datetime) -> None:
    """Keep when a session was seen last."""
    row = session.get(SessionRow, _digest(secret))
    if row is not None:
        row.seen_at = max(row.seen_at, at)


def end(session: Session, secret: str, *, at: datetime) -> None:
    """End a session, if it has not ended."""
    row = session.get(SessionRow, _digest(secret))
    if row is None or row.ended_at is not None:
        return
    row.ended_at = at
    ledger.append(
        session,
        at=at,
        actor=row.identity,
        kind="session.ended",
        subject=row.identity,
        facts={},
        seals=[row],
    )


def _digest(secret: str) -> str:
    return sha256(secret.encode())
