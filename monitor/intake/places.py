"""Where an instance stands within its series and study, in numbers that identify nobody."""

from __future__ import annotations

from dataclasses import dataclass

from monitor.intake.classes import is_captured
from monitor.intake.reading import Instance

#: Six digits of a millimetre are beyond what any scanner places an image to.
_DIGITS = 6
_LARGEST = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class InstancePlace:
    """What puts instances in order, and tells when all of them are there."""

    series_number: int | None
    number: int | None
    position: tuple[float, ...] | None  #: x, y, z in mm (PS3.3 C.7.6.2.1.1)
    orientation: tuple[float, ...] | None  #: direction cosines of rows and columns
    series_instances: int | None  #: of its series, where the sender said so (PS3.4 C.3.4)
    study_instances: int | None
    captured: bool


def place_of(instance: Instance) -> InstancePlace:
    """Return the place of an instance; what is absent or makes no sense is None."""
    return InstancePlace(
        series_number=_count(instance, "SeriesNumber"),
        number=_count(instance, "InstanceNumber"),
        position=measures(instance, "ImagePositionPatient", count=3),
        orientation=measures(instance, "ImageOrientationPatient", count=6),
        series_instances=_positive(_count(instance, "NumberOfSeriesRelatedInstances")),
        study_instances=_positive(_count(instance, "NumberOfStudyRelatedInstances")),
        captured=is_captured(instance),
    )


def measures(instance: Instance, keyword: str, *, count: int) -> tuple[float, ...] | None:
    """Return so many numbers as they are kept, or None where there are not just as many."""
    numbers = instance.numbers(keyword)
    if len(numbers) != count or max(map(abs, numbers)) > _LARGEST:
        return None
    # Adding zero makes of minus zero what it equals.
    return tuple(float(f"{number:.{_DIGITS}g}") + 0.0 for number in numbers)


def _count(instance: Instance, keyword: str) -> int | None:
    numbers = instance.numbers(keyword)
    if not numbers or abs(numbers[0]) > _LARGEST:
        return None
    return round(numbers[0])


def _positive(count: int | None) -> int | None:
    return count if count is not None and count > 0 else None
