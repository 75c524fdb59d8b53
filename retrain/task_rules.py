"""Which tasks a model may be trained for, and what a plan must say for those of several classes."""

from __future__ import annotations

from registry.bundles.bundle import Bundle
from registry.bundles.heads import Task, TaskKind, declared_in_words
from registry.errors import BadInputError
from retrain.change_plan import Plan
from retrain.gates.outcome import Gate
from retrain.label_rules import LabelSample
from retrain.recipes import Recipe


def why_unfit(plan: Plan, task: Task) -> tuple[str, str] | None:
    """Return the key by which a plan cannot judge a task's candidates, and why; None if it can."""
    if task.kind is TaskKind.MULTI_LABEL:
        if len(task.classes) > 1 and plan.labels.sample is LabelSample.REQUESTED:
            return (
                "labels.sample",
                f"labels are requested by what the champion said of one finding, and task "
                f"{task.name} has {len(task.classes)}: take the labels that come (`sample: "
                "census`), or make each finding a task of its own",
            )
        return None
    if len(task.classes) > 2 and Gate.CLASSES not in plan.gates.required:
        others = ", ".join(name for name in task.classes if name != task.positive)
        return (
            "gates.required",
            f"lacks {Gate.CLASSES.value}, without which no gate would judge how the classes "
            f"{others} of task {task.name} are told apart: add it",
        )
    return None


def require_declared_task(recipe: Recipe, bundle: Bundle) -> None:
    """Refuse a recipe whose base has the task otherwise than the recipe declares it.

    Raises
    ------
    BadInputError
        Naming the classes that the base has.
    """
    declared = recipe.declared
    for has in bundle.tasks:
        same = (has.kind, has.classes) == (declared.kind, declared.classes)
        if has.name == declared.name and not same:
            raise BadInputError(
                f"task {has.name} of the base {recipe.base} is "
                f"{declared_in_words(has.kind, has.classes)}: declare it so, or name another task"
            )
