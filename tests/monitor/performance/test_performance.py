from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pytest
from monitored_history import ANCHOR, History
from sqlalchemy import select, update

from monitor.labels import Label, Provenance, attach
from monitor.performance.performance import (
    LabelledResults,
    labelled_results,
    measure,
    newest,
    of_worst_finding,
    store,
)
from monitor.subgroups import Subgroup
from monitor.tables import ResultRow, ScanRow
from monitor.windows import Window
from registry import ledger
from registry.errors import InsufficientDataError

WEEK = Window(start=ANCHOR, end=ANCHOR + timedelta(days=7))


def test_a_class_without_scans_cannot_be_measured() -> None:
    one_class = LabelledResults(
        scores=np.linspace(0.1, 0.9, 40),
        truth=np.zeros(40, dtype=bool),
        patients=tuple(f"p{number}" for number in range(40)),
        scans=(),
        threshold=0.5,
        ai_influenced=0,
    )
    with pytest.raises(InsufficientDataError):
        measure(one_class)


def label(history: History, scans: list[int], *, signed_at: datetime = ANCHOR) -> None:
    with history.database.transaction() as session:
        rows = session.scalars(select(ScanRow).where(ScanRow.id.in_(scans))).all()
        attach(
            session,
            [
                Label(
                    line=number,
                    instance=row.instance,
                    task="pneumonia",
                    value=number % 2,
                    provenance=Provenance.READER,
                    reader="reader",
                    signed_at=signed_at,
                )
                for number, row in enumerate(rows)
            ],
            site="site",
            actor="test",
            at=signed_at,
        )


def read(
    history: History, count: int, *, at: datetime = ANCHOR, software_version: str = "1.0"
) -> list[int]:
    """Add scans that the champion has read."""
    return history.add(
        count,
        at=at,
        software_version=software_version,
        probabilities=list(np.linspace(0.1, 0.9, count)),
    )


def found_scans(history: History, **conditions: object) -> list[int]:
    with history.database.reading() as session:
        found = labelled_results(
            session, version=history.champion.id, task="pneumonia", **conditions
        )
    return [scan.id for scan in found.scans]


def test_only_labelled_scans_with_a_result_are_found(bare_history: History) -> None:
    scans = read(bare_history, 6)
    without_result = bare_history.add(2, at=ANCHOR)
    label(bare_history, [*scans[:4], *without_result])
    assert found_scans(bare_history) == scans[:4]


def test_window_and_subgroup_narrow_what_is_found(bare_history: History) -> None:
    old = read(bare_history, 4)
    new = read(bare_history, 4, software_version="2.0")
    late = read(bare_history, 4, at=WEEK.end)
    label(bare_history, [*old, *new, *late])
    assert found_scans(bare_history, window=WEEK) == [*old, *new]
    subgroup = Subgroup.parse("software_version=2.0")
    assert found_scans(bare_history, window=WEEK, subgroup=subgroup) == new


def test_of_another_version_or_task_nothing_is_found(bare_history: History) -> None:
    label(bare_history, read(bare_history, 4))
    with bare_history.database.reading() as session:
        for version, task in (
            (bare_history.encoder.id, "pneumonia"),
            (bare_history.champion.id, "other"),
        ):
            with pytest.raises(InsufficientDataError, match="labelled scans with a result"):
                labelled_results(session, version=version, task=task)


def test_a_correction_replaces_a_label_and_influenced_ones_are_counted(
    bare_history: History,
) -> None:
    scans = read(bare_history, 4)
    label(bare_history, scans)
    with bare_history.database.reading() as session:
        before = labelled_results(session, version=bare_history.champion.id, task="pneumonia")
        read_at = session.scalars(select(ResultRow.created_at)).first()
    assert before.ai_influenced == 0
    assert read_at is not None
    label(bare_history, scans[1:3], signed_at=read_at)
    with bare_history.database.reading() as session:
        after = labelled_results(session, version=bare_history.champion.id, task="pneumonia")
    assert after.ai_influenced == 2
    assert before.truth.tolist() == [False, True, False, True]
    assert after.truth.tolist() == [False, False, True, True]


