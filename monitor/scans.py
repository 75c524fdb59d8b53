"""Storing scans: prepared files into the vault, rows and their ledger entry in one transaction.

The vault is written first, so that a row never points at nothing; a crash in
between leaves at most a file that the next attempt finds in its place.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TypeAlias

from sqlalchemy.orm import Session

from monitor.assembling import merging, withdrawing
from monitor.intake.decoding import DecodingProcess
from monitor.intake.folder import files_in
from monitor.intake.intake import (
    Accepted,
    Prepared,
    Rejected,
    Rejecting,
    contradiction,
    prepare,
    prepare_bytes,
)
from monitor.intake.keys import SecretKey
from monitor.intake.limits import DEFAULT_LIMITS
from monitor.intake.pseudonym_keys import PseudonymKeys, revision
from monitor.intake.pseudonyms import Naming, group_pseudonyms
from monitor.intake.quarantine import Quarantine
from monitor.intake.reading import read_bytes
from monitor.intake.reasons import Reason
from monitor.intake.releases import was_released
from monitor.intake.sealing import Sealer
from monitor.intake.study_time import StudyTime
from monitor.intake.vault import Vault
from monitor.intake.ways_out import RELEASABLE
from monitor.scan_rows import place_row, scan_row, stored_scans
from monitor.tables import ScanRow, SealedOriginalsRow
from registry import crash_points, ledger
from registry.clock import Clock
from registry.database import Database
from registry.errors import IntegrityError, UnreadableScanError
from registry.identities import SYSTEM

#: Files that one transaction stores: they share its fsyncs and its ledger entry.
BATCH = 200
#: Bytes of files that one transaction stores: they are in memory together.
BATCH_BYTES = 256 << 20

#: Told after each batch: how many files are done, out of how many.
Tell: TypeAlias = Callable[[int, int], None]

#: Raises within a transaction that may not store what it is about to.
Fence: TypeAlias = Callable[[Session], None]


class Outcome(StrEnum):
    """What became of an instance; each is durable once it is said."""

    ADDED = "added"
    KNOWN = "known"  #: came before, by whatever road
    QUARANTINED = "quarantined"
    FOLLOWED = "followed"  #: a document that rejects instances; they count no more


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """An instance that was prepared, on its way to storage."""

    prepared: Prepared
    #: returns it as it came, None where that is gone: a retry begins there
    original: Callable[[], bytes | None] = field(repr=False)
    #: when it was whole in memory, by `time.monotonic`
    since: float = field(default_factory=time.monotonic)
    #: a sender sent it; False where it lay in quarantine
    came: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What became of one arrival."""

    outcome: Outcome
    reason: Reason | None = None  #: why it is in quarantine
    detail: str = ""  #: a sentence without patient data


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeReport:
    """What became of files."""

    added: int
    #: came before, by whatever road
    known: int
    quarantined: int
    #: reason -> how many files
    reasons: Mapping[str, int]
    #: documents that reject instances, and were not known
    followed: int = 0


