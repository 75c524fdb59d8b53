"""Embedding on real bundles, real DICOM files and a real database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from dicom_instances import KEY, as_file, radiograph
from first_champion import put_into_use
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from tiny_bundles import CHILDREN, DIMENSION, TASK, finding, tiny_bundle

from api.demo.acquisition import NEW_SOFTWARE, OLD_SOFTWARE
from api.demo.radiographs import write_child
from api.demo.sample import load_sample
from monitor.embedding.embedding import Embedder
from monitor.embedding.embedding_plan import ShadowVersion
from monitor.embedding.pending_scans import count_pending
from monitor.embedding.stage_times import Stage, measured
from monitor.embeddings import to_bytes
from monitor.intake.quarantine import Quarantine
from monitor.intake.vault import Vault
from monitor.monitors import MonitorSpecification, apply_monitor, require_monitor
from monitor.scans import ScanIntake
from monitor.tables import EmbeddingRow, MonitorRow, RefusalRow, ResultRow, ScanRow
from monitor.windows import Window
from registry import ledger, serving
from registry.bundle_store import BundleStore
from registry.bundles.bundle import Bundle
from registry.bundles.card import Tier
from registry.clock import ReplayClock
from registry.database import Database
from registry.errors import LeaseLostError
from registry.jobs import Claim, Job, JobQueue, enqueue
from registry.serving import Withholding
from registry.tracking import Tracking
from registry.versions import Origin, VersionRow, register

ANCHOR = datetime(2026, 3, 2, tzinfo=UTC)
MODEL, MONITOR, SITE = "pneumonia", "chest", "north"


@pytest.fixture(scope="module")
def general(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("general") / "bundle")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(
        tmp_path_factory.mktemp("task") / "bundle",
        tier=Tier.TASK,
        tasks=[finding()],
        intended_use=CHILDREN,
        seed=1,
    )


@dataclass(kw_only=True)
class Department:
    """A monitored model and what its scans come in by."""

    database: Database
    embedder: Embedder
    intake: ScanIntake
    vault: Vault
    clock: ReplayClock
    inbox: Path
    encoder: VersionRow
    champion: VersionRow

    def receive(
        self, count: int, *, start: int = 0, updated: bool = False, site: str = SITE
    ) -> None:
        """Take radiographs of children in."""
        folder = self.inbox / f"lot-{start}"
        folder.mkdir(parents=True)
        for child in load_sample().children[start : start + count]:
            write_child(
                folder / f"{child.index}.dcm",
                child,
                software=NEW_SOFTWARE if updated else OLD_SOFTWARE,
                taken_at=self.clock.at,
            )
        assert self.intake.add([folder], site=site).added == count

    def receive_one(self, **elements: object) -> None:
        path = self.inbox / "one.dcm"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(as_file(radiograph(**elements)))
        assert self.intake.add([path], site=SITE).added == 1

    def count(self, table: type) -> int:
        with self.database.reading() as session:
            return session.scalar(select(func.count()).select_from(table)) or 0

    def deliveries(self) -> dict[str, int]:
        with self.database.reading() as session:
            rows = session.execute(
                select(ResultRow.delivery, func.count()).group_by(ResultRow.delivery)
            )
            return {row[0]: row[1] for row in rows}

    def ledger_is_valid(self) -> bool:
        with self.database.reading() as session:
            return ledger.verify(session).valid

    def claim(self) -> Claim:
        with self.database.transaction() as session:
            enqueue(session, kind="embed", key="embed", payload={"monitor": MONITOR})
        claim = JobQueue(self.database).claim("test", ["embed"])
        assert claim is not None
        return claim


@pytest.fixture
def department(database: Database, tmp_path: Path, general: Bundle, task: Bundle) -> Department:
    clock = ReplayClock(ANCHOR)
    with database.transaction() as session:
        versions = [
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
            for name, bundle in (("general", general), (MODEL, task))
        ]
        put_into_use(session, versions[1], at=ANCHOR)
        apply_monitor(
            session,
            MonitorSpecification.model_validate(
                {
                    "name": MONITOR,
                    "model": MODEL,
                    "task": TASK,
                    "monitoring_encoder": "general@1",
                    "window_hours": 84,
                    "anchor": ANCHOR,
                    "alpha_per_week": 0.005,
                    "subgroup_attributes": ["software_version"],
                    "floor": 20,
                }
            ),
            actor="test",
            at=ANCHOR,
        )
    vault = Vault(tmp_path / "vault")
    # A local artifact is read where it lies: MLflow's store is never opened.
    tracking = Tracking("sqlite:///never-opened.db", tmp_path / "artifacts")
    quarantine_key = tmp_path / "quarantine.key"
    quarantine_key.write_text(bytes(range(32)).hex() + "\n")
    quarantine_key.chmod(0o600)
    (tmp_path / "quarantine").mkdir(mode=0o700)
    return Department(
        database=database,
        embedder=Embedder(
            database,
            BundleStore(tracking, tmp_path / "bundles"),
            vault,
            clock,
            device="cpu",
            threads=1,
        ),
        intake=ScanIntake(
            database,
            vault,
            Quarantine.open(tmp_path / "quarantine", key=quarantine_key),
            KEY,
            clock,
        ),
        vault=vault,
        clock=clock,
        inbox=tmp_path / "inbox",
        encoder=versions[0],
        champion=versions[1],
    )


def test_champion_and_monitoring_encoder_both_embed_each_scan(department: Department) -> None:
    department.receive(5)
    assert department.embedder.embed(MONITOR) == 5
    with department.database.reading() as session:
        rows = session.scalars(select(EmbeddingRow)).all()
        results = session.scalars(select(ResultRow)).all()
    assert {(row.scan, row.version) for row in rows} == {
        (scan, version.id)
        for scan in range(1, 6)
        for version in (department.encoder, department.champion)
    }
    assert {row.space for row in rows} == {
        department.encoder.space,
        department.champion.space,
    }
    assert all(len(row.vector) == 2 * DIMENSION for row in rows)
    # The encoder has no task: only the champion says something.
    assert {row.version for row in results} == {department.champion.id}
    assert all(sum(row.probabilities) == pytest.approx(1) for row in results)


def test_what_is_stored_is_what_the_encoder_makes_of_the_vault_s_pixels(
    department: Department, task: Bundle
) -> None:
    from monitor.embedding.encoders import load_encoder
    from monitor.imaging.pixels import decode, prepare

    department.receive(3)
    department.embedder.embed(MONITOR)
    with department.database.reading() as session:
        scans = session.scalars(select(ScanRow).order_by(ScanRow.id)).all()
        stored = session.scalars(
            select(EmbeddingRow)
            .where(EmbeddingRow.version == department.champion.id)
            .order_by(EmbeddingRow.scan)
        ).all()
        results = session.scalars(select(ResultRow).order_by(ResultRow.scan)).all()
    pixels = np.stack(
        [
            prepare(decode(department.vault.dataset(scan.vault_digest)), task.preprocessing)
            for scan in scans
        ]
    )
    encoded = load_encoder(task, device="cpu", threads=1).embed(pixels)
    assert [row.vector for row in stored] == [to_bytes(row) for row in encoded.embeddings]
    said = np.array([row.probabilities for row in results])
    assert said == pytest.approx(encoded.probabilities[TASK], abs=1e-6)


def test_what_each_scan_took_and_how_long_it_waited_is_counted(department: Department) -> None:
    department.receive(5)
    department.embedder.embed(MONITOR)
    with department.database.reading() as session:
        found = {
            stage: [(one.subject, sum(one.counts)) for one in measured(session, stage)]
            for stage in (Stage.DECODE, Stage.EMBED, Stage.LAG)
        }
    # Once for each scan, however many versions read it.
    assert found == {stage: [(MONITOR, 5)] for stage in found}


def test_a_scan_from_before_the_monitor_waited_for_nothing(department: Department) -> None:
    department.receive(5)
    with department.database.transaction() as session:
        row = session.get_one(MonitorRow, MONITOR)
        row.applied_at = department.clock.now() + timedelta(seconds=1)
    department.embedder.embed(MONITOR)
    with department.database.reading() as session:
        assert [*measured(session, Stage.LAG)] == []
        (decoded,) = measured(session, Stage.DECODE)
    assert sum(decoded.counts) == 5


def test_a_second_run_embeds_nothing(department: Department) -> None:
    department.receive(4)
    department.embedder.embed(MONITOR)
    assert department.embedder.embed(MONITOR) == 0
    assert (department.count(EmbeddingRow), department.count(ResultRow)) == (8, 4)
    with department.database.reading() as session:
        assert count_pending(session, require_monitor(session, MONITOR)) == 0
        read = [entry for entry in ledger.entries(session) if entry.kind == "scans.read"]
    assert len(read) == 1


def test_only_what_a_version_lacks_is_embedded(department: Department) -> None:
    department.receive(3)
    department.embedder.embed(MONITOR)
    department.receive(2, start=3)
    assert department.embedder.embed(MONITOR) == 2
    assert department.count(EmbeddingRow) == 10
    assert department.ledger_is_valid()


def test_a_window_and_a_choice_narrow_what_is_embedded(department: Department) -> None:
    department.receive(2)
    department.clock.at += timedelta(days=7)
    department.receive(3, start=2)
    late = Window(start=department.clock.at, end=department.clock.at + timedelta(days=1))
    assert department.embedder.embed(MONITOR, window=late) == 3
    assert department.embedder.embed(MONITOR, only=[1]) == 1
    assert department.embedder.embed(MONITOR) == 1


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"Modality": "DX", "PatientAge": "030Y", "PatientBirthDate": None}, "age"),
        ({"PatientAge": "000Y", "PatientBirthDate": None}, "age"),
        ({"Modality": "MR"}, "modality"),
    ],
)
def test_a_scan_outside_the_intended_use_is_refused_by_name_and_not_read(
    department: Department, elements: dict[str, object], reason: str
) -> None:
    department.receive_one(**elements)
    department.embedder.embed(MONITOR)
    with department.database.reading() as session:
        [refusal] = session.scalars(select(RefusalRow)).all()
        assert count_pending(session, require_monitor(session, MONITOR)) == 0
    assert refusal.model == MODEL
    assert reason in refusal.reason
    assert "30" not in refusal.reason, "an age is patient data"
    assert department.count(EmbeddingRow) == department.count(ResultRow) == 0
    assert department.embedder.embed(MONITOR) == 0, "it is refused once"
    assert department.ledger_is_valid()


def test_a_scan_with_an_absurd_window_holds_up_no_other(department: Department) -> None:
    department.receive(3)
    department.receive_one(WindowCenter="0", WindowWidth="1e300")
    assert department.embedder.embed(MONITOR) == 4
    assert department.count(EmbeddingRow) == 2 * 4


def test_pixels_that_cannot_be_read_again_have_no_measures_and_spoil_no_others(
    department: Department,
) -> None:
    department.receive(5)
    with department.database.reading() as session:
        scans = session.scalars(select(ScanRow).order_by(ScanRow.id)).all()
    before = department.embedder.measures(department.champion, scans)
    assert np.isfinite(before).all()
    gone, damaged, locked = (department.vault.path(scans[i].vault_digest) for i in (0, 2, 3))
    gone.unlink()
    damaged.write_bytes(damaged.read_bytes()[:-1])
    locked.unlink()
    locked.mkdir()  # the operating system will not hand it over
    after = department.embedder.measures(department.champion, scans)
    assert np.isnan(after).all(axis=1).tolist() == [True, False, True, True, False]
    np.testing.assert_allclose(after[[1, 4]], before[[1, 4]], rtol=1e-12, atol=1e-12)
    alone = department.embedder.measures(department.champion, scans[:1])
    assert np.isnan(alone).all()


def test_what_was_read_is_sealed_as_a_batch(department: Department) -> None:
    department.receive(3)
    department.embedder.embed(MONITOR)
    assert department.ledger_is_valid()
    with department.database.transaction() as session:
        row = session.get_one(EmbeddingRow, 2)
        row.vector = bytes(len(row.vector))
    assert not department.ledger_is_valid()


def test_a_changed_result_is_found(department: Department) -> None:
    department.receive(3)
    department.embedder.embed(MONITOR)
    with department.database.transaction() as session:
        session.get_one(ResultRow, 1).probabilities = [1.0, 0.0]
    assert not department.ledger_is_valid()


def test_a_worker_that_lost_its_lease_writes_nothing(department: Department) -> None:
    department.receive(3)
    late = department.claim()
    with department.database.transaction() as session:
        session.get_one(Job, late.job).leased_until = datetime.now(UTC) - timedelta(minutes=1)
    other = JobQueue(department.database).claim("other", ["embed"])
    assert other is not None
    with pytest.raises(LeaseLostError):
        department.embedder.handle(late)
    assert department.count(EmbeddingRow) == department.count(ResultRow) == 0
    department.embedder.handle(other)
    assert department.count(EmbeddingRow) == 6
    assert department.ledger_is_valid()


def test_results_of_a_restricted_subgroup_are_withheld_and_of_the_others_delivered(
    department: Department,
) -> None:
    with department.database.transaction() as session:
        serving.withhold(
            session,
            model=MODEL,
            kind=Withholding.RESTRICT,
            subgroup=f"software_version={NEW_SOFTWARE.version}",
            reason="test",
            actor="test",
            at=ANCHOR,
        )
    department.receive(4)
    department.receive(3, start=4, updated=True)
    department.embedder.embed(MONITOR)
    assert department.deliveries() == {"delivered": 4, "withheld": 3}


def test_a_suspended_model_delivers_nothing_until_it_is_lifted(department: Department) -> None:
    with department.database.transaction() as session:
        suspension = serving.withhold(
            session,
            model=MODEL,
            kind=Withholding.SUSPEND,
            subgroup=None,
            reason="test",
            actor="test",
            at=ANCHOR,
        )
    department.receive(2)
    department.embedder.embed(MONITOR)
    assert department.deliveries() == {"withheld": 2}
    with department.database.transaction() as session:
        row = session.get_one(serving.Restriction, suspension.id)
        serving.lift(session, row, reason="test", actor="test", at=ANCHOR)
    department.receive(2, start=2)
    department.embedder.embed(MONITOR)
    assert department.deliveries() == {"withheld": 2, "delivered": 2}


def test_a_site_is_told_what_its_own_champion_says_and_windows_stay_whole(
    department: Department, tmp_path: Path
) -> None:
    bundle = tiny_bundle(
        tmp_path / "second",
        tier=Tier.TASK,
        tasks=[finding()],
        intended_use=CHILDREN,
        seed=2,
    )
    with department.database.transaction() as session:
        second = register(
            session,
            bundle,
            model=MODEL,
            base=None,
            origin=Origin.IMPORT,
            artifact_uri=bundle.root.as_uri(),
            mlflow_run="none",
            actor="test",
            at=ANCHOR,
        )

    def serves(version: VersionRow, *places: str, instead_of: VersionRow) -> None:
        department.clock.at += timedelta(days=1)
        with department.database.transaction() as session:
            serving.move_champions(
                session,
                version,
                expected=dict.fromkeys(places, instead_of.id),
                reason="test",
                kind="champion.promoted",
                actor="test",
                at=department.clock.at,
            )

    department.receive(1, site="north")
    serves(second, "north", instead_of=department.champion)
    department.receive(2, start=1, site="north")
    department.receive(1, start=3, site="south")
    assert department.embedder.embed(MONITOR) == 4
    serves(department.champion, "north", instead_of=second)
    department.receive(1, start=4, site="north")
    assert department.embedder.embed(MONITOR) == 1
    serves(second, "everywhere", "north", instead_of=department.champion)
    department.receive(1, start=5, site="south")
    assert department.embedder.embed(MONITOR) == 1
    with department.database.reading() as session:
        read = session.execute(
            select(ScanRow.id, ScanRow.site, VersionRow.number, ResultRow.delivery)
            .join(ResultRow, ResultRow.scan == ScanRow.id)
            .join(VersionRow, VersionRow.id == ResultRow.version)
            .order_by(ScanRow.id, VersionRow.number)
        ).all()
    assert [tuple(row) for row in read] == [
        (1, "north", 1, "background"),  # it came before the other served there
        (2, "north", 1, "background"),
        (2, "north", 2, "delivered"),
        (3, "north", 1, "background"),
        (3, "north", 2, "delivered"),
        (4, "south", 1, "delivered"),
        (5, "north", 1, "delivered"),
        (6, "south", 2, "delivered"),
    ]
    assert department.ledger_is_valid()


def test_progress_counts_up_to_all_that_was_pending(department: Department) -> None:
    department.receive(3)
    told: list[tuple[int, int]] = []
    department.embedder.embed(MONITOR, tell=lambda done, total: told.append((done, total)))
    assert told == [(3, 3)]


def test_probabilities_of_a_candidate_are_computed_and_not_stored(
    department: Department,
) -> None:
    department.receive(3)
    with department.database.reading() as session:
        scans = session.scalars(select(ScanRow)).all()
    said = department.embedder.probabilities(department.champion, scans, TASK)[:, 1]
    assert said.shape == (3,)
    assert department.count(ResultRow) == 0


def in_shadow(
    department: Department, bundle: Bundle, *, since: datetime, stored: Path | None = None
) -> VersionRow:
    """Let a version read beside the champion from a moment on."""
    with department.database.transaction() as session:
        version = register(
            session,
            bundle,
            model=MODEL,
            base=department.champion,
            origin=Origin.IMPORT,
            artifact_uri=(stored or bundle.root).as_uri(),
            mlflow_run="none",
            actor="test",
            at=ANCHOR,
        )
    shadow = ShadowVersion(version=version, since=since)

    def shadows(session: Session, model: str) -> Sequence[ShadowVersion]:
        return [shadow] if model == MODEL else []

    department.embedder = Embedder(
        department.database,
        BundleStore(
            Tracking("sqlite:///never-opened.db", department.inbox), department.inbox.parent
        ),
        department.vault,
        department.clock,
        device="cpu",
        threads=1,
        shadows=shadows,
    )
    return version


def read_by(department: Department, version: VersionRow) -> dict[int, str]:
    """Return how what a version said of each scan was delivered."""
    with department.database.reading() as session:
        rows = session.execute(
            select(ResultRow.scan, ResultRow.delivery).where(ResultRow.version == version.id)
        )
        return {row[0]: row[1] for row in rows}


@pytest.fixture(scope="module")
def shadow(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_bundle(
        tmp_path_factory.mktemp("shadow") / "bundle",
        tier=Tier.TASK,
        tasks=[finding()],
        intended_use=CHILDREN,
        seed=2,
    )


def test_a_version_in_shadow_reads_with_the_champion_and_nothing_of_it_is_delivered(
    department: Department, shadow: Bundle
) -> None:
    department.receive(2)
    department.clock.at = ANCHOR + timedelta(hours=2)
    candidate = in_shadow(department, shadow, since=department.clock.at)
    department.receive(3, start=2)
    assert department.embedder.embed(MONITOR) == 5
    assert read_by(department, department.champion) == dict.fromkeys(range(1, 6), "delivered")
    assert read_by(department, candidate) == dict.fromkeys((3, 4, 5), "background")
    with department.database.reading() as session:
        (decoded,) = measured(session, Stage.DECODE)
    assert sum(decoded.counts) == 5, "each scan is decoded once, however many versions read it"
    window = Window(start=ANCHOR, end=ANCHOR + timedelta(days=1))
    assert department.embedder.embed(MONITOR, window=window) == 0
    assert department.ledger_is_valid()


def test_a_shadow_catches_up_with_what_the_champion_read_alone(
    department: Department, shadow: Bundle
) -> None:
    department.receive(2)
    department.embedder.embed(MONITOR)
    candidate = in_shadow(department, shadow, since=ANCHOR)
    assert department.embedder.embed(MONITOR, only=[1]) == 0, "of named scans it reads none"
    assert department.embedder.embed(MONITOR) == 2
    assert read_by(department, candidate) == {1: "background", 2: "background"}
    assert department.deliveries() == {"delivered": 2, "background": 2}


def test_a_shadow_that_cannot_be_loaded_does_not_hold_up_the_champion(
    department: Department, shadow: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    candidate = in_shadow(department, shadow, since=ANCHOR, stored=tmp_path / "gone")
    department.receive(2)
    assert department.embedder.embed(MONITOR) == 2
    assert read_by(department, department.champion) == {1: "delivered", 2: "delivered"}
    assert read_by(department, candidate) == {}
    assert f"{MODEL}@2 cannot read beside its champion" in caplog.text


def test_an_unreadable_scan_from_before_a_shadow_is_still_refused(
    department: Department, shadow: Bundle
) -> None:
    department.receive(1)
    with department.database.reading() as session:
        digest = session.get_one(ScanRow, 1).vault_digest
    department.vault.path(digest).unlink()
    department.clock.at = ANCHOR + timedelta(hours=2)
    in_shadow(department, shadow, since=department.clock.at)
    department.receive(1, start=1)
    department.embedder.embed(MONITOR)
    assert department.count(RefusalRow) == 1
    assert department.embedder.embed(MONITOR) == 0, "it is refused once"
