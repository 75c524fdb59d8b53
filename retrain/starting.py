"""Starting the run that makes a model's first version."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from monitor import datasets, labels
from monitor.tables import DatasetRow
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
from retrain.label_meanings import require_declared_alike, require_labels_fit
from retrain.recipes import Recipe
from retrain.states import RunState, has_ended
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
        If the model has a champion already: episodes make later versions. If a run was of the
        same recipe, data, labels and seed.
    RecalledError
        If the base was recalled.
    InsufficientDataError
        If too few labelled scans exist.
    BadInputError
        If the recipe's task has other classes than the labels of its scans.
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
        # Before labels are counted: nobody should gather more of what would be learned wrongly.
        require_declared_alike(session, recipe.declared)
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
        require_labels_fit(session, run, recipe.declared)
        _require_new(session, run)
        queue(session, run, actor=by.name, clock=clock)
        return run


def _require_new(session: Session, run: RunRow) -> None:
    """Refuse to train again what would come out the same, and could not be registered."""
    for before in runs.all_runs(session, run.model):
        made = before.candidate is not None or not has_ended(RunState(before.state))
        if before.id == run.id or not made or _of(session, before) != _of(session, run):
            continue
        if not _labels_came(session, run, since=before.created_at):
            raise ConflictError(
                f"run {before.id} is of the same recipe, base, labelled scans and seed, and is "
                f"{before.state}: this one would make the same model once more; change the "
                "recipe, the scans (--since, --until) or the --seed"
            )


def _of(session: Session, run: RunRow) -> tuple[object, ...]:
    """Return all that a first version follows from, but for its labels."""
    digests = {
        purpose: session.get_one(DatasetRow, dataset).digest
        for purpose, dataset in run.datasets.items()
    }
    return run.base, run.seed, run.settings.get("recipe"), digests


def _labels_came(session: Session, run: RunRow, *, since: datetime) -> bool:
    """Say whether scans of a run got labels of its task after a moment."""
    scans = {
        scan
        for dataset in run.datasets.values()
        for scan in datasets.member_ids(session, dataset)
    }
    return any(
        task == run.settings["task"] and label.arrived_at > since
        for (_, task), rows in labels.labels_of(session, sorted(scans)).items()
        for label in rows
    )
