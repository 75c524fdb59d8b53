"""Alert rules: they parse, fire when they should, and speak only of what is served."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from monitor.episodes.episodes import Impact
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
    fires: bool
    labels: dict[str, str] = field(default_factory=dict)
    every: str = "1m"  #: between two evaluations


CASES = [
    Case(alert=alert, **case)
    for alert, cases in yaml.safe_load(
        (Path(__file__).parent / "alert_cases.yaml").read_text(encoding="utf-8")
    ).items()
    for case in cases
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
