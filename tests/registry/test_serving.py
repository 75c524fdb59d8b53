from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from registered_versions import add_version
from sqlalchemy.orm import Session

from registry import ledger, lineage, outbox, serving
from registry.database import Database
from registry.errors import NotFoundError, StaleChampionError
from registry.ledger import BatchSealed, Sealed
from registry.serving import Champion, Reign, Restriction, Withholding
from registry.versions import ModelRow, VersionRow, find, of_model


def promote(
    session: Session, version: VersionRow, *, expected: int | None, at: datetime
) -> None:
    serving.move_champion(
        session,
        version,
        expected=expected,
        reason="test",
        kind="champion.promoted",
        actor="test",
        at=at,
    )


def test_the_first_promotion_expects_no_champion(database: Database, now: datetime) -> None:
    with database.transaction() as session:
        version = add_version(session, 1, now)
        promote(session, version, expected=None, at=now)
    with database.reading() as session:
        champion = serving.champion(session, "pneumonia")
        assert champion is not None
        assert champion.number == 1


def test_a_promotion_that_saw_another_champion_is_refused_and_changes_nothing(
    database: Database, now: datetime
) -> None:
    with database.transaction() as session:
        first, second = add_version(session, 1, now), add_version(session, 2, now)
        promote(session, first, expected=None, at=now)
    with (
        pytest.raises(StaleChampionError, match="is pneumonia@1, not none as expected"),
        database.transaction() as session,
    ):
        promote(session, find(session, "pneumonia@2"), expected=None, at=now)
    with database.reading() as session:
        assert serving.require_champion(session, "pneumonia").id == first.id
        assert len(serving.reigns(session, "pneumonia")) == 1
        assert second.id is not None


def test_history_says_who_was_champion_when(database: Database, now: datetime) -> None:
    later = now + timedelta(days=3)
    with database.transaction() as session:
        first, second = add_version(session, 1, now), add_version(session, 2, now)
        promote(session, first, expected=None, at=now)
        promote(session, second, expected=first.id, at=later)
    with database.reading() as session:
        history = serving.reigns(session, "pneumonia")
    assert [(reign.version, reign.since, reign.until) for reign in history] == [
        (first.id, now, later),
        (second.id, later, None),
    ]


def test_every_promotion_leaves_an_alias_in_the_outbox(
    database: Database, now: datetime
) -> None:
    with database.transaction() as session:
        promote(session, add_version(session, 1, now), expected=None, at=now)
    with database.reading() as session:
        untold = outbox.backlog(session)
    assert untold is not None
    assert untold.waiting == 1


def test_a_champion_that_was_moved_by_hand_is_found(database: Database, now: datetime) -> None:
    with database.transaction() as session:
        first, second = add_version(session, 1, now), add_version(session, 2, now)
        promote(session, first, expected=None, at=now)
    with database.transaction() as session:
        session.get_one(Champion, ("pneumonia", "everywhere")).version = second.id
    with database.reading() as session:
        tables = [ModelRow, VersionRow, Champion, Reign, Restriction]
        assert all(issubclass(table, Sealed | BatchSealed) for table in tables)
        fault = ledger.verify(session, tables).fault
    assert fault is not None
    assert fault.problem == "row champions/pneumonia/everywhere was changed"
    assert fault.sequence == 3


def test_a_restriction_holds_once_until_it_is_lifted(database: Database, now: datetime) -> None:
    with database.transaction() as session:
        add_version(session, 1, now)
        rows = [
            serving.withhold(
                session,
                model="pneumonia",
                kind=Withholding.RESTRICT,
                subgroup="software_version=2.1",
                reason="drift",
                actor="test",
                at=now,
            )
            for _ in range(2)
        ]
        assert rows[0] is rows[1]
        serving.lift(session, rows[0], reason="repaired", actor="test", at=now)
        assert serving.restrictions(session, "pneumonia") == []


def test_descendants_and_ancestors_follow_every_level(
    database: Database, now: datetime
) -> None:
    with database.transaction() as session:
        first = add_version(session, 1, now)
        second = add_version(session, 2, now, base=first.id)
        third = add_version(session, 3, now, base=second.id)
        other = add_version(session, 4, now, base=first.id)
        assert lineage.ancestors(session, third) == [second, first]
        assert lineage.descendants(session, first) == [second, other, third]
        assert [row.number for row in of_model(session, "pneumonia")] == [1, 2, 3, 4]


def test_an_unknown_version_is_named_with_those_that_exist(
    database: Database, now: datetime
) -> None:
    with database.transaction() as session:
        add_version(session, 1, now)
        with pytest.raises(NotFoundError, match="no version pneumonia@7: it has 1"):
            find(session, "pneumonia@7")
