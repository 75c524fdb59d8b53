from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from databases import on_each_database
from sealed_examples import add_identity, row_of, without_foreign_keys
from sqlalchemy import delete, text, update
from tampering import unguarded

from monitor.tables import VerdictRow
from registry import ledger
from registry.canonical import canonical_bytes, digest_of, to_json
from registry.database import Database
from registry.identities import IdentityRow
from registry.ledger import LedgerEntry, record, sealed_rows, verification

pytestmark = on_each_database


def verify(database: Database) -> ledger.Verification:
    with database.reading() as session:
        return ledger.verify(session, [IdentityRow])


def test_an_untouched_ledger_verifies(recorded: Database) -> None:
    found = verify(recorded)
    assert found.valid
    assert found.entries == 5


def test_an_empty_ledger_verifies(database: Database) -> None:
    assert verify(database) == ledger.Verification(entries=0, head=ledger.GENESIS, fault=None)


def test_a_clock_that_was_set_back_is_noted_and_breaks_nothing(
    recorded: Database, now: datetime
) -> None:
    for name, at in (
        ("waits for its turn", now - timedelta(minutes=2)),
        ("tomorrow", now + timedelta(days=1)),
        ("today again", now + timedelta(hours=1)),
    ):
        with recorded.transaction() as session:
            add_identity(session, name, at)
    found = verify(recorded)
    assert found.valid
    assert found.set_back == ledger.SetBack(sequence=8, by=timedelta(hours=23))


def test_an_entry_is_rolled_back_with_its_change(recorded: Database, now: datetime) -> None:
    with pytest.raises(RuntimeError), recorded.transaction() as session:
        add_identity(session, "nobody", now)
        raise RuntimeError
    assert verify(recorded).entries == 5


@pytest.mark.parametrize("column", ["actor", "kind", "subject", "recorded_at"])
def test_an_edited_column_is_found_at_its_entry(recorded: Database, column: str) -> None:
    value = datetime.fromisoformat("2020-01-01T00:00Z") if column == "recorded_at" else "other"
    with unguarded(recorded) as session:
        session.execute(
            update(LedgerEntry).where(LedgerEntry.sequence == 3).values({column: value})
        )
    fault = verify(recorded).fault
    assert fault is not None
    assert fault.sequence == 3


def test_an_edited_record_is_found_at_its_entry(recorded: Database) -> None:
    with unguarded(recorded) as session:
        entry = session.get_one(LedgerEntry, 2)
        entry.canonical = entry.canonical.replace(b"person-1", b"person-9")
    fault = verify(recorded).fault
    assert fault is not None
    assert fault.sequence == 2


def test_a_deleted_entry_is_found_at_its_place(recorded: Database) -> None:
    with unguarded(recorded) as session:
        session.execute(delete(LedgerEntry).where(LedgerEntry.sequence == 4))
    fault = verify(recorded).fault
    assert fault is not None
    assert fault.sequence == 4


def test_a_truncated_tail_is_found(recorded: Database) -> None:
    with unguarded(recorded) as session:
        session.execute(delete(LedgerEntry).where(LedgerEntry.sequence == 5))
    fault = verify(recorded).fault
    assert fault is not None
    assert fault.sequence == 5


def test_swapped_entries_are_found(recorded: Database) -> None:
    with unguarded(recorded) as session:
        for before, after in ((2, 99), (3, 2), (99, 3)):
            session.execute(
                text("UPDATE ledger SET sequence = :after WHERE sequence = :before"),
                {"before": before, "after": after},
            )
    fault = verify(recorded).fault
    assert fault is not None
    assert fault.sequence == 2


def test_an_edited_row_is_found_at_the_entry_that_vouched_for_it(recorded: Database) -> None:
    with recorded.transaction() as session:
        session.execute(
            text("UPDATE identities SET roles = '[\"admin\"]' WHERE name = 'person-2'")
        )
    fault = verify(recorded).fault
    assert fault is not None
    assert (fault.sequence, "identities/person-2" in fault.problem) == (3, True)


def test_a_deleted_row_is_found(recorded: Database) -> None:
    with unguarded(recorded) as session:
        session.execute(text("DELETE FROM identities WHERE name = 'person-0'"))
    fault = verify(recorded).fault
    assert fault is not None
    assert (fault.sequence, "deleted" in fault.problem) == (1, True)


