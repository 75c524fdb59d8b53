from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from dicom_instances import KEY, as_file, gradient, radiograph
from pydicom.uid import EncapsulatedPDFStorage
from sqlalchemy import select

from monitor.intake.keeping import QuarantineKeeper, QuarantineRetention, chosen
from monitor.intake.quarantine import Quarantine, QuarantinedItem
from monitor.intake.reasons import Reason
from monitor.intake.vault import Vault
from monitor.scans import Outcome, ScanIntake
from monitor.tables import ScanRow
from registry import ledger
from registry.clock import ReplayClock
from registry.database import Database
from registry.errors import BadInputError, NotFoundError, NotPermittedError, RefusedError
from registry.identities import Identity, Role

OLGA = Identity(name="Olga", roles=frozenset({Role.OPERATOR}))
READER = Identity(name="Reader", roles=frozenset({Role.VIEWER}))
GOOD = as_file(radiograph())
BURNED = as_file(radiograph(BurnedInAnnotation="YES"))
SUSPICIONS = (
    Reason.BURNED_IN,
    Reason.BURNED_IN_UNKNOWN,
    Reason.TEXT_FOUND,
    Reason.TEXT_NOT_LOOKED_FOR,
)


class Ward:
    """A quarantine with everything that leads in and out."""

    def __init__(self, folder: Path, database: Database, now: datetime) -> None:
        (folder / "quarantine").mkdir(mode=0o700)
        self.folder, self.database, self.now = folder, database, now
        self.clock = ReplayClock(now)
        self.quarantine = Quarantine(folder / "quarantine", key=KEY)
        self.vault = Vault(folder / "vault")
        self.intake = ScanIntake(database, self.vault, self.quarantine, KEY, self.clock)
        self.keeper = QuarantineKeeper(database, self.quarantine, self.intake, self.clock)
        self.retention = QuarantineRetention(
            database, lambda: self.quarantine, self.clock, keep_for=timedelta(days=30)
        )

    def set_aside(
        self,
        content: bytes | None,
        reason: Reason = Reason.MULTI_FRAME,
        *,
        days_ago: float = 0,
        site: str = "north",
    ) -> QuarantinedItem:
        """Put something in that an older version would not read."""
        return self.quarantine.put(
            content,
            reason=reason,
            detail="an older version said so",
            site=site,
            at=self.now - timedelta(days=days_ago),
        )

    def scans(self) -> list[ScanRow]:
        with self.database.reading() as session:
            return list(session.scalars(select(ScanRow)))

    def facts(self, kind: str) -> list[dict[str, object]]:
        with self.database.reading() as session:
            return [entry.facts for entry in ledger.entries(session, kind=kind)]


@pytest.fixture
def ward(tmp_path: Path, database: Database, now: datetime) -> Ward:
    return Ward(tmp_path, database, now)


def test_what_can_be_read_now_is_taken_and_leaves(ward: Ward) -> None:
    ward.set_aside(GOOD, site="south")
    report = ward.keeper.retry(ward.quarantine.items(), by=OLGA)
    assert (report.added, report.known, report.refused) == (1, 0, {})
    assert [scan.site for scan in ward.scans()] == ["south"]
    assert ward.quarantine.items() == ()
    assert ward.facts("quarantine.retried") == [
        {"added": 1, "known": 0, "refused": {}, "not_kept": 0, "unopened": 0}
    ]
    with ward.database.reading() as session:
        assert ledger.verify(session).valid


def test_what_is_refused_again_stays_with_its_new_reason_and_its_first_time(ward: Ward) -> None:
    item = ward.set_aside(BURNED, days_ago=5)
    same = ward.set_aside(b"no DICOM at all", Reason.NOT_DICOM, days_ago=1)
    report = ward.keeper.retry(ward.quarantine.items(), by=OLGA)
    assert report.refused == {"burned_in": 1, "not_dicom": 1}
    assert report.changed == (item.id,)
    assert [(left.id, left.reason, left.at) for left in ward.quarantine.items()] == [
        (item.id, Reason.BURNED_IN, item.at),
        (same.id, Reason.NOT_DICOM, same.at),
    ]
    assert ward.quarantine.read(item.id) == BURNED
    assert ward.scans() == []


