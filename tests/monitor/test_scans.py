from __future__ import annotations

import io
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from databases import on_sqlite
from dicom_instances import KEY, as_file, gradient, in_native_syntax, radiograph, set_frames
from PIL import Image as PillowImage
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless
from sqlalchemy import event, select

from monitor import scans
from monitor.intake.quarantine import Quarantine
from monitor.intake.reasons import Reason
from monitor.intake.vault import Vault
from monitor.scans import IntakeReport, ScanIntake
from monitor.tables import ScanRow
from registry import ledger
from registry.canonical import digest_of, to_json
from registry.clock import ReplayClock
from registry.database import Database
from registry.errors import BadInputError, SetupError, StorageFullError

ROOT = "1.2.826.0.1.3680043.8.498"
#: What of `radiograph` names the patient, as it stands in the file.
CANARIES = (b"Yamada", b"Hanako", b"4711-0815", b"20220715")


class Desk:
    """An intake with all that it writes into."""

    def __init__(self, folder: Path, database: Database, now: datetime) -> None:
        self.folder, self.database = folder, database
        self.inbox = folder / "inbox"
        self.inbox.mkdir()
        self.vault = Vault(folder / "vault")
        (folder / "quarantine").mkdir(mode=0o700)
        self.quarantine = Quarantine(folder / "quarantine", key=KEY)
        self.intake = self.with_vault(self.vault, now)

    def with_vault(self, vault: Vault, now: datetime) -> ScanIntake:
        return ScanIntake(self.database, vault, self.quarantine, KEY, ReplayClock(now))

    def bring(
        self, content: bytes, name: str = "1.dcm", *, site: str = "north"
    ) -> IntakeReport:
        path = self.inbox / name
        path.write_bytes(content)
        return self.intake.add([path], site=site)

    def rows(self) -> list[ScanRow]:
        with self.database.reading() as session:
            return list(session.scalars(select(ScanRow).order_by(ScanRow.id)))

    def verification(self) -> ledger.Verification:
        with self.database.reading() as session:
            return ledger.verify(session)

    def vault_files(self) -> list[Path]:
        return sorted(path for path in (self.folder / "vault").rglob("*") if path.is_file())


@pytest.fixture
def desk(tmp_path: Path, database: Database, now: datetime) -> Desk:
    return Desk(tmp_path, database, now)


def numbered(number: int, **elements: object) -> bytes:
    return as_file(radiograph(SOPInstanceUID=f"{ROOT}.9.{number}", **elements))


def counts(report: IntakeReport) -> tuple[int, int, int]:
    return report.added, report.known, report.quarantined


def test_a_folder_is_stored_and_sealed_as_one_batch(desk: Desk) -> None:
    for number in range(5):
        (desk.inbox / f"{number}.dcm").write_bytes(numbered(number))
    told: list[tuple[int, int]] = []
    report = desk.intake.add(
        [desk.inbox], site="north", tell=lambda done, total: told.append((done, total))
    )
    assert counts(report) == (5, 0, 0)
    assert told == [(5, 5)]
    rows = desk.rows()
    assert {(row.batch, row.site, row.modality, row.view) for row in rows} == {
        (1, "north", "CR", "AP")
    }
    with desk.database.reading() as session:
        (entry,) = ledger.entries(session, kind="scans.received")
    assert (entry.subject, entry.facts) == ("north", {"scans": 5})
    assert desk.verification().valid


def test_more_files_than_a_batch_holds_are_batches_that_each_verify(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scans, "BATCH", 2)
    for number in range(5):
        (desk.inbox / f"{number}.dcm").write_bytes(numbered(number))
    assert counts(desk.intake.add([desk.inbox], site="north")) == (5, 0, 0)
    assert [row.batch for row in desk.rows()] == [1, 1, 2, 2, 3]
    assert desk.verification().valid


