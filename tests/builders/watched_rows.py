"""A promoted version under watch: its promises, what it reads, and the labels that come."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
from plan_texts import with_values
from retraining_rows import PLAN, Retraining, add_results, person
from sqlalchemy import select

from monitor.labels import Provenance
from monitor.statistics.performance.proportions import proportion
from registry.jobs import JobQueue
from registry.versions import VersionRow
from registry.worker import Worker
from retrain import runs
from retrain.gates.measures import CO_PRIMARY
from retrain.gates.promises import LEVEL, Promise
from retrain.promotion import promote
from retrain.scheduling import tick
from retrain.tables import WatchRow
from retrain.watching.looking import WATCH, Watcher

RULES = """watch:
  days: 28
  error_rate: 0.05
  least_labels: 20
  when_it_fails: suspend
"""
MEI = person("Mei")


def promise_all(level: float = 0.9, *, scans: int = 200, margin: float = 0.05) -> list[Promise]:
    """Return promises of sensitivity and specificity, measured on so many scans."""
    right = np.arange(scans) < round(level * scans)
    return [
        Promise(
            measure=measure,
            of="the champion before it on the reference",
            measured=proportion(right, level=LEVEL),
            margin=margin,
        )
        for measure in CO_PRIMARY
    ]


class Watched:
    """Promotes a version and lets days pass over it."""

    def __init__(self, retraining: Retraining) -> None:
        self.retraining, self.database = retraining, retraining.database
        self.run = 0

    def apply_plan(self, rules: str = RULES, **values: str) -> None:
        self.retraining.apply_plan(with_values(PLAN, **values) + rules)

    def promote(
        self, *, episode: int | None = None, promises: Sequence[Promise] | None = None
    ) -> int:
        """Promote a candidate of whom the gates promised this; returns its run."""
        held_to = promise_all() if promises is None else promises
        run = self.retraining.run_awaiting_approval(episode=episode, promises=held_to)
        self.retraining.approve(run, by=MEI)
        with self.database.transaction() as session:
            row = runs.require_run(session, run)
            promote(session, row, by=MEI, at=self.retraining.now)
        self.run = run
        return run

    def read(
        self,
        *,
        ill: int,
        found: int,
        well: int = 0,
        cleared: int = 0,
        site: str = "site",
        labelled: bool = True,
    ) -> list[int]:
        """Let scans arrive now, of which what was promoted calls so many right."""
        scans = self.retraining.history.add(ill + well, at=self.retraining.now, site=site)
        called = [1] * found + [0] * (ill - found) + [0] * cleared + [1] * (well - cleared)
        with self.database.transaction() as session:
            version = session.get_one(VersionRow, runs.require_run(session, self.run).candidate)
            add_results(
                session,
                version,
                {
                    scan: 0.8 if positive else 0.2
                    for scan, positive in zip(scans, called, strict=True)
                },
                threshold=0.5,
                delivery="withheld",
                at=self.retraining.now,
            )
        if labelled:
            self.retraining.label(
                scans,
                values=[1] * ill + [0] * well,
                provenance=Provenance.DATASET,
                signed_at=self.retraining.now - timedelta(minutes=1),
                site=site,
            )
        return scans

    def pass_days(self, days: float = 1.0) -> int:
        """Let time pass, tick, and do the looks; returns how many were due."""
        self.retraining.clock.at += timedelta(days=days)
        tick(self.database, self.retraining.clock)
        due = JobQueue(self.database).waiting([WATCH])
        watcher = Watcher(self.database, self.retraining.clock)
        Worker(JobQueue(self.database), {WATCH: watcher.handle}).drain()
        return due

    def row(self) -> WatchRow:
        """Return the newest watch."""
        with self.database.reading() as session:
            row = session.scalars(select(WatchRow).order_by(WatchRow.id.desc())).first()
        assert row is not None
        return row
