"""Tasks of several classes and of several findings, the whole way: labels, runs, gates, use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from several_findings_home import SeveralFindingsHome, training_here
from small_installation import ANCHOR, SmallInstallation, plan_text, recipe
from sqlalchemy import select

from api.pages.explanation import impact_in_words
from api.pages.labelled import labelled, labelled_weeks
from api.pages.run_page import run_page
from monitor.datasets import Purpose
from monitor.episodes.episodes import Impact
from monitor.performance import performance
from monitor.scan_history import describe_scan
from monitor.tables import LabelRow, ScanRow
from monitor.windows import Window
from registry import ledger
from registry.errors import BadInputError
from registry.versions import find
from retrain import runs
from retrain.backtesting.question import ask
from retrain.executors.local import LocalExecutor
from retrain.scheduling import tick
from retrain.shadow.ending import shadow_record
from retrain.starting import start_first_run
from retrain.states import RunState
from retrain.tables import RunRow
from retrain.watching.beginning import looks_of
from retrain.watching.showing import watches_of

# MLflow's own queries use a loader that SQLAlchemy has deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader:sqlalchemy.exc.SADeprecationWarning"
)
MODEL = "pneumonia-cxr"
HISTORY, SHIFTED, SHADOWED = 420, 200, 30
ONSET = ANCHOR + timedelta(hours=1)
STRATEGIES = "[recalibration, linear probe, LoRA, full fine-tuning]"
SHARES = {"training_share": "0.3", "selection_share": "0.1", "locked_share": "0.2"}
LOCKED, SELECTION = 0.4, 0.2

WATCH = """
watch:
  days: 14
  error_rate: 0.05
  least_labels: 20
  when_it_fails: alarm
"""

Misread: TypeAlias = Callable[[frozenset[str]], frozenset[str]]


def plan(*gates: str, **changes: str) -> str:
    text = plan_text(
        acquisition=STRATEGIES,
        at_least="60",
        locked_share=str(LOCKED),
        selection_share=str(SELECTION),
        epochs="25",
        first_version_auc="0.6",
        reference_margins="{sensitivity: 0.3, specificity: 0.3, auc: 0.3}",
        drifted_margins="{sensitivity: 0.3, specificity: 0.3, auc: 0.3}",
        **changes,
    )
    return text.replace(
        "    - parity\n", "".join(f"    - {gate}\n" for gate in ("parity", *gates))
    )


def mapping(task: str, kind: str, classes: str) -> str:
    return f"""
name: chest
version: 1
tasks:
  {task}: {{kind: {kind}, classes: {classes}}}
