"""References: frozen, accepted sets of embeddings, and the profile of each."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor import embeddings
from monitor.datasets import Purpose, freeze, frozen_before, members, patients_in
from monitor.monitors import Monitor
from monitor.profiles import ReferenceProfile, spans_weeks
from monitor.subgroup_references import KnownSubgroup, known_subgroups
from monitor.subgroups import Attribute
from monitor.tables import DatasetRow, ReferenceRow, ScanRow, SubgroupReferenceRow
from registry import ledger, lineage
from registry.canonical import sha256
from registry.errors import ConflictError, IntegrityError, NotFoundError
from registry.versions import VersionRow, ref


class EncoderRole(StrEnum):
    """Which of a monitor's encoders a reference belongs to."""

    MONITORING = "monitoring"
    CHAMPION = "champion"


class ProfileStore:
    """Profiles as directories named by the digest of their bytes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def save(self, profile: ReferenceProfile) -> str:
        """Store a profile, and return its digest."""
        self._root.mkdir(parents=True, exist_ok=True)
        staging = Path(mkdtemp(dir=self._root, prefix=".saving-"))
        try:
            profile.save(staging)
            digest = _digest(staging)
            if not (self._root / digest).exists():
                staging.rename(self._root / digest)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return digest

    def directory(self, digest: str) -> Path:
        """Return where a profile lies, for a process that loads it by itself."""
        return self._root / digest

    def load(self, digest: str) -> ReferenceProfile:
        """Return a stored profile.

        Raises
        ------
        NotFoundError
            If it is gone.
        IntegrityError
            If its bytes are no longer those that were accepted.
        """
        return _load(self._root, digest)


# Room for the subgroups of two encoders, which take turns.
@lru_cache(maxsize=64)
def _load(root: Path, digest: str) -> ReferenceProfile:
    directory = root / digest
    if not directory.is_dir():
        raise NotFoundError(f"profile {digest[:12]} is gone: restore it from a backup")
    if _digest(directory) != digest:
        raise IntegrityError(f"profile {digest[:12]} was changed since it was accepted")
    return ReferenceProfile.load(directory)


def _digest(directory: Path) -> str:
    parts = [f"{path.name}:{sha256(path.read_bytes())}" for path in sorted(directory.iterdir())]
    return sha256("\n".join(parts).encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedReference:
    """A profile that waits to be accepted."""

    encoder: EncoderRole
    version: VersionRow
    profile_digest: str
    #: each with the digest of the profile that its windows are compared with, if it has one
    subgroups: tuple[tuple[KnownSubgroup, str | None], ...]


def eligible(
    session: Session, scans: Sequence[ScanRow], versions: Sequence[VersionRow]
) -> list[ScanRow]:
    """Return the scans of patients that trained none of the versions, nor their bases.

    On a fine-tuned network, embeddings of training scans differ from those of
    new scans of the same distribution, so a reference must hold none.
    """
    trained = trained_patients(session, versions)
    return [scan for scan in scans if scan.person not in trained]


def trained_patients(session: Session, versions: Sequence[VersionRow]) -> set[str]:
    """Return the patients that trained one of the versions, or one of their bases."""
    trained: set[str] = set()
    for version in versions:
        for part in (version, *lineage.ancestors(session, version)):
            digests = [data["digest"] for data in part.card["training_data"] if data["digest"]]
            trained |= patients_in(session, digests)
    return trained


def freeze_reference(
    session: Session, scans: Sequence[ScanRow], *, description: str, actor: str, at: datetime
) -> DatasetRow:
    """Freeze scans as a reference's dataset, or take what an interrupted attempt froze of them."""
    before = frozen_before(session, scans, purpose=Purpose.REFERENCE, description=description)
    return before or freeze(
        session, scans, purpose=Purpose.REFERENCE, description=description, actor=actor, at=at
    )


def fit(
    session: Session,
    store: ProfileStore,
    *,
    dataset: int,
    encoder: EncoderRole,
    version: VersionRow,
    attributes: Sequence[Attribute],
    seed: int,
) -> FittedReference:
    """Fit and store the profiles of a dataset and its subgroups in one version's space.

    Raises
    ------
    InsufficientReferenceError
        If the dataset is too small for a calibrated profile.
    ConflictError
        If some of its scans are not embedded by that version yet.
    """
    embedded = embeddings.in_dataset(session, version.id, dataset)
    expected = len(members(session, dataset))
    if len(embedded) != expected:
        raise ConflictError(
            f"{expected - len(embedded)} of {expected} reference scans are not embedded by "
            f"{ref(version)} yet: run `driftward work`, then try again"
        )

    def fitted(part: embeddings.EmbeddedScans, weeks: list[int] | None) -> str:
        profile = ReferenceProfile.fit(
            part.vectors, part.patients, weeks=weeks, seed=seed, space=version.space
        )
        return store.save(profile)

    weeks = _known_weeks(embedded)
    whole = fitted(embedded, weeks)
    subgroups: list[tuple[KnownSubgroup, str | None]] = []
    for known, part in known_subgroups(embedded, attributes):
        digest = whole if known.nearly_all else None
        own_weeks = _known_weeks(part)
        # Where weeks are known to differ, a subgroup must know what its own differ by.
        if known.large and (weeks is None or own_weeks is not None):
            digest = fitted(part, own_weeks)
        subgroups.append((known, digest))
    return FittedReference(
        encoder=encoder, version=version, profile_digest=whole, subgroups=tuple(subgroups)
    )


