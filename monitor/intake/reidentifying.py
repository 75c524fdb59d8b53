"""Back from a surrogate to its patient, by whoever holds the private key; the ledger keeps who."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import or_, select

from monitor.intake.sealing import unseal
from monitor.tables import ScanRow, SealedOriginalsRow
from registry import ledger
from registry.clock import Clock
from registry.database import Database
from registry.errors import NotFoundError
from registry.identities import Identity, Role

_SURROGATE = re.compile(r"[0-9a-f]{32}|2\.25\.\d{1,39}")


def reidentify(
    database: Database,
    surrogate: str,
    *,
    private_key: Path,
    password: bytes | None = None,
    reason: str,
    by: Identity,
    clock: Clock,
) -> Mapping[str, str]:
    """Return what the surrogate of a patient, study, series or instance stands for.

    The originals are those of the newest scan that carries it. The ledger has
    the number of that scan, who asked and why: neither surrogate nor original.

    Raises
    ------
    NotPermittedError
    NotFoundError
        If no scan carries it, or none whose originals were sealed.
    BadInputError, IntegrityError
        As `unseal` does.
    """
    by.require(Role.ADMIN, "re-identify patients")
    if not _SURROGATE.fullmatch(surrogate):
        raise NotFoundError(
            "that is no surrogate: 32 hexadecimal digits for a patient, or a UID under 2.25"
        )
    with database.reading() as session:
        found = session.execute(
            select(SealedOriginalsRow.scan, SealedOriginalsRow.sealed)
            .join(ScanRow, ScanRow.id == SealedOriginalsRow.scan)
            .where(
                or_(
                    ScanRow.patient == surrogate,
                    ScanRow.study == surrogate,
                    ScanRow.series == surrogate,
                    ScanRow.instance == surrogate,
                )
            )
            .order_by(SealedOriginalsRow.scan.desc())
            .limit(1)
        ).first()
    if found is None:
        raise NotFoundError(
            "no scan of this surrogate has sealed originals: they are kept from the moment on "
            "at which DRIFTWARD_REIDENTIFICATION_KEY names a public key"
        )
    scan, sealed = found
    originals = unseal(sealed, private_key=private_key, password=password)
    with database.transaction() as session:
        ledger.append(
            session,
            at=clock.now(),
            actor=by.name,
            kind="patient.reidentified",
            subject=f"scan {scan}",
            facts={"reason": reason},
        )
    return originals


def originals_of_scans(
    database: Database,
    scans: Mapping[int, int],
    *,
    private_key: Path,
    password: bytes | None = None,
    subject: str,
    reason: str,
    by: Identity,
    clock: Clock,
) -> dict[int, Mapping[str, str]]:
    """Return what the surrogates of many scans stand for, all of them or none.

    The ledger has how many there were, who asked and why, before anything is handed out.

    Parameters
    ----------
    scans : scan -> the instance that stands for it
    subject : what they are opened for, in the ledger

    Raises
    ------
    NotPermittedError
    NotFoundError
        If the originals of one were never sealed.
    BadInputError, IntegrityError
        As `unseal` does.
    """
    by.require(Role.ADMIN, "re-identify patients")
    found: dict[int, Mapping[str, str]] = {}
    with database.reading() as session:
        for scan, instance in scans.items():
            row = session.get(SealedOriginalsRow, instance)
            if row is None:
                raise NotFoundError(
                    f"scan {scan} has no sealed originals: they are kept from the moment on at "
                    "which DRIFTWARD_REIDENTIFICATION_KEY names a public key; without "
                    "--private-key surrogates are exported"
                )
            found[scan] = unseal(row.sealed, private_key=private_key, password=password)
    with database.transaction() as session:
        ledger.append(
            session,
            at=clock.now(),
            actor=by.name,
            kind="patient.reidentified",
            subject=subject,
            facts={"reason": reason, "scans": len(found)},
        )
    return found
