"""The job that makes one scan of a series or a study, once it has settled."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import TypeVar

from pydicom import dcmread
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from monitor.assembling.counting import Settling, settlings
from monitor.assembling.groups import (
    Group,
    GroupKey,
    Settled,
    looked_through,
    read_group,
    settled,
    unfinished,
)
from monitor.assembling.manifests import ListedSeries, Manifest, Member, in_order
from monitor.assembling.tables import (
    AssembledScanRow,
    AssemblyProgressRow,
    InstancePlaceRow,
    ScanMemberRow,
    WithdrawnScanRow,
)
from monitor.assembling.withdrawing import Why, withdraw
from monitor.intake.pseudonyms import uid_of
from monitor.intake.vault import Vault
from monitor.tables import ScanRow
from registry import crash_points, ledger
from registry.bundles.preprocessing import Unit
from registry.canonical import sha256
from registry.clock import Clock
from registry.database import Database
from registry.errors import IntegrityError, NotFoundError
from registry.identities import SYSTEM
from registry.jobs import Claim, fence
from registry.ledger import BatchSealed

ASSEMBLE = "assemble"
#: Scans that one transaction makes: they share its fsync and its ledger entry.
TOGETHER = 64

#: Attributes that a scan has of its instances.
_ATTRIBUTES = (
    "body_part",
    "view",
    "manufacturer",
    "scanner_model",
    "software_version",
    "station",
    "protocol",
    "sex",
    "age_years",
    "study_date",
)

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Assembled:
    """A group with what it becomes."""

    group: Group
    settled: Settled
    members: tuple[Member, ...]
    content: bytes | None  #: the manifest; None where nothing of the group is left


class Assembler:
    """Makes scans of series and studies, for the units that monitored bundles read."""

    def __init__(self, database: Database, vault: Vault, clock: Clock) -> None:
        self._database = database
        self._vault = vault
        self._clock = clock

    def handle(self, claim: Claim) -> None:
        """Do the job `assemble`; doing it twice does no harm."""
        self.assemble(claim=claim)

    def assemble(self, *, claim: Claim | None = None) -> int:
        """Make a scan, or its next revision, of all that has settled; return how many.

        The vault is written first. Who else assembles meanwhile, or takes an
        instance in, is noticed: such a group is left to the next time.
        """
        made = 0
        with self._database.reading() as session:
            units = settlings(session)
        for unit, settling in units.items():
            with self._database.reading() as session:
                keys = unfinished(session, unit)
            for part in _parts(keys):
                made += self._assemble(unit, settling, part, claim)
            self._keep_progress(unit, claim)
        return made

    def _assemble(
        self, unit: Unit, settling: Settling, keys: Sequence[GroupKey], claim: Claim | None
    ) -> int:
        now = self._clock.now()
        with self._database.reading() as session:
            groups = [read_group(session, unit, key) for key in keys]
        ready = [
            self._assembled(group, unit, found)
            for group in groups
            if (found := settled(group, unit, settling, now=now)) is not None
        ]
        if not ready:
            return 0
        self._vault.put_all([one.content for one in ready if one.content is not None])
        crash_points.reach("assemble: in the vault")
        with self._database.transaction() as session:
            if claim is not None:
                fence(session, claim)
            made = _store(session, unit, ready, at=now)
            crash_points.reach("assemble: before the commit")
        return made

    def _assembled(self, group: Group, unit: Unit, found: Settled) -> _Assembled:
        members = tuple(in_order([self._member(row, group.places) for row in group.instances]))
        content = Manifest(unit=unit, series=_listed(members)).to_bytes() if members else None
        return _Assembled(group=group, settled=found, members=members, content=content)

    def _member(self, row: ScanRow, places: dict[int, InstancePlaceRow]) -> Member:
        place = places.get(row.id)
        position = None if place is None or place.position is None else tuple(place.position)
        orientation = (
            None if place is None or place.orientation is None else tuple(place.orientation)
        )
        return Member(
            scan=row.id,
            instance=row.instance,
            digest=row.vault_digest,
            series=row.series,
            modality=row.modality,
            protocol=row.protocol,
            series_number=None if place is None else place.series_number,
            number=self._stored_number(row) if place is None else place.number,
            position=position,
            orientation=orientation,
        )

    def _stored_number(self, row: ScanRow) -> int | None:
        """Return the number in the file of an instance that came before places were kept."""
        with suppress(NotFoundError, IntegrityError):
            ds = dcmread(
                io.BytesIO(self._vault.get(row.vault_digest)),
                stop_before_pixels=True,
                specific_tags=["InstanceNumber"],
            )
            number = ds.get("InstanceNumber")
            return None if number is None else int(number)
        return None

    def _keep_progress(self, unit: Unit, claim: Claim | None) -> None:
        with self._database.transaction() as session:
            if claim is not None:
                fence(session, claim)
            row = session.get(AssemblyProgressRow, unit.value)
            if row is None:
                row = AssemblyProgressRow(unit=unit.value, through=0)
                session.add(row)
            row.through = looked_through(session, unit)


def assembly_is_due(session: Session, *, now: datetime) -> bool:
    """Say whether something has settled that is no scan yet."""
    for unit, settling in settlings(session).items():
        for key in unfinished(session, unit):
            if settled(read_group(session, unit, key), unit, settling, now=now) is not None:
                return True
    return False


def _store(session: Session, unit: Unit, ready: Sequence[_Assembled], *, at: datetime) -> int:
    """Store scans with what they are made of, and withdraw the revisions before them."""
    # Orders this behind whoever stores or rejects instances now.
    ledger.wait_turn(session)
    fresh = [one for one in ready if _unchanged(session, unit, one.group)]
    if not fresh:
        return 0
    scans, assembled, withdrawn = (
        ledger.next_batch(session, table)
        for table in (ScanRow, AssembledScanRow, WithdrawnScanRow)
    )
    members = ledger.next_batch(session, ScanMemberRow)
    made: list[ScanRow] = []
    replaced = 0
    for one in fresh:
        current = one.group.current
        if current is not None:
            why = Why.EMPTIED if one.content is None else Why.SUPERSEDED
            withdraw(session, [current.id], why=why, at=at, batch=withdrawn)
            replaced += 1
        if one.content is None:
            continue
        revision = 1 + _newest_revision(session, unit, one.group.key)
        row = _row(one, unit, revision, batch=scans)
        session.add(row)
        session.flush()
        session.add(
            AssembledScanRow(
                scan=row.id,
                revision=revision,
                instances=len(one.members),
                expected=one.settled.expected,
                settled_by=one.settled.by.value,
                incomplete=one.settled.incomplete,
                batch=assembled,
            )
        )
        session.add_all(
            ScanMemberRow(scan=row.id, member=member.scan, position=position, batch=members)
            for position, member in enumerate(one.members)
        )
        made.append(row)
    batches: list[tuple[type[BatchSealed], int]] = []
    if made:
        batches += [(ScanRow, scans), (AssembledScanRow, assembled), (ScanMemberRow, members)]
    if replaced:
        batches.append((WithdrawnScanRow, withdrawn))
    ledger.append(
        session,
        at=at,
        actor=SYSTEM.name,
        kind="scans.assembled",
        subject=unit.value,
        facts={
            "scans": len(made),
            "instances": sum(len(one.members) for one in fresh),
            "replaced": replaced,
            "incomplete": sum(
                one.settled.incomplete for one in fresh if one.content is not None
            ),
        },
        batches=batches,
    )
    return len(made)


def _unchanged(session: Session, unit: Unit, group: Group) -> bool:
    now = read_group(session, unit, group.key)
    return {row.id for row in now.instances} == {row.id for row in group.instances} and (
        now.current and now.current.id
    ) == (group.current and group.current.id)


def _newest_revision(session: Session, unit: Unit, key: GroupKey) -> int:
    newest = (
        select(func.max(AssembledScanRow.revision))
        .join(ScanRow, ScanRow.id == AssembledScanRow.scan)
        .where(
            ScanRow.unit == unit.value,
            ScanRow.site == key.site,
            ScanRow.study == key.study,
            ScanRow.series == key.series,
        )
    )
    return session.scalar(newest) or 0


def _row(one: _Assembled, unit: Unit, revision: int, *, batch: int) -> ScanRow:
    key, instances = one.group.key, one.group.instances
    if one.content is None:
        raise ValueError("a scan of no instances is none")
    digest = sha256(one.content)
    return ScanRow(
        batch=batch,
        unit=unit.value,
        site=key.site,
        patient=_plurality(row.patient for row in instances),
        study=key.study,
        series=key.series,
        instance=_identity(unit, key, revision),
        vault_digest=digest,
        pixel_digest=digest,
        modality=_plurality(row.modality for row in instances),
        arrived_at=one.settled.at,
        **{name: majority([getattr(row, name) for row in instances]) for name in _ATTRIBUTES},
    )


def _parts(keys: Sequence[GroupKey]) -> Iterator[list[GroupKey]]:
    """Yield groups that are stored together; those of one study are never parted."""
    part: list[GroupKey] = []
    for _, of_study in groupby(keys, key=lambda key: (key.site, key.study)):
        part += of_study
        if len(part) >= TOGETHER:
            yield part
            part = []
    if part:
        yield part


def _listed(members: Sequence[Member]) -> tuple[ListedSeries, ...]:
    by_series: dict[str, list[Member]] = {}
    for member in members:
        by_series.setdefault(member.series, []).append(member)
    return tuple(
        ListedSeries(
            modality=_plurality(member.modality for member in of),
            protocol=majority([member.protocol for member in of]),
            instances=tuple(member.digest for member in of),
        )
        for of in by_series.values()
    )


def majority(values: Sequence[Value]) -> Value | None:
    """Return the value of more than half, or None where there is no such."""
    value, count = Counter(values).most_common(1)[0]
    return value if 2 * count > len(values) else None


def _plurality(values: Iterable[str]) -> str:
    """Return the most frequent value, of several such the first by name."""
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value))


def _identity(unit: Unit, key: GroupKey, revision: int) -> str:
    """Return what a scan is one by: a UID that follows from keyed pseudonyms alone.

    So two that assemble at once, or one that was killed and comes back, give
    one scan, and a key that is rotated meanwhile changes nothing.
    """
    parts = (unit.value, key.site, key.study, key.series, str(revision))
    return uid_of(hashlib.sha256("\0".join(parts).encode()).digest())
