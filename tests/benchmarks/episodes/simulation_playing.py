"""The simulated weeks, played through an installation by the ways that a hospital has.

DICOM files are taken in hour by hour, jobs are queued by the tick and done by a worker; the
clock is moved, and nothing else is. Nobody closes an episode, and no model is changed.
"""

from __future__ import annotations

import csv
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.resources import files
from itertools import groupby
from pathlib import Path

import yaml
from simulation_scans import write_visit
from simulation_world import (
    HOUR,
    OUTAGE,
    REFERENCE_WEEKS,
    TRAINING_SITE,
    TRAINING_WEEKS,
    WEEK,
    Visit,
    World,
)
from sqlalchemy import select

from api.assembly import Driftward
from api.demo.foundation import general_bundle
from api.initialising import initialise
from api.settings import Settings
from monitor.intake.keys import load_key
from monitor.intake.pseudonyms import instance_pseudonym
from monitor.monitors import apply_monitor, parse_monitor, require_monitor
from monitor.reference_building import build_references
from monitor.silence.standing import silence_standing
from monitor.subgroups import Attribute, Subgroup
from monitor.tables import ScanRow
from registry.bundle_import import import_bundle
from registry.clock import ReplayClock
from registry.identities import Identity
from retrain import approvals, runs
from retrain.approvals import Meaning
from retrain.plans import apply_plan
from retrain.promotion import promote
from retrain.recipes import parse_recipe
from retrain.scheduling import tick
from retrain.starting import start_first_run
from retrain.states import RunState

MONITOR = "pneumonia-cxr"
#: The monitor, but for its anchor.
MONITOR_FILE: dict[str, object] = {
    "name": MONITOR,
    "model": "pneumonia-cxr",
    "task": "pneumonia",
    "monitoring_encoder": "general-imagenet@1",
    "window_hours": 168,
    "alpha_per_week": 0.01,
    "subgroup_attributes": [
        "site",
        "scanner_model",
        "station",
        "software_version",
        "sex",
        "age_band",
    ],
    "floor": 30,
    "stream": {"false_alarms": "one per quarter"},
    "silence": {"false_alarms_per_quarter": 1, "look_every_minutes": 60},
}

