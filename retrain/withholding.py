"""Taking a model out of use, and back: one person may, without a plan, at their own site, too."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from monitor.subgroups import Attribute, Subgroup
from registry import serving
from registry.errors import NotFoundError
from registry.identities import Identity, Role
from registry.serving import Restriction, Withholding
from registry.versions import require_model
from retrain import sites


def suspend(
    session: Session, model: str, *, site: str | None, reason: str, by: Identity, at: datetime
) -> Restriction:
    """Take a model out of use, everywhere or for all scans of one site, until a person lifts it.

    What holds already is returned.

    Raises
    ------
    NotPermittedError
        If the identity is no operator there.
    NotFoundError
        If there is no such model, or no such site is known.
    """
    require_model(session, model)
    by.require(Role.OPERATOR, "take a model out of use", site=site)
    if site is not None:
        sites.require_known(session, model, site)
    return serving.withhold(
        session,
        model=model,
        kind=Withholding.SUSPEND,
        subgroup=None if site is None else of_site(site),
        reason=reason,
        actor=by.name,
        at=at,
    )


def restrict(
    session: Session,
    model: str,
    *,
    subgroup: Subgroup,
    reason: str,
    by: Identity,
    at: datetime,
) -> Restriction:
    """Take a model out of use for a subgroup; a promotion that was made for it ends that.

    Raises
    ------
    NotPermittedError
        If the identity is no operator.
    NotFoundError
        If there is no such model.
    """
    require_model(session, model)
    by.require(Role.OPERATOR, "take a model out of use")
    return serving.withhold(
        session,
        model=model,
        kind=Withholding.RESTRICT,
        subgroup=str(subgroup),
        reason=reason,
        actor=by.name,
        at=at,
    )


def lift(
    session: Session,
    model: str,
    *,
    site: str | None = None,
    subgroup: Subgroup | None = None,
    reason: str,
    by: Identity,
    at: datetime,
) -> None:
    """Take a model back into use: wholly, at a site (whatever took it out there), or for a subgroup.

    Raises
    ------
    NotPermittedError
        If the identity is no operator there.
    NotFoundError
        If there is no such model, or it is not out of use so; says what is.
    """
    require_model(session, model)
    by.require(Role.OPERATOR, "take a model back into use", site=site)
    where = of_site(site) if site is not None else str(subgroup) if subgroup else None
    kinds = {Withholding.SUSPEND if subgroup is None else Withholding.RESTRICT}
    if site is not None:
        kinds.add(Withholding.RESTRICT)
    in_force = serving.restrictions(session, model)
    found = [row for row in in_force if row.subgroup == where and row.kind in kinds]
    if not found:
        have = ", ".join(f"{row.kind} {row.subgroup or 'everywhere'}" for row in in_force)
        raise NotFoundError(
            f"{model} is not out of use for {where or 'all scans'}: in force is {have or 'nothing'}"
        )
    if any(row.kind == Withholding.RESTRICT for row in found):
        # A plan or a failed watch brought it: no single site's to end.
        by.require(Role.OPERATOR, "end a restriction")
    for row in found:
        serving.lift(session, row, reason=reason, actor=by.name, at=at)


def of_site(site: str) -> str:
    """Return the subgroup of a site's scans, as restrictions name it."""
    return str(Subgroup.of(Attribute.SITE, site))
