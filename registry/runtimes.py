"""Clinical runtimes: where one serves a model, it attests the digest of the bundle that it runs.

The champion is what should serve; what a runtime attested is what does. Until both are one, the
version is pending there; a runtime that runs another, or says nothing for too long, is an alarm.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from registry import ledger, serving
from registry.database import Base
from registry.errors import BadInputError, NotFoundError
from registry.identities import Identity, Role
from registry.serving import EVERYWHERE, Reign
from registry.versions import VersionRow, of_model, ref, require_model

#: Hours after which a runtime that has not attested a new version is silent.
SILENT_AFTER_HOURS = 24.0


class RuntimeRow(ledger.Kept, ledger.Sealed, Base):
    """A deployment at which a clinical runtime serves a model."""

    __tablename__ = "runtimes"

    model: Mapped[str] = mapped_column(ForeignKey("models.name"), primary_key=True)
    #: a site, or everywhere
    deployment: Mapped[str] = mapped_column(primary_key=True)
    #: without an attestation of the champion, before it is an alarm
    silent_after_hours: Mapped[float]
    declared_at: Mapped[datetime]
    declared_by: Mapped[str]
    withdrawn_at: Mapped[datetime | None]


class AttestationRow(ledger.AppendOnly, ledger.Sealed, Base):
    """What a runtime said that it runs; the same, said again while the same should serve, is one."""

    __tablename__ = "attestations"

    id: Mapped[int] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(ForeignKey("models.name"), index=True)
    deployment: Mapped[str]
    #: of the bundle that it runs
    digest: Mapped[str]
    #: the model's version of that digest; None where none has it
    version: Mapped[int | None] = mapped_column(ForeignKey("versions.id"))
    #: what should have served there then
    champion: Mapped[int | None] = mapped_column(ForeignKey("versions.id"))
    by: Mapped[str]
    at: Mapped[datetime]


class RuntimeState(StrEnum):
    """How what a runtime attested agrees with what should serve there."""

    ATTESTED = "attested"
    #: it has not attested the champion yet, and has time left
    PENDING = "pending"
    #: it runs something else
    WRONG = "wrong"
    #: it has said nothing since the champion came, and its time is over
    SILENT = "silent"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeStanding:
    """How a runtime stands."""

    runtime: RuntimeRow
    state: RuntimeState
    #: in one sentence
    says: str
    newest: AttestationRow | None

    @property
    def pending(self) -> bool:
        """Whether the champion there is yet to be attested."""
        return self.state is not RuntimeState.ATTESTED

    def to_dict(self) -> dict[str, Any]:
        """Return it as the command line and the API tell of it."""
        newest = self.newest
        return {
            "state": self.state.value,
            "says": self.says,
            "digest": newest.digest if newest else None,
            "attested_at": newest.at if newest else None,
            "attested_by": newest.by if newest else None,
            "silent_after_hours": self.runtime.silent_after_hours,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One place at which a model serves, or should."""

    model: str
    deployment: str
    champion: VersionRow | None
    since: datetime | None
    runtime: RuntimeStanding | None
    #: why its results are withheld there, where they are: by what suspends or restricts all of it
    out_of_use: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return it as the command line and the API tell of it."""
        return {
            "model": self.model,
            "deployment": self.deployment,
            "champion": str(ref(self.champion)) if self.champion else None,
            "digest": self.champion.bundle_digest if self.champion else None,
            "since": self.since,
            "out_of_use": self.out_of_use,
            "runtime": None if self.runtime is None else self.runtime.to_dict(),
        }


def declare(
    session: Session,
    model: str,
    deployment: str,
    *,
    silent_after_hours: float = SILENT_AFTER_HOURS,
    by: Identity,
    at: datetime,
) -> RuntimeRow:
    """Declare that a clinical runtime serves a model at a deployment; again changes the hours.

    Raises
    ------
    NotPermittedError
        If the identity is no operator there.
    NotFoundError
        If there is no such model.
    BadInputError
        If the hours are not above 0.
    """
    _require_operator(by, deployment, "declare a runtime")
    require_model(session, model)
    if not 0 < silent_after_hours <= 24 * 365:
        raise BadInputError(
            f"a runtime is silent after more than 0 hours, and at most a year, not after "
            f"{silent_after_hours:g}"
        )
    row = session.get(RuntimeRow, (model, deployment))
    if row is not None and row.withdrawn_at is None:
        if row.silent_after_hours == silent_after_hours:
            return row
    else:
        row = row or RuntimeRow(model=model, deployment=deployment)
        session.add(row)
        row.declared_at, row.declared_by, row.withdrawn_at = at, by.name, None
    row.silent_after_hours = silent_after_hours
    ledger.append(
        session,
        at=at,
        actor=by.name,
        kind="runtime.declared",
        subject=model,
        facts={"deployment": deployment, "silent_after_hours": silent_after_hours},
        seals=[row],
    )
    return row


def withdraw(
    session: Session, model: str, deployment: str, *, reason: str, by: Identity, at: datetime
) -> RuntimeRow:
    """Say that no runtime serves there any more: nobody waits for its attestations.

    Raises
    ------
    NotPermittedError
    NotFoundError
        If none was declared there.
    """
    _require_operator(by, deployment, "withdraw a runtime")
    row = require_runtime(session, model, deployment)
    row.withdrawn_at = at
    ledger.append(
        session,
        at=at,
        actor=by.name,
        kind="runtime.withdrawn",
        subject=model,
        facts={"deployment": deployment, "reason": reason},
        seals=[row],
    )
    return row


def attest(
    session: Session, model: str, deployment: str, *, digest: str, by: Identity, at: datetime
) -> RuntimeStanding:
    """Record what a runtime says that it runs, and return how it stands then.

    Parameters
    ----------
    digest : SHA-256 of the bundle, in hexadecimal, with or without `sha256:` before it

    Raises
    ------
    NotPermittedError
    NotFoundError
        If no runtime was declared there.
    BadInputError
        If that is no digest.
    """
    _require_operator(by, deployment, "attest what a runtime runs")
    runtime = require_runtime(session, model, deployment)
    said = digest.strip().lower().removeprefix("sha256:")
    if not re.fullmatch(r"[0-9a-f]{64}", said):
        raise BadInputError(
            "the digest is that of the bundle: 64 hexadecimal digits, as `driftward model show "
            f"{model}@N` prints it"
        )
    champion = serving.champion(session, model, deployment)
    newest = newest_attestation(session, model, deployment)
    should = champion.id if champion else None
    if newest is not None and (newest.digest, newest.champion) == (said, should):
        return standing(session, runtime, now=at)
    version = next((one for one in of_model(session, model) if one.bundle_digest == said), None)
    row = AttestationRow(
        model=model,
        deployment=deployment,
        digest=said,
        version=version.id if version else None,
        champion=should,
        by=by.name,
        at=at,
    )
    session.add(row)
    session.flush()
    found = standing(session, runtime, now=at)
    ledger.append(
        session,
        at=at,
        actor=by.name,
        kind=_KINDS[found.state],
        subject=model,
        facts={
            "deployment": deployment,
            "digest": said,
            "version": str(ref(version)) if version else None,
            "champion": str(ref(champion)) if champion else None,
        },
        seals=[row],
    )
    return found


#: The ledger's words for what was attested. Who has just spoken is not silent.
_KINDS = {
    RuntimeState.ATTESTED: "runtime.attested",
    RuntimeState.PENDING: "runtime.behind",
    RuntimeState.WRONG: "runtime.wrong",
}


def standing(session: Session, runtime: RuntimeRow, *, now: datetime) -> RuntimeStanding:
    """Return how a runtime stands against what should serve there."""
    model, deployment = runtime.model, runtime.deployment
    reigns = serving.served_at(session, model, deployment)
    newest = newest_attestation(session, model, deployment)
    state, says = _judged(session, runtime, reigns, newest, now)
    return RuntimeStanding(runtime=runtime, state=state, says=says, newest=newest)


def _judged(
    session: Session,
    runtime: RuntimeRow,
    reigns: list[Reign],
    newest: AttestationRow | None,
    now: datetime,
) -> tuple[RuntimeState, str]:
    if not reigns:
        if newest is None:
            return RuntimeState.PENDING, "no version was promoted yet"
        return (
            RuntimeState.WRONG,
            f"it runs {_in_words(session, newest)}, and no version was promoted",
        )
    *before, reign = reigns
    champion = session.get_one(VersionRow, reign.version)
    due = max(reign.since, runtime.declared_at) + timedelta(hours=runtime.silent_after_hours)
    late, until = now >= due, f"{due:%Y-%m-%d %H:%M}"
    if newest is not None and newest.digest == champion.bundle_digest:
        state = RuntimeState.ATTESTED
        says = f"it runs {ref(champion)}, attested {newest.at:%Y-%m-%d %H:%M}"
    elif newest is None or newest.at < reign.since:
        state = RuntimeState.SILENT if late else RuntimeState.PENDING
        says = f"{ref(champion)} is to be attested by {until}"
        if late:
            says = f"it has not said since {until} whether it runs {ref(champion)}"
    else:
        former = session.get_one(VersionRow, before[-1].version) if before else None
        behind = former is not None and newest.digest == former.bundle_digest
        state = RuntimeState.PENDING if behind and not late else RuntimeState.WRONG
        says = f"it should run {ref(champion)}, and runs {_in_words(session, newest)}"
        if state is RuntimeState.PENDING:
            says = f"{says}; it has until {until}"
    return state, says


def _in_words(session: Session, said: AttestationRow) -> str:
    if said.version is None:
        return f"{said.digest[:12]}, which is no version of {said.model}"
    return str(ref(session.get_one(VersionRow, said.version)))


def require_runtime(session: Session, model: str, deployment: str) -> RuntimeRow:
    """Return the runtime that was declared at a deployment.

    Raises
    ------
    NotFoundError
    """
    require_model(session, model)
    row = session.get(RuntimeRow, (model, deployment))
    if row is None or row.withdrawn_at is not None:
        raise NotFoundError(
            f"no runtime of {model} was declared at {deployment}: "
            f"`driftward deployment declare {model} --site {deployment}`"
        )
    return row


def newest_attestation(
    session: Session, model: str, deployment: str, *, by_then: datetime | None = None
) -> AttestationRow | None:
    """Return the newest attestation at a deployment, of up to a moment."""
    query = select(AttestationRow).where(
        AttestationRow.model == model, AttestationRow.deployment == deployment
    )
    if by_then is not None:
        query = query.where(AttestationRow.at <= by_then)
    return session.scalars(query.order_by(AttestationRow.id.desc()).limit(1)).first()


def runtimes(session: Session, model: str | None = None) -> list[RuntimeRow]:
    """Return the runtimes that are declared, by model and deployment."""
    query = select(RuntimeRow).where(RuntimeRow.withdrawn_at.is_(None))
    if model is not None:
        query = query.where(RuntimeRow.model == model)
    return list(session.scalars(query.order_by(RuntimeRow.model, RuntimeRow.deployment)))


def deployments(session: Session, model: str, *, now: datetime) -> list[Deployment]:
    """Return where a model serves: everywhere, then the sites that are told apart."""
    places = serving.places(session, model)
    declared = {row.deployment: row for row in runtimes(session, model)}
    withheld = _withheld(session, model)
    found = []
    for name in [EVERYWHERE, *sorted({*places.sites, *declared, *withheld} - {EVERYWHERE})]:
        place, runtime = places.at(name), declared.get(name)
        if place is None and runtime is None:
            continue
        found.append(
            Deployment(
                model=model,
                deployment=name,
                champion=session.get_one(VersionRow, place.version) if place else None,
                since=place.since if place else None,
                out_of_use=withheld.get(EVERYWHERE) or withheld.get(name),
                runtime=None if runtime is None else standing(session, runtime, now=now),
            )
        )
    return found


def _withheld(session: Session, model: str) -> dict[str, str]:
    """Return why a model is out of use, by deployment; parts of a site's scans are left out."""
    prefix, another_term = "site=", re.compile(r" & [a-z_]+=")
    return {
        EVERYWHERE if row.subgroup is None else row.subgroup.removeprefix(prefix): row.reason
        for row in serving.restrictions(session, model)
        if row.subgroup is None
        or (row.subgroup.startswith(prefix) and not another_term.search(row.subgroup))
    }


def _require_operator(by: Identity, deployment: str, action: str) -> None:
    by.require(Role.OPERATOR, action, site=None if deployment == EVERYWHERE else deployment)
