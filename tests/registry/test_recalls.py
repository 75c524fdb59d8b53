from __future__ import annotations

from datetime import datetime

import pytest
from registered_versions import add_version
from sqlalchemy.orm import Session

from registry import ledger, recalls, serving
from registry.database import Database
from registry.errors import ConflictError, NotFoundError, NotPermittedError, RecalledError
from registry.identities import Identity, Role
from registry.versions import VersionRow, find

OLA = Identity(name="Ola", roles=frozenset({Role.OPERATOR}))
ADA = Identity(name="Ada", roles=frozenset({Role.ADMIN}))


def three_generations(session: Session, now: datetime) -> list[VersionRow]:
    base = add_version(session, 1, now)
    child = add_version(session, 2, now, base=base.id)
    return [base, child, add_version(session, 3, now, base=child.id)]


def serve(
    session: Session, version: VersionRow, before: VersionRow | None, now: datetime
) -> None:
    serving.move_champion(
        session,
        version,
        expected=before.id if before else None,
        reason="test",
        kind="champion.promoted",
        actor="test",
        at=now,
    )


def test_a_recall_reaches_all_that_was_and_will_be_derived(
    database: Database, now: datetime
) -> None:
    with database.transaction() as session:
        base, child, grandchild = three_generations(session, now)
        other = add_version(session, 4, now)
        recalls.recall(session, base, reason="poisoned", by=OLA, at=now)
        later = add_version(session, 5, now, base=grandchild.id)
        found = recalls.flagged(session, [base, child, grandchild, other, later])
        assert [flag.version.number for flag in found] == [1, 2, 3, 5]
        assert found[1].in_words() == (
            f"pneumonia@2 was derived from pneumonia@1, recalled on {now:%Y-%m-%d} by Ola: poisoned"
        )
    with database.reading() as session:
        assert ledger.verify(session).valid
        [entry] = ledger.entries(session, kind="version.recalled")
        assert entry.facts["descendants"] == ["pneumonia@2", "pneumonia@3"]


def test_what_is_recalled_cannot_come_into_use_by_promotion_or_rollback(
    database: Database, now: datetime
) -> None:
    with database.transaction() as session:
        base, child, _ = three_generations(session, now)
        fit = add_version(session, 4, now)
        serve(session, child, None, now)
        serve(session, fit, child, now)
        recalls.recall(session, base, reason="poisoned", by=OLA, at=now)
        with pytest.raises(RecalledError, match="pneumonia@2 was derived from pneumonia@1"):
            serve(session, child, fit, now)
        assert serving.require_champion(session, "pneumonia").id == fit.id


def test_a_withdrawn_recall_counts_no_more_and_stays_on_record(
    database: Database, now: datetime
) -> None:
    with database.transaction() as session:
        base, child, _ = three_generations(session, now)
        recalls.recall(session, base, reason="wrong one", by=OLA, at=now)
        with pytest.raises(NotPermittedError, match="takes the role admin"):
            recalls.withdraw(session, base, reason="mistake", by=OLA, at=now)
        recalls.withdraw(session, base, reason="mistake", by=ADA, at=now)
        recalls.require_fit(session, child)
        with pytest.raises(NotFoundError, match="not recalled itself"):
            recalls.withdraw(session, base, reason="mistake", by=ADA, at=now)
    with database.reading() as session:
        kinds = [entry.kind for entry in ledger.entries(session, subject="pneumonia@1")]
    assert kinds[-2:] == ["version.recalled", "version.recall_withdrawn"]


def test_a_second_recall_and_one_by_a_viewer_are_refused(
    database: Database, now: datetime
) -> None:
    with database.transaction() as session:
        base = add_version(session, 1, now)
        viewer = Identity(name="Vi", roles=frozenset({Role.VIEWER}))
        with pytest.raises(NotPermittedError, match="takes the role operator"):
            recalls.recall(session, base, reason="x", by=viewer, at=now)
        recalls.recall(session, base, reason="x", by=OLA, at=now)
        with pytest.raises(ConflictError, match="recalled already"):
            recalls.recall(session, base, reason="x", by=OLA, at=now)


def test_an_edited_recall_is_found(database: Database, now: datetime) -> None:
    with database.transaction() as session:
        row = recalls.recall(session, add_version(session, 1, now), reason="x", by=OLA, at=now)
        number = row.id
    with database.transaction() as session:
        session.get_one(recalls.RecallRow, number).until = now
    with database.reading() as session:
        found = ledger.verify(session)
        assert found.fault is not None
        assert "recalls" in found.fault.problem
        assert find(session, "pneumonia@1")
