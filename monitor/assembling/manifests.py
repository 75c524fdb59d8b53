"""What a series or a study is in the vault: the list of its instances, in their order.

Canonical JSON, so that the same instances are the same file however and in
whatever order they came. It names digests of files, and nothing of a patient.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitor.intake.vault import Vault
from registry.bundles.preprocessing import Unit
from registry.bundles.scan_units import Selection, SeriesChoice
from registry.canonical import canonical_bytes
from registry.errors import IntegrityError

_FORM = 1
#: Cosine of the angle up to which images are parallel: a gantry's and an encoder's noise.
_PARALLEL = 0.999
#: Digits of a millimetre that tell positions apart.
_DIGITS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """An instance that is to be part of a scan."""

    scan: int
    instance: str  #: its pseudonym: settles what nothing else puts in order
    digest: str  #: of its file in the vault
    series: str
    modality: str
    protocol: str | None
    series_number: int | None
    number: int | None
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedSeries:
    """One series of a scan."""

    modality: str
    protocol: str | None
    instances: tuple[str, ...]  #: digests of files in the vault, in their order


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The instances of a scan."""

    unit: Unit
    series: tuple[ListedSeries, ...]

    def selected(self, selection: Selection) -> tuple[tuple[str, ...], str | None]:
        """Return the instances that a selection takes, or why it takes none.

        Of a study all series that match are read one after the other, or the
        one with most instances; of several such, the first.
        """
        refusals = [
            selection.series_refusal(
                modality=one.modality, protocol=one.protocol, instances=len(one.instances)
            )
            for one in self.series
        ]
        matching = [
            one for one, refusal in zip(self.series, refusals, strict=True) if refusal is None
        ]
        if not matching:
            reasons = sorted({refusal for refusal in refusals if refusal is not None})
            return (), (reasons[0] if len(reasons) == 1 else f"no series of it: {reasons[0]}")
        if selection.series is SeriesChoice.LARGEST:
            matching = [max(matching, key=lambda one: len(one.instances))]
        return tuple(digest for one in matching for digest in one.instances), None

    def to_bytes(self) -> bytes:
        return canonical_bytes(
            {
                "driftward": _FORM,
                "unit": self.unit.value,
                "series": [
                    {
                        "modality": one.modality,
                        "protocol": one.protocol,
                        "instances": [*one.instances],
                    }
                    for one in self.series
                ],
            }
        )


def read_manifest(vault: Vault, digest: str) -> Manifest:
    """Return a manifest from the vault.

    Raises
    ------
    NotFoundError, IntegrityError
        As `Vault.get`, and if it is of a form that this version does not know.
    """
    document = json.loads(vault.get(digest))
    if document.get("driftward") != _FORM:
        raise IntegrityError(
            f"vault file {digest[:12]} lists instances in a form that this version does not know: "
            "upgrade driftward"
        )
    return Manifest(
        unit=Unit(document["unit"]),
        series=tuple(
            ListedSeries(
                modality=one["modality"],
                protocol=one["protocol"],
                instances=tuple(one["instances"]),
            )
            for one in document["series"]
        ),
    )


def in_order(members: Sequence[Member]) -> list[Member]:
    """Return members in the order in which they are read, whatever order they came in.

    Series by their number. Within one, along the normal of its images where
    all are parallel and say where they lie, images at one place by their
    number (phases of a heart, volumes of a run); otherwise by number.
    """
    by_series: dict[str, list[Member]] = {}
    for member in members:
        by_series.setdefault(member.series, []).append(member)
    ordered: list[Member] = []
    for series in sorted(by_series, key=lambda name: (_least_number(by_series[name]), name)):
        ordered += _series_in_order(by_series[series])
    return ordered


def _series_in_order(members: Sequence[Member]) -> list[Member]:
    first = sorted(members, key=lambda member: member.instance)
    heights = _heights(first)
    if heights is None:
        return sorted(first, key=_by_number)
    along = dict(zip((member.scan for member in first), heights, strict=True))
    return sorted(first, key=lambda member: (along[member.scan], *_by_number(member)))


def _heights(members: Sequence[Member]) -> list[float] | None:
    """Return where members lie along their normal, in mm, or None where that says nothing."""
    normals, positions = [], []
    for member in members:
        if member.position is None or member.orientation is None:
            return None
        normal = np.cross(member.orientation[:3], member.orientation[3:])
        length = float(np.linalg.norm(normal))
        if length == 0.0:
            return None
        normals.append(normal / length)
        positions.append(member.position)
    if float(np.min(np.array(normals) @ normals[0])) < _PARALLEL:
        return None
    return [round(float(height), _DIGITS) for height in np.array(positions) @ normals[0]]


def _by_number(member: Member) -> tuple[bool, int, str]:
    return (member.number is None, member.number or 0, member.instance)


def _least_number(members: Sequence[Member]) -> tuple[bool, int]:
    numbers = [one.series_number for one in members if one.series_number is not None]
    return (not numbers, min(numbers, default=0))
