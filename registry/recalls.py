"""Recalls: a version that must not be used any more, and with it all that was derived from it.

What descends from a recalled version is recalled with it, from the moment on and however it is
registered later: it is found by lineage when it is asked for, so that nothing has to be marked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ForeignKey, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from registry import ledger, lineage
from registry.database import Base
from registry.errors import ConflictError, NotFoundError, RecalledError
from registry.identities import Identity, Role
from registry.versions import VersionRow, ref


class RecallRow(ledger.Kept, ledger.Sealed, Base):
    """One recall, until it is withdrawn."""

    __tablename__ = "recalls"

    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(ForeignKey("versions.id"), index=True)
    reason: Mapped[str]
    by: Mapped[str]
    since: Mapped[datetime]
    until: Mapped[datetime | None]
    withdrawn_reason: Mapped[str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """Why a version is recalled: itself, or what it was derived from."""

    version: VersionRow
    recalled: VersionRow
    recall: RecallRow

    def in_words(self) -> str:
        """Return why, in a sentence."""
        said = f"recalled on {self.recall.since:%Y-%m-%d} by {self.recall.by}: {self.recall.reason}"
        if self.version.id == self.recalled.id:
            return f"{ref(self.version)} was {said}"
        return f"{ref(self.version)} was derived from {ref(self.recalled)}, {said}"


def recall(
    session: Session, version: VersionRow, *, reason: str, by: Identity, at: datetime
) -> RecallRow:
    """Recall a version, and with it whatever was or will be derived from it.

    Raises
    ------
    NotPermittedError
        If the identity is no operator: as for a suspension, one person suffices.
    ConflictError
        If it is recalled already.
    """
    by.require(Role.OPERATOR, "recall a version")
    if _of(session, version) is not None:
        raise ConflictError(f"{ref(version)} is recalled already: see `driftward model show`")
    row = RecallRow(version=version.id, reason=reason, by=by.name, since=at)
    session.add(row)
    session.flush()
    ledger.append(
        session,
        at=at,
        actor=by.name,
        kind="version.recalled",
        subject=str(ref(version)),
        facts={
            "reason": reason,
            "descendants": [str(ref(one)) for one in lineage.descendants(session, version)],
        },
        seals=[row],
    )
    return row


def withdraw(
    session: Session, version: VersionRow, *, reason: str, by: Identity, at: datetime
) -> RecallRow:
    """Withdraw a recall that was a mistake; the record of it stays.

    Raises
    ------
    NotPermittedError
        If the identity is no administrator.
    NotFoundError
        If the version is not recalled itself.
    """
    by.require(Role.ADMIN, "withdraw a recall")
    row = _of(session, version)
    if row is None:
        raise NotFoundError(f"{ref(version)} is not recalled itself: nothing to withdraw")
    row.until, row.withdrawn_reason = at, reason
    ledger.append(
        session,
        at=at,
        actor=by.name,
        kind="version.recall_withdrawn",
        subject=str(ref(version)),
        facts={"reason": reason},
        seals=[row],
    )
    return row


def flag_of(session: Session, version: VersionRow) -> Flag | None:
    """Return why a version is recalled, by the nearest recalled version behind it, or None."""
    for one in (version, *lineage.ancestors(session, version)):
        row = _of(session, one)
        if row is not None:
            return Flag(version=version, recalled=one, recall=row)
    return None


def flagged(session: Session, versions: Sequence[VersionRow]) -> list[Flag]:
    """Return the flags of those among versions that are recalled."""
    found = (flag_of(session, version) for version in versions)
    return [flag for flag in found if flag is not None]


def require_fit(session: Session, version: VersionRow) -> None:
    """Refuse to use a version that is recalled.

    Raises
    ------
    RecalledError
    """
    flag = flag_of(session, version)
    if flag is not None:
        raise RecalledError(
            f"{flag.in_words()}. Use another version, or, if the recall was a mistake, "
            f"`driftward recall {ref(flag.recalled)} --withdraw --reason …`"
        )


def _of(session: Session, version: VersionRow) -> RecallRow | None:
    return session.scalars(
        select(RecallRow).where(RecallRow.version == version.id, RecallRow.until.is_(None))
    ).first()
