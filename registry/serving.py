"""What is in use: the champion of a model in a deployment, restrictions and suspensions.

The database decides the champion, by compare-and-set under a unique key;
MLflow's alias follows through the outbox.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from sqlalchemy import ForeignKey, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from registry import ledger, outbox, recalls
from registry.database import Base
from registry.errors import NotFoundError, StaleChampionError
from registry.versions import VersionRow, ref

#: Every site; staging by site uses the site's own name.
EVERYWHERE = "everywhere"


class Champion(ledger.Sealed, Base):
    """The version that serves, one a model and deployment."""

    __tablename__ = "champions"

    model: Mapped[str] = mapped_column(ForeignKey("models.name"), primary_key=True)
    deployment: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    since: Mapped[datetime]


class Reign(ledger.Sealed, Base):
    """One span of one champion: the history that `as of` reads."""

    __tablename__ = "reigns"

    id: Mapped[int] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(ForeignKey("models.name"), index=True)
    deployment: Mapped[str]
    version: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    since: Mapped[datetime]
    until: Mapped[datetime | None]
    reason: Mapped[str]


class Withholding(StrEnum):
    """How much of a model is taken out of use."""

    RESTRICT = "restrict"
    SUSPEND = "suspend"


class Restriction(ledger.Sealed, Base):
    """A model out of use, wholly or for a subgroup, until lifted."""

    __tablename__ = "restrictions"
    __added__ = MappingProxyType({"because_of": None, "lifted_for": None})

    id: Mapped[int] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(ForeignKey("models.name"), index=True)
    kind: Mapped[str]
    #: "attribute=value", or None for all of it
    subgroup: Mapped[str | None]
    reason: Mapped[str]
    since: Mapped[datetime]
    until: Mapped[datetime | None]
    lifted_reason: Mapped[str | None]
    #: the version whose failure in use brought it: it ends when that is rolled back
    because_of: Mapped[int | None] = mapped_column(ForeignKey("versions.id"))
    #: the version that was promoted for it: it comes back when that is rolled back
    lifted_for: Mapped[int | None] = mapped_column(ForeignKey("versions.id"))


def champion(session: Session, model: str, deployment: str = EVERYWHERE) -> VersionRow | None:
    """Return the version that serves, or None before the first promotion."""
    row = session.get(Champion, (model, deployment))
    return session.get_one(VersionRow, row.version) if row else None


def champions(session: Session) -> list[VersionRow]:
    """Return every version that serves anywhere, once each."""
    return list(
        session.scalars(
            select(VersionRow)
            .where(VersionRow.id.in_(select(Champion.version)))
            .order_by(VersionRow.id)
        )
    )


def serving_since(
    session: Session, model: str, deployment: str = EVERYWHERE
) -> datetime | None:
    """Return since when the champion serves, or None before the first promotion."""
    row = session.get(Champion, (model, deployment))
    return row.since if row else None


def require_champion(session: Session, model: str, deployment: str = EVERYWHERE) -> VersionRow:
    """Return the champion, or say how to get one.

    Raises
    ------
    NotFoundError
    """
    row = champion(session, model, deployment)
    if row is None:
        raise NotFoundError(f"model {model} has no champion yet: promote a version first")
    return row


def move_champion(
    session: Session,
    version: VersionRow,
    *,
    expected: int | None,
    reason: str,
    kind: str,
    actor: str,
    at: datetime,
    deployment: str = EVERYWHERE,
) -> None:
    """Make `version` the champion of its model, if the champion still is `expected`.

    Parameters
    ----------
    expected : id of the version that the caller saw serving; None for none
    kind : the ledger's word for it, "champion.promoted" or "champion.rolled_back"

    Raises
    ------
    StaleChampionError
        If another promotion came first; nothing is changed.
    RecalledError
        If the version, or one that it was derived from, was recalled.
    """
    recalls.require_fit(session, version)
    current = session.scalars(
        select(Champion)
        .where(Champion.model == version.model, Champion.deployment == deployment)
        .with_for_update()
    ).first()
    serving = current.version if current else None
    if serving != expected:
        names = [
            str(ref(session.get_one(VersionRow, number))) if number else "none"
            for number in (expected, serving)
        ]
        raise StaleChampionError(
            f"champion of {version.model} is {names[1]}, not {names[0]} as expected: "
            "look at it again before you promote"
        )
    if current is None:
        current = Champion(model=version.model, deployment=deployment)
        session.add(current)
    current.version, current.since = version.id, at
    ended = session.scalars(
        select(Reign).where(
            Reign.model == version.model,
            Reign.deployment == deployment,
            Reign.until.is_(None),
        )
    ).all()
    for reign in ended:
        reign.until = at
    begun = Reign(
        model=version.model, deployment=deployment, version=version.id, since=at, reason=reason
    )
    session.add(begun)
    ledger.append(
        session,
        at=at,
        actor=actor,
        kind=kind,
        subject=str(ref(version)),
        facts={
            "deployment": deployment,
            "before": str(ref(session.get_one(VersionRow, serving))) if serving else None,
            "reason": reason,
        },
        seals=[current, begun, *ended],
    )
    outbox.put_alias(session, version, alias=outbox.champion_alias(deployment), at=at)


def reigns(session: Session, model: str) -> list[Reign]:
    """Return the history of a model's champions, oldest first."""
    return list(session.scalars(select(Reign).where(Reign.model == model).order_by(Reign.id)))


