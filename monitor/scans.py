"""Storing scans: prepared files into the vault, rows and their ledger entry in one transaction.

The vault is written first, so that a row never points at nothing; a crash in
between leaves at most a file that the next attempt finds in its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeAlias

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from monitor.intake.folder import files_in
from monitor.intake.intake import Accepted, Rejected, contradiction, prepare
from monitor.intake.keys import SecretKey
from monitor.intake.limits import DEFAULT_LIMITS
from monitor.intake.quarantine import Quarantine
from monitor.intake.reading import read_bytes
from monitor.intake.reasons import Reason
from monitor.intake.vault import Vault
from monitor.tables import ScanRow
from registry import ledger
from registry.clock import Clock
from registry.database import Database
from registry.errors import UnreadableScanError
from registry.identities import SYSTEM

#: Files that one transaction stores: they share its fsyncs and its ledger entry.
BATCH = 200
#: Bytes of files that one transaction stores: they are in memory together.
BATCH_BYTES = 256 << 20

#: Told after each batch: how many files are done, out of how many.
Tell: TypeAlias = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeReport:
    """What became of files."""

    added: int
    #: came before, by whatever road
    known: int
    quarantined: int
    #: reason -> how many files
    reasons: Mapping[str, int]


class ScanIntake:
    """Takes files in."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        quarantine: Quarantine,
        key: SecretKey,
        clock: Clock,
    ) -> None:
        self._database = database
        self._vault = vault
        self._quarantine = quarantine
        self._key = key
        self._clock = clock

    def add(
        self, paths: Iterable[Path], *, site: str, tell: Tell | None = None
    ) -> IntakeReport:
        """Take in files, or every file of folders; what came before is not taken twice.

        Raises
        ------
        BadInputError
            If a path does not exist.
        StorageFullError
            If the disk is full; what was reported as added stays, the rest can be sent again.
        """
        files = list(files_in(paths))
        added = known = done = 0
        reasons: Counter[str] = Counter()
        for chunk in _chunks(files):
            accepted: list[tuple[Path, Accepted]] = []
            for path in chunk:
                item = prepare(path, site=site, key=self._key)
                if isinstance(item, Accepted):
                    accepted.append((path, item))
                else:
                    self._set_aside(item)
                    reasons[item.reason.value] += 1
            fresh, conflicts = self._sorted(accepted)
            for conflict in conflicts:
                self._set_aside(conflict)
                reasons[conflict.reason.value] += 1
            stored = self._store(fresh)
            added += stored
            known += len(accepted) - len(conflicts) - stored
            done += len(chunk)
            if tell is not None:
                tell(done, len(files))
        return IntakeReport(
            added=added, known=known, quarantined=reasons.total(), reasons=dict(reasons)
        )

    def _sorted(
        self, accepted: Sequence[tuple[Path, Accepted]]
    ) -> tuple[list[Accepted], list[Rejected]]:
        """Return what is new, and what contradicts what is stored; resends are neither."""
        with self._database.reading() as session:
            stored = _stored_scans(session, [item for _, item in accepted])
        fresh: dict[tuple[str, str], Accepted] = {}
        conflicts: list[Rejected] = []
        for path, item in accepted:
            problem = None
            if item.identity in stored:
                problem = self._contradiction(item, stored[item.identity])
            elif item.identity in fresh:
                twin = fresh[item.identity]
                problem = contradiction(
                    item,
                    stored_pixel_digest=twin.pixel_digest,
                    stored_content=partial(_content, twin),
                )
            else:
                fresh[item.identity] = item
            if problem is not None:
                # The original, not what was made of it: a retry begins there.
                try:
                    content: bytes | None = read_bytes(path, DEFAULT_LIMITS)
                except UnreadableScanError:
                    content = None  # gone since it was read
                conflicts.append(
                    Rejected(
                        site=item.site, reason=Reason.CONFLICT, detail=problem, content=content
                    )
                )
        return list(fresh.values()), conflicts

    def _store(self, fresh: Sequence[Accepted]) -> int:
        """Store new scans, and return how many another intake had not stored meanwhile."""
        if not fresh:
            return 0
        digests = self._vault.put_all([item.content for item in fresh])
        now = self._clock.now()
        with self._database.transaction() as session:
            known = _stored_scans(session, fresh)
            number = (session.scalar(select(func.max(ScanRow.batch))) or 0) + 1
            rows = [
                _row(item, digest, batch=number, at=now)
                for item, digest in zip(fresh, digests, strict=True)
                if item.identity not in known
            ]
            if rows:
                session.add_all(rows)
                ledger.append(
                    session,
                    at=now,
                    actor=SYSTEM.name,
                    kind="scans.received",
                    subject=rows[0].site,
                    facts={"scans": len(rows)},
                    batches=[(ScanRow, number)],
                )
        return len(rows)

    def _contradiction(self, item: Accepted, before: ScanRow) -> str | None:
        return contradiction(
            item,
            stored_pixel_digest=before.pixel_digest,
            stored_content=lambda: self._vault.get(before.vault_digest),
        )

    def _set_aside(self, item: Rejected) -> None:
        self._quarantine.put(
            item.content,
            reason=item.reason,
            detail=item.detail,
            site=item.site,
            at=self._clock.now(),
        )


def _content(item: Accepted) -> bytes:
    return item.content


def _stored_scans(
    session: Session, accepted: Sequence[Accepted]
) -> dict[tuple[str, str], ScanRow]:
    instances = [item.pseudonyms.instance for item in accepted]
    rows = session.scalars(select(ScanRow).where(ScanRow.instance.in_(instances)))
    return {(row.site, row.instance): row for row in rows}


def _row(item: Accepted, digest: str, *, batch: int, at: datetime) -> ScanRow:
    attributes = item.attributes
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
    )


def _chunks(files: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield files in batches that fit in memory."""
    chunk: list[Path] = []
    size = 0
    for path in files:
        try:
            bytes_of = path.stat().st_size
        except OSError:
            bytes_of = 0  # gone since it was listed: reading it says so
        if chunk and (len(chunk) >= BATCH or size + bytes_of > BATCH_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(path)
        size += bytes_of
    if chunk:
        yield chunk
