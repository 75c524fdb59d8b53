from __future__ import annotations

import pytest

from monitor.embedding.stage_times import Stage, StageTimes, measured, observe
from monitor.tables import StageTimesRow
from registry.database import Database


def of(database: Database, stage: Stage) -> list[StageTimes]:
    with database.reading() as session:
        return list(measured(session, stage))


def test_durations_are_counted_by_interval_and_summed(database: Database) -> None:
    for seconds in ([0.002, 0.0021, 29.9], [31.0]):
        with database.transaction() as session:
            observe(session, Stage.DECODE, "chest", seconds)
    (found,) = of(database, Stage.DECODE)
    # A bound belongs to its interval, as Prometheus has it.
    assert found.counts == (1, 1, *[0] * 10, 1, 1)
    assert found.seconds == pytest.approx(60.9041)
    assert len(found.counts) == len(Stage.DECODE.bounds) + 1


def test_stages_and_subjects_are_kept_apart(database: Database) -> None:
    with database.transaction() as session:
        observe(session, Stage.DECODE, "chest", [1.0])
        observe(session, Stage.EMBED, "chest", [1.0, 1.0])
        observe(session, Stage.EMBED, "hand", [1.0])
        observe(session, Stage.LAG, "chest", [])
    assert [sum(one.counts) for one in of(database, Stage.DECODE)] == [1]
    assert {one.subject: sum(one.counts) for one in of(database, Stage.EMBED)} == {
        "chest": 2,
        "hand": 1,
    }
    assert of(database, Stage.LAG) == []


def test_a_clock_that_ran_ahead_takes_nothing_from_the_sum(database: Database) -> None:
    with database.transaction() as session:
        observe(session, Stage.LAG, "chest", [-3600.0, 2.0])
    (found,) = of(database, Stage.LAG)
    assert (found.counts[0], sum(found.counts), found.seconds) == (1, 2, 2.0)


def test_what_is_rolled_back_is_not_counted(database: Database) -> None:
    def fail() -> None:
        with database.transaction() as session:
            observe(session, Stage.EMBED, "chest", [1.0])
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert of(database, Stage.EMBED) == []


def test_other_bounds_begin_anew(database: Database) -> None:
    with database.transaction() as session:
        session.add(StageTimesRow(stage="decode", subject="chest", counts=[3, 4], seconds=9.0))
    assert of(database, Stage.DECODE) == []
    with database.transaction() as session:
        observe(session, Stage.DECODE, "chest", [1.0])
    (found,) = of(database, Stage.DECODE)
    assert (sum(found.counts), found.seconds) == (1, 1.0)


def test_bounds_rise() -> None:
    for stage in Stage:
        assert list(stage.bounds) == sorted(set(stage.bounds))
