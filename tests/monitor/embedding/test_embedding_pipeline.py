"""Embedding by threads: nothing lost, nothing twice, in one order, whatever a scan is."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from dicom_instances import KEY, SITE, as_file, radiograph, set_frames
from pydicom.uid import JPEG2000Lossless
from sqlalchemy import func, select
from tiny_bundles import TASK, finding, tiny_bundle

import monitor.embedding.embedding
from monitor.embedding.embedding import Embedder
from monitor.embedding.embedding_plan import PIECE, Batch, Planned, gathered
from monitor.embedding.encoders import load_encoder
from monitor.embedding.scan_preparation import Piece, PreparedPiece
from monitor.embeddings import to_bytes
from monitor.imaging.pixels import decode, prepare
from monitor.imaging.wavelets import levels_to_skip
from monitor.intake.deidentify import deidentify
from monitor.intake.reading import read_instance
from monitor.intake.vault import Vault
from monitor.monitors import MonitorSpecification, apply_monitor
from monitor.tables import EmbeddingRow, RefusalRow, ResultRow, ScanRow
from registry import ledger
from registry.bundle_store import BundleStore
from registry.bundles.bundle import Bundle
from registry.bundles.preprocessing import MeanOfFrames, MiddleFrame
from registry.clock import ReplayClock
from registry.database import Database
from registry.errors import BadInputError, SetupError
from registry.tracking import Tracking
from registry.versions import Origin, VersionRow, register

ANCHOR = datetime(2026, 3, 2, tzinfo=UTC)
MONITOR = "chest"


@dataclass(kw_only=True)
class Place:
    """A monitor of two encoders that read alike but for the resolution that they decode at."""

    database: Database
    vault: Vault
    folder: Path
    full: Bundle
    reduced: Bundle
    extra: VersionRow

    def embedder(self, *, threads: int = 2) -> Embedder:
        return Embedder(
            self.database,
            BundleStore(
                Tracking("sqlite:///never-opened.db", self.folder / "artifacts"),
                self.folder / "bundles",
            ),
            self.vault,
            ReplayClock(ANCHOR),
            device="cpu",
            threads=threads,
        )

    def store(self, contents: list[bytes]) -> list[ScanRow]:
        digests = self.vault.put_all(contents)
        with self.database.transaction() as session:
            start = session.scalar(select(func.count()).select_from(ScanRow)) or 0
            rows = [
                ScanRow(
                    batch=start + 1,
                    arrived_at=ANCHOR,
                    site=SITE,
                    patient="p",
                    study="st",
                    series="se",
                    instance=f"i{start + index}",
                    vault_digest=digest,
                    pixel_digest=digest,
                    modality="CR",
                )
                for index, digest in enumerate(digests)
            ]
            session.add_all(rows)
            ledger.append(
                session,
                at=ANCHOR,
                actor="test",
                kind="scans.received",
                subject=SITE,
                facts={},
                batches=[(ScanRow, start + 1)],
            )
        return rows

    def vectors(self, version: int = 1) -> list[tuple[int, bytes]]:
        with self.database.reading() as session:
            rows = session.scalars(
                select(EmbeddingRow)
                .where(EmbeddingRow.version == version)
                .order_by(EmbeddingRow.id)
            )
            return [(row.scan, row.vector) for row in rows]

    def refusals(self) -> dict[int, str]:
        with self.database.reading() as session:
            return {row.scan: row.reason for row in session.scalars(select(RefusalRow))}

    def ledger_is_valid(self) -> bool:
        with self.database.reading() as session:
            return ledger.verify(session).valid


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bundle]:
    folder = tmp_path_factory.mktemp("bundles")
    return (
        tiny_bundle(folder / "full"),
        tiny_bundle(folder / "reduced", wavelet_oversampling=1),
    )


@pytest.fixture
def place(database: Database, tmp_path: Path, bundles: tuple[Bundle, Bundle]) -> Place:
    return place_of(database, tmp_path, bundles)


def place_of(database: Database, tmp_path: Path, bundles: tuple[Bundle, Bundle]) -> Place:
    with database.transaction() as session:
        rows = [
            register(
                session,
                bundle,
                model=name,
                base=None,
                origin=Origin.IMPORT,
                artifact_uri=bundle.root.as_uri(),
                mlflow_run="none",
                actor="test",
                at=ANCHOR,
            )
            for name, bundle in zip(("general", "other"), bundles, strict=True)
        ]
        apply_monitor(
            session,
            MonitorSpecification.model_validate(
                {
                    "name": MONITOR,
                    "model": "general",
                    "task": "any",
                    "monitoring_encoder": "general@1",
                    "window_hours": 84,
                    "anchor": ANCHOR,
                    "alpha_per_week": 0.005,
                    "subgroup_attributes": [],
                    "floor": 20,
                }
            ),
            actor="test",
            at=ANCHOR,
        )
    return Place(
        database=database,
        vault=Vault(tmp_path / "vault"),
        folder=tmp_path,
        full=bundles[0],
        reduced=bundles[1],
        extra=rows[1],
    )


def native(number: int) -> bytes:
    samples = np.random.default_rng(number).integers(0, 4096, (24, 20)).astype(np.uint16)
    ds = radiograph(samples, SOPInstanceUID=f"1.2.3.{number}")
    return deidentify(read_instance(as_file(ds)), site=SITE, key=KEY).content


def compressed(number: int, *, cut: bool = False) -> bytes:
    samples = np.random.default_rng(number).integers(0, 4096, (64, 64)).astype(np.uint16)
    frame = bytes(
        imagecodecs.jpeg2k_encode(
            samples, codecformat="j2k", reversible=True, level=0, bitspersample=12
        )
    )
    ds = radiograph(samples, SOPInstanceUID=f"1.2.3.{number}")
    set_frames(ds, frame, transfer_syntax=JPEG2000Lossless)
    content = deidentify(read_instance(as_file(ds)), site=SITE, key=KEY).content
    if cut:
        start = content.index(b"\xff\x93")  # of the coded data
        content = content[: start + 2] + bytes(40) + content[-8:]
    return content


def expected(bundle: Bundle, contents: list[bytes]) -> list[bytes]:
    """Return what a bundle makes of files by itself, a few at a time as the pipeline does."""
    encoder = load_encoder(bundle, device="cpu", threads=1)
    vectors: list[bytes] = []
    for start in range(0, len(contents), PIECE):
        images = []
        for content in contents[start : start + PIECE]:
            ds = pydicom.dcmread(io.BytesIO(content))
            skipped = levels_to_skip(ds, bundle.preprocessing)
            images.append(prepare(decode(ds, skipped_levels=skipped), bundle.preprocessing))
        vectors += [to_bytes(row) for row in encoder.embed(np.stack(images)).embeddings]
    return vectors


@pytest.fixture
def small_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor.embedding.embedding, "SCANS_PER_COMMIT", 2 * PIECE + 1)


@pytest.mark.usefixtures("small_commits")
@pytest.mark.parametrize("threads", [1, 3])
def test_rows_come_in_the_order_of_the_scans_however_many_threads_read(
    place: Place, threads: int
) -> None:
    contents = [native(number) for number in range(23)]
    place.store(contents)
    told: list[tuple[int, int]] = []
    embedder = place.embedder(threads=threads)
    assert embedder.embed(MONITOR, tell=lambda *done: told.append(done)) == 23
    assert told == [(9, 23), (18, 23), (23, 23)]
    assert [scan for scan, _ in place.vectors()] == list(range(1, 24))
    by_commit = [contents[:9], contents[9:18], contents[18:]]
    assert [vector for _, vector in place.vectors()] == [
        vector for part in by_commit for vector in expected(place.full, part)
    ]
    assert place.ledger_is_valid()


@pytest.mark.usefixtures("small_commits")
def test_a_scan_that_cannot_be_decoded_is_refused_by_name_and_the_others_are_read(
    place: Place,
) -> None:
    contents = [native(number) for number in range(12)]
    contents[4] = compressed(4, cut=True)
    contents[9] = native(9)[:700]
    rows = place.store(contents)
    place.vault.path(rows[2].vault_digest).unlink()
    place.vault.path(rows[6].vault_digest).write_bytes(b"damaged")
    assert place.embedder().embed(MONITOR) == 12
    reasons = place.refusals()
    assert sorted(reasons) == [3, 5, 7, 10]
    assert reasons[3] == "cannot be read: the vault no longer holds its pixels"
    assert reasons[7] == "cannot be read: the vault's file is not what was stored"
    for scan in (5, 10):
        assert reasons[scan].startswith("cannot be read: the pixels cannot be decoded")
    read = [number for number in range(12) if number + 1 not in reasons]
    assert [scan for scan, _ in place.vectors()] == [number + 1 for number in read]
    assert place.embedder().embed(MONITOR) == 0, "it is refused once"
    assert place.ledger_is_valid()


def test_nothing_is_refused_where_the_vault_itself_is_not_there(place: Place) -> None:
    place.store([native(number) for number in range(3)])
    shutil.rmtree(place.folder / "vault")
    with pytest.raises(SetupError, match="mounted"):
        place.embedder().embed(MONITOR)
    (place.folder / "vault").mkdir()
    with pytest.raises(SetupError, match="mounted"):
        place.embedder().embed(MONITOR)
    assert place.refusals() == {}
    assert place.vectors() == []


def test_what_a_version_once_read_is_not_refused_when_its_pixels_are_gone(
    place: Place,
) -> None:
    rows = place.store([native(number) for number in range(3)])
    place.embedder().embed(MONITOR)
    place.vault.path(rows[1].vault_digest).unlink()
    assert place.embedder().embed(MONITOR, extra=[place.extra]) == 3
    assert place.refusals() == {}
    assert [scan for scan, _ in place.vectors(2)] == [1, 3]


def test_each_version_reads_at_its_own_resolution_whoever_reads_beside_it(
    place: Place,
) -> None:
    contents = [compressed(number) for number in range(5)] + [native(5)]
    place.store(contents)
    place.embedder().embed(MONITOR, extra=[place.extra])
    full, reduced = ([vector for _, vector in place.vectors(number)] for number in (1, 2))
    assert full == expected(place.full, contents)
    assert reduced == expected(place.reduced, contents)
    assert [one == other for one, other in zip(full, reduced, strict=True)] == [False] * 5 + [
        True
    ]


def test_processes_that_decode_change_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor.embedding.embedding, "WORTH_PROCESSES", 1)
    contents = [compressed(number) for number in range(6)]
    place.store(contents)
    place.embedder().embed(MONITOR, extra=[place.extra])
    assert [vector for _, vector in place.vectors(2)] == expected(place.reduced, contents)


@pytest.mark.usefixtures("small_commits")
def test_one_thread_feeds_what_is_no_cpu_in_larger_batches(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    load = load_encoder

    def elsewhere(bundle: Bundle, device: str, *, threads: int) -> object:
        encoder = load(bundle, device, threads=threads)

        def run(pixels: np.ndarray) -> object:
            batches.append(len(pixels))
            return encoder.run(pixels)

        return replace(encoder, device="cuda", batch=2 * PIECE, run=run)

    monkeypatch.setattr("monitor.embedding.encoders.load_encoder", elsewhere)
    contents = [native(number) for number in range(23)]
    place.store(contents)
    assert place.embedder().embed(MONITOR) == 23
    assert batches == [8, 1, 8, 1, 5]
    assert [scan for scan, _ in place.vectors()] == list(range(1, 24))
    assert place.ledger_is_valid()


def test_pieces_are_gathered_up_to_a_batch_and_never_across_a_commit() -> None:
    def piece(scans: int, *, ends: bool = False) -> tuple[Planned, PreparedPiece]:
        rows = [ScanRow(id=index) for index in range(scans)]
        planned = Planned(
            piece=Piece(scans=rows, wanted={}),
            missing={},
            ends=Batch(scans=scans) if ends else None,
        )
        return planned, PreparedPiece(inputs={})

    pieces = [piece(4), piece(4), piece(4), piece(2, ends=True), piece(4), piece(0, ends=True)]
    sizes = [
        [len(planned.piece.scans) for planned, _ in batch] for batch in gathered(pieces, 8)
    ]
    assert sizes == [[4, 4], [4, 2], [4, 0]]


def cine(number: int, count: int) -> bytes:
    samples = np.random.default_rng(number).integers(0, 4096, (count, 24, 20))
    ds = radiograph(
        samples[0].astype(np.uint16),
        SOPInstanceUID=f"1.2.3.{number}",
        NumberOfFrames=count,
    )
    ds.add_new("PixelData", "OW", samples.astype(np.uint16).tobytes())
    return deidentify(read_instance(as_file(ds)), site=SITE, key=KEY).content


@pytest.fixture(scope="module")
def frame_bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bundle]:
    folder = tmp_path_factory.mktemp("frames")
    return (
        tiny_bundle(folder / "middle", frames=MiddleFrame(), tasks=[finding()]),
        tiny_bundle(folder / "mean", frames=MeanOfFrames(most=3), tasks=[finding()]),
    )


def test_several_frames_are_refused_where_no_version_says_which_it_reads(
    place: Place,
) -> None:
    place.store([native(0), cine(1, 5), native(2)])
    assert place.embedder().embed(MONITOR, extra=[place.extra]) == 3
    assert [scan for scan, _ in place.vectors()] == [1, 3]
    [(scan, reason)] = place.refusals().items()
    assert scan == 2
    assert reason == (
        "cannot be read: the image has several frames, and the version's preprocessing "
        "does not say which of them are read"
    )


def test_the_middle_frame_or_the_mean_of_a_few_is_what_the_version_declares(
    database: Database, tmp_path: Path, frame_bundles: tuple[Bundle, Bundle]
) -> None:
    place = place_of(database, tmp_path, frame_bundles)
    contents = [native(0), cine(1, 5), cine(2, 2), native(3), cine(4, 10)]
    rows = place.store(contents)
    place.embedder().embed(MONITOR, extra=[place.extra])
    chosen = (
        ([0], [2], [0], [0], [4]),
        ([0], [0, 2, 4], [0, 1], [0], [1, 5, 8]),
    )
    for version, (bundle, frames) in enumerate(
        zip(frame_bundles, chosen, strict=True), start=1
    ):
        encoder = load_encoder(bundle, device="cpu", threads=1)
        stored = [
            np.frombuffer(vector, dtype="<f2").astype(np.float32)
            for _, vector in place.vectors(version)
        ]
        for content, numbers, vector in zip(contents, frames, stored, strict=True):
            ds = pydicom.dcmread(io.BytesIO(content))
            inputs = np.stack(
                [prepare(decode(ds, frame=n), bundle.preprocessing) for n in numbers]
            )
            mean = encoder.embed(inputs).embeddings.mean(axis=0)
            assert vector == pytest.approx(mean, abs=2e-3)
    # What is computed without being stored reads the same frames.
    said = place.embedder().probabilities(place.extra, rows, TASK)[:, 1]
    with database.reading() as session:
        results = session.scalars(
            select(ResultRow).where(ResultRow.version == 2).order_by(ResultRow.scan)
        ).all()
    assert said == pytest.approx([row.probabilities[-1] for row in results], abs=1e-5)
    with pytest.raises(BadInputError, match="means over frames"):
        place.embedder().pixels(frame_bundles[1], rows)
    assert place.embedder().pixels(frame_bundles[0], rows).shape[0] == 5


_KILLED = """
import sys
from datetime import UTC, datetime
from pathlib import Path
import monitor.embedding.embedding
from monitor.embedding.embedding import Embedder
from monitor.intake.vault import Vault
from registry import crash_points
from registry.bundle_store import BundleStore
from registry.clock import ReplayClock
from registry.database import Database
from registry.tracking import Tracking

