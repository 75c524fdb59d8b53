"""What is in use: the champion of a model in a deployment, restrictions and suspensions.

The database decides the champion, by compare-and-set under a unique key;
MLflow's alias follows through the outbox. A site that a staged promotion has
reached has a champion of its own from then on, which moves with everywhere's:
so its history is one row after the other, and nothing that was sealed is deleted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from sqlalchemy import ForeignKey, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from registry import ledger, outbox, recalls
from registry.canonical import Json
from registry.database import Base
from registry.errors import NotFoundError, StaleChampionError
from registry.versions import VersionRow, ref

#: Every site; staging by site uses the site's own name.
EVERYWHERE = "everywhere"


class Champion(ledger.Kept, ledger.Sealed, Base):
    """The version that serves, one a model and deployment."""

    __tablename__ = "champions"

    model: Mapped[str] = mapped_column(ForeignKey("models.name"), primary_key=True)
    deployment: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    since: Mapped[datetime]


class Reign(ledger.Kept, ledger.Sealed, Base):
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


class Restriction(ledger.Kept, ledger.Sealed, Base):
    """A model out of use, wholly or for a subgroup, until lifted."""

    __tablename__ = "restrictions"
    __added__ = MappingProxyType({"because_of": None, "lifted_for": None})

    id: Mapped[int] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(ForeignKey("models.name"), index=True)
    kind: Mapped[str]
    #: "attribute=value", or None for all of it; a suspension's names a site
    subgroup: Mapped[str | None]
    reason: Mapped[str]
    since: Mapped[datetime]
    until: Mapped[datetime | None]
    lifted_reason: Mapped[str | None]
    #: the version whose failure in use brought it: it ends when that is rolled back
    because_of: Mapped[int | None] = mapped_column(ForeignKey("versions.id"))
    #: the version that was promoted for it: it comes back when that is rolled back
    lifted_for: Mapped[int | None] = mapped_column(ForeignKey("versions.id"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What serves at a deployment, and since when."""

    version: int
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """What serves where: at a site its own champion, else everywhere's."""

    everywhere: Place | None
    #: of the sites that have had a champion of their own
    sites: Mapping[str, Place]

    def at(self, site: str) -> Place | None:
        """Return what serves at a site, or None before the first promotion."""
        return self.sites.get(site, self.everywhere)

    def apart(self) -> dict[str, Place]:
        """Return the sites at which another version serves than everywhere else."""
        return {
            site: place
            for site, place in self.sites.items()
            if self.everywhere is None or place.version != self.everywhere.version
        }


def places(session: Session, model: str) -> Places:
    """Return what serves where."""
    rows = session.scalars(
        select(Champion).where(Champion.model == model).order_by(Champion.deployment)
    )
    found = {row.deployment: Place(version=row.version, since=row.since) for row in rows}
    return Places(everywhere=found.pop(EVERYWHERE, None), sites=found)


def champion(session: Session, model: str, deployment: str = EVERYWHERE) -> VersionRow | None:
    """Return the version that serves at a deployment, or None before the first promotion.

    At a site it is the site's own champion; one that never had its own has everywhere's.
    """
    place = places(session, model).at(deployment)
    return session.get_one(VersionRow, place.version) if place else None


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
    place = places(session, model).at(deployment)
    return place.since if place else None


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
    """Make `version` the champion at one deployment; `move_champions` says the rest.

    Parameters
    ----------
    expected : id of the version that the caller saw serving there; None for none
    """
    move_champions(
        session,
        version,
        expected={deployment: expected},
        reason=reason,
        kind=kind,
        actor=actor,
        at=at,
    )


