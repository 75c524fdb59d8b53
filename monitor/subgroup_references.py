"""A reference's subgroups: what each was like when the reference was accepted.

Scanners, views and ages differ without drifting. A subgroup is compared with its own past
where that is large enough for a profile, and what is new with the scans that it joins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.embeddings import EmbeddedScans
from monitor.profiles import LEAST_REFERENCE_PATIENTS
from monitor.subgroups import Attribute, Subgroup, subgroups_of
from monitor.tables import ReferenceRow, ScanRow, SubgroupReferenceRow

#: Subgroups, largest first, that get a profile of their own.
MOST_PROFILES = 100
#: A subgroup with this share of the reference is the reference.
NEARLY_ALL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSubgroup:
    """A subgroup of a reference."""

    subgroup: Subgroup
    scans: int
    patients: int
    #: whether it is nearly all of the reference, and the reference's profile is its own
    nearly_all: bool
    #: whether it is large enough for a profile of its own
    large: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Yardstick:
    """What a subgroup of a window is compared with."""

    profile_digest: str
    #: whose reference scans these are; None for all
    subgroup: Subgroup | None


def known_subgroups(
    embedded: EmbeddedScans, attributes: Sequence[Attribute]
) -> list[tuple[KnownSubgroup, EmbeddedScans]]:
    """Return the subgroups of a reference's scans, largest first."""
    found: list[tuple[KnownSubgroup, EmbeddedScans]] = []
    profiles = 0
    for subgroup, belongs in subgroups_of(embedded.scans, attributes, at_least=1):
        part = embedded.where(belongs)
        patients = len(set(part.patients))
        nearly_all = len(part) >= NEARLY_ALL * len(embedded)
        large = (
            not nearly_all and patients >= LEAST_REFERENCE_PATIENTS and profiles < MOST_PROFILES
        )
        profiles += large
        known = KnownSubgroup(
            subgroup=subgroup,
            scans=len(part),
            patients=patients,
            nearly_all=nearly_all,
            large=large,
        )
        found.append((known, part))
    return found


def of_reference(
    session: Session, reference: ReferenceRow
) -> dict[Subgroup, SubgroupReferenceRow]:
    """Return what a reference knows of its subgroups."""
    rows = session.scalars(
        select(SubgroupReferenceRow).where(SubgroupReferenceRow.reference == reference.id)
    )
    return {Subgroup.parse(row.subgroup): row for row in rows}


def yardstick(
    reference: ReferenceRow,
    known: Mapping[Subgroup, SubgroupReferenceRow],
    subgroup: Subgroup,
    scans: Sequence[ScanRow],
) -> Yardstick | str:
    """Return what a subgroup is compared with, or why it cannot be judged by itself.

    A subgroup that the reference does not know is compared with the smallest known one that
    holds all of its scans and has a profile, else with all scans: to differ from them is what
    makes it a shift. What holds them is told by the scans, as names may be short: those of a
    new software version at one scanner are that scanner's.

    Parameters
    ----------
    scans : of the subgroup, in the window
    """
    own = known.get(subgroup)
    if own is not None and own.profile_digest is not None:
        return Yardstick(profile_digest=own.profile_digest, subgroup=subgroup)
    if own is not None:
        return (
            f"the reference has {own.patients} patients of it, too few (or in too few weeks) "
            "to judge it by itself"
        )
    around = [
        (row.scans, str(other), other, row.profile_digest)
        for other, row in known.items()
        # One that is nearly all scans has their profile.
        if row.profile_digest not in {None, reference.profile_digest}
        and all(other.holds(scan) for scan in scans)
    ]
    if not around:
        return Yardstick(profile_digest=reference.profile_digest, subgroup=None)
    *_, nearest, digest = min(around)
    return Yardstick(profile_digest=digest, subgroup=nearest)