def test_a_scan_that_was_stored_before_the_item_could_be_removed_is_known(ward: Ward) -> None:
    ward.intake.take([ward.intake.prepare(GOOD, site="north")])
    ward.set_aside(GOOD)
    report = ward.keeper.retry(ward.quarantine.items(), by=OLGA)
    assert (report.added, report.known) == (0, 1)
    assert ward.quarantine.items() == ()
    assert len(ward.scans()) == 1


def test_another_image_of_a_stored_instance_stays_as_a_conflict(ward: Ward) -> None:
    ward.intake.take([ward.intake.prepare(GOOD, site="north")])
    item = ward.set_aside(as_file(radiograph(gradient()[::-1].copy())))
    report = ward.keeper.retry(ward.quarantine.items(), by=OLGA)
    assert report.refused == {"conflict": 1}
    assert ward.quarantine.find(item.id).reason is Reason.CONFLICT


def test_what_was_not_kept_or_was_changed_is_named_and_stays(ward: Ward) -> None:
    absent = ward.set_aside(None, Reason.TOO_LARGE)
    changed = ward.set_aside(GOOD)
    path = ward.folder / "quarantine" / f"{changed.id}.quarantined"
    path.write_bytes(path.read_bytes()[:-1])
    good = as_file(radiograph(SOPInstanceUID="1.2.3"))
    ward.set_aside(good)
    told: list[tuple[int, int]] = []
    report = ward.keeper.retry(
        ward.quarantine.items(), by=OLGA, tell=lambda done, total: told.append((done, total))
    )
    assert (report.not_kept, report.unopened) == ((absent.id,), (changed.id,))
    assert (report.added, report.tried) == (1, 1)
    assert {left.id for left in ward.quarantine.items()} == {absent.id, changed.id}
    assert told[-1] == (3, 3)


def test_items_are_chosen_by_name_reason_and_site(ward: Ward) -> None:
    first = ward.set_aside(b"1", Reason.NOT_DICOM, days_ago=2)
    second = ward.set_aside(b"2", Reason.ARCHIVE, site="south", days_ago=1)
    quarantine = ward.quarantine
    assert chosen(quarantine, ids=[second.id]) == [second]
    assert chosen(quarantine, reason=Reason.NOT_DICOM) == [first]
    assert chosen(quarantine, site="south") == [second]
    assert chosen(quarantine) == [first, second]
    with pytest.raises(NotFoundError):
        chosen(quarantine, ids=[first.id, "0" * 32])


@pytest.mark.parametrize("reason", SUSPICIONS)
def test_a_release_takes_the_scan_on_a_persons_word_in_the_ledger(
    ward: Ward, reason: Reason
) -> None:
    item = ward.set_aside(BURNED, reason)
    fate = ward.keeper.release(item.id, statement="I looked: no text", by=OLGA)
    assert fate.outcome is Outcome.ADDED
    assert ward.quarantine.items() == ()
    (scan,) = ward.scans()
    assert ward.vault.dataset(scan.vault_digest).BurnedInAnnotation == "NO"
    with ward.database.reading() as session:
        (entry,) = ledger.entries(session, kind="quarantine.released")
        (received,) = ledger.entries(session, kind="scans.received")
        assert ledger.verify(session).valid
    assert (entry.actor, entry.subject) == ("Olga", item.id)
    assert entry.facts["statement"] == "I looked: no text"
    assert entry.facts["reason"] == reason
    assert entry.sequence < received.sequence


