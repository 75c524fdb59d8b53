"""A worker that is killed while it follows: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from followed_history import LOT, FollowedHistory

from registry import ledger

PROGRAM = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [str(Path(sys.argv[3])), str(Path(sys.argv[3]) / "tests" / "builders")]
from monitor.following import follower, kept, shifts
from monitor.references import ProfileStore
from registry.clock import ReplayClock
from registry.database import Database
from monitored_history import ANCHOR
from datetime import timedelta

follower.SCANS_PER_COMMIT = 16
step, left = sys.argv[4], int(sys.argv[5])

def killed(function):
    def call(*words, **options):
        global left
        found = function(*words, **options)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return found
    return call

# Before a transaction; in one, its rows written; in one, its episode and ledger entry written.
place = {"packed": kept, "_write_scans": follower, "record": shifts}[step]
setattr(place, step, killed(getattr(place, step)))
database = Database(sys.argv[1])
clock = ReplayClock(ANCHOR + timedelta(hours=200))
follower.Follower(database, ProfileStore(Path(sys.argv[2])), clock).follow("chest")
"""


@pytest.mark.parametrize(
    ("step", "times"), [("packed", 3), ("_write_scans", 2), ("record", 1), ("record", 2)]
)
def test_a_kill_anywhere_neither_loses_nor_doubles_a_scan_or_an_alarm(
    followed: FollowedHistory, founded_profiles: Path, step: str, times: int
) -> None:
    followed.live(2 * LOT, windows=False, follow=False)
    followed.live(2 * LOT, shift=0.9, windows=False, follow=False)
    program = [sys.executable, "-c", PROGRAM, followed.database.url, founded_profiles]
    repository = Path(__file__).parents[3]
    done = subprocess.run(
        [*program, repository, step, str(times)],
        env={**os.environ, "PYTHONPATH": str(repository)},
        check=False,
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    followed.follow()
    for row in followed.streams():
        assert followed.dealt_with(row) == list(range(4 * LOT))
        assert row.state == followed.undisturbed(row)
        assert row.shifted
    [episode] = followed.episodes()
    assert sorted(entry["stream"] for entry in episode.evidence["streams"]) == [1, 2]
    with followed.database.reading() as session:
        assert ledger.verify(session).valid
        opened = ledger.entries(session, kind="episode.opened")
        assert len(list(opened)) == 1