def test_labels_that_an_ai_influenced_can_be_left_out(bare_history: History) -> None:
    free, influenced = read(bare_history, 3), read(bare_history, 3)
    label(bare_history, free)
    label(bare_history, influenced, signed_at=ANCHOR + timedelta(days=30))
    assert found_scans(bare_history) == [*free, *influenced]
    assert found_scans(bare_history, without_ai=True) == free


def test_scores_are_those_of_the_positive_class(bare_history: History) -> None:
    label(bare_history, read(bare_history, 5))
    with bare_history.database.reading() as session:
        found = labelled_results(session, version=bare_history.champion.id, task="pneumonia")
    expected: npt.NDArray[np.float64] = np.linspace(0.1, 0.9, 5)
    assert found.scores == pytest.approx(expected)
    assert found.threshold == 0.5


def test_the_newest_measurement_of_a_window_is_shown_and_the_older_one_kept(
    bare_history: History, now: datetime
) -> None:
    label(bare_history, read(bare_history, 40))
    for _ in range(2):
        with bare_history.database.transaction() as session:
            found = labelled_results(
                session, version=bare_history.champion.id, task="pneumonia"
            )
            row = store(
                session,
                monitor="chest",
                version=bare_history.champion.id,
                window=WEEK,
                subgroup="",
                results=found,
                performance=measure(found),
                actor="test",
                at=now,
            )
    with bare_history.database.reading() as session:
        [shown] = newest(session, "chest")
        assert shown.id == row.id == 2
        assert (shown.scans, shown.positives) == (40, 20)
        assert ledger.verify(session).valid


def test_the_class_that_is_looked_for_may_stand_first(history: History) -> None:
    scans = history.add(
        60,
        at=ANCHOR,
        probabilities=[0.9 if number % 2 == 0 else 0.2 for number in range(60)],
        finding=0,
    )
    label(history, scans)
    with history.database.reading() as session:
        found = labelled_results(
            session, version=history.champion.id, task="pneumonia", window=WEEK
        )
    assert found.truth.tolist() == [number % 2 == 0 for number in range(60)]
    measured = measure(found)
    assert measured.area.estimate == 1.0
    assert measured.point.sensitivity.estimate == measured.point.specificity.estimate == 1.0


def test_results_without_a_threshold_measure_nothing(bare_history: History) -> None:
    label(bare_history, read(bare_history, 4))
    with bare_history.database.transaction() as session:
        session.execute(update(ResultRow).values(threshold=None))
    with (
        bare_history.database.reading() as session,
        pytest.raises(InsufficientDataError, match="results of task pneumonia at a threshold"),
    ):
        labelled_results(session, version=bare_history.champion.id, task="pneumonia")


def test_each_finding_of_a_week_is_kept_and_the_worst_is_found(bare_history: History) -> None:
    label(bare_history, read(bare_history, 40))
    with bare_history.database.transaction() as session:
        results = labelled_results(
            session, version=bare_history.champion.id, task="pneumonia", window=WEEK
        )
        worse = replace(results, scores=np.roll(results.scores, 1))
        for finding, one in (("mass", results), ("fluid", worse), ("mass", results)):
            store(
                session,
                monitor="chest",
                version=bare_history.champion.id,
                window=WEEK,
                subgroup="",
                finding=finding,
                results=one,
                performance=measure(one),
                actor="test",
                at=ANCHOR,
            )
    with bare_history.database.reading() as session:
        rows = newest(session, "chest")
        assert [row.finding for row in rows] == ["fluid", "mass"]
        assert rows[0].measures["auc"][0] < rows[1].measures["auc"][0]
        assert of_worst_finding(rows) == [rows[0]]
        assert ledger.verify(session).valid
