"""What processes find out ahead of a replay is what it would find out by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from multiprocessing import Pipe, active_children
from pathlib import Path

import numpy as np
import pytest
from shifted_history import ANCHOR, MONITOR, WEEK, ShiftedHistory

from monitor.evaluating import Evaluator
from monitor.profiles import ReferenceProfile
from monitor.streams import StreamDetector
from registry.canonical import canonical_bytes
from registry.jobs import Claim
from retrain.backtesting import comparing_process, stream_process
from retrain.backtesting.comparing_process import AsRead, ComparedBeside, ToCompare
from retrain.backtesting.comparison import Comparison
from retrain.backtesting.detectors import RunAhead, StreamProcesses
from retrain.backtesting.past import read_past
from retrain.backtesting.processes import Processes, processes_beside
from retrain.backtesting.question import Question, ask
from retrain.backtesting.report import Backtest
from retrain.backtesting.stored_reading import StoredReader
from retrain.backtesting.stream_process import TAKEN, Showing, begun, freed, shown, work

SCANS, SHIFTED_FROM, BACK_FROM = 700, 250, 450


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> tuple[ReferenceProfile, Path]:
    rng = np.random.default_rng(1)
    made = ReferenceProfile.fit(rng.normal(size=(300, 6)), seed=1, space="drawn")
    folder = tmp_path_factory.mktemp("profile")
    made.save(folder)
    return made, folder


@pytest.fixture(scope="module")
def showing(profile: tuple[ReferenceProfile, Path]) -> Showing:
    """A shift that comes and goes."""
    drawn = np.random.default_rng(2).normal(size=(SCANS, 6))
    drawn[SHIFTED_FROM:BACK_FROM] += 1.5
    return Showing(
        profile=profile[1],
        scans_between_false_alarms=2000,
        burn_in=60,
        seed=3,
        vectors=drawn.astype(np.float16),
        patients=tuple(f"patient {number // 2}" for number in range(SCANS)),
    )


@pytest.fixture
def processes() -> Iterator[Processes]:
    begun_here = Processes()
    yield begun_here
    begun_here.end()
    assert not active_children()


def alike(ahead: RunAhead, detector: StreamDetector) -> bool:
    return (ahead.scans, ahead.alarms, ahead.shifted, ahead.evidence) == (
        detector.scans,
        detector.alarms,
        detector.shifted,
        detector.evidence,
    )


def test_a_detector_that_runs_ahead_stands_where_one_here_stands_until_it_is_shown_other_scans(
    profile: tuple[ReferenceProfile, Path], showing: Showing, processes: Processes
) -> None:
    ahead = RunAhead(profile[0], showing, processes.begin(work))
    here = begun(showing, profile[0])
    assert alike(ahead, here)
    batches = [slice(start, start + 37) for start in range(0, 592, 37)]
    for batch in batches:
        singles = showing.vectors[batch].astype(np.float32)
        for one in (ahead, here):
            one.update(singles, showing.patients[batch], space="drawn")
        assert alike(ahead, here)
    [alarm] = here.alarms
    assert alarm.scan >= SHIFTED_FROM
    assert alarm.recovered is not None
    # Nobody foresaw these.
    other = np.random.default_rng(5).normal(size=(40, 6)).astype(np.float32)
    for one in (ahead, here):
        one.update(other, [f"other {number}" for number in range(40)], space="drawn")
    assert alike(ahead, here)
    assert ahead.caught_up().scans == 592 + 40


def test_a_process_takes_another_stream_when_the_first_has_ended(
    profile: tuple[ReferenceProfile, Path], showing: Showing, processes: Processes
) -> None:
    streams = StreamProcesses(processes)
    connections = [streams.connection() for _ in range(2)]
    for connection in connections:
        first = RunAhead(profile[0], showing, connection)
        assert first.evidence == begun(showing, profile[0]).evidence
        given_up = first.given_up()
        assert given_up is connection
        streams.take_back(given_up)
    other = replace(showing, vectors=showing.vectors[300:], patients=showing.patients[300:])
    ahead, here = RunAhead(profile[0], other, streams.connection()), begun(other, profile[0])
    batch = other.vectors[:200].astype(np.float32), other.patients[:200]
    for one in (ahead, here):
        one.update(*batch)
    assert alike(ahead, here)
    assert len(active_children()) == 2


def test_a_process_does_not_run_far_ahead(
    showing: Showing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_process, "_TOLD_TOGETHER", 10)
    monkeypatch.setattr(stream_process, "_AHEAD", 4)
    ours, theirs = Pipe()

    def serve() -> None:
        with suppress(EOFError):
            work(theirs)

    thread = threading.Thread(target=serve)
    thread.start()
    ours.send(showing)
    told = [ours.recv() for _ in range(4)]
    assert [len(one.evidence) for one in told] == [11, 10, 10, 10]
    assert not ours.poll(0.5)
    ours.send(TAKEN)
    assert len(ours.recv().evidence) == 10
    assert not ours.poll(0.5)
    assert freed(ours)
    ours.close()
    thread.join()


def test_a_process_that_is_killed_is_done_without(
    profile: tuple[ReferenceProfile, Path], showing: Showing, processes: Processes
) -> None:
    ahead = RunAhead(profile[0], showing, processes.begin(work))
    for child in active_children():
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    batch = showing.vectors[:100].astype(np.float32), showing.patients[:100]
    ahead.update(*batch)
    here = begun(showing, profile[0])
    here.update(*batch)
    assert alike(ahead, here)


def test_processes_end_with_whoever_began_them() -> None:
    """Killed, it can no longer end them."""
    begin = (
        "import time\n"
        "from retrain.backtesting.processes import Processes\n"
        "from retrain.backtesting.stream_process import work\n"
        "connection = Processes().begin(work)\n"
        "print('begun', flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", begin], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"begun\n"
        parent.kill()
        # The pipe ends when nobody is left who could write into it.
        assert parent.communicate(timeout=120) == (b"", None)


def test_copies_of_one_image_are_seen_as_other_scans_are(showing: Showing) -> None:
    copies = Showing(
        profile=showing.profile,
        scans_between_false_alarms=2000,
        burn_in=0,
        seed=3,
        vectors=np.ones((5, 6), dtype=np.float16),
        patients=("one",) * 5,
    )
    [told] = shown(copies)
    assert len(told.evidence) == 1 + 5


def test_few_scans_begin_no_process() -> None:
    with processes_beside(100) as processes:
        assert processes is None


def asked(history: ShiftedHistory) -> Question:
    with history.driftward.database.reading() as session:
        return ask(
            session,
            MONITOR,
            since=ANCHOR + 5 * WEEK,
            until=ANCHOR + 9 * WEEK,
            text=history.plan_text(),
            look=timedelta(days=3),
        )


@pytest.mark.slow
def test_the_answer_has_the_same_bytes_with_processes_and_without(
    history: ShiftedHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer() -> Backtest:
        return history.driftward.backtest(asked(history))

    alone = answer()
    compared: list[Comparison | None] = []
    ran_ahead: list[int] = []
    real_comparison, real_update = ComparedBeside.comparison, RunAhead.update

    def comparison(self: ComparedBeside) -> Comparison | None:
        compared.append(real_comparison(self))
        return compared[-1]

    def update(self: RunAhead, *args: object, **named: object) -> None:
        real_update(self, *args, **named)  # type: ignore[arg-type]
        assert self._own is None
        ran_ahead.append(self.scans)

    monkeypatch.setattr(ComparedBeside, "comparison", comparison)
    monkeypatch.setattr(RunAhead, "update", update)
    for module in ("processes", "detectors"):
        monkeypatch.setattr(f"retrain.backtesting.{module}.WORTH_A_PROCESS", 0)
    assert canonical_bytes(answer().to_dict()) == canonical_bytes(alone.to_dict())
    # The processes did it, and every scan was foreseen.
    assert max(ran_ahead) >= 9 * 120
    assert len(compared) == 1
    assert compared[0] is not None


def test_an_installation_that_went_on_meanwhile_is_not_compared_beside(
    history: ShiftedHistory, tmp_path: Path
) -> None:
    driftward, question = history.driftward, asked(history)
    with driftward.database.reading() as session:
        past = read_past(session, question)
    reader = StoredReader(
        past.champion,
        past.vectors(),
        open_bundle=driftward.bundles.open,
        embed=driftward.embedder.embeddings,
    )
    to_compare = ToCompare(
        database=driftward.database.url,
        question=question,
        folder=tmp_path,
        profiles=driftward.home.profiles.resolve(),
        hours={},
    )
    read = AsRead(head="another", heads=reader.heads(past.champion))
    assert comparing_process._compared(to_compare, past, read) is None


def test_a_fault_in_a_job_ends_the_backtest(
    history: ShiftedHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_self: Evaluator, _claim: Claim) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Evaluator, "handle", broken)
    with pytest.raises(ZeroDivisionError):
        history.driftward.backtest(asked(history))
