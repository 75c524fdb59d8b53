"""Tokens: what programs, and people at a command line, show instead of a password.

A token is shown once. What is kept is its digest: it is random enough (256 bits) that a fast
one is as good as a slow one. Its beginning names it, so that it can be listed and revoked.
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import ForeignKey, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from registry import ledger
from registry.canonical import sha256
from registry.database import Base
from registry.errors import BadInputError, ConflictError, NotFoundError, NotSignedInError
from registry.identities import Identity, IdentityRow, Role, require_row

MOST_DAYS = 366
#: So that a scanner for secrets can find one that was committed by mistake.
PREFIX = "dwt"
_FORM = re.compile(rf"{PREFIX}_([0-9a-f]{{12}})_([A-Za-z0-9_-]{{43}})")


class TokenRow(ledger.Kept, ledger.Sealed, Base):
    """One token; kept when it is over, since signatures name it."""

    __tablename__ = "tokens"

    #: the part that may be shown
    id: Mapped[str] = mapped_column(primary_key=True)
    identity: Mapped[str] = mapped_column(ForeignKey("identities.name"), index=True)
    #: what it is for, in its maker's words
    purpose: Mapped[str]
    #: SHA-256 of the whole token
    digest: Mapped[str]
    created_at: Mapped[datetime]
    created_by: Mapped[str]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token that was just made: the one time that it can be read."""

    row: TokenRow
    text: str = field(repr=False)


def create(
    session: Session,
    *,
    identity: str,
    purpose: str,
    days: float,
    by: Identity,
    at: datetime,
) -> NewToken:
    """Make a token for oneself, or as an administrator for a program or another person.

    Raises
    ------
    NotPermittedError
        If another's is asked for by no administrator.
    ConflictError
        If the user is disabled.
    BadInputError
        If it would live too long, or its purpose is not said.
    """
    if identity != by.name:
        by.require(Role.ADMIN, f"make a token for {identity}")
    if not 0 < days <= MOST_DAYS:
        raise BadInputError(f"a token lives up to {MOST_DAYS} days, not {days:g}")
    if not purpose.strip():
        raise BadInputError("say what the token is for: whoever reviews tokens must know it")
    owner = require_row(session, identity)
    if owner.disabled_at is not None:
        raise ConflictError(f"{identity} is disabled: enable the user first")
    number = secrets.token_hex(6)
    secret = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
    text = f"{PREFIX}_{number}_{secret}"
    row = TokenRow(
        id=number,
        identity=identity,
        purpose=purpose.strip(),
        digest=sha256(text.encode()),
        created_at=at,
        created_by=by.name,
        expires_at=at + timedelta(days=days),
    )
    session.add(row)
    ledger.append(
        session,
        at=at,
        actor=by.name,
        kind="token.created",
        subject=identity,
        facts={
            "token": number,
            "purpose": row.purpose,
            "expires_at": row.expires_at.isoformat(),
        },
        seals=[row],
    )
    return NewToken(row=row, text=text)


def revoke(
    session: Session, token: str, *, reason: str, by: Identity, at: datetime
) -> TokenRow:
    """End a token at once: one's own, or as an administrator anybody's.

    Raises
    ------
    NotFoundError
    NotPermittedError
    ConflictError
        If it was revoked before.
    """
    row = session.get(TokenRow, token)
    if row is None:
        raise NotFoundError(f"there is no token {token}: see `driftward token list`")
    if row.identity != by.name:
        by.require(Role.ADMIN, f"revoke a token of {row.identity}")
    if row.revoked_at is not None:
        raise ConflictError(f"token {token} was revoked at {row.revoked_at:%Y-%m-%d %H:%M}")
    row.revoked_at = at
    ledger.append(
        session,
        at=at,
        actor=by.name,
        kind="token.revoked",
        subject=row.identity,
        facts={"token": token, "reason": reason},
        seals=[row],
    )
    return row


def all_tokens(session: Session, identity: str | None = None) -> list[TokenRow]:
    """Return tokens, the newest first; of one user, or of all."""
    query = select(TokenRow).order_by(TokenRow.created_at.desc(), TokenRow.id)
    if identity is not None:
        query = query.where(TokenRow.identity == identity)
    return list(session.scalars(query))


def is_token(text: str) -> bool:
    """Return whether a text has the form of a token: a password never has."""
    return _FORM.fullmatch(text.strip()) is not None


def named(session: Session, text: str) -> TokenRow | None:
    """Return the token that a text is, whether it may still be used or not."""
    found = _FORM.fullmatch(text.strip())
    row = session.get(TokenRow, found.group(1)) if found else None
    if row is None or not hmac.compare_digest(row.digest, sha256(text.strip().encode())):
        return None
    return row


def require_usable(
    session: Session, row: TokenRow | None, *, at: datetime
) -> tuple[IdentityRow, TokenRow]:
    """Return a token with its owner, if it may still be used.

    Raises
    ------
    NotSignedInError
        If it is none, is over, or its owner is disabled; `why` says which.
    """
    if row is None:
        raise NotSignedInError(
            "the token is not known: make one with `driftward token create`",
            why="unknown_token",
        )
    owner = session.get_one(IdentityRow, row.identity)
    if row.revoked_at is not None:
        raise NotSignedInError(f"the token {row.id} was revoked", why="revoked_token")
    if at >= row.expires_at:
        raise NotSignedInError(
            f"the token {row.id} expired at {row.expires_at:%Y-%m-%d %H:%M}: make another with "
            "`driftward token create`",
            why="expired_token",
        )
    if owner.disabled_at is not None:
        raise NotSignedInError(f"{owner.name} is disabled", why="disabled_user")
    return owner, row