def test_what_was_released_is_known_when_it_comes_again(ward: Ward) -> None:
    refused = ward.intake.take([ward.intake.prepare(BURNED, site="north")])
    assert refused[0].reason is Reason.BURNED_IN
    (item,) = ward.quarantine.items()
    ward.keeper.release(item.id, statement="no text", by=OLGA)
    again = ward.intake.take([ward.intake.prepare(BURNED, site="north")])
    assert again[0].outcome is Outcome.KNOWN
    assert ward.quarantine.items() == ()
    # The word was given for this image from this site alone.
    other = as_file(radiograph(gradient()[::-1].copy(), BurnedInAnnotation="YES"))
    for content, site in ((other, "north"), (BURNED, "south")):
        (fate,) = ward.intake.take([ward.intake.prepare(content, site=site)])
        assert fate.reason is Reason.BURNED_IN
    assert len(ward.scans()) == 1


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason not in SUSPICIONS])
def test_nothing_but_a_suspicion_of_text_can_be_denied(ward: Ward, reason: Reason) -> None:
    item = ward.set_aside(GOOD, reason)
    with pytest.raises(RefusedError, match="only a suspicion of burned-in text"):
        ward.keeper.release(item.id, statement="I am sure", by=OLGA)
    assert ward.quarantine.items() == (item,)
    assert ward.scans() == []
    assert ward.facts("quarantine.released") == []


def test_a_released_instance_that_is_no_scan_stays_for_that_reason(ward: Ward) -> None:
    document = radiograph(SOPClassUID=EncapsulatedPDFStorage, BurnedInAnnotation="YES")
    item = ward.set_aside(as_file(document), Reason.BURNED_IN)
    fate = ward.keeper.release(item.id, statement="no text", by=OLGA)
    assert (fate.outcome, fate.reason) == (Outcome.QUARANTINED, Reason.REPORT)
    assert ward.quarantine.find(item.id).reason is Reason.REPORT
    assert ward.scans() == []


def test_a_release_takes_a_statement(ward: Ward) -> None:
    item = ward.set_aside(BURNED, Reason.BURNED_IN)
    with pytest.raises(BadInputError, match="statement"):
        ward.keeper.release(item.id, statement=" ", by=OLGA)
    assert ward.quarantine.items() == (item,)


def test_only_an_operator_lets_anything_out(ward: Ward) -> None:
    item = ward.set_aside(BURNED, Reason.BURNED_IN, days_ago=99)
    with pytest.raises(NotPermittedError):
        ward.keeper.retry([item], by=READER)
    with pytest.raises(NotPermittedError):
        ward.keeper.release(item.id, statement="no text", by=READER)
    with pytest.raises(NotPermittedError):
        ward.retention.purge(by=READER)
    assert ward.quarantine.items() == (item,)


def test_a_purge_removes_what_expired_and_records_counts_alone(ward: Ward) -> None:
    ward.set_aside(b"12", Reason.NOT_DICOM, days_ago=31)
    ward.set_aside(b"123", Reason.ARCHIVE, days_ago=40)
    young = ward.set_aside(b"1", days_ago=29)
    assert ward.retention.purge(by=OLGA) == 2
    assert ward.quarantine.items() == (young,)
    assert ward.facts("quarantine.purged") == [
        {
            "items": 2,
            "bytes": 5,
            "older_than_days": 30.0,
            "reasons": {"not_dicom": 1, "archive": 1},
        }
    ]
    assert ward.retention.purge(by=OLGA) == 0
    assert len(ward.facts("quarantine.purged")) == 1
    assert ward.retention.purge(by=OLGA, older_than=timedelta(days=7)) == 1
    assert ward.quarantine.items() == ()


def test_a_purge_dates_what_a_clock_stamped_far_ahead(ward: Ward) -> None:
    item = ward.set_aside(BURNED, days_ago=-9_000)
    assert ward.retention.purge(by=OLGA) == 0
    assert ward.quarantine.find(item.id).at == ward.clock.now()
