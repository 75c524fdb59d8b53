"""Alert rules: they parse, fire when they should, and speak only of what is served."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from monitor.episodes import Impact
from monitor.silence.alarms import SilenceKind
from monitor.sources.settings import KINDS
from registry.jobs import JobState
from registry.runtimes import RuntimeState
from registry.serving import Withholding
from retrain.states import RunState

if TYPE_CHECKING:
    from tests.deploy.conftest import Program, Served

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yml"
CONFIGURATIONS = [
    DEPLOY / "prometheus" / "prometheus.yml",
    DEPLOY / "compose" / "prometheus.yml",
]
PACKAGE = "Debian's prometheus"

#: What others serve: Prometheus itself, and the node exporter.
OF_OTHERS = {
    "up": frozenset({"job", "instance"}),
    "node_filesystem_avail_bytes": frozenset({"fstype", "mountpoint"}),
    "node_filesystem_size_bytes": frozenset({"fstype", "mountpoint"}),
}
#: Values that a label of ours can have.
VALUES = {
    ("driftward_open_episodes", "impact"): {one.value for one in Impact},
    ("driftward_jobs", "state"): set(JobState),
    ("driftward_jobs", "kind"): {"train", "validate"},
    ("driftward_runs", "state"): set(RunState),
    ("driftward_restrictions", "kind"): set(Withholding),
    ("driftward_runtime", "state"): set(RuntimeState),
    ("driftward_open_silence_alarms", "kind"): set(SilenceKind),
    ("driftward_source_last_success_timestamp_seconds", "kind"): set(KINDS),
    ("driftward_receiver_instances_total", "outcome"): {
        *("added", "known", "quarantined", "out_of_resources", "too_large"),
    },
    ("driftward_receiver_associations_total", "outcome"): {"granted", "rejected", "aborted"},
    ("up", "job"): {"driftward", "driftward-receiver", "node"},
}


def selectors(expression: str) -> list[tuple[str, dict[str, list[str]]]]:
    """Return each metric of an expression with the label values that it selects."""
    found = []
    for name, inside in re.findall(
        r"\b(driftward_\w+|node_\w+|up)\b(?:\s*\{([^}]*)\})?", expression
    ):
        chosen: dict[str, list[str]] = {}
        for label, operator, value in re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', inside):
            chosen[label] = value.split("|") if "~" in operator else [value]
        found.append((name, chosen))
    return found


def test_the_rules_are_what_promtool_takes(program: Program) -> None:
    promtool = program("promtool", PACKAGE)
    done = subprocess.run(
        [promtool, "check", "rules", RULES], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=lambda path: path.parent.name)
def test_the_scrape_examples_are_what_promtool_takes(
    configuration: Path, program: Program, tmp_path: Path
) -> None:
    document = yaml.safe_load(configuration.read_text(encoding="utf-8"))
    document["rule_files"] = [str(RULES)]
    written = tmp_path / "prometheus.yml"
    written.write_text(yaml.safe_dump(document), encoding="utf-8")
    promtool = program("promtool", PACKAGE)
    done = subprocess.run(
        [promtool, "check", "config", written], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = {job["job_name"] for job in document["scrape_configs"]}
    assert jobs == {"driftward", "node"}


def test_every_metric_and_label_of_a_rule_is_served(
    alerts: dict[str, dict[str, Any]], served: Served
) -> None:
    known = served | OF_OTHERS
    seen = 0
    for alert, rule in alerts.items():
        for name, chosen in selectors(rule["expr"]):
            assert name in known, f"{alert}: {name} is not served"
            assert chosen.keys() <= known[name] | {"job"}, f"{alert}: {name}{chosen}"
            for label, values in chosen.items():
                if (name, label) in VALUES:
                    assert set(values) <= VALUES[name, label], f"{alert}: {name}{chosen}"
                else:
                    assert not name.startswith("driftward_"), f"{alert}: {name}.{label}"
            seen += 1
    assert seen > len(alerts)


def test_every_rule_says_how_urgent_it_is_and_what_to_do_first(
    alerts: dict[str, dict[str, Any]],
) -> None:
    for alert, rule in alerts.items():
        assert rule["labels"]["severity"] in {"page", "morning"}, alert
        annotations = rule["annotations"]
        assert set(annotations) == {"summary", "description", "runbook"}, alert
        assert annotations["runbook"] == f"docs/operations.md#{alert.lower()}"
        first = re.search(r"`[^`]+`", annotations["description"])
        assert first is not None, f"{alert}: no command"


def test_few_alerts_wake_somebody(alerts: dict[str, dict[str, Any]]) -> None:
    pages = {alert for alert, rule in alerts.items() if rule["labels"]["severity"] == "page"}
    assert pages == {
        "DriftwardServeDown",
        "DriftwardImpactMeasured",
        "DriftwardReceiverDown",
        "DriftwardDiskFull",
        "DriftwardScansRefused",
        "DriftwardQuarantineUnusable",
        "DriftwardSourceFails",
        "DriftwardSourceNotFollowed",
        "DriftwardChampionMissing",
        "DriftwardLedgerBroken",
        "DriftwardChampionRecalled",
        "DriftwardWatchFailed",
        "DriftwardRuntimeWrong",
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Series, a moment, and whether the alert fires then."""

    alert: str
    name: str
    series: dict[str, str]
    at: str
    fires: bool = True
    labels: dict[str, str] = field(default_factory=dict)
    every: str = "1m"  #: between two evaluations


