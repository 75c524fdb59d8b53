"""Embedding: every scan of a monitor by its champion and its monitoring encoder.

Scans are read from the vault once, prepared for each encoder and embedded by threads, a bounded
number of scans ahead of what is written: on a CPU each thread takes a few scans from file to
embedding on a core of its own; on a GPU the threads prepare and one feeds it. Embeddings, results,
refusals and their ledger entry are written in one transaction for some hundred scans, behind the
job's fence. What is embedded together, and the order of what is written, depend on scans alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from monitor.assembling.assembler import Assembler
from monitor.assembling.counting import unit_watched
from monitor.assembling.selecting import selection_refusals
from monitor.embedding.embedding_plan import (
    PIECE,
    Batch,
    Embedded,
    NamesShadows,
    Planned,
    ReadingVersion,
    ShadowVersion,
    embed_together,
    gathered,
    piece_of,
)
from monitor.embedding.ordered_work import in_order
from monitor.embedding.pending_scans import intended_use, pending_scans, without_embedding
from monitor.embedding.reading_versions import reading_versions
from monitor.embedding.scan_preparation import ScanImages
from monitor.embedding.stage_times import Stage, observe
from monitor.embeddings import to_bytes
from monitor.imaging.pixel_measures import MEASURES, pixel_measures
from monitor.imaging.stored_samples import Reduced
from monitor.imaging.wavelet_processes import WaveletProcesses
from monitor.imaging.wavelets import decode_without
from monitor.intake.vault import Vault
from monitor.monitors import Monitor, require_monitor
from monitor.subgroups import Subgroup
from monitor.tables import EmbeddingRow, RefusalRow, ResultRow, ScanRow
from monitor.windows import Window
from registry import crash_points, ledger, serving
from registry.bundle_store import BundleStore
from registry.bundles.bundle import Bundle
from registry.bundles.preprocessing import Unit
from registry.clock import Clock
from registry.database import Database
from registry.errors import BadInputError
from registry.identities import SYSTEM
from registry.jobs import Claim, fence
from registry.versions import VersionRow, ref

if TYPE_CHECKING:
    from monitor.embedding.encoders import Encoded, Encoder

#: Pieces under way or done, for each thread: they keep it busy while a commit is written.
PIECES_AHEAD = 8
#: Scans that one transaction writes: each costs one fsync.
SCANS_PER_COMMIT = 256
#: Scans from which on processes that decode at reduced resolution are started: that takes them
#: half a second.
WORTH_PROCESSES = 64
#: Scans that are measured at a time.
MEASURED = 64

_log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Told after each commit: how many scans are done, out of how many.
Tell: TypeAlias = Callable[[int, int], None]


class Embedder:
    """Embeds what has not been embedded yet."""

    def __init__(
        self,
        database: Database,
        bundles: BundleStore,
        vault: Vault,
        clock: Clock,
        *,
        device: str,
        threads: int,
        shadows: NamesShadows | None = None,
    ) -> None:
        self._database = database
        self._bundles = bundles
        self._vault = vault
        self._images = ScanImages(vault)
        self._assembler = Assembler(database, vault, clock)
        self._clock = clock
        self._device = device
        self._threads = threads
        self._shadows = shadows
        self._encoders: dict[str, Encoder] = {}

    def encoder(self, version: VersionRow) -> Encoder:
        """Return the loaded encoder of a version."""
        if version.bundle_digest not in self._encoders:
            from monitor.embedding.encoders import load_encoder

            self._encoders[version.bundle_digest] = load_encoder(
                self._bundles.open(version),
                device=self._device,
                # Cores are shared out by scans: two that embed one scan each are faster
                # than two that embed one together, and wait for nobody.
                threads=1,
            )
        return self._encoders[version.bundle_digest]

    def handle(self, claim: Claim) -> None:
        """Do the job `embed`: payload {monitor}."""
        self.embed(claim.payload["monitor"], claim=claim)

    def assemble(self, monitor_name: str, *, claim: Claim | None = None) -> None:
        """Make scans of what has settled, if a monitor's versions read series or studies."""
        with self._database.reading() as session:
            unit = unit_watched(session, require_monitor(session, monitor_name))
        if unit is not Unit.INSTANCE:
            self._assembler.assemble(claim=claim)

    def embed(
        self,
        monitor_name: str,
        *,
        window: Window | None = None,
        extra: Sequence[VersionRow] = (),
        only: Sequence[int] | None = None,
        claim: Claim | None = None,
        tell: Tell | None = None,
    ) -> int:
        """Embed a monitor's pending scans, and return how many were read.

        Versions in shadow read whatever the champion reads, unless scans are named.

        Parameters
        ----------
        window : only what arrived in it
        extra : versions that read besides champion and monitoring encoder, in the background
        only : only these scans, by id
        claim : the job for which this is done; each write checks that it still holds
        tell : called after each commit
        """
        self.assemble(monitor_name, claim=claim)
        with self._database.reading() as session:
            monitor = require_monitor(session, monitor_name)
            beside: Sequence[ShadowVersion] = ()
            if self._shadows is not None and only is None:
                beside = self._shadows(session, monitor.specification.model)
            versions = reading_versions(
                session,
                monitor,
                extra=extra,
                beside=beside,
                open_bundle=self._bundles.open,
                encoder=self.encoder,
            )
            pending = pending_scans(session, monitor, versions, window, only)
        done = 0
        with self._decoder(versions, len(pending)) as reduced:
            for batch in self._batches(monitor, versions, pending, reduced):
                crash_points.reach("embed: read")
                self._write(monitor, batch, claim)
                crash_points.reach("embed: committed")
                done += batch.scans
                if tell is not None:
                    tell(done, len(pending))
        return done

    def probabilities(
        self, version: VersionRow, scans: Sequence[ScanRow], task: str
    ) -> npt.NDArray[np.float64]:
        """Return the probability of each of a task's classes for each scan, [n, k], unstored."""
        found = [encoded.probabilities[task] for encoded in self._encoded(version, scans)]
        return np.concatenate(found).astype(np.float64)

    def embeddings(
        self, version: VersionRow, scans: Sequence[ScanRow]
    ) -> npt.NDArray[np.float32]:
        """Return a version's embedding of each scan, [n, d], without storing it.

        Raises
        ------
        NotFoundError
            If a scan's pixels are no longer kept.
        """
        return np.concatenate([encoded.embeddings for encoded in self._encoded(version, scans)])

    def _encoded(self, version: VersionRow, scans: Sequence[ScanRow]) -> list[Encoded]:
        """Read scans by a version, in order."""
        encoder = self.encoder(version)
        bundle = self._bundles.open(version)

        def encoded(chunk: Sequence[ScanRow]) -> Encoded:
            inputs = [self._images.prepared(scan, bundle.preprocessing) for scan in chunk]
            return encoder.embed(
                np.concatenate(inputs), frames=[len(pixels) for pixels in inputs]
            )

        together = PIECE if encoder.device == "cpu" else encoder.batch
        return list(self._in_order(encoded, _chunks(scans, together)))

    def pixels(self, bundle: Bundle, scans: Sequence[ScanRow]) -> npt.NDArray[np.float32]:
        """Return scans as a bundle's encoder reads them, float32 [n, 3, h, w].

        Raises
        ------
        NotFoundError
            If a scan's pixels are no longer kept.
        BadInputError
            If several frames of a scan are read: they are no one image.
        """
        parts = self._in_order(partial(self._stacked, bundle), _chunks(scans, PIECE))
        return np.concatenate(list(parts))

    def measures(
        self, version: VersionRow, scans: Sequence[ScanRow]
    ) -> npt.NDArray[np.float64]:
        """Return the pixel measures of scans as a version's encoder is shown them, [n, m].

        Those of a scan whose pixels cannot be read again are NaN.

        Raises
        ------
        BadInputError
            If the encoder reads images that are too small to be measured.
        """
        preprocessing = self._bundles.open(version).preprocessing

        def measured(chunk: Sequence[ScanRow]) -> npt.NDArray[np.float64]:
            shown = [self._images.shown_again(scan, preprocessing) for scan in chunk]
            found = np.full((len(chunk), len(MEASURES)), np.nan)
            read = [at for at, image in enumerate(shown) if image is not None]
            if read:
                found[read] = pixel_measures(np.stack([i for i in shown if i is not None]))
            return found

        return np.concatenate(list(self._in_order(measured, _chunks(scans, MEASURED))))

    def _stacked(self, bundle: Bundle, scans: Sequence[ScanRow]) -> npt.NDArray[np.float32]:
        inputs = [self._images.prepared(scan, bundle.preprocessing) for scan in scans]
        if any(len(pixels) > 1 for pixels in inputs):
            several, one = "means over frames", "frames `middle`"
            if bundle.preprocessing.reading is not None:
                several, one = "several instances", "`at_most` 1"
            raise BadInputError(
                f"bundle {bundle.card.name} reads scans as {several}, which are no one image: "
                f"assemble it with {one} to train on them"
            )
        return np.concatenate(inputs)

    @contextmanager
    def _decoder(self, versions: Sequence[ReadingVersion], pending: int) -> Iterator[Reduced]:
        """Yield what decodes at reduced resolution: processes where they are worth their start."""
        asked = any(
            reader.bundle.preprocessing.wavelet_oversampling is not None for reader in versions
        )
        if not asked or self._threads == 1 or pending < WORTH_PROCESSES:
            yield decode_without
            return
        with WaveletProcesses(self._threads) as processes:
            yield processes.decode_without

    def _in_order(
        self, work: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[Result]:
        return in_order(work, items, threads=self._threads, ahead=PIECES_AHEAD * self._threads)

    def _batches(
        self,
        monitor: Monitor,
        versions: Sequence[ReadingVersion],
        pending: Sequence[ScanRow],
        reduced: Reduced,
    ) -> Iterator[Batch]:
        """Yield what to write, in order, while threads work on what comes next."""
        planned = self._plans(monitor, versions, pending)
        read: list[tuple[ReadingVersion, Sequence[ScanRow], Encoded]] = []
        decoding: list[float] = []
        embedding: list[float] = []
        unreadable: list[tuple[ScanRow, str]] = []
        for embedded in self._embedded(versions, planned, reduced):
            read += embedded.read
            unreadable += embedded.unreadable
            decoding += embedded.decode_seconds
            embedding += embedded.embed_seconds
            batch = embedded.planned[-1].ends
            if batch is not None:
                batch.read, read = read, []
                batch.decode_seconds, decoding = decoding, []
                batch.embed_seconds, embedding = embedding, []
                batch.refusals += unreadable
                unreadable = []
                yield batch

    def _embedded(
        self,
        versions: Sequence[ReadingVersion],
        planned: Iterable[Planned],
        reduced: Reduced,
    ) -> Iterator[Embedded]:
        prepare = partial(self._images.prepare_piece, reduced=reduced)
        if all(reader.encoder.device == "cpu" for reader in versions):
            return self._in_order(
                lambda plan: embed_together(versions, [(plan, prepare(plan.piece))]), planned
            )
        # Series are many images each: as few of these lie ahead as of single ones.
        ahead = PIECES_AHEAD * self._threads * PIECE // max(PIECE, _images(versions))
        prepared = in_order(
            lambda plan: (plan, prepare(plan.piece)),
            planned,
            threads=self._threads,
            ahead=max(ahead, self._threads),
        )
        together = max(reader.encoder.batch for reader in versions)
        # One thread feeds the GPU; the next batch lies ready when it is done.
        return in_order(
            partial(embed_together, versions), gathered(prepared, together), threads=1, ahead=3
        )

    def _plans(
        self, monitor: Monitor, versions: Sequence[ReadingVersion], pending: Sequence[ScanRow]
    ) -> Iterator[Planned]:
        for scans in _chunks(pending, SCANS_PER_COMMIT):
            with self._database.reading() as session:
                use = intended_use(session, self._bundles, monitor, versions)
                uses = {
                    site: intended_use(session, self._bundles, monitor, versions, site)
                    for site in {scan.site for scan in scans}
                }
                missing = {
                    reader.version.id: without_embedding(session, reader, scans)
                    for reader in versions
                }
                unselected = selection_refusals(
                    session, self._vault, scans, use.preprocessing.reading, versions=[*missing]
                )
            batch = Batch(scans=len(scans))
            accepted: list[ScanRow] = []
            for scan in scans:
                reason = uses[scan.site].card.intended_use.refusal(
                    modality=scan.modality,
                    body_part=scan.body_part,
                    view=scan.view,
                    age_years=scan.age_years,
                ) or unselected.get(scan.id)
                if reason is None:
                    accepted.append(scan)
                else:
                    batch.refusals.append((scan, reason))
            pieces = list(_chunks(accepted, max(1, PIECE // _images(versions)))) or [[]]
            for index, piece in enumerate(pieces):
                yield Planned(
                    piece=piece_of(versions, piece, missing),
                    missing=missing,
                    ends=batch if index == len(pieces) - 1 else None,
                )

    def _write(self, monitor: Monitor, batch: Batch, claim: Claim | None) -> None:
        now = self._clock.now()
        with self._database.transaction() as session:
            if claim is not None:
                fence(session, claim)
            number = max(
                ledger.next_batch(session, table)
                for table in (EmbeddingRow, ResultRow, RefusalRow)
            )
            withheld = serving.restrictions(session, monitor.specification.model)
            subgroups = [Subgroup.parse(row.subgroup) for row in withheld if row.subgroup]
            suspended = any(row.subgroup is None for row in withheld)
            places = serving.places(session, monitor.specification.model)
            for reader, scans, encoded in batch.read:
                for index, scan in enumerate(scans):
                    session.add(
                        EmbeddingRow(
                            batch=number,
                            scan=scan.id,
                            version=reader.version.id,
                            space=reader.version.space,
                            vector=to_bytes(encoded.embeddings[index]),
                        )
                    )
                    held = suspended or any(group.holds(scan) for group in subgroups)
                    delivery = "withheld" if held else "delivered"
                    # A result computed for a scan that came before this version
                    # served there was never meant for its reader.
                    place = places.at(scan.site)
                    if (
                        place is None
                        or place.version != reader.version.id
                        or scan.arrived_at < place.since
                    ):
                        delivery = "background"
                    for task in reader.bundle.tasks:
                        session.add(
                            ResultRow(
                                batch=number,
                                scan=scan.id,
                                version=reader.version.id,
                                task=task.name,
                                probabilities=[
                                    float(p) for p in encoded.probabilities[task.name][index]
                                ],
                                finding=None if task.positive is None else task.column,
                                threshold=task.threshold,
                                delivery=delivery,
                                created_at=now,
                            )
                        )
            for scan, reason in batch.refusals:
                session.add(
                    RefusalRow(
                        batch=number,
                        scan=scan.id,
                        model=monitor.specification.model,
                        reason=reason,
                        created_at=now,
                    )
                )
            observe(session, Stage.DECODE, monitor.name, batch.decode_seconds)
            observe(session, Stage.EMBED, monitor.name, batch.embed_seconds)
            observe(session, Stage.LAG, monitor.name, _lags(monitor, batch, now))
            read = {str(ref(reader.version)): 0 for reader, *_ in batch.read}
            for reader, scans, _ in batch.read:
                read[str(ref(reader.version))] += len(scans)
            ledger.append(
                session,
                at=now,
                actor=SYSTEM.name,
                kind="scans.read",
                subject=monitor.name,
                facts={"read": dict(read), "refused": len(batch.refusals)},
                batches=[(table, number) for table in (EmbeddingRow, ResultRow, RefusalRow)],
            )
            crash_points.reach("embed: before the commit")


def _lags(monitor: Monitor, batch: Batch, now: datetime) -> list[float]:
    """Return how long scans waited to be embedded: those alone that came to the monitor as it is.

    Whatever is read again for another version, or lay there before the monitor
    did, waited for nothing that is slow.
    """
    return [
        (now - scan.arrived_at).total_seconds()
        for reader, scans, _ in batch.read
        if str(ref(reader.version)) == monitor.specification.monitoring_encoder
        for scan in scans
        if scan.arrived_at >= monitor.applied_at
    ]


def _images(versions: Sequence[ReadingVersion]) -> int:
    """Return how many images one scan is read as, at most."""
    readings = [reader.bundle.preprocessing.reading for reader in versions]
    return max((reading.at_most for reading in readings if reading is not None), default=1)


def _chunks(scans: Sequence[ScanRow], size: int) -> Iterator[list[ScanRow]]:
    iterator = iter(scans)
    while chunk := list(islice(iterator, size)):
        yield chunk
