"""Refusals in the ledger: who tried what, and why it was not done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy.orm import Session

from registry import ledger
from registry.access import attempts
from registry.database import Database
from registry.errors import (
    BadInputError,
    ConflictError,
    DriftwardError,
    NotFoundError,
    RefusedError,
)
from registry.identities import Identity

#: What a rule, another change, or what was handed in stands against.
REFUSALS = (RefusedError, ConflictError, BadInputError, NotFoundError)


@contextmanager
def refusals_recorded(
    database: Database,
    kind: str,
    *,
    subject: str,
    by: Identity,
    at: datetime,
    once_a_while: bool = False,
    of: tuple[type[DriftwardError], ...] = REFUSALS,
) -> Iterator[None]:
    """Write into the ledger that something was refused, and why, and pass the refusal on.

    Whoever uses it looks first whether there is such a subject: what is nothing's name, such as
    a word that was mistyped, is not kept for good.

    Parameters
    ----------
    kind : the ledger's word, which ends in `.refused`
    once_a_while : of what a program tries again and again, the same is written once in a
        quarter of an hour
    of : the kinds of errors that are written
    """
    try:
        yield
    except of as error:
        with database.transaction() as session:
            why = code_of(error)
            bucket = f"refused/{kind}/{subject}/{by.name}/{why}"
            if not once_a_while or attempts.is_news(session, bucket, at=at):
                record(session, kind, subject=subject, by=by, error=error, at=at)
        raise


@contextmanager
def attempted(
    database: Database,
    kind: str,
    *,
    subject: str,
    by: Identity,
    at: datetime,
    once_a_while: bool = False,
    of: tuple[type[DriftwardError], ...] = REFUSALS,
) -> Iterator[Session]:
    """Open a transaction of whose refusal the ledger tells; parameters as `refusals_recorded`."""
    with (
        refusals_recorded(
            database, kind, subject=subject, by=by, at=at, once_a_while=once_a_while, of=of
        ),
        database.transaction() as session,
    ):
        yield session


def record(
    session: Session,
    kind: str,
    *,
    subject: str,
    by: Identity,
    error: DriftwardError,
    at: datetime,
) -> None:
    """Write one refusal into the ledger."""
    ledger.append(
        session,
        at=at,
        actor=by.name,
        kind=kind,
        subject=subject,
        facts={"why": code_of(error), "problem": str(error)},
    )


def code_of(error: DriftwardError) -> str:
    """Return a refusal's stable code: that of the error, or its class."""
    return getattr(error, "why", None) or type(error).__name__
