"""A recipe whose task has other classes than its labels were read by starts no run."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from first_champion import put_into_use
from several_findings_home import SeveralFindingsHome
from small_installation import MODEL, SITE, SmallInstallation, plan_text, recipe
from sqlalchemy import select
from tiny_bundles import tiny_bundle

from monitor import labels
from monitor.labelling.provenance import Provenance
from monitor.labels import Label
from monitor.tables import ScanRow
from registry import ledger
from registry.bundle_import import import_bundle
from registry.bundles.heads import Task, TaskKind
from registry.errors import BadInputError, ConflictError
from registry.jobs import Job
from registry.ledger import entries
from registry.versions import find
from retrain import runs
from retrain.starting import start_first_run
from retrain.states import RunState
from retrain.tables import RunRow

SCANS = 40
MAPPING = """
name: chest
version: 1
tasks:
  chest: {kind: multi-label, classes: [fluid, mass]}
  triage: {kind: multi-class, classes: [normal, fluid, mass]}
"""
LATER = MAPPING.replace("version: 1", "version: 2")
AS_READ = "[normal, fluid, mass]\npositive: mass"

# MLflow's own queries use a loader that SQLAlchemy has deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader:sqlalchemy.exc.SADeprecationWarning"
)


def _draw(rng: np.random.Generator) -> frozenset[str]:
    chosen = rng.choice(["normal", "fluid", "mass"])
    return frozenset() if chosen == "normal" else frozenset({str(chosen)})


def unlabelled(folder: Path, empty_mlflow: Path) -> SeveralFindingsHome:
    """Return a home with scans and no label, whose plan lets few make a first version."""
    made = SmallInstallation(folder, empty_mlflow=empty_mlflow)
    text = plan_text(at_least="20", first_version_auc="0.0")
    made.found(text.replace("    - parity\n", "    - parity\n    - every_class\n"))
    home = SeveralFindingsHome(
        made=made,
        task="triage",
        model=MODEL,
        draw=_draw,
        written=lambda marks: next(iter(marks), "normal"),
    )
    home.receive(SCANS)
    return home


@pytest.fixture
def home(tmp_path: Path, empty_mlflow: Path) -> SeveralFindingsHome:
    return unlabelled(tmp_path, empty_mlflow)


@pytest.fixture(scope="module")
def undeclared(
    tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path
) -> SeveralFindingsHome:
    """A home that nothing tells of any task; only refusals are tried in it."""
    return unlabelled(tmp_path_factory.mktemp("undeclared"), empty_mlflow)


@pytest.fixture(scope="module")
def declared(
    tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path
) -> SeveralFindingsHome:
    """A home with labels of both tasks of its mapping; only refusals are tried in it."""
    home = unlabelled(tmp_path_factory.mktemp("declared"), empty_mlflow)
    home.declare(MAPPING)
    home.label(since=home.made.clock.at)
    home.task = "chest"
    home.written = lambda marks: "|".join(sorted(marks)) or "-"
    home.made.clock.at += timedelta(minutes=1)
    home.label(since=home.sent[0].at)
    return home


def attach(home: SeveralFindingsHome, task: str, value: int, *classes: str) -> None:
    """Attach labels as they came when something that is gone now declared the task."""
    with home.made.driftward.database.transaction() as session:
        said = [
            Label(
                line=scan.id,
                instance=scan.instance,
                task=task,
                value=value if scan.id % 2 else 0,
                classes=(classes if scan.id % 2 else ()) if classes else None,
                provenance=Provenance.DATASET,
                reader="r",
                signed_at=home.made.clock.at,
            )
            for scan in session.scalars(select(ScanRow))
        ]
        labels.attach(session, said, site=SITE, actor="test", at=home.made.clock.at)


def start(home: SeveralFindingsHome, *, seed: int = 0, **changes: str) -> RunRow:
    """Start the run of a recipe; nobody trains it."""
    wanted = {"epochs": "1", "training_share": "0.4", "selection_share": "0.2", **changes}
    return start_first_run(
        home.made.driftward.database,
        recipe(**{"locked_share": "0.3", **wanted}),
        since=None,
        until=None,
        seed=seed,
        by=home.made.operator,
        clock=home.made.clock,
    )


def refusal(home: SeveralFindingsHome, **changes: str) -> str:
    """Return by which words a recipe is refused; nothing is queued, and the ledger tells of it."""
    with pytest.raises(BadInputError) as refused:
        start(home, **changes)
    with home.made.driftward.database.reading() as session:
        assert runs.all_runs(session, MODEL) == []
        assert session.scalars(select(Job).where(Job.kind == runs.TRAIN)).all() == []
        [last] = entries(session, newest_first=True, limit=1)
        assert (last.kind, last.facts["problem"]) == ("run.refused", str(refused.value))
        assert ledger.verify(session).valid
    return str(refused.value)


@pytest.mark.parametrize(
    "classes",
    [
        "[mass, fluid, normal]\npositive: mass",
        "[normal, mass]",
        "[normal, fluid, mass, bone]\npositive: mass",
    ],
    ids=["another order", "fewer", "more"],
)
def test_other_classes_than_the_mapping_has_are_refused_with_both_lists(
    declared: SeveralFindingsHome, classes: str
) -> None:
    listed = classes.partition("]")[0].removeprefix("[")
    said = refusal(declared, task="triage", classes=classes)
    assert f"task triage is to be learned as multi-class with the classes {listed}," in said
    assert (
        "the label mapping in force (chest 1) reads its labels as multi-class with the classes "
        "normal, fluid, mass, in this order: declare the task so in the recipe" in said
    )


def test_findings_are_not_learned_as_classes_nor_classes_as_findings(
    declared: SeveralFindingsHome,
) -> None:
    said = refusal(declared, task="chest", classes="[fluid, mass]")
    assert "learned as multi-class with the classes fluid, mass" in said
    assert "reads its labels as multi-label with the classes fluid, mass" in said
    said = refusal(declared, task="triage", classes="[normal, fluid, mass]\nkind: multi-label")
    assert "learned as multi-label" in said
    assert "reads its labels as multi-class" in said


def test_a_task_as_the_mapping_has_it_starts_a_run(home: SeveralFindingsHome) -> None:
    home.declare(MAPPING)
    home.label(since=home.made.clock.at)
    assert start(home, task="triage", classes=AS_READ).state == RunState.QUEUED


def test_without_a_mapping_the_champion_says_how_labels_were_read(
    home: SeveralFindingsHome,
) -> None:
    made = home.made
    triage = Task(name="triage", kind=TaskKind.MULTI_CLASS, classes=("normal", "fluid", "mass"))
    bundle = tiny_bundle(made.inbox.parent / "triage", tasks=[triage], seed=3)
    import_bundle(
        made.driftward.database,
        made.driftward.tracking,
        bundle.root,
        model="other",
        base=None,
        by=made.operator,
        at=made.clock.at,
    )
    with made.driftward.database.transaction() as session:
        put_into_use(session, find(session, "other@1"), at=made.clock.at)
    home.label(since=made.clock.at)
    said = refusal(home, task="triage", classes="[mass, fluid, normal]\npositive: mass")
    assert "the champion other@1, by which its labels are read, has it as multi-class" in said
    assert "normal, fluid, mass, in this order" in said
    assert start(home, task="triage", classes=AS_READ).state == RunState.QUEUED


def test_labels_that_an_older_mapping_read_keep_the_order_that_it_had(
    home: SeveralFindingsHome,
) -> None:
    home.declare(MAPPING)
    home.label(since=home.made.clock.at)
    home.made.clock.at += timedelta(hours=1)
    home.declare(LATER.replace("[normal, fluid, mass]", "[mass, fluid, normal]"))
    reordered = "[mass, fluid, normal]\npositive: mass"
    said = refusal(home, task="triage", classes=reordered)
    assert "labels of its scans were read by the label mapping chest 1" in said
    assert "hand the labels in anew, signed later" in said
    # What the refusal says is what helps.
    home.label(since=home.sent[0].at, signed_after=timedelta(minutes=50))
    assert start(home, task="triage", classes=reordered).state == RunState.QUEUED


def test_a_mapping_that_only_adds_a_class_leaves_older_labels_as_they_were(
    home: SeveralFindingsHome,
) -> None:
    home.declare(MAPPING)
    home.label(since=home.made.clock.at)
    home.made.clock.at += timedelta(hours=1)
    home.declare(LATER.replace("[normal, fluid, mass]", "[normal, fluid, mass, bone]"))
    grown = "[normal, fluid, mass, bone]\npositive: mass"
    assert start(home, task="triage", classes=grown).state == RunState.QUEUED


def test_of_a_task_that_nothing_declares_the_labels_themselves_are_looked_at(
    home: SeveralFindingsHome,
) -> None:
    attach(home, "triage", 2)
    said = refusal(home, task="triage", classes="[normal, mass]")
    assert "labels of its scans are no value of it (number 2)" in said
    assert "driftward label mapping apply" in said
    assert start(home, task="triage", classes=AS_READ).state == RunState.QUEUED


@pytest.mark.parametrize(
    ("task", "value", "held", "classes", "named"),
    [
        ("sets", 1, ("fluid", "mass"), "[none, some]", "no class, fluid|mass"),
        ("more", 1, ("fluid", "mass"), "[fluid]\nkind: multi-label", "fluid|mass"),
        ("which", 1, (), "[fluid, mass]\nkind: multi-label", "number 1"),
        ("beyond", 2, (), "[fluid]\nkind: multi-label", "number 2"),
    ],
)
def test_sets_are_no_classes_and_numbers_name_no_findings(
    undeclared: SeveralFindingsHome,
    task: str,
    value: int,
    held: tuple[str, ...],
    classes: str,
    named: str,
) -> None:
    attach(undeclared, task, value, *held)
    said = refusal(undeclared, task=task, classes=classes)
    assert f"are no value of it ({named})" in said


def test_a_worker_looks_again_and_the_run_ends_with_the_same_words(
    home: SeveralFindingsHome,
) -> None:
    home.declare(MAPPING)
    home.label(since=home.made.clock.at)
    run = start(home, task="triage", classes=AS_READ)
    home.made.clock.at += timedelta(hours=1)
    home.declare(LATER.replace("[normal, fluid, mass]", "[mass, fluid, normal]"))
    home.made.work()
    ended = home.made.run(run.id)
    assert ended.state == RunState.FAILED
    assert "the label mapping in force (chest 2) reads its labels as" in ended.note
    assert "mass, fluid, normal, in this order" in ended.note
    assert ended.candidate is None


def test_a_worker_sees_a_label_that_came_after_the_run_was_queued(
    home: SeveralFindingsHome,
) -> None:
    attach(home, "triage", 1)
    run = start(home, task="triage", classes="[normal, mass]")
    home.made.clock.at += timedelta(hours=1)
    attach(home, "triage", 2)
    home.made.work()
    ended = home.made.run(run.id)
    assert ended.state == RunState.FAILED
    assert "labels of its scans are no value of it (number 2)" in ended.note


def test_the_same_recipe_data_and_seed_are_not_trained_again(home: SeveralFindingsHome) -> None:
    home.declare(MAPPING)
    home.label(since=home.made.clock.at)
    first = start(home, task="triage", classes=AS_READ)
    with pytest.raises(ConflictError, match=f"run {first.id} is of the same recipe"):
        start(home, task="triage", classes=AS_READ)
    assert start(home, task="triage", classes=AS_READ, seed=1).id != first.id
    home.made.clock.at += timedelta(hours=1)
    # Labels that were looked at again may say something else of the same scans.
    home.label(since=home.sent[0].at, signed_after=timedelta(minutes=50))
    assert start(home, task="triage", classes=AS_READ).id != first.id


def test_what_failed_may_be_tried_again(home: SeveralFindingsHome) -> None:
    home.declare(MAPPING)
    home.label(since=home.made.clock.at)
    first = start(home, task="triage", classes=AS_READ)
    with home.made.driftward.database.transaction() as session:
        runs.cancel(
            session,
            runs.require_run(session, first.id),
            reason="test",
            by=home.made.operator,
            at=home.made.clock.at,
        )
    assert start(home, task="triage", classes=AS_READ).id != first.id
