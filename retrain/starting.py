"""Starting the run that makes a model's first version."""

from __future__ import annotations

from datetime import datetime

from registry import recalls, serving
from registry.bundle_store import BundleStore
from registry.clock import Clock
from registry.database import Database
from registry.errors import ConflictError, PlanRefusedError
from registry.identities import Identity, Role
from registry.refusals import attempted
from registry.versions import find, ref
from retrain import plans, run_data, runs
from retrain.change_plan import Authority
from retrain.deciding import queue
from retrain.recipes import Recipe
from retrain.strategies.making import require_weights
from retrain.tables import RunRow
from retrain.task_rules import require_declared_task, why_unfit


def require_fitting_base(database: Database, bundles: BundleStore, recipe: Recipe) -> None:
    """Refuse a recipe that its base does not fit.

    Raises
    ------
    NotFoundError
        If there is no such base.
    BundleError
        If a strategy would change an encoder that has no weights to change; it names those
        that fit.
    BadInputError
        If the base has the task with other classes.
    """
    with database.reading() as session:
        bundle = bundles.open(find(session, recipe.base))
    require_declared_task(recipe, bundle)
    for strategy in recipe.strategy:
        require_weights(bundle, strategy)


def start_first_run(
    database: Database,
    recipe: Recipe,
    *,
    since: datetime | None,
    until: datetime | None,
    seed: int,
    by: Identity,
    clock: Clock,
) -> RunRow:
    """Plan and queue the run that derives a model's first version from its base.

    Raises
    ------
    PlanRefusedError
        If the plan gives no authority, or cannot judge candidates for the recipe's task.
    ConflictError
        If the model has a champion already: episodes make later versions.
    RecalledError
        If the base was recalled.
    InsufficientDataError
        If too few labelled scans exist.
    """
    with attempted(
        database, "run.refused", subject=recipe.model, by=by, at=clock.now()
    ) as session:
        by.require(Role.OPERATOR, "start a run")
        plan = plans.require_plan(session, recipe.model)
        if plan.plan.authority is Authority.NONE:
            raise PlanRefusedError(
                f"plan {plan.number} gives no authority to change {recipe.model}"
            )
        unfit = why_unfit(plan.plan, recipe.declared)
        if unfit is not None:
            raise PlanRefusedError(f"plan {plan.number}: {unfit[0]}: {unfit[1]}")
        champion = serving.champion(session, recipe.model)
        if champion is not None:
            raise ConflictError(
                f"{recipe.model} has a champion, {ref(champion)}: an episode starts its next run"
            )
        base = find(session, recipe.base)
        recalls.require_fit(session, base)
        run = runs.create(
            session,
            model=recipe.model,
            episode=None,
            plan=plan,
            strategies=recipe.strategy,
            base=base,
            champion=None,
            settings={"task": recipe.task, "recipe": recipe.model_dump(mode="json")},
            seed=seed,
            note="first version",
            actor=by.name,
            at=clock.now(),
        )
        run_data.freeze_first_version(
            session,
            run,
            recipe,
            plan.plan,
            since=since,
            until=until,
            actor=by.name,
            at=clock.now(),
        )
        queue(session, run, actor=by.name, clock=clock)
        return run
