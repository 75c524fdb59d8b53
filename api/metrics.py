"""Figures for Prometheus, read from the database whenever they are scraped.

Labels name sites, models, monitors and states: never anything of a patient.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.assembly import Driftward
from api.pages.judged import newest_judged
from api.pages.ledger_page import VerificationDesk, entry_count
from api.receiver_metrics import ReceiverCollector
from api.source_metrics import source_figures
from api.stage_metrics import stage_figures
from monitor.assembling.tables import WithdrawnScanRow
from monitor.embedding.pending_scans import backlog
from monitor.episodes.episodes import EpisodeState, Impact
from monitor.following.standing import following
from monitor.intake.quarantine import Quarantine
from monitor.intake.reasons import Reason
from monitor.monitors import all_monitors
from monitor.receiving.counters import Counters
from monitor.silence.alarms import SilenceKind, SilenceState, newest_look
from monitor.tables import EpisodeRow, RefusalRow, ScanRow, SilenceAlarmRow, VerdictRow
from registry import outbox, recalls, runtimes, serving
from registry.errors import HomeError
from registry.jobs import Job
from registry.ledger.checkpointing import newest_signed_at
from registry.runtimes import RuntimeState
from registry.serving import Champion, Restriction
from registry.versions import VersionRow
from retrain.tables import RunRow
from retrain.watching import showing
from retrain.watching.beginning import looks_of
from retrain.watching.states import WatchState

#: Reads some figures out of one snapshot.
Reader = Callable[[Session, datetime], Iterable[Metric]]


def registry(driftward: Driftward, desk: VerificationDesk) -> CollectorRegistry:
    """Return a registry of this installation alone."""
    found = CollectorRegistry()
    found.register(DriftwardCollector(driftward, desk))
    counters = driftward.home.receiver_counters
    found.register(ReceiverCollector(lambda: Counters.of_running(counters)))
    return found


class DriftwardCollector(Collector):
    """Reads every figure from one snapshot of the database."""

    def __init__(self, driftward: Driftward, desk: VerificationDesk) -> None:
        self._driftward = driftward
        self._desk = desk

    def describe(self) -> Iterable[Metric]:
        """Return nothing: registration must not read the database."""
        return ()

    def collect(self) -> Iterator[Metric]:
        now = self._driftward.clock.now()
        with self._driftward.database.reading() as session:
            for read in READERS:
                yield from read(session, now)
        yield from _quarantine(lambda: self._driftward.quarantine, now)
        yield from self._ledger_verified()
        if self._driftward.settings.checkpoint_folder is not None:
            yield self._ledger_signed()

    def _ledger_verified(self) -> Iterator[Metric]:
        newest = self._desk.newest
        if newest is None:
            return
        yield _gauge(
            "driftward_ledger_valid", "1 if the ledger verified, 0 if not.", newest.found.valid
        )
        yield _gauge(
            "driftward_ledger_verified_timestamp_seconds",
            "When the ledger was last verified.",
            newest.at.timestamp(),
        )

    def _ledger_signed(self) -> Metric:
        with self._driftward.database.reading() as session:
            newest = newest_signed_at(session)
        return _gauge(
            "driftward_checkpoint_timestamp_seconds",
            "When a checkpoint of the ledger was last signed; 0 if none was.",
            0 if newest is None else newest.timestamp(),
        )


def _quarantine(opened: Callable[[], Quarantine], now: datetime) -> Iterator[Metric]:
    try:
        listing = opened().listing()
    except HomeError:
        # Absent figures would look like an empty quarantine.
        yield _gauge("driftward_quarantine_usable", "1 if it can be looked into.", 0)
        return
    yield _gauge("driftward_quarantine_usable", "1 if it can be looked into.", 1)
    items = listing.items
    by_reason = Counter(item.reason.value for item in items)
    yield _by(
        "driftward_quarantine_items",
        "Items in quarantine.",
        ["reason"],
        [(reason.value, by_reason[reason.value]) for reason in Reason],
    )
    size = sum(item.size for item in items)
    yield _gauge("driftward_quarantine_bytes", "Bytes of their originals.", size)
    yield _gauge(
        "driftward_quarantine_oldest_seconds",
        "Age of the oldest item.",
        (now - items[0].at).total_seconds() if items else 0.0,
    )
    yield _gauge(
        "driftward_quarantine_foreign_files", "Files there that are no items.", listing.foreign
    )


def _gauge(name: str, documentation: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, documentation, value=float(value))


def _by(
    name: str, documentation: str, labels: list[str], rows: Iterable[tuple[object, ...]]
) -> GaugeMetricFamily:
    """Return a gauge for rows of label values, followed by the figure."""
    family = GaugeMetricFamily(name, documentation, labels=labels)
    for *values, figure in rows:
        family.add_metric([str(value) for value in values], float(str(figure)))
    return family


def _scans(session: Session, now: datetime) -> Iterator[Metric]:
    scans = CounterMetricFamily("driftward_scans", "Scans taken in.", labels=["site"])
    newest = []
    for site, number, last in session.execute(
        select(ScanRow.site, func.count(ScanRow.id), func.max(ScanRow.arrived_at))
        .where(ScanRow.unit == "instance")
        .group_by(ScanRow.site)
    ):
        scans.add_metric([site], number)
        newest.append((site, (now - last).total_seconds()))
    yield scans
    yield _by(
        "driftward_seconds_since_last_scan", "Age of a site's newest scan.", ["site"], newest
    )
    yield _by(
        "driftward_scans_assembled",
        "Series and studies made of instances, every revision.",
        ["unit"],
        session.execute(
            select(ScanRow.unit, func.count(ScanRow.id))
            .where(ScanRow.unit != "instance")
            .group_by(ScanRow.unit)
        ).all(),
    )
    yield _by(
        "driftward_scans_withdrawn",
        "Scans that count no more, by why.",
        ["why"],
        session.execute(
            select(WithdrawnScanRow.why, func.count()).group_by(WithdrawnScanRow.why)
        ).all(),
    )
    refusals = CounterMetricFamily(
        "driftward_refusals", "Scans outside a model's intended use.", labels=["model"]
    )
    for model, number in session.execute(
        select(RefusalRow.model, func.count(RefusalRow.id)).group_by(RefusalRow.model)
    ):
        refusals.add_metric([model], number)
    yield refusals


def _work(session: Session, now: datetime) -> Iterator[Metric]:
    yield _by(
        "driftward_jobs",
        "Jobs in the table.",
        ["kind", "state"],
        session.execute(
            select(Job.kind, Job.state, func.count(Job.id)).group_by(Job.kind, Job.state)
        ),
    )
    yield _by(
        "driftward_runs",
        "Runs by model and state.",
        ["model", "state"],
        session.execute(
            select(RunRow.model, RunRow.state, func.count(RunRow.id)).group_by(
                RunRow.model, RunRow.state
            )
        ),
    )
    untold = outbox.backlog(session)
    yield _gauge(
        "driftward_outbox_waiting",
        "Changes that MLflow has yet to be told.",
        untold.waiting if untold else 0,
    )
    yield _gauge(
        "driftward_outbox_oldest_seconds",
        "Age of the oldest change that MLflow has yet to be told.",
        (now - untold.since).total_seconds() if untold else 0.0,
    )
    yield _gauge(
        "driftward_outbox_failures",
        "How often the oldest of them was told in vain.",
        untold.failures if untold else 0,
    )
    # A counter by nature, since nothing ever leaves the ledger.
    entries = CounterMetricFamily("driftward_ledger_entries", "Entries of the ledger.")
    entries.add_metric([], entry_count(session))
    yield entries


def _drift(session: Session, now: datetime) -> Iterator[Metric]:
    families = {
        name: GaugeMetricFamily(f"driftward_{name}", documentation, labels=labels)
        for name, documentation, labels in (
            ("pending_scans", "Scans that wait to be embedded.", ["monitor"]),
            (
                "oldest_pending_scan_age_seconds",
                "Since the arrival of the scan that waits longest; 0 where none waits.",
                ["monitor"],
            ),
            ("alarm_p_value", "Of the newest window with those before it.", ["monitor"]),
            ("alarm_alpha", "Budget that the alarm's p-value is held against.", ["monitor"]),
            ("alarm", "1 if the newest window made an alarm.", ["monitor"]),
            ("drift_effect", "Effect in standard deviations.", ["monitor", "encoder"]),
            ("drift_effect_low", "Lower end of the interval of 95 %.", ["monitor", "encoder"]),
            ("drift_effect_high", "Upper end of the interval of 95 %.", ["monitor", "encoder"]),
            (
                "drift_smallest_effect",
                "Smallest effect that the newest window shows with 80 % power.",
                ["monitor", "encoder"],
            ),
            (
                "seconds_since_last_verdict",
                "Time since a window was last judged.",
                ["monitor"],
            ),
            (
                "open_episodes",
                "Episodes that are open, by their impact.",
                ["monitor", "impact"],
            ),
        )
    }
    for monitor in all_monitors(session):
        name = monitor.name
        waiting = backlog(session, monitor)
        families["pending_scans"].add_metric([name], waiting.scans)
        oldest = waiting.oldest_arrived_at
        families["oldest_pending_scan_age_seconds"].add_metric(
            [name], 0.0 if oldest is None else (now - oldest).total_seconds()
        )
        for impact in Impact:
            families["open_episodes"].add_metric(
                [name, impact.value], _open_episodes(session, name, impact)
            )
        last = session.scalar(
            select(func.max(VerdictRow.created_at)).where(VerdictRow.monitor == name)
        )
        if last is not None:
            seconds = (now - last).total_seconds()
            families["seconds_since_last_verdict"].add_metric([name], seconds)
        newest = newest_judged(session, name)
        if newest is None:
            continue
        families["alarm"].add_metric([name], float(newest.alarm))
        for figure, value in (("p_value", newest.p_value), ("alpha", newest.alpha)):
            if value is not None:
                families[f"alarm_{figure}"].add_metric([name], value)
        for encoder, row in (
            ("trend", newest.trend),
            ("monitoring", newest.monitoring),
            ("champion", newest.champion),
        ):
            if row is not None:
                labels = [name, encoder]
                families["drift_effect"].add_metric(labels, row.effect)
                families["drift_effect_low"].add_metric(labels, row.effect_low)
                families["drift_effect_high"].add_metric(labels, row.effect_high)
                families["drift_smallest_effect"].add_metric(labels, row.smallest_effect)
    yield from families.values()


def _open_episodes(session: Session, monitor: str, impact: Impact) -> int:
    query = select(func.count(EpisodeRow.id)).where(
        EpisodeRow.monitor == monitor,
        EpisodeRow.state == EpisodeState.OPEN,
        EpisodeRow.impact == impact.value,
    )
    return session.scalar(query) or 0


def _serving(session: Session, _now: datetime) -> Iterator[Metric]:
    yield _by(
        "driftward_champion_version",
        "Number of the version that serves.",
        ["model", "deployment"],
        session.execute(
            select(Champion.model, Champion.deployment, VersionRow.number).join(
                VersionRow, VersionRow.id == Champion.version
            )
        ),
    )
    yield _by(
        "driftward_restrictions",
        "Restrictions and suspensions in force.",
        ["model", "kind"],
        session.execute(
            select(Restriction.model, Restriction.kind, func.count(Restriction.id))
            .where(Restriction.until.is_(None))
            .group_by(Restriction.model, Restriction.kind)
        ),
    )


def _watches(session: Session, _now: datetime) -> Iterator[Metric]:
    labels = ["model", "deployment"]
    families = {
        key: GaugeMetricFamily(f"driftward_watch_{key}", documentation, labels=labels)
        for key, documentation in (
            ("failed", "1 if the version that serves failed its watch, 0 if not."),
            ("not_evaluable", "1 if its watch ended without labels enough to say."),
            ("going_on", "1 while its first weeks are watched."),
            ("labelled_patients", "Patients with a label that counted at the newest look."),
        )
    }
    for row in showing.of_champions(session):
        values = [row.model, row.deployment]
        looks = looks_of(session, row)
        for key, state in (
            ("failed", WatchState.FAILED),
            ("not_evaluable", WatchState.NOT_EVALUABLE),
            ("going_on", WatchState.WATCHING),
        ):
            families[key].add_metric(values, float(row.state == state))
        families["labelled_patients"].add_metric(values, looks[-1].labelled if looks else 0)
    yield from families.values()


def _recalled(session: Session, _now: datetime) -> Iterator[Metric]:
    family = GaugeMetricFamily(
        "driftward_champion_recalled",
        "1 if the version that serves, or one behind it, was recalled, 0 if not.",
        labels=["model"],
    )
    found: dict[str, bool] = {}
    for version in serving.champions(session):  # of a model several, at different sites
        flag = recalls.flag_of(session, version)
        found[version.model] = found.get(version.model, False) or flag is not None
    for model, recalled in found.items():
        family.add_metric([model], float(recalled))
    yield family


def _runtimes(session: Session, now: datetime) -> Iterator[Metric]:
    labels = ["model", "deployment", "state"]
    family = GaugeMetricFamily(
        "driftward_runtime",
        "1 for the state in which a declared clinical runtime is, 0 for the others.",
        labels=labels,
    )
    for row in runtimes.runtimes(session):
        state = runtimes.standing(session, row, now=now).state
        for one in RuntimeState:
            family.add_metric([row.model, row.deployment, one.value], float(one is state))
    yield family


def _silence(session: Session, now: datetime) -> Iterator[Metric]:
    labels = ["monitor", "kind"]
    opened = CounterMetricFamily(
        "driftward_silence_alarms", "Silence alarms that were opened.", labels=labels
    )
    standing = GaugeMetricFamily(
        "driftward_open_silence_alarms", "Silence alarms that are open.", labels=labels
    )
    counts: dict[tuple[str, str, bool], int] = {}
    for name, kind, state, number in session.execute(
        select(
            SilenceAlarmRow.monitor,
            SilenceAlarmRow.kind,
            SilenceAlarmRow.state,
            func.count(SilenceAlarmRow.id),
        ).group_by(SilenceAlarmRow.monitor, SilenceAlarmRow.kind, SilenceAlarmRow.state)
    ):
        counts[name, kind, state == SilenceState.OPEN] = number
    families = {
        key: GaugeMetricFamily(f"driftward_{key}", documentation, labels=["monitor"])
        for key, documentation in (
            ("seconds_since_arrivals_seen", "Time since arrivals were last looked at."),
            ("scans_last_day", "Scans of the last 24 hours before that look."),
            ("scans_expected_last_day", "Scans that an ordinary day would have brought."),
        )
    }
    for monitor in all_monitors(session):
        if monitor.specification.silence is None:
            continue
        for kind in SilenceKind:
            still = counts.get((monitor.name, kind, True), 0)
            standing.add_metric([monitor.name, kind], still)
            ended = counts.get((monitor.name, kind, False), 0)
            opened.add_metric([monitor.name, kind], still + ended)
        look = newest_look(session, monitor.name)
        if look is None:
            continue
        seconds = (now - look.looked_at).total_seconds()
        families["seconds_since_arrivals_seen"].add_metric([monitor.name], seconds)
        for source in look.document.get("sources", [])[:1]:  # the first is all of them
            families["scans_last_day"].add_metric([monitor.name], source["received"])
            families["scans_expected_last_day"].add_metric([monitor.name], source["expected"])
    yield opened
    yield standing
    yield from families.values()


def _streams(session: Session, _now: datetime) -> Iterator[Metric]:
    labels = ["monitor", "encoder"]
    seen = CounterMetricFamily(
        "driftward_stream_scans", "Scans that a stream saw.", labels=labels
    )
    gauges = {
        key: GaugeMetricFamily(f"driftward_stream_{key}", documentation, labels=labels)
        for key, documentation in (
            ("waiting_scans", "Scans that came since, and that it has not seen."),
            ("burn_in_left", "Scans until it can alarm."),
            ("evidence", "Evidence of a shift, as a share of what an alarm takes."),
            ("shifted", "1 while a shift lasts that it saw."),
            ("budget_scans", "Scans to a false alarm, on average."),
        )
    }
    for monitor in all_monitors(session):
        for one in following(session, monitor).streams:
            values = [monitor.name, one.encoder]
            seen.add_metric(values, one.scans)
            gauges["waiting_scans"].add_metric(values, one.waiting)
            gauges["burn_in_left"].add_metric(values, one.burn_in_left)
            gauges["evidence"].add_metric(values, one.evidence)
            gauges["shifted"].add_metric(values, float(one.shifted))
            gauges["budget_scans"].add_metric(values, one.scans_between_false_alarms)
    yield seen
    yield from gauges.values()


READERS: tuple[Reader, ...] = (
    _scans,
    source_figures,
    stage_figures,
    _work,
    _drift,
    _streams,
    _silence,
    _serving,
    _recalled,
    _watches,
    _runtimes,
)
