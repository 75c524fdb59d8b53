"""Rows of received instances: found by identity, and made of what intake prepared."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.assembling.tables import InstancePlaceRow
from monitor.intake.intake import Accepted
from monitor.tables import ScanRow


def stored_scans(
    session: Session, accepted: Sequence[Accepted]
) -> dict[tuple[str, str], ScanRow]:
    """Return those of the instances that are stored, by site and instance."""
    # Both columns, as the index has them: by the instance alone every row would be read.
    rows = session.scalars(
        select(ScanRow).where(
            ScanRow.site.in_({item.site for item in accepted}),
            ScanRow.instance.in_([item.pseudonyms.instance for item in accepted]),
        )
    )
    return {(row.site, row.instance): row for row in rows}


def scan_row(item: Accepted, digest: str, *, batch: int, at: datetime) -> ScanRow:
    """Return the row of an instance whose file is in the vault under a digest."""
    attributes = item.attributes
    day = attributes.study_date
    return ScanRow(
        batch=batch,
        arrived_at=at,
        site=item.site,
        patient=item.pseudonyms.patient,
        study=item.pseudonyms.study,
        series=item.pseudonyms.series,
        instance=item.pseudonyms.instance,
        vault_digest=digest,
        pixel_digest=item.pixel_digest,
        modality=attributes.modality,
        body_part=attributes.body_part,
        view=attributes.view,
        manufacturer=attributes.manufacturer,
        scanner_model=attributes.scanner_model,
        software_version=attributes.software_version,
        station=attributes.station,
        protocol=attributes.protocol,
        sex=attributes.sex,
        age_years=attributes.age_years,
        study_date=None if day is None else day.text,
    )


def place_row(row: ScanRow, item: Accepted) -> InstancePlaceRow:
    """Return where an instance stands in its series; its scan has a number by now."""
    place = item.place
    return InstancePlaceRow(
        scan=row.id,
        series_number=place.series_number,
        number=place.number,
        position=None if place.position is None else [*place.position],
        orientation=None if place.orientation is None else [*place.orientation],
        series_instances=place.series_instances,
        study_instances=place.study_instances,
        captured=place.captured,
    )
