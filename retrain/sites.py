"""Which sites a model is known at: those that send scans, and those with a champion of their own."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.tables import ScanRow
from registry import runtimes, serving
from registry.errors import NotFoundError


def that_send(session: Session) -> list[str]:
    """Return the sites that have sent scans, at all of which a promotion takes effect."""
    return list(session.scalars(select(ScanRow.site).distinct().order_by(ScanRow.site)))


def require_known(session: Session, model: str, site: str) -> None:
    """Refuse a site at which nothing is known of a model: its name may be mistyped.

    Raises
    ------
    NotFoundError
        Naming the sites that are known.
    """
    known = {
        *that_send(session),
        *serving.places(session, model).sites,
        *(row.deployment for row in runtimes.runtimes(session, model)),
    } - {serving.EVERYWHERE}
    if site not in known:
        names = ", ".join(sorted(known)) or "none yet"
        raise NotFoundError(f"no scan ever came from {site}: known sites are {names}")