def test_a_batch_is_bounded_in_bytes_and_holds_a_larger_file_alone(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(numbered(0))
    monkeypatch.setattr(scans, "BATCH_BYTES", 2 * size + 1)
    for number in range(3):
        (desk.inbox / f"{number}.dcm").write_bytes(numbered(number))
    large = as_file(radiograph(gradient(40, 40), SOPInstanceUID=f"{ROOT}.9.7"))
    assert len(large) > 2 * size
    (desk.inbox / "9.dcm").write_bytes(large)
    assert desk.intake.add([desk.inbox], site="north").added == 4
    assert [row.batch for row in desk.rows()] == [1, 1, 2, 3]


def test_what_is_stored_can_be_read_and_names_nobody(desk: Desk, database: Database) -> None:
    desk.bring(in_native_syntax("1.2.840.10008.1.2.1"))
    (row,) = desk.rows()
    stored = desk.vault.dataset(row.vault_digest)
    assert np.array_equal(stored.pixel_array, gradient())
    database.dispose()
    kept = [desk.vault.get(row.vault_digest)]
    kept += [path.read_bytes() for path in desk.folder.glob("driftward.db*")]
    for content in kept:
        assert [canary for canary in CANARIES if canary in content] == []


def test_the_same_file_again_is_known_and_leaves_no_trace(desk: Desk) -> None:
    content = numbered(1)
    assert counts(desk.bring(content)) == (1, 0, 0)
    before = desk.verification()
    assert counts(desk.bring(content, "again.dcm")) == (0, 1, 0)
    assert desk.verification() == before
    assert len(desk.rows()) == len(desk.vault_files()) == 1


def test_the_same_scan_twice_in_one_delivery_is_one_scan(desk: Desk) -> None:
    for name in ("a.dcm", "b.dcm"):
        (desk.inbox / name).write_bytes(numbered(1))
    assert counts(desk.intake.add([desk.inbox], site="north")) == (1, 1, 0)
    assert len(desk.rows()) == 1


def test_the_same_scan_in_another_encoding_is_known(desk: Desk) -> None:
    desk.bring(in_native_syntax("1.2.840.10008.1.2"))
    deflated = in_native_syntax(DeflatedExplicitVRLittleEndian)
    assert counts(desk.bring(deflated, "2.dcm")) == (0, 1, 0)


def test_the_same_scan_compressed_without_loss_is_known(desk: Desk) -> None:
    ds = radiograph((gradient(16, 24) >> 4).astype(np.uint8))
    desk.bring(as_file(ds))
    stream = io.BytesIO()
    PillowImage.fromarray(ds.pixel_array).save(stream, "JPEG2000", no_jp2=True)
    set_frames(ds, stream.getvalue(), transfer_syntax=JPEG2000Lossless)
    assert counts(desk.bring(as_file(ds), "2.dcm")) == (0, 1, 0)
    assert len(desk.rows()) == len(desk.vault_files()) == 1


def changed() -> bytes:
    samples = gradient()
    samples[0, 0] += 1
    return as_file(radiograph(samples))


def test_another_image_under_a_stored_identity_is_kept_as_it_came_and_takes_no_place(
    desk: Desk,
) -> None:
    desk.bring(as_file(radiograph()))
    before = desk.rows()[0].vault_digest
    report = desk.bring(changed(), "2.dcm")
    assert (counts(report), report.reasons) == ((0, 0, 1), {"conflict": 1})
    (item,) = desk.quarantine.items()
    assert item.reason is Reason.CONFLICT
    assert desk.quarantine.read(item.id) == changed()
    assert [row.vault_digest for row in desk.rows()] == [before]


def test_two_images_of_one_identity_in_one_delivery_conflict_too(desk: Desk) -> None:
    (desk.inbox / "1.dcm").write_bytes(as_file(radiograph()))
    (desk.inbox / "2.dcm").write_bytes(changed())
    assert counts(desk.intake.add([desk.inbox], site="north")) == (1, 0, 1)
    (item,) = desk.quarantine.items()
    assert desk.quarantine.read(item.id) == changed()


def test_one_file_from_two_sites_is_two_scans_of_strangers(desk: Desk) -> None:
    desk.bring(numbered(1))
    assert counts(desk.bring(numbered(1), site="south")) == (1, 0, 0)
    north, south = desk.rows()
    assert (north.site, south.site) == ("north", "south")
    assert north.patient != south.patient
    assert north.instance != south.instance


def test_a_good_file_among_bad_ones_is_taken(desk: Desk) -> None:
    (desk.inbox / "1.dcm").write_bytes(b"")
    (desk.inbox / "2.dcm").write_bytes(numbered(1))
    (desk.inbox / "3.dcm").write_bytes(numbered(2)[:-20])
    report = desk.intake.add([desk.inbox], site="north")
    assert counts(report) == (1, 0, 2)
    assert report.reasons == {"not_dicom": 1, "truncated": 1}


def test_a_file_that_goes_away_while_others_are_taken_in_is_told_and_stops_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scans, "BATCH", 1)
    for number in range(3):
        (desk.inbox / f"{number}.dcm").write_bytes(numbered(number))

    def tell(done: int, _total: int) -> None:
        (desk.inbox / "1.dcm").unlink(missing_ok=True)

    report = desk.intake.add([desk.inbox], site="north", tell=tell)
    assert (counts(report), report.reasons) == ((2, 0, 1), {"not_readable": 1})


def test_a_path_that_does_not_exist_takes_nothing_in(desk: Desk) -> None:
    (desk.inbox / "1.dcm").write_bytes(numbered(1))
    with pytest.raises(BadInputError, match="absent does not exist"):
        desk.intake.add([desk.inbox, desk.folder / "absent"], site="north")
    assert desk.rows() == []


class _Killed(BaseException):
    pass


class _VaultBeforeAKill(Vault):
    """Stores, and is the last that happens."""

    def put_all(self, contents: object) -> list[str]:
        super().put_all(contents)  # type: ignore[arg-type]
        raise _Killed


