"""What a plan must have to be applied by what is stored: tasks of its model, and sites.

Plans that are in force already are not held to it: what they say stays readable for good.
"""

from __future__ import annotations

from sqlalchemy.orm import Session

from monitor.known_sites import unknown_sites
from registry import serving
from registry.errors import PlanError
from registry.versions import tasks_of
from registry.yaml_files import at_key
from retrain.change_plan import Authority, Plan
from retrain.task_rules import why_unfit


def require_sound(session: Session, plan: Plan, text: str, *, source: str) -> None:
    """Refuse a plan that cannot judge its model's tasks, or names a site that does not exist.

    Parameters
    ----------
    text : what the plan was read from

    Raises
    ------
    PlanError
        Naming the file, the line and the key.
    """
    champion = serving.champion(session, plan.model)
    for task in () if champion is None else tasks_of(champion):
        unfit = why_unfit(plan, task)
        if unfit is not None and plan.authority is not Authority.NONE:
            key, why = unfit
            raise PlanError(f"{at_key(text, tuple(key.split('.')), source=source)}{why}")
    sites = [
        (("data", "sites"), plan.data.sites or []),
        *((("stages", n, "sites"), stage.sites) for n, stage in enumerate(plan.stages)),
    ]
    for place, problem in unknown_sites(session, sites):
        raise PlanError(f"{at_key(text, place, source=source)}{problem}")
