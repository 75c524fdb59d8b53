"""What a task of several classes asks of a recipe, its base and its plan, before a run starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from first_champion import put_into_use
from small_installation import MODEL, SmallInstallation, plan_text, recipe
from sqlalchemy import select
from tiny_bundles import tiny_bundle

from registry import ledger
from registry.bundle_import import import_bundle
from registry.bundles.heads import Task, TaskKind
from registry.errors import BadInputError, PlanError, PlanRefusedError
from registry.ledger import LedgerEntry
from retrain import runs
from retrain.change_plan import parse_plan
from retrain.recipes import Recipe
from retrain.soundness import require_sound
from retrain.starting import require_fitting_base, start_first_run

THREE = {"task": "triage", "classes": "[normal, fluid, mass]\npositive: mass"}
TWO_FINDINGS = {"task": "chest", "classes": "[fluid, mass]\nkind: multi-label"}
REQUEST = """
  request: {power: 0.8, gain: 0.2, discordance: 0.1, at_most: 5000, prevalence: 0.4}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> SmallInstallation:
    """A home with a base that tells three classes apart, and with another that has no task."""
    home = SmallInstallation(tmp_path_factory.mktemp("rules"), empty_mlflow=empty_mlflow)
    home.found(plan_text())
    triage = Task(name="triage", kind=TaskKind.MULTI_CLASS, classes=("normal", "fluid", "mass"))
    bundle = tiny_bundle(home.inbox.parent / "triage", tasks=[triage], seed=3)
    import_bundle(
        home.driftward.database,
        home.driftward.tracking,
        bundle.root,
        model="triage-base",
        base=None,
        by=home.operator,
        at=home.clock.at,
    )
    return home


def started(made: SmallInstallation, wanted: Recipe) -> None:
    start_first_run(
        made.driftward.database,
        wanted,
        since=None,
        until=None,
        seed=0,
        by=made.operator,
        clock=made.clock,
    )


def test_a_recipe_declares_the_task_that_it_is_for() -> None:
    assert recipe().declared.positive == "pneumonia"
    assert recipe(**THREE).declared.findings == ("mass",)
    assert recipe(**TWO_FINDINGS).declared.findings == ("fluid", "mass")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"classes": "[lesion]\nkind: segmentation"},
            "'segmentation' is no kind of task that heads are trained for: name multi-class or "
            "multi-label",
        ),
        ({"classes": "[normal, fluid, mass]"}, "positive: is missing: name the class"),
        (
            {"classes": "[fluid, mass]\nkind: multi-label\npositive: mass"},
            "a multi-label task has no positive class",
        ),
        ({"classes": "[normal]"}, "needs at least 2 classes"),
        ({"classes": "[normal, mass]\npositive: fluid"}, "'fluid' is not in"),
    ],
)
def test_a_recipe_for_a_task_that_cannot_be_is_refused_with_its_line(
    changes: dict[str, str], said: str
) -> None:
    with pytest.raises(BadInputError, match=said) as refused:
        recipe(**changes)
    assert str(refused.value).startswith("recipe.yaml:")


def test_a_base_that_has_the_task_otherwise_is_refused_by_its_classes(
    made: SmallInstallation,
) -> None:
    wanted = recipe(base="triage-base@1", task="triage", classes="[normal, mass]")
    with pytest.raises(BadInputError, match="multi-class with the classes normal, fluid, mass"):
        require_fitting_base(made.driftward.database, made.driftward.bundles, wanted)
    # The recipe says which class is the finding; a base need not have had one.
    require_fitting_base(
        made.driftward.database,
        made.driftward.bundles,
        recipe(base="triage-base@1", **THREE),
    )


def test_a_plan_without_the_gate_for_all_classes_starts_no_run_of_several(
    made: SmallInstallation,
) -> None:
    with pytest.raises(PlanRefusedError, match=r"lacks every_class, .* fluid of task triage"):
        started(made, recipe(**THREE))
    with made.driftward.database.reading() as session:
        assert runs.all_runs(session, MODEL) == []
        kinds = session.scalars(select(LedgerEntry.kind)).all()
        assert ledger.verify(session).valid
    assert "run.refused" in kinds


def test_a_plan_that_asks_for_labels_by_one_finding_starts_no_run_of_several(
    made: SmallInstallation,
) -> None:
    text = plan_text().replace(
        "  selection_share: 0.1\n", f"  selection_share: 0.1\n  sample: requested{REQUEST}"
    )
    made.apply_plan(text)
    with pytest.raises(PlanRefusedError, match="sample: census"):
        started(made, recipe(**TWO_FINDINGS))
    made.apply_plan(plan_text())


def test_a_plan_for_a_champion_of_several_classes_needs_the_gate_for_them(
    made: SmallInstallation,
) -> None:
    from registry.versions import find

    text = plan_text(model="triage-base")
    with made.driftward.database.transaction() as session:
        put_into_use(session, find(session, "triage-base@1"), at=made.clock.at)
    with made.driftward.database.reading() as session:
        with pytest.raises(
            PlanError, match=r"plan.yaml:\d+: gates.required: lacks every_class"
        ):
            require_sound(
                session, parse_plan(text, source="plan.yaml"), text, source="plan.yaml"
            )
        fitting = text.replace("    - parity\n", "    - parity\n    - every_class\n")
        require_sound(
            session, parse_plan(fitting, source="plan.yaml"), fitting, source="plan.yaml"
        )
