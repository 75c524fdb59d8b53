"""Which sources are in force, and how each stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from monitor.sources.settings import KINDS, DicomwebSource, FolderSource, Source
from monitor.sources.tables import SourceFileRow, SourceProgressRow, SourceRow
from registry import ledger
from registry.canonical import digest_of
from registry.errors import BadInputError, NotFoundError


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedSource:
    """A source in force."""

    specification: Source
    digest: str
    applied_at: datetime

    @property
    def name(self) -> str:
        return self.specification.name


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStanding:
    """How far a source has been read, and whether it can be."""

    #: outcome -> instances, since it was first applied
    counts: Mapping[str, int]
    #: what is there and not yet read; None where that is not known
    backlog: int | None
    oldest_unread_at: datetime | None
    began_anew_at: datetime | None
    last_success_at: datetime | None
    #: since when no look succeeds; None while they do
    failing_since: datetime | None
    #: of the newest look that failed, without patient data
    last_error: str | None


def apply_source(
    session: Session, specification: Source, *, actor: str, at: datetime
) -> AppliedSource:
    """Put a source into force, or change it; the same specification again changes nothing.

    Raises
    ------
    BadInputError
        If the name is another kind's, or a site may already be stored to by another source.
    """
    document = specification.model_dump(mode="json")
    digest = digest_of(document)
    row = session.get(SourceRow, specification.name)
    if row is not None and row.kind != specification.kind:
        raise BadInputError(
            f"source {row.name} is of the kind {row.kind}, and stays so: choose another name"
        )
    if isinstance(specification, DicomwebSource):
        _require_sites_of_its_own(session, specification)
    if isinstance(specification, FolderSource):
        _require_files_of_one_site(session, specification)
    if row is not None and row.digest == digest and row.removed_at is None:
        return _read(row)
    if row is None:
        row = SourceRow(name=specification.name, kind=specification.kind)
        session.add(row)
    row.specification, row.digest = document, digest
    row.applied_at, row.removed_at = at, None
    ledger.append(
        session,
        at=at,
        actor=actor,
        kind="source.applied",
        subject=specification.name,
        facts={"digest": digest, "specification": document},
        seals=[row],
    )
    progress = session.get(SourceProgressRow, specification.name)
    if progress is None:
        progress = SourceProgressRow(source=specification.name, token=0, counts={})
        _begin(progress, specification.place)
        session.add(progress)
        return _read(row)
    # Whoever follows it by the former specification keeps nothing more.
    progress.token += 1
    progress.holder = progress.held_until = None
    if progress.place != specification.place:
        _begin(progress, specification.place)
        session.execute(delete(SourceFileRow).where(SourceFileRow.source == row.name))
    return _read(row)


def remove_source(session: Session, name: str, *, actor: str, at: datetime) -> None:
    """Take a source out of force; how far it was read is kept, for if it comes back.

    Raises
    ------
    NotFoundError
    """
    require_source(session, name)
    row = session.get_one(SourceRow, name)
    row.removed_at = at
    ledger.append(
        session,
        at=at,
        actor=actor,
        kind="source.removed",
        subject=name,
        facts={"digest": row.digest},
        seals=[row],
    )


def require_source(session: Session, name: str) -> AppliedSource:
    """Return the source of that name.

    Raises
    ------
    NotFoundError
        Naming the sources that do exist.
    """
    row = session.get(SourceRow, name)
    if row is None or row.removed_at is not None:
        have = ", ".join(source.name for source in all_sources(session))
        raise NotFoundError(f"there is no source {name}: {have or 'none was applied yet'}")
    return _read(row)


def all_sources(session: Session) -> list[AppliedSource]:
    """Return every source in force, by name."""
    rows = session.scalars(
        select(SourceRow).where(SourceRow.removed_at.is_(None)).order_by(SourceRow.name)
    )
    return [_read(row) for row in rows]


def dicomweb_source(session: Session, site: str) -> DicomwebSource:
    """Return the source that lets scans of a site be stored over DICOMweb.

    Raises
    ------
    NotFoundError
        If none does.
    """
    for source in all_sources(session):
        found = source.specification
        if isinstance(found, DicomwebSource) and site in found.sites:
            return found
    raise NotFoundError(
        f"no scans of a site {site!r} are taken over DICOMweb: name the site in a source of the "
        "kind dicomweb, and put it into force with `driftward source apply` (docs/intake.md)"
    )


def standing_of(session: Session, name: str) -> SourceStanding:
    """Return how a source stands."""
    row = session.get_one(SourceProgressRow, name)
    return SourceStanding(
        counts=dict(row.counts),
        backlog=row.backlog,
        oldest_unread_at=row.oldest_unread_at,
        began_anew_at=row.began_anew_at,
        last_success_at=row.last_success_at,
        failing_since=row.failing_since,
        last_error=row.last_error,
    )


def _begin(progress: SourceProgressRow, place: str) -> None:
    progress.place, progress.position = place, {}
    progress.backlog = progress.oldest_unread_at = progress.began_anew_at = None
    progress.failing_since = progress.last_error = None


def _require_sites_of_its_own(session: Session, specification: DicomwebSource) -> None:
    for other in all_sources(session):
        if other.name == specification.name or not isinstance(
            other.specification, DicomwebSource
        ):
            continue
        both = set(specification.sites) & set(other.specification.sites)
        if both:
            raise BadInputError(
                f"sites {', '.join(sorted(both))} are those of source {other.name} already: "
                "name a site in one dicomweb source"
            )


def _require_files_of_one_site(session: Session, specification: FolderSource) -> None:
    """Refuse a folder whose files another source takes for another site.

    Each of its instances would be two scans of two patients.
    """
    path = specification.path.resolve()
    for other in all_sources(session):
        found = other.specification
        if (
            other.name == specification.name
            or not isinstance(found, FolderSource)
            or found.site == specification.site
        ):
            continue
        theirs = found.path.resolve()
        if path.is_relative_to(theirs) or theirs.is_relative_to(path):
            raise BadInputError(
                f"source {other.name} reads {found.path} for site {found.site} already: name a "
                "folder that is neither that one nor below or above it, or remove that source"
            )


def _read(row: SourceRow) -> AppliedSource:
    return AppliedSource(
        specification=KINDS[row.kind].model_validate(row.specification),
        digest=row.digest,
        applied_at=row.applied_at,
    )
