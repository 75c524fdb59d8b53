"""A rollback that is repeated, or given by one who saw another champion, goes no further back."""

from __future__ import annotations

import pytest
from retraining_rows import MODEL, Retraining, ledger_is_valid, person

from registry import serving
from registry.errors import BadInputError, ConflictError, StaleChampionError
from registry.versions import VersionRow, find
from retrain import runs
from retrain.promotion import promote
from retrain.rolling_back import aimed_at, roll_back, undo_rollback

MEI = person("Mei")


@pytest.fixture
def thrice(retraining: Retraining) -> Retraining:
    """A model whose third version serves."""
    for _ in range(2):
        run = retraining.run_awaiting_approval()
        retraining.approve(run)
        with retraining.database.transaction() as session:
            promote(session, runs.require_run(session, run), by=MEI, at=retraining.now)
    return retraining


def back(made: Retraining, seen: str | None = None, *, undo: bool = False) -> str:
    move = undo_rollback if undo else roll_back
    with made.database.transaction() as session:
        row: VersionRow | None = find(session, seen) if seen else None
        replaced, restored = move(session, MODEL, reason="worse", by=MEI, at=made.now, seen=row)
        return f"{replaced.number} -> {restored.number}"


def serves(made: Retraining) -> int:
    with made.database.reading() as session:
        return serving.require_champion(session, MODEL).number


def test_a_rollback_that_is_repeated_says_that_it_was_done(thrice: Retraining) -> None:
    assert back(thrice) == "3 -> 2"
    with pytest.raises(ConflictError) as refused:
        back(thrice)
    said = str(refused.value)
    assert said.startswith(f"Mei rolled {MODEL} back at 2026-")
    assert f"(everywhere: worse): this was done, and {MODEL}@2 serves." in said
    assert said.endswith(f"--from {MODEL}@2")
    assert serves(thrice) == 2
    assert back(thrice, f"{MODEL}@2") == "2 -> 1"
    assert ledger_is_valid(thrice.database)


def test_one_who_saw_another_champion_replaces_nothing(thrice: Retraining) -> None:
    assert back(thrice, f"{MODEL}@3") == "3 -> 2"
    with pytest.raises(StaleChampionError, match=f"is {MODEL}@2, not {MODEL}@3 as expected"):
        back(thrice, f"{MODEL}@3")
    with pytest.raises(BadInputError, match=f"general@1 is no version of {MODEL}"):
        back(thrice, "general@1")
    assert serves(thrice) == 2


def test_an_undo_names_what_it_saw_too(thrice: Retraining) -> None:
    back(thrice)
    with pytest.raises(StaleChampionError, match=f"is {MODEL}@2, not {MODEL}@1"):
        back(thrice, f"{MODEL}@1", undo=True)
    assert back(thrice, f"{MODEL}@2", undo=True) == "2 -> 3"
    with pytest.raises(ConflictError, match="did not come by a rollback"):
        back(thrice, undo=True)
    # What came back by an undo may be rolled back again.
    assert back(thrice) == "3 -> 2"


def test_what_would_be_done_is_what_is_done(thrice: Retraining) -> None:
    with thrice.database.reading() as session:
        current, before = aimed_at(session, MODEL)
        said = f"{current.number} -> {before.number}"
    assert back(thrice) == said