"""


def several_classes(rng: np.random.Generator) -> frozenset[str]:
    chosen = rng.choice(["normal", "fluid", "mass"], p=[0.4, 0.3, 0.3])
    return frozenset() if chosen == "normal" else frozenset({str(chosen)})


def several_findings(rng: np.random.Generator) -> frozenset[str]:
    return frozenset(mark for mark in ("fluid", "mass") if rng.random() < 0.45)


def first_version(home: SeveralFindingsHome, text: str, mapped: str, **changes: str) -> RunRow:
    """Bring a first version into use, with a monitor and its reference."""
    made = home.made
    made.found(text)
    home.declare(mapped)
    home.receive(HISTORY)
    home.label(since=made.clock.at)
    start_first_run(
        made.driftward.database,
        recipe(epochs="60", **SHARES, **changes),
        since=None,
        until=None,
        seed=0,
        by=made.operator,
        clock=made.clock,
    )
    home.work()
    run = home.newest()
    assert run.state == RunState.AWAITING_APPROVAL, made.gates(run.id, words=True)
    home.approve_and_promote(run)
    home.watch()
    home.build_reference()
    home.work()
    return run


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """A home in which two runs repaired a shift: by misread labels, and by corrected ones."""

    home: SeveralFindingsHome
    first: int
    episode: int
    misled: int
    repaired: int

    def gate(self, run: int, name: str) -> dict[str, Any]:
        with self.home.made.driftward.database.reading() as session:
            [gate] = [one for one in runs.gate_outcomes(session, run) if one.name == name]
            return gate.detail


def shift(home: SeveralFindingsHome, first: RunRow, text: str, misread: Misread) -> Repaired:
    """Let `mass` look otherwise from an update on, and labels of it be misread at first."""
    made = home.made
    made.clock.at = ONSET
    home.receive(SHIFTED, software="2.0", dark="mass")
    episode = home.open_episode(onset=ONSET)
    learning = home.instances_that_train(
        onset=ONSET,
        episode=episode,
        shares={
            Purpose.LOCKED_DRIFTED: LOCKED,
            Purpose.SELECTION: SELECTION,
            Purpose.TRAINING: 1 - LOCKED - SELECTION,
        },
    )
    made.clock.at += timedelta(hours=1)
    home.label(
        since=ONSET,
        misread={
            one.instance: misread(one.marks) for one in home.sent if one.instance in learning
        },
    )
    made.driftward.embedder.embed("chest")
    home.work()
    misled = home.newest()
    assert misled.id != first.id
    made.clock.at += timedelta(hours=1)
    made.apply_plan(f"{text}# the labels are corrected\n")
    # The reader had looked again before the results were there.
    home.label(since=ONSET, signed_after=timedelta(minutes=50))
    home.work()
    repaired = home.newest()
    if repaired.state == RunState.SHADOW:
        read_beside(home)
    home.approve_and_promote(repaired)
    made.clock.at += timedelta(days=2)
    tick(made.driftward.database, made.clock)
    home.work()
    return Repaired(
        home=home,
        first=first.id,
        episode=episode,
        misled=misled.id,
        repaired=repaired.id,
    )


def read_beside(home: SeveralFindingsHome) -> None:
    """Let candidate and champion read the same scans until the shadow is over."""
    made = home.made
    made.clock.at += timedelta(hours=1)
    since = made.clock.at
    home.receive(SHADOWED, software="2.0", dark="mass")
    home.label(since=since)
    made.driftward.embedder.embed("chest")
    made.clock.at += timedelta(days=2)
    tick(made.driftward.database, made.clock)
    home.work()


@pytest.fixture(scope="module")
def training() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(LocalExecutor, "train", training_here())
        yield


@pytest.fixture(scope="module")
def classes(
    training: None, tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path
) -> Repaired:
    home = SeveralFindingsHome(
        made=SmallInstallation(tmp_path_factory.mktemp("classes"), empty_mlflow=empty_mlflow),
        task="chest",
        model=MODEL,
        draw=several_classes,
        written=lambda marks: next(iter(marks), "normal"),
    )
    text = plan("every_class", replay_ratio="0.7")
    first = first_version(
        home,
        text,
        mapping("chest", "multi-class", "[normal, fluid, mass]"),
        task="chest",
        classes="[normal, fluid, mass]\npositive: mass",
    )
    return shift(
        home,
        first,
        text,
        lambda marks: frozenset() if "fluid" in marks else marks,
    )


@pytest.fixture(scope="module")
def findings(
    training: None, tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path
) -> Repaired:
    home = SeveralFindingsHome(
        made=SmallInstallation(tmp_path_factory.mktemp("findings"), empty_mlflow=empty_mlflow),
        task="chest",
        model=MODEL,
        draw=several_findings,
        written=lambda marks: "|".join(sorted(marks)) or "-",
    )
    text = plan(replay_ratio="0.7", shadow_days="1") + WATCH
    first = first_version(
        home,
        text,
        mapping("chest", "multi-label", "[fluid, mass]"),
        task="chest",
        classes="[fluid, mass]\nkind: multi-label",
    )
    return shift(home, first, text, lambda marks: marks - {"fluid"})


def test_labels_name_classes_that_the_mapping_declares_before_any_champion(
    classes: Repaired, findings: Repaired
) -> None:
    with classes.home.made.driftward.database.reading() as session:
        assert set(session.scalars(select(LabelRow.value))) == {0, 1, 2}
    with findings.home.made.driftward.database.reading() as session:
        said = {tuple(row.classes) for row in session.scalars(select(LabelRow))}
    assert said == {(), ("fluid",), ("mass",), ("fluid", "mass")}


def test_a_first_version_must_reach_the_floor_in_every_finding(findings: Repaired) -> None:
    gate = findings.gate(findings.first, "first_version_auc")
    assert [part["name"] for part in gate["parts"]] == [
        "first_version_auc/fluid",
        "first_version_auc/mass",
    ]
    assert gate["outcome"] == "passed"
    assert {promise["finding"] for promise in gate["figures"]["promised"]} == {"fluid", "mass"}


def test_labels_measure_the_impact_on_each_finding(findings: Repaired) -> None:
    row = findings.home.episode(findings.episode)
    measured = row.evidence["impact"]
    assert row.impact == Impact.MEASURED
    assert set(measured["findings"]) == {"fluid", "mass"}
    assert {(fall["finding"], fall["measure"]) for fall in measured["falls"]} >= {
        ("mass", "sensitivity")
    }
    assert "sensitivity of mass" in impact_in_words(row)


def test_performance_is_kept_for_each_finding_and_the_worst_is_drawn(
    findings: Repaired,
) -> None:
    with findings.home.made.driftward.database.reading() as session:
        measured = performance.newest(session, "chest")
        drawn = labelled_weeks(session, "chest")
        shown = labelled(session, drawn, [])
    assert {row.finding for row in measured} == {"fluid", "mass"}
    assert len(drawn) == len(measured) / 2
    assert drawn[0].finding == "mass"
    assert shown is not None
    assert shown.findings == ("mass",)


@pytest.mark.parametrize(
    ("which", "gate", "named"),
    [
        ("findings", "superiority_where_it_drifted", "Sensitivity of fluid where it drifted"),
        ("classes", "every_class", "Specificity for class normal"),
    ],
)
def test_a_candidate_that_is_better_in_one_and_worse_in_another_is_refused_by_name(
    which: str, gate: str, named: str, request: pytest.FixtureRequest
) -> None:
    done: Repaired = request.getfixturevalue(which)
    run = done.home.made.run(done.misled)
    assert run.state == RunState.REJECTED
    assert run.note == f"gates not passed: {gate}"
    outcome = done.gate(done.misled, gate)
    assert outcome["sentence"].startswith(named)
    # In what the shift had broken it is better all the same.
    superior = done.gate(done.misled, "superiority_where_it_drifted")
    of_mass = [
        part
        for part in superior["parts"]
        if part["name"].endswith("sensitivity") and "fluid" not in part["name"]
    ]
    assert [part["outcome"] for part in of_mass] == ["passed"]


@pytest.mark.parametrize("which", ["findings", "classes"])
def test_every_strategy_that_fits_is_tried_and_the_repair_is_promoted(
    which: str, request: pytest.FixtureRequest
) -> None:
    done: Repaired = request.getfixturevalue(which)
    made = done.home.made
    run = made.run(done.repaired)
    assert run.id != done.misled
    assert run.state == RunState.PROMOTED, made.gates(run.id, words=True)
    tried = run.settings["attempts"]
    assert [one["strategy"] for one in tried] == ["linear probe", "LoRA", "full fine-tuning"]
    assert not [one for one in tried if "refused" in one]
    with made.driftward.database.reading() as session:
        assert ledger.verify(session).valid
        page = run_page(session, made.driftward.home.work, run.id, now=made.clock.at)
    assert "is promoted" in page.headline


def test_gates_judge_every_finding_and_every_class(
    classes: Repaired, findings: Repaired
) -> None:
    judged = {
        part["name"].split("/")[1]
        for part in findings.gate(findings.repaired, "non_inferiority_on_reference")["parts"]
    }
    assert judged == {"fluid", "mass"}
    told = {
        part["name"].split("/")[1]
        for part in classes.gate(classes.repaired, "every_class")["parts"]
    }
    assert told == {"normal", "fluid", "mass", "mean of classes"}


def test_a_result_says_what_it_says_of_each_finding(findings: Repaired) -> None:
    made = findings.home.made
    with made.driftward.database.reading() as session:
        newest = session.scalars(select(ScanRow.id).order_by(ScanRow.id.desc())).first()
        history = describe_scan(session, newest)
    for result in history["results"]:
        assert set(result["classes"]) == {"fluid", "mass"}
        assert result["probability"] is None
        called = [
            name for name, share in result["classes"].items() if share >= result["threshold"]
        ]
        assert result["says"] == (", ".join(called) or "no finding")


def test_both_read_beside_each_other_finding_by_finding(findings: Repaired) -> None:
    made = findings.home.made
    with made.driftward.database.reading() as session:
        record = shadow_record(session, made.run(findings.repaired), at=made.clock.at)
    assert (record["by_both"], record["labelled"]) == (SHADOWED, SHADOWED)
    # Each finding of a scan is a case: what the shift broke, the candidate finds.
    cases = sum(
        record["candidate"][measure]["scans"] for measure in ("sensitivity", "specificity")
    )
    assert cases == 2 * SHADOWED
    assert (
        record["candidate"]["sensitivity"]["estimate"]
        > record["champion"]["sensitivity"]["estimate"]
    )
    assert record["disagreement"]["newly_positive"]["count"] > 0


def test_a_watch_holds_the_version_to_what_was_promised_of_each_finding(
    findings: Repaired,
) -> None:
    with findings.home.made.driftward.database.reading() as session:
        [watch] = [row for row in watches_of(session, MODEL) if row.run == findings.repaired]
        look = looks_of(session, watch)[-1]
    assert {one["measure"] for one in look.measures} == {
        "sensitivity of fluid",
        "specificity of fluid",
        "sensitivity of mass",
        "specificity of mass",
    }
    for one in look.measures:
        assert one["promises"]
        assert {promise["finding"] for promise in one["promises"]} == {
            one["measure"].rpartition(" ")[2]
        }


def test_a_backtest_replays_several_classes_and_refuses_several_findings(
    classes: Repaired, findings: Repaired
) -> None:
    with (
        findings.home.made.driftward.database.reading() as session,
        pytest.raises(BadInputError, match="chest has several findings"),
    ):
        ask(session, "chest", since=None, until=ANCHOR)
    driftward = classes.home.made.driftward
    with driftward.database.reading() as session:
        question = ask(session, "chest", since=ANCHOR, until=ANCHOR + timedelta(days=2))
    never = next(one for one in driftward.backtest(question).policies if one.name == "never")
    # As its first champion read them: the class that is the finding, against all others.
    with driftward.database.reading() as session:
        served = find(session, f"{MODEL}@1").id
        window = Window(start=question.since, end=question.until)
        results = performance.labelled_results(
            session, version=served, task="chest", window=window
        )
    measured = performance.measure(results)
    assert never.whole.positives == int(results.truth.sum())
    assert never.whole.figures["sensitivity"].estimate == pytest.approx(
        measured.point.sensitivity.estimate, abs=1e-4
    )
