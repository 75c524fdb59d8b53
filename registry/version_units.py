"""What a registered version reads as one scan."""

from __future__ import annotations

from collections.abc import Sequence

from registry.bundles.documents import Section
from registry.bundles.preprocessing import Unit
from registry.bundles.scan_units import Reading
from registry.errors import MonitorSpecError
from registry.versions import VersionRow, ref


def unit_of(version: VersionRow) -> Unit:
    """Return what a version reads as one scan."""
    return Unit.INSTANCE if version.reading is None else Unit(version.reading["unit"])


def reading_of(version: VersionRow) -> Reading | None:
    """Return how a version reads series or studies; None where it reads instances."""
    if version.reading is None:
        return None
    document = {key: value for key, value in version.reading.items() if key != "unit"}
    return Reading.from_section(Section(document, name=f"{ref(version)}: reading"))


def require_one_unit(versions: Sequence[VersionRow]) -> None:
    """Refuse versions that would read one monitor's scans in different units.

    Raises
    ------
    MonitorSpecError
        Naming two of them.
    """
    first = versions[0]
    for other in versions[1:]:
        if unit_of(other) is not unit_of(first):
            raise MonitorSpecError(
                f"{ref(first)} reads a scan as one {unit_of(first).value}, {ref(other)} as one "
                f"{unit_of(other).value}: a monitor compares what is read alike, so assemble "
                "their bundles with one unit"
            )