def test_a_kill_between_vault_and_row_leaves_nothing_that_the_next_attempt_minds(
    desk: Desk, now: datetime
) -> None:
    (desk.inbox / "1.dcm").write_bytes(numbered(1))
    doomed = desk.with_vault(_VaultBeforeAKill(desk.folder / "vault"), now)
    for _ in range(2):
        with pytest.raises(_Killed):
            doomed.add([desk.inbox], site="north")
        assert desk.rows() == []
        assert desk.verification().valid
    left = desk.vault_files()
    assert counts(desk.intake.add([desk.inbox], site="north")) == (1, 0, 0)
    assert desk.vault_files() == left
    assert desk.vault.path(desk.rows()[0].vault_digest) in left
    assert desk.verification().valid


@on_sqlite
def test_a_full_disk_is_named_and_what_was_not_taken_can_be_sent_again(
    desk: Desk,
) -> None:
    # Many rows, so that they do not fit into pages that have room.
    for number in range(60):
        (desk.inbox / f"{number}.dcm").write_bytes(numbered(number))
    before = desk.verification()
    engine = desk.database.engine
    event.listen(engine, "connect", _cap)
    desk.database.dispose()
    with pytest.raises(StorageFullError, match="nothing of this change was kept"):
        desk.intake.add([desk.inbox], site="north")
    event.remove(engine, "connect", _cap)
    desk.database.dispose()
    assert desk.rows() == []
    assert desk.verification() == before
    assert counts(desk.intake.add([desk.inbox], site="north")) == (60, 0, 0)
    assert desk.verification().valid


@on_sqlite
def test_a_database_that_may_not_be_written_is_named_without_what_was_to_be_stored(
    desk: Desk,
) -> None:
    (desk.inbox / "1.dcm").write_bytes(numbered(1))
    engine = desk.database.engine
    event.listen(engine, "connect", _read_only)
    desk.database.dispose()
    with pytest.raises(SetupError, match="may be read and not written") as raised:
        desk.intake.add([desk.inbox], site="north")
    event.remove(engine, "connect", _read_only)
    desk.database.dispose()
    assert "2.25." not in str(raised.value.__cause__)
    assert counts(desk.intake.add([desk.inbox], site="north")) == (1, 0, 0)
    assert desk.verification().valid


def _read_only(connection: object, _record: object) -> None:
    # As SQLite says of a file that its user may not write.
    connection.execute("PRAGMA query_only=ON")  # type: ignore[attr-defined]


def _cap(connection: object, _record: object) -> None:
    # SQLite raises it to the pages that there are: the file may not grow.
    connection.execute("PRAGMA max_page_count=1")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("column", "value"),
    [("software_version", "9.9"), ("site", "elsewhere"), ("vault_digest", "0" * 64)],
)
def test_a_scan_that_was_edited_is_found(desk: Desk, column: str, value: str) -> None:
    desk.bring(numbered(1))
    desk.bring(numbered(2), "2.dcm")
    with desk.database.transaction() as session:
        setattr(session.scalars(select(ScanRow).order_by(ScanRow.id)).all()[1], column, value)
    fault = desk.verification().fault
    assert fault is not None
    assert fault.problem == "batch 2 of scans was changed"
    assert fault.sequence == 2


def test_a_scan_that_was_deleted_or_slipped_in_is_found(desk: Desk) -> None:
    desk.bring(numbered(1))
    (row,) = desk.rows()
    with desk.database.transaction() as session:
        session.delete(session.get_one(ScanRow, row.id))
    assert "batch 1 of scans was deleted" in str(desk.verification().fault)
    with desk.database.transaction() as session:
        values = {
            column.key: getattr(row, column.key) for column in ScanRow.__mapper__.column_attrs
        }
        session.add(ScanRow(**values))  # as it was: the record holds again
    assert desk.verification().valid
    with desk.database.transaction() as session:
        session.add(ScanRow(**{**values, "id": 7, "batch": 4, "instance": "another"}))
    assert "batch 4 of scans was never recorded" in str(desk.verification().fault)


def test_rows_without_a_study_date_have_the_digest_that_they_had_before_it_was_kept(
    desk: Desk,
) -> None:
    desk.bring(numbered(1))
    (row,) = desk.rows()
    later = {"unit", "study_date", "merged_into"}
    names = [one.key for one in ScanRow.__mapper__.column_attrs if one.key not in later]
    digest = digest_of({name: to_json(getattr(row, name)) for name in names})
    assert ledger.row_digest(row) == digest
    row.study_date = "2026-03"
    assert ledger.row_digest(row) != digest


def test_an_edited_study_date_is_found(desk: Desk) -> None:
    desk.bring(numbered(1))
    assert desk.verification().valid
    with desk.database.transaction() as session:
        session.get_one(ScanRow, 1).study_date = "2026-03"
    assert not desk.verification().valid