#: Hours between two ticks of the scheduler, and so between two looks.
LOOK_HOURS = 2
_HOURS_A_WEEK = round(WEEK / HOUR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A visit whose file was taken in, and the pseudonym under which it is stored."""

    visit: Visit
    uid: str
    instance: str


@dataclass(kw_only=True)
class Player:
    """Plays a world's weeks on one installation."""

    world: World
    home: Path
    #: keys of the monitor's file that differ from `MONITOR_FILE`
    settings: dict[str, object] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)
    #: by when the scanner that is to fall silent would be noticed, as the last look before says
    promised: datetime | None = None
    #: seconds by what they were spent on
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        start = self.world.start + min(TRAINING_WEEKS) * WEEK
        self.clock = ReplayClock(start)
        settings = Settings(home=self.home, device="cpu", threads=1)
        self.operator: Identity = initialise(
            settings,
            name="simulation-operator",
            clock=self.clock,
            key_seed=f"simulation {self.world.seed}",
        )
        self.driftward = Driftward.open(settings, clock=self.clock)
        self._key = load_key(self.driftward.home.pseudonym_key)
        self._worker = self.driftward.worker()

    def found(self) -> None:
        """Train and promote the champion, and build the references from ordinary weeks."""
        driftward = self.driftward
        bundle = general_bundle(driftward.home.work / "general")
        import_bundle(
            driftward.database,
            driftward.tracking,
            bundle.root,
            model=bundle.card.name,
            base=None,
            by=self.operator,
            at=self.clock.now(),
        )
        for week in TRAINING_WEEKS:
            self.week(week)
        self._first_version()
        for week in REFERENCE_WEEKS:
            self.week(week)
        self._references()

    def week(self, number: int) -> None:
        """Play one week, hour by hour; before the first watched one there is nothing to do."""
        start = self.world.start + number * WEEK
        by_hour = {
            hour: list(visits)
            for hour, visits in groupby(
                self.world.visits(number), key=lambda visit: (visit.at - start) // HOUR
            )
        }
        first = len(self.sent)
        for hour in range(_HOURS_A_WEEK):
            self.clock.at = start + (hour + 1) * HOUR
            if hour in by_hour:
                self._take_in(by_hour[hour])
            if number >= 0 and (hour + 1) % LOOK_HOURS == 0:
                self._work()
                if self.world.eventful and self.clock.at == self.world.start + OUTAGE.begins:
                    self.promised = self._noticed_by(OUTAGE.station)
        if number < 0:
            self._label(self.sent[first:])

    def _take_in(self, visits: Sequence[Visit]) -> None:
        """Write the files of one hour, and take each site's in."""
        began = time.process_time()
        for site, own in groupby(
            sorted(visits, key=lambda visit: visit.scanner.site),
            key=lambda visit: visit.scanner.site,
        ):
            folder = self.driftward.home.root / "inbox" / site
            folder.mkdir(parents=True)
            for place, visit in enumerate(own):
                uid = write_visit(folder / f"{place:03d}.dcm", visit, self.world.sample)
                instance = instance_pseudonym(uid, site=site, key=self._key)
                self.sent.append(Sent(visit=visit, uid=uid, instance=instance))
            began = self._spent("writing files", began)
            report = self.driftward.intake.add([folder], site=site)
            if report.quarantined or report.known:
                raise RuntimeError(f"{site}: not every file was taken in: {report}")
            shutil.rmtree(folder)
            began = self._spent("intake", began)

    def _work(self) -> None:
        began = time.process_time()
        tick(self.driftward.database, self.clock)
        began = self._spent("tick", began)
        self._worker.drain()
        self._spent("work", began)

    def _noticed_by(self, station: str) -> datetime | None:
        """Return by when a stop of a scanner now would be an alarm, as the product says."""
        last = next(one for one in reversed(self.sent) if one.visit.scanner.station == station)
        with self.driftward.database.reading() as session:
            monitor = require_monitor(session, MONITOR)
            sources = silence_standing(session, monitor, now=self.clock.now()).sources
            query = select(ScanRow.station).where(ScanRow.instance == last.instance)
            # The product knows a station by a pseudonym.
            named = session.scalars(query).one()
        for source in sources:
            terms = dict(Subgroup.parse(source["subgroup"]).terms) if source["subgroup"] else {}
            if terms.get(Attribute.STATION) == named and source["noticed_by"] is not None:
                return datetime.fromisoformat(source["noticed_by"])
        return None

    def _label(self, sent: Sequence[Sent]) -> None:
        """Hand in the labels of a week of the history, read within the hour."""
        for site in sorted({one.visit.scanner.site for one in sent}):
            path = self.driftward.home.root / f"labels-{site}.csv"
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(
                    ["instance", "task", "value", "provenance", "reader", "signed_at"]
                )
                writer.writerows(
                    [
                        one.uid,
                        "pneumonia",
                        one.visit.patient.pneumonia,
                        "dataset",
                        "dataset",
                        (one.visit.at + timedelta(hours=1)).isoformat(),
                    ]
                    for one in sent
                    if one.visit.scanner.site == site
                )
            self.clock.at += HOUR
            self.driftward.label_intake.add(path, site=site, by=self.operator)

    def _first_version(self) -> None:
        driftward = self.driftward
        with driftward.database.transaction() as session:
            apply_plan(
                session,
                _demo_file("plan.yaml", autonomy="observe"),
                source="plan.yaml",
                actor=self.operator.name,
                at=self.clock.now(),
            )
        run = start_first_run(
            driftward.database,
            parse_recipe(_recipe(), source="recipe.yaml"),
            since=None,
            until=self.clock.now(),
            seed=self.world.seed,
            by=self.operator,
            clock=self.clock,
        )
        self._worker.drain()
        with driftward.database.transaction() as session:
            row = runs.require_run(session, run.id)
            if row.state != RunState.AWAITING_APPROVAL:
                raise RuntimeError(f"the champion's run is {row.state}: {row.note}")
            approvals.sign(
                session,
                row,
                Meaning.APPROVED,
                by=self.operator,
                reason="the simulation's own operator",
                at=self.clock.now(),
            )
            promote(session, row, by=self.operator, at=self.clock.now())
        self._worker.drain()

    def _references(self) -> None:
        driftward = self.driftward
        self.clock.at = self.world.start
        monitor = parse_monitor(
            yaml.safe_dump(
                {**MONITOR_FILE, "anchor": self.world.start.isoformat(), **self.settings}
            ),
            source="monitor",
        )
        with driftward.database.transaction() as session:
            apply_monitor(session, monitor, actor=self.operator.name, at=self.clock.now())
        began = time.process_time()
        driftward.embedder.embed(MONITOR)
        began = self._spent("embedding the history", began)
        built = build_references(
            driftward.database,
            driftward.embedder,
            driftward.profiles,
            MONITOR,
            since=self.world.start + min(REFERENCE_WEEKS) * WEEK,
            until=self.world.start,
            by=self.operator,
            at=self.clock.now(),
            seed=self.world.seed,
        )
        self._spent("references", began)
        sys.stderr.write(f"references: {built.scans} scans of {built.patients} patients\n")

    def _spent(self, on: str, since: float) -> float:
        now = time.process_time()
        self.seconds[on] = self.seconds.get(on, 0.0) + now - since
        return now


def _demo_file(name: str, **changes: object) -> str:
    """Return one of the demo's files with other values of some keys."""
    text = (files("api.demo") / "configuration" / name).read_text(encoding="utf-8")
    return yaml.safe_dump({**yaml.safe_load(text), **changes})


def _recipe() -> str:
    """Return the demo's recipe, for a model that reads adults, too."""
    demo = yaml.safe_load(_demo_file("recipe.yaml"))
    return _demo_file(
        "recipe.yaml",
        sites=[TRAINING_SITE],
        not_for=["any clinical use", "views other than frontal"],
        intended_use={**demo["intended_use"], "age_years": [0, 120]},
        training_share=0.55,
        selection_share=0.1,
        locked_share=0.35,
    )
