"""Signing in: who shows a password or a token, and what is written down when it fails.

Checking a password takes long on purpose, so no transaction is open meanwhile; the row is read
again afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from registry import ledger
from registry.access import attempts, passwords, sessions, tokens, users
from registry.access.tokens import TokenRow
from registry.database import Database
from registry.errors import ConflictError, NotPermittedError, NotSignedInError
from registry.identities import (
    Identity,
    IdentityRow,
    bound_to,
    identity_of,
    operating_system_user,
    require_row,
)

#: One text for every cause: it says nothing about who exists.
REFUSED = "name or password is wrong"


class Proof(StrEnum):
    """By what somebody showed who they are."""

    PASSWORD = "password"  # noqa: S105 - a word
    TOKEN = "token"  # noqa: S105 - a word
    #: nothing but that they run the process
    OPERATING_SYSTEM = "operating system"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """Who somebody was shown to be, and how."""

    identity: Identity
    proof: Proof
    #: the token's number
    token: str | None = None
    #: somebody else knows the password, or made the token
    shared: bool = False


def by_password(
    database: Database,
    name: str,
    password: str,
    *,
    address: str | None,
    purpose: str,
    at: datetime,
) -> Proven:
    """Return who shows this password; a failure is counted and in the ledger.

    Parameters
    ----------
    purpose : what it was shown for, for the ledger: "sign-in", "signature"

    Raises
    ------
    NotSignedInError
        If it is wrong, there is none, or its owner is disabled: one text, in one time.
    TooManyAttemptsError
        If too many failed before; nothing was tried.
    """
    with database.transaction() as session:
        taken = attempts.take_turn(session, name, address, at=at)
        row = session.get(IdentityRow, name)
    right = passwords.matches(row.password if row else None, password)
    with database.transaction() as session:
        now = session.get(IdentityRow, name)
        if right and row and now and now.password == row.password and now.disabled_at is None:
            attempts.forgive(session, name, taken)
            return Proven(
                identity=identity_of(now), proof=Proof.PASSWORD, shared=now.initial_password
            )
        attempts.record(
            session,
            name=name,
            known=now is not None,
            address=address,
            purpose=purpose,
            at=at,
        )
    raise NotSignedInError(REFUSED, why="disabled_user" if right else "wrong_password")


def by_token(database: Database, text: str, *, at: datetime) -> Proven:
    """Return whose a token is; one that may no longer be used is in the ledger, once a while.

    Raises
    ------
    NotSignedInError
    """
    with database.reading() as session:
        row = tokens.named(session, text)
        try:
            owner, token = tokens.require_usable(session, row, at=at)
        except NotSignedInError as error:
            refused = error
        else:
            return Proven(
                identity=identity_of(owner),
                proof=Proof.TOKEN,
                token=token.id,
                shared=token.created_by != token.identity,
            )
    if row is not None:
        _record_refused_token(database, row, refused, at=at)
    raise refused


def by_operating_system(database: Database, *, at: datetime) -> Identity:
    """Return the identity of the user that runs this process.

    One who was disabled is in the ledger, once a while.

    Raises
    ------
    NotPermittedError
        If that user is bound to no identity of this home, or to one that was disabled.
    """
    user = operating_system_user()
    with database.reading() as session:
        row = bound_to(session, user)
    if row.disabled_at is None:
        return identity_of(row)
    with database.transaction() as session:
        if attempts.is_news(session, f"user/{row.name}/disabled", at=at):
            ledger.append(
                session,
                at=at,
                actor=row.name,
                kind="sign_in.failed",
                subject=row.name,
                facts={"for": "operating system", "why": "disabled_user"},
            )
    raise NotPermittedError(f"{row.name}, as whom the user {user} acts, was disabled")


def sign_in(
    database: Database, name: str, password: str, *, address: str | None, at: datetime
) -> tuple[str, Proven]:
    """Begin a session, and return its secret and whose it is; raises as `by_password` does."""
    proven = by_password(database, name, password, address=address, purpose="sign-in", at=at)
    with database.transaction() as session:
        return sessions.begin(session, proven.identity.name, address=address, at=at), proven


def change_password(
    database: Database,
    name: str,
    *,
    before: str | None,
    after: str,
    address: str | None,
    at: datetime,
) -> None:
    """Let somebody replace their own password, by showing the one before.

    Parameters
    ----------
    before : None for one who has none yet

    Raises
    ------
    BadInputError
        If the new one is too easy to guess.
    ConflictError
        If there is one already, and it was not shown.
    NotSignedInError
        If it is wrong.
    """
    passwords.require_fit(after, name=name)
    if before is not None:
        by_password(database, name, before, address=address, purpose="password change", at=at)
    with database.transaction() as session:
        row = require_row(session, name)
        if before is None and row.password is not None:
            raise ConflictError(f"{name} has a password: show it to replace it")
        users.set_password(session, row, after, by=identity_of(row), at=at)


def _record_refused_token(
    database: Database, row: TokenRow, refused: NotSignedInError, *, at: datetime
) -> None:
    with database.transaction() as session:
        if attempts.is_news(session, f"token/{row.id}/{refused.why}", at=at):
            ledger.append(
                session,
                at=at,
                actor=row.identity,
                kind="sign_in.failed",
                subject=row.identity,
                facts={"for": "token", "token": row.id, "why": refused.why},
            )
