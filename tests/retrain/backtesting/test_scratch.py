"""The scratch installation knows, at each moment, what was known then."""

from __future__ import annotations

import itertools
import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from shifted_history import ANCHOR, MONITOR, WEEK, ShiftedHistory
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from monitor.kept_answers import KEPT
from monitor.performance.performance import LabelledResults, labelled_results
from monitor.tables import EmbeddingRow, LabelRow, ResultRow, ScanRow
from registry import ledger
from registry.errors import InsufficientDataError
from retrain.backtesting.past import Past, read_past
from retrain.backtesting.question import ask, looks
from retrain.backtesting.scratch import Scratch, scratch_folder
from retrain.backtesting.stored_reading import StoredReader


@pytest.fixture
def past(history: ShiftedHistory) -> Past:
    with history.driftward.database.reading() as session:
        question = ask(
            session,
            MONITOR,
            since=ANCHOR + timedelta(hours=5),
            until=ANCHOR + 2 * WEEK,
            text=history.plan_text(),
        )
        return read_past(session, question)


@pytest.fixture
def scratch(past: Past, history: ShiftedHistory, tmp_path: Path) -> Scratch:
    driftward = history.driftward
    reader = StoredReader(
        past.champion,
        past.vectors(),
        open_bundle=driftward.bundles.open,
        embed=driftward.embedder.embeddings,
    )
    return Scratch(tmp_path, past, reader, profiles=driftward.home.profiles.resolve())


def test_no_scan_and_no_label_is_there_before_its_time(scratch: Scratch, past: Past) -> None:
    arrived = []
    for moment in looks(past.question):
        scratch.clock.at = moment
        arrived.append(scratch.deliver())
        with scratch.database.reading() as session:
            assert session.scalar(select(func.max(ScanRow.arrived_at))) < moment
            assert session.scalar(select(func.max(LabelRow.arrived_at))) < moment
    assert sum(arrived) == len(past.labels) > 0
    with scratch.database.reading() as session:
        newest = session.scalar(select(func.max(ScanRow.arrived_at)))
        assert newest == past.scans[-1]["arrived_at"]
        scans = session.scalar(select(func.count(ScanRow.id)))
        for row in (EmbeddingRow, ResultRow):
            read = select(func.count(row.id)).where(row.version == past.champion.id)
            assert session.scalar(read) == scans
        # Nobody guards rows that are thrown away: what they say is whole.
        assert ledger.verify(session, tables=[]).fault is None


def test_a_look_ends_each_window_and_the_span(past: Past) -> None:
    moments = list(looks(past.question))
    assert moments == sorted(set(moments))
    assert {ANCHOR + WEEK, ANCHOR + 2 * WEEK} <= set(moments)
    assert moments[-1] == past.question.until
    assert moments[0] > past.question.since
    steps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert max(steps) <= past.question.look


def test_heads_read_stored_embeddings_as_the_champion_did(scratch: Scratch, past: Past) -> None:
    with scratch.database.reading() as session:
        rows = session.execute(
            select(ScanRow, ResultRow)
            .join(ResultRow, ResultRow.scan == ScanRow.id)
            .where(ResultRow.version == past.champion.id)
            .order_by(ScanRow.id)
            .limit(200)
        ).all()
    scores = scratch.reader.probabilities(
        past.champion, [scan for scan, _ in rows], "pneumonia"
    )
    said = [result.probabilities[-1] for _, result in rows]
    assert scores[:, -1] == pytest.approx(said, abs=1e-6)


def test_an_embedding_that_is_nowhere_is_an_error_that_says_so(
    scratch: Scratch, past: Past
) -> None:
    with scratch.database.reading() as session:
        scans = session.scalars(select(ScanRow).order_by(ScanRow.id).limit(3)).all()
    del scratch.reader.vectors[scans[1].id]
    with pytest.raises(InsufficientDataError, match=r"stored embeddings by pneumonia@1"):
        scratch.reader.embeddings(scans)


def test_results_on_a_reference_are_kept_until_one_of_its_scans_gets_a_label(
    scratch: Scratch, past: Past
) -> None:
    [reference] = {row.dataset for row in past.references}
    asked: list[LabelledResults] = []
    alike: list[bool] = []

    def ask_again() -> None:
        with scratch.database.reading() as session:
            asked.append(_results(session, past, reference))
            del session.info[KEPT]
            anew = _results(session, past, reference)
        alike.append([scan.id for scan in asked[-1].scans] == [scan.id for scan in anew.scans])

    ask_again()
    ask_again()
    assert asked[0] is asked[1]
    for moment in looks(past.question):
        scratch.clock.at = moment
        scratch.deliver()
        ask_again()
    assert all(alike)
    # Labels of the reference's last weeks came meanwhile.
    assert len(asked[-1].scans) > len(asked[0].scans)


def _results(session: Session, past: Past, dataset: int) -> LabelledResults:
    return labelled_results(
        session, version=past.champion.id, task="pneumonia", dataset=dataset, without_ai=True
    )


def test_what_a_killed_replay_left_is_gone_a_day_later(tmp_path: Path) -> None:
    old, young = tmp_path / "backtest-old", tmp_path / "backtest-young"
    for folder in (old, young):
        folder.mkdir()
        (folder / "scratch.db").touch()
    yesterday = time.time() - 90_000
    os.utime(old, (yesterday, yesterday))
    with scratch_folder(tmp_path) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert not old.exists()
    assert young.exists()
    assert not folder.exists()
