"""From labels to the strategies that a run tries: measured by the meter, decided by the plan."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pytest
from monitored_history import ANCHOR, HALF_WEEK
from plan_texts import with_values
from retraining_rows import MODEL, NEW, OLD, PLAN, Retraining
from scipy.special import expit

from monitor.episodes.episodes import Impact, require_episode
from monitor.evaluating import PerformanceMeter
from registry.jobs import JobQueue
from retrain import runs
from retrain.change_plan import Strategy
from retrain.states import RunState

SCANS = 240
PERMITTED = "[recalibration, full fine-tuning]"


def log_odds(rng: np.random.Generator, truth: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return what a champion says whose AUC is about .95."""
    return rng.normal(size=len(truth)) + 2.3 * truth - 1.15


def read(
    retraining: Retraining, said: Sequence[float], truth: npt.NDArray[np.int64], *, after: bool
) -> None:
    """Add scans that the champion has read, labelled before it had."""
    at = ANCHOR + timedelta(hours=1) if after else ANCHOR - timedelta(days=8)
    scans = retraining.history.add(
        len(truth),
        at=at,
        software_version=NEW if after else OLD,
        probabilities=expit(said).tolist(),
    )
    retraining.label(scans, values=truth.tolist(), signed_at=at)


@pytest.mark.parametrize(
    ("moved", "blurred", "tried"),
    [
        # A tone curve: every score rises, and their order stays.
        (1.5, 0.0, (Strategy.RECALIBRATION,)),
        # Noise: what the scores knew is lost.
        (0.0, 2.5, (Strategy.FULL,)),
    ],
)
def test_scores_that_moved_together_are_recalibrated_and_lost_ones_are_trained_anew(
    retraining: Retraining, moved: float, blurred: float, tried: tuple[Strategy, ...]
) -> None:
    retraining.apply_plan(with_values(PLAN, acquisition=PERMITTED))
    rng = np.random.default_rng(8)
    truth = rng.permutation(np.arange(SCANS) % 2)
    read(retraining, log_odds(rng, truth), truth, after=False)
    retraining.history.accept_reference(40)
    changed = log_odds(rng, truth) + moved + blurred * rng.normal(size=SCANS)
    read(retraining, changed, truth, after=True)
    episode = retraining.open_episode()

    window = {"start": ANCHOR.isoformat(), "end": (ANCHOR + HALF_WEEK).isoformat()}
    claim = retraining.claim("measure", "measure/chest", {"monitor": "chest", **window})
    PerformanceMeter(retraining.database, retraining.clock).handle(claim)
    JobQueue(retraining.database).finish(claim)
    with retraining.database.reading() as session:
        assert require_episode(session, episode).impact == Impact.MEASURED
    retraining.decide(episode)

    with retraining.database.reading() as session:
        [run] = [row for row in runs.all_runs(session, MODEL) if row.episode == episode]
    assert run.state == RunState.QUEUED, run.note
    assert runs.strategies_of(run) == tried