def _known_weeks(embedded: embeddings.EmbeddedScans) -> list[int] | None:
    """Return each scan's week, or None where few weeks cannot tell what weeks differ by."""
    if not embedded.scans:
        return None
    weeks = embedded.weeks(min(scan.arrived_at for scan in embedded.scans))
    return weeks if spans_weeks(weeks, embedded.patients) else None


def accept(
    session: Session,
    monitor: Monitor,
    fitted: Sequence[FittedReference],
    *,
    dataset: DatasetRow,
    reason: str,
    actor: str,
    at: datetime,
) -> list[ReferenceRow]:
    """Accept fitted references: they decide from now on, those before them no longer do.

    The first reference of the monitoring encoder stays the trend's for good,
    so that the trend runs unbroken across promotions. What decides already is left as it is.
    """
    before = deciding(session, monitor.name)
    if _decide(before, fitted, dataset):
        return before
    for row in before:
        row.decides = False
        row.retired_at = None if row.trend else at
    has_trend = trend(session, monitor.name) is not None
    rows = [
        ReferenceRow(
            monitor=monitor.name,
            encoder=item.encoder.value,
            version=item.version.id,
            space=item.version.space,
            dataset=dataset.id,
            profile_digest=item.profile_digest,
            accepted_at=at,
            decides=True,
            trend=item.encoder is EncoderRole.MONITORING and not has_trend,
        )
        for item in fitted
    ]
    session.add_all(rows)
    session.flush()
    parts = [
        SubgroupReferenceRow(
            reference=row.id,
            subgroup=str(known.subgroup),
            scans=known.scans,
            patients=known.patients,
            profile_digest=digest,
        )
        for row, item in zip(rows, fitted, strict=True)
        for known, digest in item.subgroups
    ]
    session.add_all(parts)
    session.flush()
    ledger.append(
        session,
        at=at,
        actor=actor,
        kind="reference.accepted",
        subject=monitor.name,
        facts={
            "dataset": dataset.digest,
            "scans": dataset.scans,
            "profiles": {row.encoder: row.profile_digest for row in rows},
            "reason": reason,
        },
        seals=[*rows, *parts, *before],
    )
    return rows


def _decide(
    rows: Sequence[ReferenceRow], fitted: Sequence[FittedReference], dataset: DatasetRow
) -> bool:
    """Return whether rows are the references that were fitted."""
    return {(row.encoder, row.version, row.profile_digest, row.dataset) for row in rows} == {
        (item.encoder.value, item.version.id, item.profile_digest, dataset.id)
        for item in fitted
    }


def reinstate(
    session: Session,
    monitor: str,
    version: VersionRow,
    *,
    reason: str,
    actor: str,
    at: datetime,
) -> list[ReferenceRow]:
    """Let the newest references that were accepted with a version decide again.

    A version that serves again is judged by its own reference: in the space of another it has
    no embeddings. Empty if the version never had one, or has it now.
    """
    own = session.scalars(
        select(ReferenceRow)
        .where(
            ReferenceRow.monitor == monitor,
            ReferenceRow.encoder == EncoderRole.CHAMPION.value,
            ReferenceRow.version == version.id,
        )
        .order_by(ReferenceRow.id.desc())
    ).first()
    if own is None or own.decides:
        return []
    replaced = deciding(session, monitor)
    for row in replaced:
        row.decides = False
        row.retired_at = None if row.trend else at
    rows = list(
        session.scalars(
            select(ReferenceRow).where(
                ReferenceRow.monitor == monitor,
                ReferenceRow.dataset == own.dataset,
                ReferenceRow.accepted_at == own.accepted_at,
            )
        )
    )
    for row in rows:
        row.decides, row.retired_at = True, None
    ledger.append(
        session,
        at=at,
        actor=actor,
        kind="reference.reinstated",
        subject=monitor,
        facts={
            "version": str(ref(version)),
            "profiles": {row.encoder: row.profile_digest for row in rows},
            "reason": reason,
        },
        seals=[*rows, *replaced],
    )
    return rows


def deciding(session: Session, monitor: str) -> list[ReferenceRow]:
    """Return the references whose verdicts can raise an alarm."""
    return list(
        session.scalars(
            select(ReferenceRow)
            .where(ReferenceRow.monitor == monitor, ReferenceRow.decides)
            .order_by(ReferenceRow.id)
        )
    )


def trend(session: Session, monitor: str) -> ReferenceRow | None:
    """Return the reference against which the trend is drawn, if there is one yet."""
    return session.scalars(
        select(ReferenceRow).where(ReferenceRow.monitor == monitor, ReferenceRow.trend)
    ).first()
