"""Which assembled scans a model reads, by the selection that its bundle declares."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from sqlalchemy import exists, select
from sqlalchemy.orm import Session, aliased

from monitor.assembling.counting import read_as
from monitor.assembling.manifests import Manifest, read_manifest
from monitor.intake.vault import Vault
from monitor.tables import EmbeddingRow, ScanRow
from registry.bundles.preprocessing import Unit
from registry.bundles.scan_units import Reading, SeriesChoice
from registry.errors import IntegrityError, NotFoundError


def selection_refusals(
    session: Session,
    vault: Vault,
    scans: Sequence[ScanRow],
    reading: Reading | None,
    *,
    versions: Collection[int],
) -> dict[int, str]:
    """Return the scans that a model does not read, each with the reason.

    A scan whose list of instances is gone is not refused here: whoever reads
    its pixels says so.

    Parameters
    ----------
    reading : as the deciding bundle declares it; None where it reads instances
    versions : that read for the monitor; of a study of which they have read one series they
        keep to it
    """
    if reading is None:
        return {}
    refused: dict[int, str] = {}
    for scan in scans:
        with suppress(NotFoundError, IntegrityError):
            reason = _refusal(read_manifest(vault, scan.vault_digest), reading)
            if reason is None and reading.select.series is SeriesChoice.LARGEST:
                reason = _beside(session, vault, scan, reading, versions)
            if reason is not None:
                refused[scan.id] = reason
    return refused


def _refusal(manifest: Manifest, reading: Reading) -> str | None:
    instances, reason = manifest.selected(reading.select)
    if reason is None and reading.too_many(len(instances)):
        return (
            f"{manifest.unit.value} of {len(instances)} instances: it reads all of a scan, and of "
            f"at most {reading.at_most}"
        )
    return reason


def _beside(
    session: Session, vault: Vault, scan: ScanRow, reading: Reading, versions: Collection[int]
) -> str | None:
    """Return why another series of a scan's study is read in its place, if one is."""
    if scan.unit != Unit.SERIES.value:
        return None  # a study chooses among its own
    earlier = _read_before(session, scan, versions)
    if earlier:
        return None if scan.series in earlier else "another series of its study was read"
    sizes: dict[str, int] = {}
    for other in session.scalars(
        select(ScanRow).where(
            ScanRow.site == scan.site, ScanRow.study == scan.study, read_as(Unit.SERIES)
        )
    ):
        with suppress(NotFoundError, IntegrityError):
            instances, reason = read_manifest(vault, other.vault_digest).selected(
                reading.select
            )
            if reason is None:
                sizes[other.series] = len(instances)
    if largest(sizes) in {scan.series, None}:
        return None
    return "another series of its study has more instances"


def _read_before(session: Session, scan: ScanRow, versions: Collection[int]) -> set[str]:
    """Return the series of a scan's study that were read, whatever revision they were then."""
    other = aliased(ScanRow)
    read = exists().where(EmbeddingRow.scan == other.id, EmbeddingRow.version.in_(versions))
    return set(
        session.scalars(
            select(other.series).where(
                other.site == scan.site,
                other.study == scan.study,
                other.unit == Unit.SERIES.value,
                read,
            )
        )
    )


def largest(sizes: Mapping[str, int]) -> str | None:
    """Return the series with most instances, of several such the first by name."""
    return min(sizes, key=lambda series: (-sizes[series], series), default=None)