def move_champions(
    session: Session,
    version: VersionRow,
    *,
    expected: Mapping[str, int | None],
    reason: str,
    kind: str,
    actor: str,
    at: datetime,
) -> None:
    """Make `version` the champion of its model at some deployments, at all of them or at none.

    Parameters
    ----------
    expected : deployment -> id of the version that the caller saw serving there; None for none
    kind : the ledger's word for it: "champion.promoted", "champion.advanced",
        "champion.rolled_back"

    Raises
    ------
    StaleChampionError
        If another promotion came first; nothing is changed.
    RecalledError
        If the version, or one that it was derived from, was recalled.
    """
    recalls.require_fit(session, version)
    rows = _locked(session, version.model)
    before = {
        name: row.version if (row := rows.get(name) or rows.get(EVERYWHERE)) else None
        for name in expected
    }
    for name, seen in expected.items():
        if before[name] != seen:
            raise moved_meanwhile(session, version.model, name, seen=seen, now=before[name])
    seals: list[Base] = []
    for name in expected:
        row = rows.get(name)
        if row is None:
            row = Champion(model=version.model, deployment=name)
            session.add(row)
        row.version, row.since = version.id, at
        seals += [row, *_begin_reign(session, version, name, reason=reason, at=at)]
    names = {name: _name(session, number) for name, number in before.items()}
    first = next(iter(names))
    facts: dict[str, Json] = {"deployment": first, "before": names[first], "reason": reason}
    if len(names) > 1:
        facts["deployments"] = {**names}
    ledger.append(
        session,
        at=at,
        actor=actor,
        kind=kind,
        subject=str(ref(version)),
        facts=facts,
        seals=seals,
    )
    for name in expected:
        outbox.put_alias(session, version, alias=outbox.champion_alias(name), at=at)


def _locked(session: Session, model: str) -> dict[str, Champion]:
    """Return a model's champions by deployment, so that nobody else moves one meanwhile."""
    rows = session.scalars(select(Champion).where(Champion.model == model).with_for_update())
    return {row.deployment: row for row in rows}


def _begin_reign(
    session: Session, version: VersionRow, deployment: str, *, reason: str, at: datetime
) -> list[Reign]:
    """Begin a reign, end the one before it, and return both."""
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
    return [begun, *ended]


def moved_meanwhile(
    session: Session, model: str, deployment: str, *, seen: int | None, now: int | None
) -> StaleChampionError:
    """Return the error of whoever saw another version serve than serves now; None for none."""
    where = "" if deployment == EVERYWHERE else f" at {deployment}"
    return StaleChampionError(
        f"champion of {model}{where} is {_name(session, now) or 'none'}, not "
        f"{_name(session, seen) or 'none'} as expected: look at it again first"
    )


def _name(session: Session, version: int | None) -> str | None:
    return str(ref(session.get_one(VersionRow, version))) if version is not None else None


def serving_within(
    session: Session, model: str, start: datetime, end: datetime, deployment: str = EVERYWHERE
) -> set[int]:
    """Return the ids of the versions that served at a deployment for some of [start, end)."""
    return {
        reign.version
        for reign in reigns(session, model, deployment)
        if reign.since < end and (reign.until is None or reign.until > start)
    }


def served_at(session: Session, model: str, deployment: str) -> list[Reign]:
    """Return the reigns that a deployment has seen, oldest first.

    A site's are everywhere's until it had a champion of its own, and its own from then on.
    """
    every = reigns(session, model)
    own = [reign for reign in every if reign.deployment == deployment]
    if deployment == EVERYWHERE or not own:
        return [reign for reign in every if reign.deployment == EVERYWHERE]
    before = [
        reign
        for reign in every
        if reign.deployment == EVERYWHERE and reign.since < own[0].since
    ]
    return [*before, *own]


def deployments_of(session: Session, version: VersionRow) -> list[str]:
    """Return where a version serves; empty where it serves nobody."""
    return list(
        session.scalars(
            select(Champion.deployment)
            .where(Champion.version == version.id)
            .order_by(Champion.deployment)
        )
    )


def reigns(session: Session, model: str, deployment: str | None = None) -> list[Reign]:
    """Return the history of a model's champions, or of those of one deployment, oldest first."""
    query = select(Reign).where(Reign.model == model).order_by(Reign.id)
    if deployment is not None:
        query = query.where(Reign.deployment == deployment)
    return list(session.scalars(query))


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


def restricted(session: Session, model: str, subgroup: str | None) -> list[Restriction]:
    """Return what is restricted for a subgroup, and was by no version's failure.

    A suspension, and what a failed version brought, stays until a person lifts it.
    """
    return [
        row
        for row in restrictions(session, model)
        if row.because_of is None
        and (row.kind, row.subgroup) == (Withholding.RESTRICT, subgroup)
    ]


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