url, folder, point, after = sys.argv[1:]
monitor.embedding.embedding.SCANS_PER_COMMIT = 6
crash_points.arm(point, after=int(after))
Embedder(
    Database(url),
    BundleStore(
        Tracking("sqlite:///never-opened.db", Path(folder) / "artifacts"),
        Path(folder) / "bundles",
    ),
    Vault(Path(folder) / "vault"),
    ReplayClock(datetime(2026, 3, 2, tzinfo=UTC)),
    device="cpu",
    threads=2,
).embed("chest")
"""


@pytest.mark.parametrize(
    ("point", "after", "kept"),
    [
        ("embed: read", 0, 0),
        ("embed: before the commit", 1, 6),
        ("embed: committed", 1, 12),
    ],
)
def test_a_job_that_is_killed_loses_nothing_and_reads_nothing_twice(
    place: Place, point: str, after: int, kept: int
) -> None:
    contents = [native(number) for number in range(20)]
    place.store(contents)
    killed = subprocess.run(
        [
            sys.executable,
            "-c",
            _KILLED,
            place.database.url,
            str(place.folder),
            point,
            str(after),
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -9, killed.stderr
    assert [scan for scan, _ in place.vectors()] == list(range(1, kept + 1))
    assert place.embedder().embed(MONITOR) == 20 - kept
    assert [scan for scan, _ in place.vectors()] == list(range(1, 21))
    assert place.ledger_is_valid()
