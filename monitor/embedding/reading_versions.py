"""Which versions read a monitor's scans, and which scans each of them reads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from monitor.embedding.embedding_plan import ReadingVersion, ShadowVersion
from monitor.monitors import Monitor
from registry import serving
from registry.bundles.bundle import Bundle
from registry.errors import DriftwardError
from registry.version_units import require_one_unit
from registry.versions import VersionRow, find, ref

if TYPE_CHECKING:
    from monitor.embedding.encoders import Encoder

_log = logging.getLogger(__name__)


def reading_versions(
    session: Session,
    monitor: Monitor,
    *,
    extra: Sequence[VersionRow],
    beside: Sequence[ShadowVersion],
    open_bundle: Callable[[VersionRow], Bundle],
    encoder: Callable[[VersionRow], Encoder],
) -> list[ReadingVersion]:
    """Return what reads: each of all scans, but for what serves some sites, or nobody.

    What serves everywhere else reads the scans of those sites, too, so that windows and
    references stay whole in one space.

    Parameters
    ----------
    extra : versions that read besides champion and monitoring encoder, in the background
    beside : versions in shadow; one that cannot be loaded holds nobody up

    Raises
    ------
    BadInputError
        If those that serve read scans in different units.
    """

    def reading(
        row: VersionRow,
        *,
        since: datetime | None = None,
        sites: Mapping[str, datetime] = MappingProxyType({}),
    ) -> ReadingVersion:
        bundle = open_bundle(row)
        return ReadingVersion(
            version=row,
            bundle=bundle,
            encoder=encoder(row),
            preprocessing=bundle.preprocessing.digest,
            since=since,
            sites=sites,
        )

    fixed = find(session, monitor.specification.monitoring_encoder)
    champion = serving.champion(session, monitor.specification.model)
    wanted = {row.id: row for row in (fixed, champion, *extra) if row is not None}
    own: dict[int, dict[str, datetime]] = {}
    for site, place in serving.places(session, monitor.specification.model).apart().items():
        own.setdefault(place.version, {})[site] = place.since
    at_sites = [
        session.get_one(VersionRow, version) for version in own if version not in wanted
    ]
    require_one_unit([*wanted.values(), *at_sites])
    versions = [reading(row) for row in wanted.values()]
    versions += [reading(row, sites=own[row.id]) for row in at_sites]
    for shadow in beside:
        if shadow.version.id in {reader.version.id for reader in versions}:
            continue
        try:
            require_one_unit([*wanted.values(), shadow.version])
            versions.append(reading(shadow.version, since=shadow.since))
        except DriftwardError as error:
            # What serves is not held up by what does not; the comparison counts what lacks.
            _log.warning("%s cannot read beside its champion: %s", ref(shadow.version), error)
    return versions
