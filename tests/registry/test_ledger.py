from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, text, update
from sqlalchemy.orm import Session

from registry import ledger
from registry.canonical import canonical_bytes, digest_of, merkle_root, sha256
from registry.database import Database
from registry.identities import IdentityRow
from registry.ledger import LedgerEntry


def add_identity(session: Session, name: str, at: datetime) -> None:
    row = IdentityRow(name=name, os_user=None, roles=["viewer"], created_at=at)
    session.add(row)
    ledger.append(
        session,
        at=at,
        actor="test",
        kind="identity.bound",
        subject=name,
        facts={"name": name},
        seals=[row],
    )


@pytest.fixture
def recorded(database: Database, now: datetime) -> Database:
    for number in range(5):
        with database.transaction() as session:
            add_identity(session, f"person-{number}", now + timedelta(minutes=number))
    return database


def verify(database: Database) -> ledger.Verification:
    with database.reading() as session:
        return ledger.verify(session, [IdentityRow])


def test_an_untouched_ledger_verifies(recorded: Database) -> None:
    found = verify(recorded)
    assert found.valid
    assert found.entries == 5


def test_an_empty_ledger_verifies(database: Database) -> None:
    assert verify(database) == ledger.Verification(entries=0, head=ledger.GENESIS, fault=None)


def test_an_entry_is_rolled_back_with_its_change(recorded: Database, now: datetime) -> None:
    with pytest.raises(RuntimeError), recorded.transaction() as session:
        add_identity(session, "nobody", now)
        raise RuntimeError
    assert verify(recorded).entries == 5


@pytest.mark.parametrize("column", ["actor", "kind", "subject", "recorded_at"])
def test_an_edited_column_is_found_at_its_entry(recorded: Database, column: str) -> None:
    value = datetime.fromisoformat("2020-01-01T00:00Z") if column == "recorded_at" else "other"
    with recorded.transaction() as session:
        session.execute(
            update(LedgerEntry).where(LedgerEntry.sequence == 3).values({column: value})
        )
    fault = verify(recorded).fault
    assert fault is not None
    assert fault.sequence == 3


def test_an_edited_record_is_found_at_its_entry(recorded: Database) -> None:
    with recorded.transaction() as session:
        entry = session.get_one(LedgerEntry, 2)
        entry.canonical = entry.canonical.replace(b"person-1", b"person-9")
    fault = verify(recorded).fault
    assert fault is not None
    assert fault.sequence == 2


def test_a_deleted_entry_is_found_at_its_place(recorded: Database) -> None:
    with recorded.transaction() as session:
        session.execute(delete(LedgerEntry).where(LedgerEntry.sequence == 4))
    fault = verify(recorded).fault
    assert fault is not None
    assert fault.sequence == 4


def test_a_truncated_tail_is_found(recorded: Database) -> None:
    with recorded.transaction() as session:
        session.execute(delete(LedgerEntry).where(LedgerEntry.sequence == 5))
    fault = verify(recorded).fault
    assert fault is not None
    assert fault.sequence == 5


def test_swapped_entries_are_found(recorded: Database) -> None:
    with recorded.transaction() as session:
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
    with recorded.transaction() as session:
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


def test_the_merkle_root_agrees_with_the_tree_written_out() -> None:
    def node(left: str, right: str) -> str:
        return sha256(b"\x01" + bytes.fromhex(left) + bytes.fromhex(right))

    values = [digest_of(number) for number in range(5)]
    a, b, c, d, e = (sha256(b"\x00" + bytes.fromhex(value)) for value in values)
    assert merkle_root(values) == node(node(node(a, b), node(c, d)), e)
    assert merkle_root(values[:1]) == a


@given(
    st.dictionaries(st.text(), st.integers() | st.floats(allow_nan=False, allow_infinity=False))
)
def test_canonical_bytes_do_not_depend_on_the_order_of_keys(value: dict[str, float]) -> None:
    backwards = dict(reversed(list(value.items())))
    assert canonical_bytes(value) == canonical_bytes(backwards)


def test_what_json_cannot_say_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_bytes(float("nan"))
