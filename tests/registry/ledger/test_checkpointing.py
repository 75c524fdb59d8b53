"""What only a checkpoint that is kept elsewhere can show: a tail cut off, a chain rewritten."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from databases import on_each_database
from sealed_examples import add_identity
from tampering import rewrite, truncate, unguarded

from registry import ledger
from registry.clock import ReplayClock
from registry.database import Database
from registry.errors import (
    CheckpointError,
    CheckpointKeyError,
    IntegrityError,
    RefusedError,
    SetupError,
)
from registry.identities import SYSTEM, IdentityRow
from registry.ledger import checkpoint_keys, checkpoints
from registry.ledger.checkpoint_keys import SigningKey, create_signing_key, load_signing_key
from registry.ledger.checkpointing import (
    REFUSED,
    SIGNED,
    Checkpointer,
    newest_signed_at,
    trusted_checkpoints,
)
from registry.ledger.checkpoints import Checkpoint, read_checkpoint, sign

pytestmark = on_each_database


class Elsewhere:
    """A ledger, and the folder elsewhere into which its checkpoints are put."""

    def __init__(
        self, database: Database, folder: Path, key: SigningKey, now: datetime
    ) -> None:
        self.database, self.folder, self.key = database, folder, key
        self.clock = ReplayClock(now)
        folder.mkdir()
        self.checkpointer = Checkpointer(database, self.clock, key=lambda: key, folder=folder)

    def sign(self) -> Checkpoint:
        self.clock.at += timedelta(days=1)
        return self.checkpointer.sign(by=SYSTEM).checkpoint

    def verify(self, *places: Path, own: bool = True) -> ledger.Verification:
        with self.database.reading() as session:
            held = trusted_checkpoints(
                session,
                places or [self.folder],
                [self.key.public],
                own=self.key.public if own else None,
                now=self.clock.now(),
            )
            return ledger.verify(session, [IdentityRow], checkpoints=held)

    def entries(self, kind: str) -> list[ledger.Entry]:
        with self.database.reading() as session:
            return ledger.entries(session, kind=kind)


@pytest.fixture
def elsewhere(recorded: Database, tmp_path: Path, key: SigningKey, now: datetime) -> Elsewhere:
    return Elsewhere(recorded, tmp_path / "elsewhere", key, now)


def test_what_is_signed_agrees_with_the_ledger_and_is_recorded(elsewhere: Elsewhere) -> None:
    first, second = elsewhere.sign(), elsewhere.sign()
    assert (first.size, second.size) == (5, 6)
    assert first.origin == second.origin
    found = elsewhere.verify()
    assert (found.problem, found.checkpoints, found.entries) == (None, 2, 7)
    entry = elsewhere.entries(SIGNED)[-1]
    assert (entry.subject, entry.facts["size"]) == (second.origin, 6)
    with elsewhere.database.reading() as session:
        assert newest_signed_at(session) == elsewhere.clock.now()


def test_a_tail_that_was_cut_off_is_found_at_its_first_entry(elsewhere: Elsewhere) -> None:
    elsewhere.sign()
    with unguarded(elsewhere.database) as session:
        truncate(session, 3)
    with elsewhere.database.reading() as session:
        alone = ledger.verify(session, [])
    assert alone.valid  # without a checkpoint, nobody can tell
    fault = elsewhere.verify().fault
    assert fault is not None
    assert fault.sequence == 4
    assert fault.problem.startswith("entries 4 to 5 are missing: they were there when")


def test_a_rewritten_chain_is_found_between_two_checkpoints(elsewhere: Elsewhere) -> None:
    elsewhere.sign()  # over 5
    elsewhere.sign()  # over 6
    with elsewhere.database.transaction() as session:
        add_identity(session, "late", elsewhere.clock.now())  # 8
    elsewhere.sign()  # over 8
    with unguarded(elsewhere.database) as session:
        rewrite(session, 7, size=6_000_000)
    with elsewhere.database.reading() as session:
        assert ledger.verify(session).valid
    fault = elsewhere.verify().fault
    assert fault is not None
    assert fault.sequence == 7
    assert "the chain was rewritten: one or more of the entries 7 to 8 are not" in fault.problem


def test_with_a_checkpoint_of_every_entry_the_rewritten_one_is_named(
    elsewhere: Elsewhere,
) -> None:
    for _ in range(5):
        elsewhere.sign()
    with unguarded(elsewhere.database) as session:
        rewrite(session, 8, size=0)
    fault = elsewhere.verify().fault
    assert fault is not None
    assert fault.sequence == 8
    assert "the chain was rewritten: entry 8 is not" in fault.problem


def test_a_ledger_rewritten_from_its_first_entry_is_found(elsewhere: Elsewhere) -> None:
    elsewhere.sign()
    with unguarded(elsewhere.database) as session:
        rewrite(session, 1, name="somebody")
    fault = elsewhere.verify().fault
    assert fault is not None
    assert fault.sequence == 1
    # Whoever holds the public key alone cannot tell it from another installation's.
    with pytest.raises(CheckpointError, match="rewritten from its first entry") as raised:
        elsewhere.verify(own=False)
    assert raised.value.problem == checkpoints.OTHER_LEDGER


def test_nothing_is_signed_over_a_ledger_that_disagrees_with_the_folder(
    elsewhere: Elsewhere,
) -> None:
    elsewhere.sign()
    with unguarded(elsewhere.database) as session:
        rewrite(session, 2, name="somebody")
        truncate(session, 5)
    before = sorted(elsewhere.folder.iterdir())
    with pytest.raises(
        IntegrityError, match=r"nothing was signed.*entry 1: the chain was rewr"
    ):
        elsewhere.sign()
    assert sorted(elsewhere.folder.iterdir()) == before
    assert elsewhere.entries(SIGNED) == []


def test_nothing_is_signed_over_a_broken_chain(elsewhere: Elsewhere) -> None:
    with unguarded(elsewhere.database) as session:
        session.get_one(ledger.LedgerEntry, 3).canonical += b" "
    with pytest.raises(IntegrityError, match="entry 3: the entry was changed"):
        elsewhere.sign()
    assert list(elsewhere.folder.iterdir()) == []


def test_a_folder_may_hold_those_of_other_installations_and_keys(
    elsewhere: Elsewhere, tmp_path: Path
) -> None:
    strange = create_signing_key(tmp_path / "strange.key")
    other = Checkpoint(
        origin="driftward/other", size=9, root=bytes(32), at=elsewhere.clock.now()
    )
    (elsewhere.folder / "1.checkpoint").write_bytes(sign(other, elsewhere.key))
    (elsewhere.folder / "2.checkpoint").write_bytes(sign(other, strange))
    assert elsewhere.sign().size == 5


def test_what_is_refused_is_recorded_and_changes_nothing(
    elsewhere: Elsewhere, tmp_path: Path, now: datetime
) -> None:
    keyless = Checkpointer(
        elsewhere.database,
        elsewhere.clock,
        key=lambda: load_signing_key(tmp_path / "nowhere"),
        folder=elsewhere.folder,
    )
    with pytest.raises(CheckpointKeyError):
        keyless.sign(by=SYSTEM)
    (elsewhere.folder / "1.checkpoint").write_text("cut")
    with pytest.raises(CheckpointError, match=r"1\.checkpoint is no checkpoint"):
        elsewhere.sign()
    refused = elsewhere.entries(REFUSED)
    assert [entry.facts["problem"] for entry in refused] == [
        checkpoint_keys.MISSING,
        checkpoints.MALFORMED,
    ]
    assert [path.name for path in elsewhere.folder.iterdir()] == ["1.checkpoint"]
    assert elsewhere.entries(SIGNED) == []


def test_a_folder_that_is_gone_is_named_and_nothing_recorded_as_signed(
    elsewhere: Elsewhere,
) -> None:
    elsewhere.folder.rmdir()
    with pytest.raises((SetupError, CheckpointError), match=r"cannot be (read|written)"):
        elsewhere.sign()
    assert elsewhere.entries(SIGNED) == []


def test_a_checkpoint_of_the_future_is_refused(elsewhere: Elsewhere, tmp_path: Path) -> None:
    signed = elsewhere.sign()
    late = Checkpoint(
        origin=signed.origin,
        size=signed.size,
        root=signed.root,
        at=elsewhere.clock.now() + timedelta(hours=1),
    )
    (tmp_path / "late").write_bytes(sign(late, elsewhere.key))
    with pytest.raises(CheckpointError, match="in the future") as raised:
        elsewhere.verify(tmp_path / "late")
    assert raised.value.problem == checkpoints.FUTURE


def test_an_empty_ledger_is_not_signed(
    database: Database, key: SigningKey, now: datetime
) -> None:
    nothing = Checkpointer(database, ReplayClock(now), key=lambda: key, folder=None)
    with pytest.raises(RefusedError, match="nothing to sign"):
        nothing.sign(by=SYSTEM)


def test_a_file_is_never_overwritten(elsewhere: Elsewhere, tmp_path: Path) -> None:
    out = tmp_path / "kept"
    elsewhere.checkpointer.sign(by=SYSTEM, out=out)
    content = out.read_bytes()
    with pytest.raises(SetupError, match="never overwritten"):
        elsewhere.checkpointer.sign(by=SYSTEM, out=out)
    assert out.read_bytes() == content
    assert read_checkpoint(content, [elsewhere.key.public], source="f").size == 5