class ScanIntake:
    """Takes instances in, by whatever road they come."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        quarantine: Quarantine,
        key: SecretKey | PseudonymKeys,
        clock: Clock,
        *,
        sealer: Sealer | None = None,
        study_time: StudyTime = StudyTime.REMOVED,
        recognises_text: bool = False,
    ) -> None:
        self._database = database
        self._vault = vault
        self._quarantine = quarantine
        self._key = key
        self._clock = clock
        self._sealer = sealer
        self._study_time = study_time
        self._decoder = DecodingProcess(recognises_text=recognises_text)

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
        outcomes: Counter[Outcome] = Counter()
        reasons: Counter[str] = Counter()
        done = 0
        for chunk in _chunks(files):
            arrivals = [
                Arrival(
                    prepared=prepare(
                        path,
                        site=site,
                        key=self._naming(),
                        decoder=self._decoder,
                        sealer=self._sealer,
                        study_time=self._study_time,
                    ),
                    original=partial(_read_again, path),
                )
                for path in chunk
            ]
            for fate in self.take(arrivals):
                outcomes[fate.outcome] += 1
                if fate.reason is not None:
                    reasons[fate.reason.value] += 1
            done += len(chunk)
            if tell is not None:
                tell(done, len(files))
        return IntakeReport(
            added=outcomes[Outcome.ADDED],
            known=outcomes[Outcome.KNOWN],
            quarantined=outcomes[Outcome.QUARANTINED],
            reasons=dict(reasons),
            followed=outcomes[Outcome.FOLLOWED],
        )

    def prepare(
        self, content: bytes, *, site: str, annotation_denied: bool = False, came: bool = True
    ) -> Arrival:
        """Prepare the bytes of a DICOM file for `take`; see `prepare_bytes`.

        Parameters
        ----------
        came : a sender sent it; False where it lay in quarantine
        """
        since = time.monotonic()
        return Arrival(
            prepared=prepare_bytes(
                content,
                site=site,
                key=self._naming(),
                decoder=self._decoder,
                sealer=self._sealer,
                study_time=self._study_time,
                annotation_denied=annotation_denied,
            ),
            original=lambda: content,
            since=since,
            came=came,
        )

    def take(self, arrivals: Sequence[Arrival], *, fence: Fence | None = None) -> list[Fate]:
        """Store arrivals together, and return what became of each, in their order.

        When this returns, each survives a power cut: as a scan, as one that
        was stored before, or in quarantine. Scans share one transaction and
        one ledger entry.

        Parameters
        ----------
        fence : is asked within that transaction, and raises where nothing may be stored

        Raises
        ------
        StorageFullError
            If the disk is full; whatever was not stored can be sent again.
        """
        fates: dict[int, Fate] = {}
        waiting: dict[int, tuple[Arrival, Accepted]] = {}
        for index, arrival in enumerate(arrivals):
            prepared = self._unless_released(arrival)
            if isinstance(prepared, Accepted):
                waiting[index] = (arrival, prepared)
            else:
                fates[index] = self._done_with(arrival, prepared)
        while waiting:
            waiting, refused = self._under_newest_keys(waiting)
            fates |= refused
            fresh, settled = self._sorted(waiting)
            stored = self._store({index: waiting[index][1] for index in fresh}, fence)
            fates |= settled
            fates |= {index: Fate(outcome=Outcome.ADDED) for index in stored}
            # Another intake stored the same instance meanwhile: it is looked at again.
            waiting = {index: item for index, item in waiting.items() if index not in fates}
        self._write_look_ups()
        return [fates[index] for index in range(len(arrivals))]

    def group_pseudonyms(self, study: str, series: str, *, site: str) -> tuple[str, str]:
        """Return the pseudonyms of the UIDs of a study and of a series of it."""
        return group_pseudonyms(study, series, site=site, key=self._naming())

    def _unless_released(self, arrival: Arrival) -> Prepared:
        """Prepare anew what is refused for burned-in text, and somebody said has none."""
        refused = arrival.prepared
        if (
            not isinstance(refused, Rejected)
            or refused.content is None
            or refused.reason not in RELEASABLE
        ):
            return refused
        ids = self._quarantine.ids_of(refused.content, site=refused.site)
        with self._database.reading() as session:
            if not any(was_released(session, one) for one in ids):
                return refused
        again = self.prepare(refused.content, site=refused.site, annotation_denied=True)
        return again.prepared

    def _naming(self) -> Naming:
        return self._key if isinstance(self._key, SecretKey) else self._key.current()

    def _under_newest_keys(
        self, waiting: Mapping[int, tuple[Arrival, Accepted]]
    ) -> tuple[dict[int, tuple[Arrival, Accepted]], dict[int, Fate]]:
        """Prepare anew what was prepared under keys that were replaced meanwhile.

        Returns what is to be stored, and the fates of what cannot be prepared any more.
        """
        if isinstance(self._key, SecretKey):
            return dict(waiting), {}
        revision = self._key.current().revision
        prepared: dict[int, tuple[Arrival, Accepted]] = {}
        fates: dict[int, Fate] = {}
        for index, (arrival, item) in waiting.items():
            if item.revision == revision:
                prepared[index] = (arrival, item)
                continue
            again = self._prepared_again(arrival, item)
            if isinstance(again, Accepted):
                prepared[index] = (arrival, again)
            else:
                fates[index] = self._done_with(arrival, again)
        return prepared, fates

    def _prepared_again(self, arrival: Arrival, item: Accepted | Rejecting) -> Prepared:
        content = arrival.original()
        if content is None:
            return Rejected(
                site=item.site,
                reason=Reason.NOT_READABLE,
                detail="the file is gone, and the keys were replaced while it was taken in",
                content=None,
            )
        denied = isinstance(item, Accepted) and item.annotation_denied
        return self.prepare(content, site=item.site, annotation_denied=denied).prepared

    def _write_look_ups(self) -> None:
        if isinstance(self._key, SecretKey):
            return
        naming = self._key.current()
        if not naming.has_unwritten:
            return
        with self._database.transaction() as session:
            if revision(session) == naming.revision:
                naming.write(session)

    def _replaced_keys(self, session: Session, items: Iterable[Accepted | Rejecting]) -> bool:
        """Say whether items were prepared under keys that are not the newest; forget these then."""
        if isinstance(self._key, SecretKey):
            return False
        newest = revision(session)
        replaced = {item.revision for item in items} - {newest}
        for known in replaced:
            self._key.reload(known)
        return bool(replaced)

    def _done_with(self, arrival: Arrival, item: Rejected | Rejecting) -> Fate:
        """Set aside what is no scan, or follow what it says of scans."""
        if isinstance(item, Rejected):
            return self._set_aside(arrival, item)
        now = self._clock.now()
        with self._database.transaction() as session:
            replaced = self._replaced_keys(session, [item])
            new = not replaced and withdrawing.follow(session, item, at=now)
        if not replaced:
            return Fate(outcome=Outcome.FOLLOWED if new else Outcome.KNOWN)
        again = self._prepared_again(arrival, item)
        if isinstance(again, Accepted):
            raise IntegrityError("a file was a document when it was read first, and is a scan")
        return self._done_with(arrival, again)

    def _sorted(
        self, waiting: Mapping[int, tuple[Arrival, Accepted]]
    ) -> tuple[list[int], dict[int, Fate]]:
        """Return what is new, and the fates of resends and of what contradicts what is stored."""
        with self._database.reading() as session:
            stored = stored_scans(session, [item for _, item in waiting.values()])
        fresh: dict[tuple[str, str], tuple[int, Accepted]] = {}
        fates: dict[int, Fate] = {}
        for index, (arrival, item) in waiting.items():
            if item.identity in stored:
                problem = self._contradiction(item, stored[item.identity])
            elif item.identity in fresh:
                twin = fresh[item.identity][1]
                problem = contradiction(
                    item,
                    stored_pixel_digest=twin.pixel_digest,
                    stored_content=partial(_content, twin),
                )
                if problem is None:
                    continue  # known as soon as its twin is stored
            else:
                fresh[item.identity] = (index, item)
                continue
            if problem is None:
                self._note_merge(item, stored[item.identity])
                fates[index] = Fate(outcome=Outcome.KNOWN)
            else:
                fates[index] = self._set_aside(
                    arrival,
                    Rejected(
                        site=item.site,
                        reason=Reason.CONFLICT,
                        detail=problem,
                        content=arrival.original(),
                    ),
                )
        return [index for index, _ in fresh.values()], fates

    def _note_merge(self, item: Accepted, before: ScanRow) -> None:
        """Note that one instance came under two patients: an archive merged these meanwhile."""
        patient = item.pseudonyms.patient
        if patient in {before.patient, before.person}:
            return
        with self._database.transaction() as session:
            if self._replaced_keys(session, [item]):
                return  # the resend after this one says it again
            merging.merge(
                session,
                site=item.site,
                merged=before.patient,
                patient=patient,
                how=merging.How.RESENT,
                actor=SYSTEM.name,
                at=self._clock.now(),
            )

    def _store(self, fresh: Mapping[int, Accepted], fence: Fence | None) -> list[int]:
        """Store new scans, and return which another intake had not stored meanwhile."""
        if not fresh:
            return []
        digests = self._vault.put_all([item.content for item in fresh.values()])
        crash_points.reach("scans: in the vault")
        now = self._clock.now()
        with self._database.transaction() as session:
            if self._replaced_keys(session, fresh.values()):
                return []
            if fence is not None:
                fence(session)
            known = stored_scans(session, list(fresh.values()))
            stored = [
                (index, item, digest)
                for (index, item), digest in zip(fresh.items(), digests, strict=True)
                if item.identity not in known
            ]
            for site in sorted({item.site for _, item, _ in stored}):
                number = ledger.next_batch(session, ScanRow)
                own = [item for _, item, _ in stored if item.site == site]
                rows = [
                    scan_row(item, digest, batch=number, at=now)
                    for _, item, digest in stored
                    if item.site == site
                ]
                session.add_all(rows)
                session.flush()
                session.add_all(map(place_row, rows, own))
                withdrawn = withdrawing.withdraw_rejected(session, rows, at=now)
                ledger.append(
                    session,
                    at=now,
                    actor=SYSTEM.name,
                    kind="scans.received",
                    subject=site,
                    facts={"scans": len(rows)},
                    batches=[(ScanRow, number), *withdrawn],
                )
                session.add_all(
                    SealedOriginalsRow(scan=row.id, sealed=item.sealed)
                    for row, item in zip(rows, own, strict=True)
                    if item.sealed is not None
                )
            crash_points.reach("scans: before the commit")
        crash_points.reach("scans: committed")
        return [index for index, _, _ in stored]

    def _contradiction(self, item: Accepted, before: ScanRow) -> str | None:
        return contradiction(
            item,
            stored_pixel_digest=before.pixel_digest,
            stored_content=lambda: self._vault.get(before.vault_digest),
        )

    def _set_aside(self, arrival: Arrival, item: Rejected) -> Fate:
        self._quarantine.put(
            item.content,
            reason=item.reason,
            detail=item.detail,
            site=item.site,
            at=self._clock.now(),
            came=arrival.came,
        )
        return Fate(outcome=Outcome.QUARANTINED, reason=item.reason, detail=item.detail)


def _read_again(path: Path) -> bytes | None:
    try:
        return read_bytes(path, DEFAULT_LIMITS)
    except UnreadableScanError:
        return None  # gone since it was read


def _content(item: Accepted) -> bytes:
    return item.content


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
