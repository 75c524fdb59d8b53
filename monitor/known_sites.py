"""Which sites are known: those from which a scan ever came."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.tables import ScanRow
from registry.yaml_files import Location


def unknown_sites(
    session: Session, named: Iterable[tuple[Location, Sequence[str]]]
) -> Iterator[tuple[Location, str]]:
    """Yield the keys of a file that name a site from which no scan ever came, with what to do.

    Parameters
    ----------
    named : keys that name sites, with these
    """
    pairs = [(key, sites) for key, sites in named if sites]
    known = set(session.scalars(select(ScanRow.site).distinct())) if pairs else set()
    for key, sites in pairs:
        unknown = [site for site in sites if site not in known]
        # Before the first scan nobody knows which sites there will be.
        if known and unknown:
            yield (
                key,
                f"no scan ever came from {', '.join(unknown)}; from {', '.join(sorted(known))} "
                "some did: correct the name",
            )
