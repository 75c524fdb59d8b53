"""What a plan must have to be applied by what is stored: tasks of its model, and sites.

Plans that are in force already are not held to it: what they say stays readable for good.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.tables import ScanRow
from registry import serving
from registry.errors import PlanError
from registry.versions import tasks_of
from registry.yaml_files import line_of
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
            line = line_of(text, *key.split("."))
            raise PlanError(f"{source}:{line}: {key}: {why}")
    known = set(session.scalars(select(ScanRow.site).distinct()))
    named: list[tuple[tuple[int | str, ...], list[str]]] = [
        (("data", "sites"), plan.data.sites or []),
        *((("stages", n, "sites"), stage.sites) for n, stage in enumerate(plan.stages)),
    ]
    for place, sites in named:
        unknown = [site for site in sites if site not in known]
        # Before the first scan nobody knows which sites there will be.
        if known and unknown:
            raise PlanError(
                f"{source}:{line_of(text, *place)}: {'.'.join(map(str, place))}: no scan ever came "
                f"from {', '.join(unknown)}; from {', '.join(sorted(known))} some did: correct "
                "the name"
            )
