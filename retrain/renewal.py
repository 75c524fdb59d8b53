"""The job that renews a monitor's references after a promotion.

The new champion has a space of its own, and the shift that it was promoted
for is accepted. So both encoders get a new reference of scans that trained
nobody; the trend's reference stays as it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor import datasets, references
from monitor.embedding.embedding_plan import EmbedsScans
from monitor.monitors import Monitor, all_monitors
from monitor.references import EncoderRole, ProfileStore
from monitor.subgroups import HIERARCHY, Subgroup
from monitor.tables import EpisodeRow, ReferenceRow, ScanRow
from registry import crash_points, serving
from registry.clock import Clock
from registry.database import Database
from registry.errors import ConflictError
from registry.identities import SYSTEM
from registry.jobs import Claim, fence
from registry.versions import VersionRow, find, ref
from retrain import run_data, runs
from retrain.tables import RunRow

log = structlog.get_logger(__name__)


class ReferenceRenewer:
    """Does the job `renew reference`: payload {run}."""

    def __init__(
        self, database: Database, profiles: ProfileStore, embedder: EmbedsScans, clock: Clock
    ) -> None:
        self._database = database
        self._profiles = profiles
        self._embedder = embedder
        self._clock = clock

    def handle(self, claim: Claim) -> None:
        """Renew the references of every monitor of the promoted model that has one."""
        with self._database.reading() as session:
            run = runs.require_run(session, int(claim.payload["run"]))
            candidate = session.get_one(VersionRow, run.candidate)
            if not _serves(session, candidate):
                return  # another one serves by now, and its own renewal decides
            watching = [
                monitor
                for monitor in all_monitors(session)
                if monitor.specification.model == run.model
                and references.deciding(session, monitor.name)
            ]
        for monitor in watching:
            self._renew(monitor, run, candidate, claim)

    def _renew(
        self, monitor: Monitor, run: RunRow, candidate: VersionRow, claim: Claim
    ) -> None:
        with self._database.reading() as session:
            if any(
                row.version == candidate.id
                for row in references.deciding(session, monitor.name)
            ):
                return  # an earlier attempt came this far
            fixed = find(session, monitor.specification.monitoring_encoder)
            scans = references.eligible(
                session, accepted_scans(session, monitor, run), [candidate, fixed]
            )
        self._embedder.embed(
            monitor.name, extra=[candidate], only=[scan.id for scan in scans], claim=claim
        )
        crash_points.reach("reference: embedded")
        now = self._clock.now()
        with self._database.transaction() as session:
            fence(session, claim)
            dataset = references.freeze_reference(
                session,
                scans,
                description=f"accepted by run {run.id}",
                actor=SYSTEM.name,
                at=now,
            )
        crash_points.reach("reference: frozen")
        with self._database.reading() as session:
            fitted = [
                references.fit(
                    session,
                    self._profiles,
                    dataset=dataset.id,
                    encoder=role,
                    version=version,
                    attributes=monitor.specification.subgroup_attributes,
                    seed=run.seed,
                )
                for role, version in (
                    (EncoderRole.MONITORING, fixed),
                    (EncoderRole.CHAMPION, candidate),
                )
            ]
        crash_points.reach("reference: fitted")
        with self._database.transaction() as session:
            fence(session, claim)
            if not _serves(session, candidate):
                return  # rolled back meanwhile: the reference in force is of what serves
            references.accept(
                session,
                monitor,
                fitted,
                dataset=dataset,
                reason=f"run {run.id} promoted {ref(candidate)}",
                actor=SYSTEM.name,
                at=now,
            )
            crash_points.reach("reference: before the commit")
        crash_points.reach("reference: committed")
        log.info("references renewed", monitor=monitor.name, scans=len(scans))


def _serves(session: Session, version: VersionRow) -> bool:
    return serving.require_champion(session, version.model).id == version.id


def accepted_scans(session: Session, monitor: Monitor, run: RunRow) -> list[ScanRow]:
    """Return what is accepted as usual from now on.

    After a shift everywhere, the shift. After one at a place, the shift there,
    and of the reference before it whatever stood elsewhere, in the proportion that it had:
    a reference of one site's scans would make every other site alarm, and one with too large
    a share of the others the mix of all.
    """
    before: ReferenceRow | None = session.scalars(
        select(ReferenceRow).where(ReferenceRow.monitor == monitor.name, ReferenceRow.decides)
    ).first()
    if run.episode is None:
        if before is None:
            raise ConflictError(f"monitor {monitor.name} has no reference to renew")
        return datasets.members(session, before.dataset)
    episode = session.get_one(EpisodeRow, run.episode)
    shifted = run_data.shifted_scans(session, episode, run.model)
    if episode.subgroup is None or before is None:
        return shifted
    place = Subgroup.parse(episode.subgroup)
    elsewhere = _elsewhere(place, shifted)
    members = datasets.members(session, before.dataset)
    kept = [scan for scan in members if elsewhere(scan)]
    replaced = len(members) - len(kept)
    if not replaced:
        # A new place: what came beside it says how large its share is.
        beside = sum(map(elsewhere, _arrived_since(session, episode, members[0].unit)))
        return [*_thinned(kept, beside, salt=before.id), *shifted]
    share = min(1.0, len(shifted) / replaced)
    return [
        *_thinned(kept, round(share * len(kept)), salt=before.id),
        *_thinned(shifted, replaced, salt=before.id),
    ]


def _arrived_since(session: Session, episode: EpisodeRow, unit: str) -> list[ScanRow]:
    return list(
        session.scalars(
            select(ScanRow).where(ScanRow.arrived_at >= episode.onset, ScanRow.unit == unit)
        )
    )


def _thinned(scans: Sequence[ScanRow], count: int, *, salt: int) -> list[ScanRow]:
    """Return about so many scans, all of a patient or none, drawn by a hash of the pseudonym."""
    by_patient: dict[str, list[ScanRow]] = {}
    for scan in scans:
        by_patient.setdefault(scan.person, []).append(scan)
    drawn: list[ScanRow] = []
    for person in sorted(
        by_patient, key=lambda person: hashlib.sha256(f"{salt}\0{person}".encode()).digest()
    ):
        if len(drawn) >= count:
            break
        drawn += by_patient[person]
    return sorted(drawn, key=lambda scan: scan.id)


def _elsewhere(place: Subgroup, shifted: Sequence[ScanRow]) -> Callable[[ScanRow], bool]:
    """Return what says of a scan whether the shift has left its like as it was.

    Where equipment changed, what the same scanners sent before comes no more.
    """
    if not set(place.attributes) <= set(HIERARCHY):
        return lambda scan: not place.holds(scan)
    scanners = {_scanner(scan) for scan in shifted}
    return lambda scan: _scanner(scan) not in scanners


def _scanner(scan: ScanRow) -> tuple[str | None, ...]:
    return (scan.site, scan.manufacturer, scan.scanner_model, scan.station)