def withhold(
    session: Session,
    *,
    model: str,
    kind: Withholding,
    subgroup: str | None,
    reason: str,
    actor: str,
    at: datetime,
    because_of: VersionRow | None = None,
) -> Restriction:
    """Take a model out of use, wholly or for a subgroup; what holds already is returned.

    Parameters
    ----------
    because_of : the version that failed, and with whose rollback it ends
    """
    for row in restrictions(session, model):
        if row.kind == kind and row.subgroup == subgroup:
            return row
    row = Restriction(
        model=model,
        kind=kind.value,
        subgroup=subgroup,
        reason=reason,
        since=at,
        because_of=because_of.id if because_of else None,
    )
    session.add(row)
    ledger.append(
        session,
        at=at,
        actor=actor,
        kind=f"model.{'suspended' if kind is Withholding.SUSPEND else 'restricted'}",
        subject=model,
        facts={"subgroup": subgroup, "reason": reason},
        seals=[row],
    )
    return row


def lift(
    session: Session,
    row: Restriction,
    *,
    reason: str,
    actor: str,
    at: datetime,
    lifted_for: VersionRow | None = None,
) -> None:
    """Take a model back into use.

    Parameters
    ----------
    lifted_for : the version that was promoted for it, and with whose rollback it comes back
    """
    row.until, row.lifted_reason = at, reason
    row.lifted_for = lifted_for.id if lifted_for else None
    ledger.append(
        session,
        at=at,
        actor=actor,
        kind="model.restriction_lifted",
        subject=row.model,
        facts={"subgroup": row.subgroup, "reason": reason},
        seals=[row],
    )


def restrictions(session: Session, model: str) -> list[Restriction]:
    """Return what is out of use now."""
    return list(
        session.scalars(
            select(Restriction)
            .where(Restriction.model == model, Restriction.until.is_(None))
            .order_by(Restriction.id)
        )
    )


def lifted_for(session: Session, version: VersionRow) -> list[Restriction]:
    """Return what a version's promotion took back into use."""
    return list(
        session.scalars(
            select(Restriction)
            .where(Restriction.lifted_for == version.id, Restriction.until.is_not(None))
            .order_by(Restriction.id)
        )
    )


def brought_by(session: Session, version: VersionRow) -> list[Restriction]:
    """Return what is out of use now because a version failed."""
    return [row for row in restrictions(session, version.model) if row.because_of == version.id]
