"""Failed sign-ins: counted in the database, so that a restart forgives nobody.

A name is counted in one of 65,536 buckets by the beginning of its digest, known or not: what
is answered says nothing about who exists, and what somebody typed by mistake into the field
of the name (their password) cannot be read back.
"""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta

from sqlalchemy import delete, func, or_, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from registry import ledger
from registry.canonical import sha256
from registry.database import Base
from registry.errors import TooManyAttemptsError

WINDOW = timedelta(minutes=15)
#: Failures within the window, after which nothing is even tried.
MOST_PER_NAME = 5
#: Of one address, whatever names it tries. A proxy on this machine hides addresses: then
#: names alone are counted.
MOST_PER_ADDRESS = 30


class FailedAttempt(Base):
    """One sign-in that failed; dropped when it no longer counts, since the ledger has it."""

    __tablename__ = "failed_attempts"

    id: Mapped[int] = mapped_column(primary_key=True)
    bucket: Mapped[str] = mapped_column(index=True)
    at: Mapped[datetime] = mapped_column(index=True)


def buckets_of(name: str, address: str | None) -> list[tuple[str, int]]:
    """Return in which buckets an attempt counts, and how many each bears."""
    found = [(f"name/{sha256(name.encode())[:4]}", MOST_PER_NAME)]
    if address is not None and not _is_loopback(address):
        found.append((f"address/{address}", MOST_PER_ADDRESS))
    return found


def take_turn(
    session: Session, name: str, address: str | None, *, at: datetime
) -> list[FailedAttempt]:
    """Count an attempt as failed before it is tried, and return what `forgive` takes back.

    Counted afterwards, a thousand at once would each find that none had failed yet.

    Raises
    ------
    TooManyAttemptsError
        If too many failed before it, with the seconds after which it may be tried again.
    """
    ledger.wait_turn(session)
    session.execute(delete(FailedAttempt).where(FailedAttempt.at <= at - WINDOW))
    buckets = buckets_of(name, address)
    for bucket, most in buckets:
        counted, newest = session.execute(
            select(func.count(FailedAttempt.id), func.max(FailedAttempt.at)).where(
                FailedAttempt.bucket == bucket
            )
        ).one()
        if counted >= most:
            wait = max(1, round((newest + WINDOW - at).total_seconds()))
            raise TooManyAttemptsError(
                f"too many sign-ins failed: try again in {-(-wait // 60)} minutes",
                seconds=wait,
            )
    taken = [FailedAttempt(bucket=bucket, at=at) for bucket, _ in buckets]
    session.add_all(taken)
    session.flush()
    return taken


def forgive(session: Session, name: str, taken: list[FailedAttempt]) -> None:
    """Forget a name's failures once its owner has signed in."""
    bucket = buckets_of(name, None)[0][0]
    session.execute(
        delete(FailedAttempt).where(
            or_(
                FailedAttempt.bucket == bucket,
                FailedAttempt.id.in_([attempt.id for attempt in taken]),
            )
        )
    )


def record(
    session: Session,
    *,
    name: str,
    known: bool,
    address: str | None,
    purpose: str,
    at: datetime,
) -> None:
    """Write a failure into the ledger; an unknown name is never written."""
    ledger.append(
        session,
        at=at,
        actor=name if known else "unknown",
        kind="sign_in.failed",
        subject=name if known else "unknown",
        facts={"for": purpose, "address": address},
    )


def is_news(session: Session, bucket: str, *, at: datetime) -> bool:
    """Return whether a refusal of this kind was not counted within the window; count it.

    What a program tries every few seconds would fill the ledger.
    """
    session.execute(delete(FailedAttempt).where(FailedAttempt.at <= at - WINDOW))
    known = session.scalar(
        select(func.count(FailedAttempt.id)).where(FailedAttempt.bucket == bucket)
    )
    if not known:
        session.add(FailedAttempt(bucket=bucket, at=at))
    return not known


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
