"""A person's word that two identifiers are of one patient."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.assembling.merging import How, merge
from monitor.intake.pseudonym_keys import PseudonymKeys, revision
from monitor.intake.pseudonyms import Naming, patient_pseudonym
from monitor.tables import ScanRow
from registry.database import Database
from registry.errors import BadInputError, ConflictError, NotFoundError
from registry.identities import Identity, Role


def state_merge(
    database: Database,
    keys: PseudonymKeys,
    *,
    site: str,
    merged: str,
    patient: str,
    issuer: str,
    reason: str,
    by: Identity,
    at: datetime,
) -> bool:
    """Let two Patient IDs of a site name one patient; return False if they did before.

    Parameters
    ----------
    merged, patient : as instances carry them; looked up, and not kept
    issuer : of both, "" where instances state none
    reason : for the ledger; no patient data

    Raises
    ------
    NotPermittedError
    BadInputError
        If one is empty, or both are the same.
    NotFoundError
        If no scan of the site came under one of them; which one is said, not its value.
    ConflictError
        If the keys are replaced at this moment.
    """
    by.require(Role.OPERATOR, "merge patients", site=site)
    naming = keys.current()
    known = naming.revision
    wanted = {"the first": merged, "the second": patient}
    for which, identifier in wanted.items():
        if not identifier.strip():
            raise BadInputError(f"{which} identifier is empty: an empty one names no patient")
    found = {
        which: patient_pseudonym(identifier, site=site, key=naming, issuer=issuer)
        for which, identifier in wanted.items()
    }
    if found["the first"] == found["the second"]:
        raise BadInputError("the two identifiers are the same")
    with database.transaction() as session:
        if revision(session) != known:
            raise ConflictError("the keys were replaced meanwhile: try again")
        for which, pseudonym in found.items():
            _require_known(session, site, which, pseudonym)
        return merge(
            session,
            site=site,
            merged=found["the first"],
            patient=found["the second"],
            how=How.STATED,
            reason=reason,
            actor=by.name,
            at=at,
        )


def person_of(session: Session, patient: str, *, site: str, issuer: str, key: Naming) -> str:
    """Return the pseudonym of a patient, after all merges.

    Raises
    ------
    BadInputError
        If the identifier is empty.
    NotFoundError
        If no scan of the site came under it; its value is not said.
    """
    if not patient.strip():
        raise BadInputError("the identifier is empty: an empty one names no patient")
    pseudonym = patient_pseudonym(patient, site=site, key=key, issuer=issuer)
    person = session.scalars(
        select(ScanRow.person)
        .where(ScanRow.site == site, ScanRow.patient == pseudonym)
        .limit(1)
    ).first()
    if person is None:
        raise NotFoundError(
            f"no scan of {site} came under that identifier: compare site, identifier and issuer"
        )
    return person


def _require_known(session: Session, site: str, which: str, pseudonym: str) -> None:
    scan = session.scalars(
        select(ScanRow.id).where(ScanRow.site == site, ScanRow.patient == pseudonym).limit(1)
    ).first()
    if scan is None:
        raise NotFoundError(
            f"no scan of site {site} came under {which} identifier: check it, and --issuer where "
            "instances state one"
        )