UP = {'up{job="driftward"}': "1x20000"}
DISK = 'node_filesystem_avail_bytes{fstype="ext4",mountpoint="/var"}'
SIZE = 'node_filesystem_size_bytes{fstype="ext4",mountpoint="/var"}'
QUARANTINE = 'driftward_quarantine_items{reason="malformed"}'
SOURCE = 'source="ward",kind="folder"'

CASES = [
    Case(
        alert="DriftwardEmbedLag",
        name="scans wait for hours",
        series={
            f'driftward_embed_lag_seconds_bucket{{monitor="chest",le="{bound}"}}': f"0+{new}x120"
            for bound, new in (("3600.0", 0), ("14400.0", 5), ("+Inf", 5))
        },
        at="100m",
        labels={"monitor": "chest"},
    ),
    Case(
        alert="DriftwardEmbedLag",
        name="scans wait for minutes",
        series={
            f'driftward_embed_lag_seconds_bucket{{monitor="chest",le="{bound}"}}': f"0+{new}x120"
            for bound, new in (("300.0", 5), ("3600.0", 5), ("14400.0", 5), ("+Inf", 5))
        },
        at="100m",
        fires=False,
    ),
    Case(
        alert="DriftwardServeDown",
        name="it stopped",
        series={'up{job="driftward"}': "1x10 0x20"},
        at="17m",
        labels={"job": "driftward"},
    ),
    Case(alert="DriftwardServeDown", name="nobody asks it", series={}, at="6m"),
    Case(
        alert="DriftwardServeDown",
        name="it was started anew",
        series={'up{job="driftward"}': "1x10 0x2 1x20"},
        at="17m",
        fires=False,
    ),
    Case(
        alert="DriftwardReceiverDown",
        name="it ran before",
        series={"driftward_receiver_up": "1x10 0x20"},
        at="14m",
    ),
    Case(
        alert="DriftwardReceiverDown",
        name="a home without one",
        series={"driftward_receiver_up": "0x60"},
        at="60m",
        fires=False,
    ),
    Case(
        alert="DriftwardReceiverDown",
        name="it lives and does not listen",
        series={"driftward_receiver_up": "1x60", "driftward_receiver_processes": "2x10 0x50"},
        at="14m",
    ),
    Case(
        alert="DriftwardReceiverDown",
        name="on a machine of its own",
        series={'up{job="driftward-receiver"}': "0x10"},
        at="5m",
        labels={"job": "driftward-receiver"},
    ),
    Case(
        alert="DriftwardWorkWaits",
        name="no worker",
        series={'driftward_jobs{kind="embed",state="queued"}': "1x120"},
        at="70m",
    ),
    Case(
        alert="DriftwardWorkWaits",
        name="jobs come and are done",
        series={'driftward_jobs{kind="embed",state="queued"}': "1x30 stale _x2 1x60"},
        at="75m",
        fires=False,
    ),
    Case(
        alert="DriftwardWorkWaits",
        name="a training holds the worker",
        series={
            'driftward_jobs{kind="embed",state="queued"}': "1x120",
            'driftward_jobs{kind="train",state="running"}': "1x120",
        },
        at="100m",
        fires=False,
    ),
    Case(
        alert="DriftwardWorkWaits",
        name="a training holds it for a night",
        series={
            'driftward_jobs{kind="embed",state="queued"}': "1x600",
            'driftward_jobs{kind="train",state="running"}': "1x600",
        },
        at="500m",
        every="10m",
    ),
    Case(
        alert="DriftwardDiskFull",
        name="little is left",
        series={DISK: "1000000000x60", SIZE: "100000000000x60"},
        at="10m",
        labels={"mountpoint": "/var"},
    ),
    Case(
        alert="DriftwardDiskFull",
        name="it fills within hours",
        series={DISK: "19000000000-100000000x120", SIZE: "100000000000x120"},
        at="70m",
        labels={"mountpoint": "/var"},
    ),
    Case(
        alert="DriftwardDiskFull",
        name="it fills slowly",
        series={DISK: "19000000000-1000000x120", SIZE: "100000000000x120"},
        at="70m",
        fires=False,
    ),
    Case(
        alert="DriftwardDiskFills",
        name="it fills within days",
        series={DISK: "39000000000-5000000x3000", SIZE: "100000000000x3000"},
        at="2000m",
        labels={"mountpoint": "/var"},
        every="10m",
    ),
    Case(
        alert="DriftwardDiskFills",
        name="it does not",
        series={DISK: "39000000000x3000", SIZE: "100000000000x3000"},
        at="2000m",
        fires=False,
        every="10m",
    ),
    Case(alert="DriftwardDiskNotWatched", name="no exporter", series=UP, at="61m"),
    Case(
        alert="DriftwardDiskNotWatched",
        name="an exporter",
        series={DISK: "39000000000x100"},
        at="61m",
        fires=False,
    ),
    Case(
        alert="DriftwardScansRefused",
        name="again and again",
        series={
            'driftward_receiver_instances_total{outcome="out_of_resources"}': "0x10 0+3x60"
        },
        at="30m",
        labels={"outcome": "out_of_resources"},
    ),
    Case(
        alert="DriftwardScansRefused",
        name="long ago",
        series={'driftward_receiver_instances_total{outcome="out_of_resources"}': "0x9 40x60"},
        at="40m",
        fires=False,
    ),
    Case(
        alert="DriftwardQuarantineUnusable",
        name="a folder that is gone",
        series={"driftward_quarantine_usable": "0x20"},
        at="10m",
    ),
    Case(
        alert="DriftwardQuarantineUnusable",
        name="as it should be",
        series={"driftward_quarantine_usable": "1x20"},
        at="10m",
        fires=False,
    ),
    Case(
        alert="DriftwardSourceFails",
        name="for half an hour",
        series={f"driftward_source_failing{{{SOURCE}}}": "0x10 1x60"},
        at="45m",
        labels={"source": "ward"},
    ),
    Case(
        alert="DriftwardSourceFails",
        name="for a moment",
        series={f"driftward_source_failing{{{SOURCE}}}": "0x10 1x5 0x40"},
        at="45m",
        fires=False,
    ),
    Case(
        alert="DriftwardSourceNotFollowed",
        name="nobody looks",
        series={
            f"driftward_source_last_success_timestamp_seconds{{{SOURCE}}}": "0x100",
            f"driftward_source_failing{{{SOURCE}}}": "0x100",
        },
        at="40m",
        labels={"source": "ward"},
    ),
    Case(
        alert="DriftwardSourceNotFollowed",
        name="it fails, which another alert says",
        series={
            f"driftward_source_last_success_timestamp_seconds{{{SOURCE}}}": "0x100",
            f"driftward_source_failing{{{SOURCE}}}": "1x100",
        },
        at="40m",
        fires=False,
    ),
    Case(
        alert="DriftwardSourceNotFollowed",
        name="nobody sent over DICOMweb",
        series={
            'driftward_source_last_success_timestamp_seconds{source="web",kind="dicomweb"}': (
                "0x100"
            )
        },
        at="40m",
        fires=False,
    ),
    Case(
        alert="DriftwardSourceBehind",
        name="an hour late",
        series={f"driftward_source_oldest_unread_seconds{{{SOURCE}}}": "0+60x200"},
        at="100m",
        labels={"source": "ward"},
    ),
    Case(
        alert="DriftwardSourceBehind",
        name="some minutes late",
        series={f"driftward_source_oldest_unread_seconds{{{SOURCE}}}": "600x200"},
        at="100m",
        fires=False,
    ),
    Case(
        alert="DriftwardAcknowledgeSlow",
        name="seconds",
        series={
            'driftward_receiver_acknowledge_seconds_bucket{le="1.0"}': "0+1x100",
            'driftward_receiver_acknowledge_seconds_bucket{le="2.5"}': "0+10x100",
            'driftward_receiver_acknowledge_seconds_bucket{le="+Inf"}': "0+10x100",
        },
        at="40m",
    ),
    Case(
        alert="DriftwardAcknowledgeSlow",
        name="a few slow ones among many",
        series={
            'driftward_receiver_acknowledge_seconds_bucket{le="1.0"}': "0+98x100",
            'driftward_receiver_acknowledge_seconds_bucket{le="2.5"}': "0+100x100",
            'driftward_receiver_acknowledge_seconds_bucket{le="+Inf"}': "0+100x100",
        },
        at="40m",
        fires=False,
    ),
    Case(
        alert="DriftwardSendersRejected",
        name="a stranger",
        series={'driftward_receiver_associations_total{outcome="rejected"}': "0+1x100"},
        at="60m",
        labels={"outcome": "rejected"},
    ),
    Case(
        alert="DriftwardSendersRejected",
        name="a wrong title once",
        series={'driftward_receiver_associations_total{outcome="rejected"}': "0x30 2x60"},
        at="60m",
        fires=False,
    ),
    Case(
        alert="DriftwardScansTooLarge",
        name="one",
        series={'driftward_receiver_instances_total{outcome="too_large"}': "0x30 1x60"},
        at="60m",
        labels={"outcome": "too_large"},
    ),
    Case(
        alert="DriftwardScansTooLarge",
        name="none",
        series={'driftward_receiver_instances_total{outcome="too_large"}': "1x90"},
        at="60m",
        fires=False,
    ),
    Case(
        alert="DriftwardQuarantineGrows",
        name="as never before",
        series={QUARANTINE: "5x60 5+1x500"},
        at="500m",
        labels={"reason": "malformed"},
        every="10m",
    ),
    Case(
        alert="DriftwardQuarantineGrows",
        name="as a week ago",
        series={QUARANTINE: "0+1x12000"},
        at="11000m",
        fires=False,
        every="10m",
    ),
    Case(
        alert="DriftwardQuarantineGrows",
        name="four times as fast as a week ago",
        series={QUARANTINE: "0+1x10000 10000+4x2000"},
        at="11000m",
        labels={"reason": "malformed"},
        every="10m",
    ),
    Case(
        alert="DriftwardQuarantineNotPurged",
        name="after 33 days",
        series={"driftward_quarantine_oldest_seconds": "2851200+60x200"},
        at="100m",
    ),
    Case(
        alert="DriftwardQuarantineNotPurged",
        name="after 29 days",
        series={"driftward_quarantine_oldest_seconds": "2505600x200"},
        at="100m",
        fires=False,
    ),
    Case(
        alert="DriftwardQuarantineForeignFiles",
        name="two",
        series={"driftward_quarantine_foreign_files": "2x200"},
        at="100m",
    ),
    Case(
        alert="DriftwardQuarantineForeignFiles",
        name="none",
        series={"driftward_quarantine_foreign_files": "0x200"},
        at="100m",
        fires=False,
    ),
    Case(
        alert="DriftwardSilence",
        name="a scanner stopped",
        series={'driftward_open_silence_alarms{monitor="chest",kind="missing"}': "0x10 1x50"},
        at="20m",
        labels={"monitor": "chest", "kind": "missing"},
    ),
    Case(
        alert="DriftwardSilence",
        name="all send",
        series={'driftward_open_silence_alarms{monitor="chest",kind="missing"}': "0x60"},
        at="20m",
        fires=False,
    ),
    Case(
        alert="DriftwardBacklogOld",
        name="one waits for three hours",
        series={
            'driftward_oldest_pending_scan_age_seconds{monitor="chest"}': "0+60x400",
        },
        at="200m",
        labels={"monitor": "chest"},
    ),
    Case(
        alert="DriftwardBacklogOld",
        name="one waits for an hour",
        series={'driftward_oldest_pending_scan_age_seconds{monitor="chest"}': "3600x400"},
        at="200m",
        fires=False,
    ),
    Case(
        alert="DriftwardImpactMeasured",
        name="measured",
        series={'driftward_open_episodes{monitor="chest",impact="measured"}': "0x10 1x30"},
        at="20m",
        labels={"monitor": "chest"},
    ),
    Case(
        alert="DriftwardImpactMeasured",
        name="suspected",
        series={'driftward_open_episodes{monitor="chest",impact="suspected"}': "1x30"},
        at="20m",
        fires=False,
    ),
    Case(
        alert="DriftwardEpisodeOpen",
        name="one",
        series={'driftward_open_episodes{monitor="chest",impact="suspected"}': "0x10 1x30"},
        at="20m",
        labels={"monitor": "chest", "impact": "suspected"},
    ),
    Case(
        alert="DriftwardEpisodeOpen",
        name="none",
        series={'driftward_open_episodes{monitor="chest",impact="suspected"}': "0x30"},
        at="20m",
        fires=False,
    ),
    Case(
        alert="DriftwardNotJudged",
        name="for nine days",
        series={'driftward_seconds_since_last_verdict{monitor="chest"}': "777600x100"},
        at="61m",
        labels={"monitor": "chest"},
    ),
    Case(
        alert="DriftwardNotJudged",
        name="for a week",
        series={'driftward_seconds_since_last_verdict{monitor="chest"}': "604800x100"},
        at="61m",
        fires=False,
    ),
    Case(
        alert="DriftwardChampionMissing",
        name="it was there an hour ago",
        series={
            **UP,
            'driftward_champion_version{model="pneumonia",deployment="everywhere"}': (
                "2x60 stale"
            ),
        },
        at="75m",
        labels={"model": "pneumonia", "deployment": "everywhere"},
    ),
    Case(
        alert="DriftwardChampionMissing",
        name="another took its place",
        series={
            **UP,
            'driftward_champion_version{model="pneumonia",deployment="everywhere"}': (
                "2x60 3x60"
            ),
        },
        at="75m",
        fires=False,
    ),
    Case(
        alert="DriftwardChampionMissing",
        name="nothing at all is served, which another alert says",
        series={
            'up{job="driftward"}': "1x60 0x60",
            'driftward_champion_version{model="pneumonia",deployment="everywhere"}': (
                "2x60 stale"
            ),
        },
        at="75m",
        fires=False,
    ),
    Case(
        alert="DriftwardRuntimeWrong",
        name="it runs another",
        series={
            'driftward_runtime{model="pneumonia",deployment="north",state="wrong"}': "0x5 1x5"
        },
        at="7m",
        labels={"model": "pneumonia", "deployment": "north", "state": "wrong"},
    ),
    Case(
        alert="DriftwardRuntimeWrong",
        name="it has time left",
        series={
            'driftward_runtime{model="pneumonia",deployment="north",state="wrong"}': "0x10",
            'driftward_runtime{model="pneumonia",deployment="north",state="pending"}': "1x10",
        },
        at="7m",
        fires=False,
    ),
    Case(
        alert="DriftwardRuntimeSilent",
        name="for a quarter of an hour",
        series={
            'driftward_runtime{model="pneumonia",deployment="north",state="silent"}': "1x30"
        },
        at="15m",
        labels={"model": "pneumonia", "deployment": "north", "state": "silent"},
    ),
    Case(
        alert="DriftwardRuntimeSilent",
        name="it spoke at last",
        series={
            'driftward_runtime{model="pneumonia",deployment="north",state="silent"}': "1x5 0x30"
        },
        at="15m",
        fires=False,
    ),
    Case(
        alert="DriftwardModelSuspended",
        name="suspended",
        series={'driftward_restrictions{model="pneumonia",kind="suspend"}': "1x60"},
        at="20m",
        labels={"model": "pneumonia"},
    ),
    Case(
        alert="DriftwardModelSuspended",
        name="restricted for a subgroup",
        series={'driftward_restrictions{model="pneumonia",kind="restrict"}': "1x60"},
        at="20m",
        fires=False,
    ),
    Case(
        alert="DriftwardRunFailed",
        name="the first one",
        series={'driftward_runs{model="pneumonia",state="failed"}': "_x10 1x60"},
        at="20m",
        labels={"model": "pneumonia"},
    ),
    Case(
        alert="DriftwardRunFailed",
        name="two days ago",
        series={'driftward_runs{model="pneumonia",state="failed"}': "1x4000"},
        at="2880m",
        fires=False,
        every="10m",
    ),
    Case(
        alert="DriftwardRunAwaitsApproval",
        name="since yesterday",
        series={'driftward_runs{model="pneumonia",state="awaiting approval"}': "1x3000"},
        at="1500m",
        labels={"model": "pneumonia"},
        every="10m",
    ),
    Case(
        alert="DriftwardRunAwaitsApproval",
        name="since this morning",
        series={'driftward_runs{model="pneumonia",state="awaiting approval"}': "1x3000"},
        at="600m",
        fires=False,
        every="10m",
    ),
    Case(
        alert="DriftwardLedgerBroken",
        name="a row was changed",
        series={"driftward_ledger_valid": "1x10 0x10"},
        at="15m",
    ),
    Case(
        alert="DriftwardLedgerBroken",
        name="it stands",
        series={"driftward_ledger_valid": "1x20"},
        at="15m",
        fires=False,
    ),
    Case(
        alert="DriftwardLedgerNotVerified",
        name="for three days",
        series={"driftward_ledger_verified_timestamp_seconds": "0x5000"},
        at="4320m",
        every="10m",
    ),
    Case(
        alert="DriftwardLedgerNotVerified",
        name="since yesterday",
        series={"driftward_ledger_verified_timestamp_seconds": "0x5000"},
        at="1500m",
        fires=False,
        every="10m",
    ),
    Case(
        alert="DriftwardChampionRecalled",
        name="it serves",
        series={'driftward_champion_recalled{model="chest"}': "0x10 1x20"},
        at="15m",
        labels={"model": "chest"},
    ),
    Case(
        alert="DriftwardChampionRecalled",
        name="none was recalled",
        series={'driftward_champion_recalled{model="chest"}': "0x30"},
        at="15m",
        fires=False,
    ),
    Case(
        alert="DriftwardWatchFailed",
        name="at one site",
        series={'driftward_watch_failed{deployment="north",model="chest"}': "0x10 1x20"},
        at="15m",
        labels={"model": "chest", "deployment": "north"},
    ),
    Case(
        alert="DriftwardWatchFailed",
        name="it goes on",
        series={'driftward_watch_failed{deployment="north",model="chest"}': "0x30"},
        at="15m",
        fires=False,
    ),
    Case(
        alert="DriftwardWatchNotEvaluable",
        name="it ended so",
        series={'driftward_watch_not_evaluable{deployment="everywhere",model="chest"}': "1x20"},
        at="15m",
        labels={"model": "chest", "deployment": "everywhere"},
    ),
    Case(
        alert="DriftwardWatchNotEvaluable",
        name="it passed",
        series={'driftward_watch_not_evaluable{deployment="everywhere",model="chest"}': "0x20"},
        at="15m",
        fires=False,
    ),
    Case(
        alert="DriftwardCheckpointOld",
        name="for three days",
        series={"driftward_checkpoint_timestamp_seconds": "0x5000"},
        at="4320m",
        every="10m",
    ),
    Case(
        alert="DriftwardCheckpointOld",
        name="since yesterday",
        series={"driftward_checkpoint_timestamp_seconds": "0x5000"},
        at="1500m",
        fires=False,
        every="10m",
    ),
    Case(
        alert="DriftwardJobFailed",
        name="one more",
        series={'driftward_jobs{kind="evaluate",state="failed"}': "1x1500 2x100"},
        at="1520m",
        labels={"kind": "evaluate"},
        every="10m",
    ),
    Case(
        alert="DriftwardJobFailed",
        name="two days ago",
        series={'driftward_jobs{kind="evaluate",state="failed"}': "1x4000"},
        at="2880m",
        fires=False,
        every="10m",
    ),
    Case(
        alert="DriftwardOutboxStuck",
        name="for an hour",
        series={"driftward_outbox_oldest_seconds": "0+60x100"},
        at="60m",
    ),
    Case(
        alert="DriftwardOutboxStuck",
        name="nothing waits",
        series={"driftward_outbox_oldest_seconds": "0x100"},
        at="60m",
        fires=False,
    ),
]


