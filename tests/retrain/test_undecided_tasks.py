"""Tasks that decide nothing by a threshold: their scans are read, and nothing is judged."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from first_champion import put_into_use
from local_client import local_client
from small_installation import ANCHOR, ENCODER, SmallInstallation, plan_text
from sqlalchemy import select
from tiny_bundles import CHILDREN, TASK, tiny_bundle

from monitor.episodes.causes import Cause
from monitor.episodes.estimating import estimate_impact
from monitor.monitors import apply_monitor, parse_monitor, require_monitor
from monitor.performance.performance import labelled_results
from monitor.scan_history import describe_scan
from monitor.tables import PerformanceRow, ResultRow, ScanRow
from monitor.windows import Window
from registry import ledger
from registry.bundle_import import import_bundle
from registry.bundles.card import Tier
from registry.bundles.heads import Task, TaskKind
from registry.errors import InsufficientDataError
from registry.versions import find
from retrain.history.studies import as_of

# MLflow's own queries use a loader that SQLAlchemy has deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader:sqlalchemy.exc.SADeprecationWarning"
)
CHEST = Task(name="chest", kind=TaskKind.MULTI_LABEL, classes=("fluid", "mass"))
TRIAGE = Task(name="triage", kind=TaskKind.MULTI_CLASS, classes=("no", "some", "much"))


@pytest.fixture(scope="module")
def undecided(
    tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path
) -> SmallInstallation:
    """A champion imported whole, none of whose tasks has a threshold, and scans that it read."""
    made = SmallInstallation(tmp_path_factory.mktemp("undecided"), empty_mlflow=empty_mlflow)
    made.found(plan_text(model="scores"))
    pneumonia = Task(
        name=TASK,
        kind=TaskKind.MULTI_CLASS,
        classes=("normal", "pneumonia"),
        positive="pneumonia",
    )
    bundle = tiny_bundle(
        made.inbox.parent / "scores",
        tier=Tier.TASK,
        tasks=[pneumonia, CHEST, TRIAGE],
        intended_use=CHILDREN,
        seed=4,
    )
    import_bundle(
        made.driftward.database,
        made.driftward.tracking,
        bundle.root,
        model="scores",
        base=None,
        by=made.operator,
        at=made.clock.at,
    )
    with made.driftward.database.transaction() as session:
        put_into_use(session, find(session, "scores@1"), at=made.clock.at)
        apply_monitor(
            session,
            parse_monitor(
                f"""
name: scores
model: scores
task: {TASK}
monitoring_encoder: {ENCODER}@1
window_hours: 84
alpha_per_week: 0.005
subgroup_attributes: []
floor: 20
anchor: {ANCHOR.isoformat()}
""",
                source="monitor.yaml",
            ),
            actor="test",
            at=made.clock.at,
        )
    made.clock.at = ANCHOR + timedelta(hours=1)
    made.receive(12)
    made.label(since=made.clock.at)
    made.driftward.embedder.embed("scores")
    made.work()
    return made


def test_results_without_a_threshold_are_stored_and_sealed(
    undecided: SmallInstallation,
) -> None:
    assert undecided.failed_jobs() == []
    with undecided.driftward.database.reading() as session:
        rows = session.scalars(select(ResultRow)).all()
        assert ledger.verify(session).valid
    assert {(row.task, row.threshold) for row in rows} == {
        (TASK, None),
        ("chest", None),
        ("triage", None),
    }
    assert len(rows) == 36


def test_without_a_threshold_nothing_is_measured_and_it_says_so(
    undecided: SmallInstallation,
) -> None:
    with undecided.driftward.database.reading() as session:
        version = find(session, "scores@1")
        assert session.scalars(select(PerformanceRow)).all() == []
        with pytest.raises(InsufficientDataError, match="at a threshold"):
            labelled_results(session, version=version.id, task=TASK)
        estimated = estimate_impact(
            session,
            require_monitor(session, "scores"),
            cause=Cause.ACQUISITION,
            window=Window(start=ANCHOR, end=ANCHOR + timedelta(days=1)),
            subgroup=None,
            novel_share=0.0,
        )
    assert "has no threshold" in estimated.performance.reason


def test_people_are_told_every_probability_and_that_none_decides(
    undecided: SmallInstallation,
) -> None:
    with undecided.driftward.database.reading() as session:
        [first, *_] = session.scalars(select(ScanRow).order_by(ScanRow.id))
        results = {one["task"]: one for one in describe_scan(session, first.id)["results"]}
        then = as_of(session, [first], undecided.clock.at)
    assert {one["says"] for one in results.values()} == {"no threshold"}
    assert results[TASK]["probability"] == results[TASK]["classes"]["pneumonia"]
    assert results["chest"]["probability"] is None
    assert set(results["triage"]["classes"]) == {"no", "some", "much"}
    assert then["scans"][0]["readings"][0]["threshold"] is None
    client = local_client(undecided.driftward)
    page = client.get(f"/scans/{first.id}")
    assert page.status_code == 200
    assert "no threshold" in page.text
    answer = client.get(f"/api/v1/scans/{first.id}").json()
    assert {one["threshold"] for one in answer["results"]} == {None}