def test_a_row_that_was_never_recorded_is_found(recorded: Database, now: datetime) -> None:
    with recorded.transaction() as session:
        session.add(IdentityRow(name="intruder", os_user=None, roles=["admin"], created_at=now))
    fault = verify(recorded).fault
    assert fault is not None
    assert "never recorded" in fault.problem


def test_a_change_that_is_recorded_again_is_no_fault(recorded: Database, now: datetime) -> None:
    with recorded.transaction() as session:
        row = session.get_one(IdentityRow, "person-1")
        row.roles = ["auditor"]
        ledger.append(
            session,
            at=now,
            actor="test",
            kind="identity.changed",
            subject=row.name,
            facts={},
            seals=[row],
        )
    assert verify(recorded).valid


def test_a_head_that_was_set_back_is_found(recorded: Database) -> None:
    with unguarded(recorded) as session:
        session.execute(
            text(
                "UPDATE ledger_head SET sequence = 3, "
                "digest = (SELECT digest FROM ledger WHERE sequence = 3)"
            )
        )
    fault = verify(recorded).fault
    assert fault is not None
    assert (fault.sequence, fault.problem) == (
        4,
        "the ledger's head was set back behind this entry",
    )


def test_a_batch_of_entries_is_verified_across_the_chunks_that_are_read(
    recorded: Database, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "CHUNK", 2)
    monkeypatch.setattr(sealed_rows, "_CHUNK", 2)
    assert verify(recorded).valid
    with unguarded(recorded) as session:
        session.execute(text("DELETE FROM identities WHERE name = 'person-3'"))
    fault = verify(recorded).fault
    assert fault is not None
    assert fault.sequence == 4


def test_what_the_first_form_sealed_still_verifies(database: Database, now: datetime) -> None:
    # As entries and seals were written before RFC 8785: 1.0 is not 1 in them.
    with database.transaction() as session:
        row = VerdictRow(**{**row_of(VerdictRow.__table__, now), "effect": 1.0})
        without_foreign_keys(session)
        session.add(row)
        session.flush()
        values = {key: to_json(getattr(row, key)) for key in record.sealed_columns(VerdictRow)}
        body = {
            "sequence": 1,
            "at": to_json(now),
            "actor": "test",
            "kind": "window.evaluated",
            "subject": "chest",
            "facts": {"effect": 1.0},
            "seals": {ledger.row_name(row): digest_of(values)},
        }
        canonical = canonical_bytes(body)
        assert b'"effect":1.0' in canonical
        digest = ledger.chain(ledger.GENESIS, canonical)
        session.add(
            LedgerEntry(
                sequence=1,
                recorded_at=now,
                actor="test",
                kind="window.evaluated",
                subject="chest",
                canonical=canonical,
                digest=digest,
            )
        )
        head = session.get_one(ledger.LedgerHead, 1)
        head.sequence, head.digest = 1, digest
        session.flush()
        found = ledger.verify(session, [VerdictRow])
        assert found.problem is None
        session.execute(text("UPDATE verdicts SET effect = 0.999"))
        fault = ledger.verify(session, [VerdictRow]).fault
        session.rollback()
    assert fault is not None
    assert fault.sequence == 1


def test_two_writers_keep_one_chain(database: Database, now: datetime) -> None:
    def write(writer: int) -> None:
        for number in range(10):
            with database.transaction() as session:
                add_identity(session, f"{writer}-{number}", now)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(write, writer) for writer in range(4)]:
            done.result()
    found = verify(database)
    assert (found.problem, found.entries) == (None, 40)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("actor", "other"),
        ("kind", "other"),
        ("subject", "other"),
        ("recorded_at", datetime.fromisoformat("2020-01-01T00:00Z")),
    ],
)
def test_an_edited_column_of_an_entry_that_seals_nothing_is_found(
    database: Database, now: datetime, column: str, value: object
) -> None:
    strange = 'a","form":"rfc8785","kind":"x.y","sequence":2,"subject":"\\" é \n'
    for subject in ("plain", strange, "plain"):
        with database.transaction() as session:
            ledger.append(
                session,
                at=now,
                actor=subject,
                kind="note.made",
                subject=subject,
                facts={"text": strange, "subject": "x"},
            )
    assert verify(database).valid
    with unguarded(database) as session:
        session.execute(
            update(LedgerEntry).where(LedgerEntry.sequence == 2).values({column: value})
        )
    fault = verify(database).fault
    assert fault is not None
    name = "at" if column == "recorded_at" else column
    assert (fault.sequence, fault.problem) == (
        2,
        f"the entry's {name} was changed beside its record",
    )