def as_unit_test(case: Case) -> dict[str, Any]:
    """Return a case as promtool reads it: whether the alert's own series exists then."""
    selector = ",".join(f'{label}="{value}"' for label, value in case.labels.items())
    chosen = f'alertname="{case.alert}",alertstate="firing"' + (
        f",{selector}" if selector else ""
    )
    return {
        "name": f"{case.alert}: {case.name}",
        "interval": "1m",
        "input_series": [
            {"series": name, "values": values} for name, values in case.series.items()
        ],
        "promql_expr_test": [
            {
                "expr": f"count(ALERTS{{{chosen}}})",
                "eval_time": case.at,
                "exp_samples": [{"labels": "{}", "value": 1}] if case.fires else [],
            }
        ],
    }


def test_each_rule_fires_when_it_should_and_not_before(
    alerts: dict[str, dict[str, Any]], program: Program, tmp_path: Path
) -> None:
    promtool = program("promtool", PACKAGE)
    # Each rule by itself: all of them over a week of minutes would take minutes.
    written = []
    for alert, every in sorted({(case.alert, case.every) for case in CASES}):
        rules = tmp_path / f"{alert}.yml"
        group = {"name": "one", "rules": [alerts[alert]]}
        rules.write_text(yaml.safe_dump({"groups": [group]}), encoding="utf-8")
        document = {
            "rule_files": [str(rules)],
            "evaluation_interval": every,
            "tests": [
                as_unit_test(case)
                for case in CASES
                if (case.alert, case.every) == (alert, every)
            ],
        }
        written.append(tmp_path / f"{alert}.{every}.test.yml")
        written[-1].write_text(yaml.safe_dump(document, width=1000), encoding="utf-8")
    done = subprocess.run(
        [promtool, "test", "rules", *written], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_rule_is_tried_both_ways(alerts: dict[str, dict[str, Any]]) -> None:
    assert {case.alert for case in CASES if case.fires} == alerts.keys()
    assert {case.alert for case in CASES if not case.fires} == alerts.keys()
