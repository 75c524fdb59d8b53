"""Deployments of a model: what should serve where, and what runtimes attest that they run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from api.assembly import Driftward
from api.http.access import BRING_IN, READ, Caller, KnownCaller
from api.http.installation import Installation
from api.http.reasons import StatedReason
from registry import runtimes, versions
from registry.refusals import attempted
from registry.serving import EVERYWHERE
from retrain import withholding

router = APIRouter(prefix="/api/v1/models", tags=["models"])

Site = Annotated[
    str, Path(min_length=1, max_length=64, description="A site's name, or `everywhere`.")
]


class Runtime(BaseModel):
    """A clinical runtime, and what it attested."""

    #: attested, pending, wrong, silent
    state: str
    #: in one sentence
    says: str
    #: of the bundle that it attested last; null before the first attestation
    digest: str | None
    attested_at: AwareDatetime | None
    attested_by: str | None
    silent_after_hours: float


class Deployment(BaseModel):
    """One place at which a model serves."""

    model: str
    #: a site, or `everywhere`
    deployment: str
    #: what should serve there
    champion: str | None
    #: digest of its bundle, which a runtime attests
    digest: str | None
    since: AwareDatetime | None
    #: why its results are withheld there; null where they are not
    out_of_use: str | None
    #: null where none was declared
    runtime: Runtime | None


class Declaration(BaseModel):
    """That a runtime serves there."""

    model_config = ConfigDict(extra="forbid")

    #: without an attestation of a new champion, before that is an alarm
    silent_after_hours: Annotated[float, Field(gt=0)]


class Suspension(BaseModel):
    """That a model is out of use there, and why."""

    model_config = ConfigDict(extra="forbid")

    #: also for whoever looks at the model
    reason: StatedReason


class Attestation(BaseModel):
    """What a runtime runs."""

    model_config = ConfigDict(extra="forbid")

    #: SHA-256 of the bundle, in hexadecimal
    digest: Annotated[str, Field(min_length=1, max_length=80)]


@router.get("/{name}/deployments", summary="Show what serves where", dependencies=[READ])
def list_deployments(name: str, driftward: Installation) -> list[Deployment]:
    """Return where a model serves: everywhere, then each site that is told apart."""
    now = driftward.clock.now()
    with driftward.database.reading() as session:
        versions.require_model(session, name)
        return [
            Deployment.model_validate(one.to_dict())
            for one in runtimes.deployments(session, name, now=now)
        ]


@router.put(
    "/{name}/deployments/{site}/runtime", summary="Declare a runtime", dependencies=[BRING_IN]
)
def declare_runtime(
    name: str,
    site: Site,
    declaration: Declaration,
    driftward: Installation,
    caller: KnownCaller,
) -> Runtime:
    """Declare that a clinical runtime serves the model there; it is then to attest."""
    now = driftward.clock.now()
    with _attempted(driftward, "runtime.refused", name, caller, now) as session:
        row = runtimes.declare(
            session,
            name,
            site,
            silent_after_hours=declaration.silent_after_hours,
            by=caller.identity,
            at=now,
        )
        return Runtime.model_validate(runtimes.standing(session, row, now=now).to_dict())


@router.delete(
    "/{name}/deployments/{site}/runtime",
    summary="Withdraw a runtime",
    status_code=204,
    dependencies=[BRING_IN],
)
def withdraw_runtime(
    name: str,
    site: Site,
    reason: Annotated[StatedReason, Query()],
    driftward: Installation,
    caller: KnownCaller,
) -> None:
    """Say that no runtime serves the model there any more."""
    now = driftward.clock.now()
    with _attempted(driftward, "runtime.refused", name, caller, now) as session:
        runtimes.withdraw(session, name, site, reason=reason, by=caller.identity, at=now)


@router.post(
    "/{name}/deployments/{site}/attestations",
    summary="Attest what a runtime runs",
    dependencies=[BRING_IN],
)
def attest(
    name: str,
    site: Site,
    attestation: Attestation,
    driftward: Installation,
    caller: KnownCaller,
) -> Runtime:
    """Record the digest of the bundle that the runtime there runs.

    Sent again it changes nothing. Another digest than the champion's is recorded, too, and an
    alarm; what is answered says so.
    """
    now = driftward.clock.now()
    with _attempted(driftward, "attestation.refused", name, caller, now) as session:
        found = runtimes.attest(
            session, name, site, digest=attestation.digest, by=caller.identity, at=now
        )
        return Runtime.model_validate(found.to_dict())


@router.put(
    "/{name}/deployments/{site}/suspension",
    summary="Suspend a model",
    status_code=204,
    dependencies=[BRING_IN],
)
def suspend(
    name: str,
    site: Site,
    suspension: Suspension,
    driftward: Installation,
    caller: KnownCaller,
) -> None:
    """Take a model out of use there: its results are withheld from now on.

    One person may, without a plan. Sent again it changes nothing.
    """
    now = driftward.clock.now()
    with _attempted(driftward, "suspension.refused", name, caller, now) as session:
        withholding.suspend(
            session,
            name,
            site=None if site == EVERYWHERE else site,
            reason=suspension.reason,
            by=caller.identity,
            at=now,
        )


@router.delete(
    "/{name}/deployments/{site}/suspension",
    summary="Lift a suspension",
    status_code=204,
    dependencies=[BRING_IN],
)
def lift(
    name: str,
    site: Site,
    reason: Annotated[StatedReason, Query()],
    driftward: Installation,
    caller: KnownCaller,
) -> None:
    """Take a model back into use there."""
    now = driftward.clock.now()
    with _attempted(driftward, "lift.refused", name, caller, now) as session:
        withholding.lift(
            session,
            name,
            site=None if site == EVERYWHERE else site,
            reason=reason,
            by=caller.identity,
            at=now,
        )


@contextmanager
def _attempted(
    driftward: Driftward, kind: str, model: str, caller: Caller, at: datetime
) -> Iterator[Session]:
    """Open a transaction of whose refusal the ledger tells; a runtime may try every minute."""
    with driftward.database.reading() as session:
        versions.require_model(session, model)
    with attempted(
        driftward.database,
        kind,
        subject=model,
        by=caller.identity,
        at=at,
        once_a_while=True,
    ) as session:
        yield session
