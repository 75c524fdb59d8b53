"""A shift whose results are withheld, and a plan that draws which of its scans are read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from monitored_history import ANCHOR, HALF_WEEK
from plan_texts import with_values
from retraining_rows import NEW, PLAN, Retraining
from scipy.special import expit
from sqlalchemy import select

from monitor.episodes.causes import Cause
from monitor.episodes.episodes import Impact, require_episode
from monitor.requests.making import all_requests
from monitor.requests.resolving import Progress, progress_of
from monitor.requests.tables import LabelRequestItemRow, LabelRequestRow, Part
from monitor.tables import EpisodeRow, ScanRow
from retrain import runs
from retrain.plans import AppliedPlan
from retrain.tables import RunRow

#: Labels are signed once the models have read; nothing of that was delivered.
SIGNED = ANCHOR + HALF_WEEK + HALF_WEEK / 2
NOW = ANCHOR + 2 * HALF_WEEK


def requested_plan(*, request: str = "", text: str = PLAN, **changes: str) -> str:
    """Return a plan that requests labels; `request` replaces or adds to what it asks for."""
    rules = {
        "power": "0.8",
        "gain": "0.4",
        "discordance": "0.1",
        "unreadable": "0.1",
        "at_most": "1000",
        **dict(part.split(": ") for part in filter(None, request.split(", "))),
    }
    block = ", ".join(f"{key}: {value}" for key, value in rules.items())
    lines = f"labels:\n  sample: requested\n  request: {{{block}}}\n"
    values = {
        "locked_set_uses": "1",
        "drifted_margins": "{sensitivity: 0.25, specificity: 0.25, auc: 0.1}",
        **changes,
    }
    return with_values(text, **values).replace("labels:\n", lines)


@dataclass(kw_only=True)
class RequestedLabels:
    """Scans of the new software with known truth and scores, and the run that repairs them."""

    retraining: Retraining
    seed: int = 0
    #: scan -> whether it has the finding
    truth: dict[int, bool] = field(default_factory=dict)
    #: scan -> probability
    scores: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.retraining.clock.at = NOW
        self._rng = np.random.default_rng(self.seed)

    def receive(
        self,
        count: int,
        *,
        delivery: str = "withheld",
        prevalence: float = 0.5,
        with_finding: float = 0.9,
    ) -> list[int]:
        """Add scans; the mean score of those with the finding is `with_finding`, in log-odds."""
        truth = self._rng.random(count) < prevalence
        scores = expit(np.where(truth, with_finding, -1.1) + self._rng.normal(size=count))
        scans = self.retraining.history.add(
            count,
            at=ANCHOR,
            software_version=NEW,
            probabilities=scores.tolist(),
            delivery=delivery,
        )
        self.truth |= dict(zip(scans, truth.tolist(), strict=True))
        self.scores |= dict(zip(scans, scores.tolist(), strict=True))
        return scans

    def apply(self, text: str) -> AppliedPlan:
        return self.retraining.apply_plan(text)

    def open(self, *, impact: Impact = Impact.SUSPECTED) -> int:
        """Open the episode and decide, which plans its run."""
        episode = self.retraining.open_episode(cause=Cause.ACQUISITION, impact=impact)
        self.retraining.decide(episode)
        return episode

    def run(self, episode: int) -> RunRow:
        with self.retraining.database.reading() as session:
            row = session.scalars(select(RunRow).where(RunRow.episode == episode)).first()
            assert row is not None
            return row

    def request(self, episode: int) -> LabelRequestRow:
        with self.retraining.database.reading() as session:
            return all_requests(session, self.run(episode).id)[0]

    def progress(self, episode: int) -> Progress:
        with self.retraining.database.reading() as session:
            return progress_of(session, self.request(episode))

    def items(self, episode: int) -> list[tuple[LabelRequestItemRow, ScanRow]]:
        with self.retraining.database.reading() as session:
            found = session.execute(
                select(LabelRequestItemRow, ScanRow)
                .join(ScanRow, ScanRow.id == LabelRequestItemRow.scan)
                .where(LabelRequestItemRow.request == self.request(episode).id)
                .order_by(LabelRequestItemRow.id)
            )
            return [(item, scan) for item, scan in found]

    def waiting(self, episode: int, part: Part | None = None) -> list[int]:
        return [
            item.scan.id
            for item in self.progress(episode).items
            if item.became.waits and part in {None, item.part}
        ]

    def read(self, scans: Sequence[int], *, except_for: Collection[int] = ()) -> None:
        """Sign the truth of scans."""
        chosen = sorted(scan for scan in scans if scan not in except_for)
        self.retraining.label(
            chosen, values=[int(self.truth[scan]) for scan in chosen], signed_at=SIGNED
        )

    def measure(self, episode: int, impact: Impact = Impact.MEASURED) -> None:
        """Let the labels of the selection part say what the impact is."""
        labelled = len(self.progress(episode).labelled(Part.SELECTION))
        self.retraining.judge(episode, impact, scans=labelled)

    def complete(self, episode: int) -> RunRow:
        """Read all that is asked for, until the run is queued."""
        while waiting := self.waiting(episode):
            self.read(waiting)
            self.measure(episode)
            self.retraining.decide(episode)
        return self.run(episode)

    def reload(self, run: int) -> RunRow:
        with self.retraining.database.reading() as session:
            return runs.require_run(session, run)

    def episode(self, number: int) -> EpisodeRow:
        with self.retraining.database.reading() as session:
            return require_episode(session, number)
