"""What a plan must have to be applied, beyond being well formed.

Plans that are in force already are not held to it: what they say stays readable for good.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.subgroups import Attribute
from monitor.tables import ScanRow
from registry import serving
from registry.errors import PlanError
from registry.identities import Role
from registry.versions import tasks_of
from retrain.change_plan import Authority, Plan
from retrain.gates.outcome import Gate
from retrain.task_rules import why_unfit

#: Without these a candidate could pass that was judged on its own training patients, on labels
#: that an AI influenced, or that harms where nothing had drifted.
ALWAYS_REQUIRED = (Gate.NON_INFERIORITY, Gate.PATIENTS, Gate.PROVENANCE)


def require_sound(session: Session, plan: Plan, *, source: str) -> None:
    """Refuse a plan that leaves out what no plan may, or names what does not exist.

    Raises
    ------
    PlanError
        Naming the key.
    """
    missing = [gate.value for gate in ALWAYS_REQUIRED if gate not in plan.gates.required]
    if missing and plan.authority is not Authority.NONE:
        raise PlanError(
            f"{source}: gates.required: lacks {', '.join(missing)}, without which no candidate may "
            "be promoted: add what is missing"
        )
    if plan.approval.role not in {Role.APPROVER, Role.ADMIN}:
        raise PlanError(
            f"{source}: approval.role: {plan.approval.role.value} signs nothing: name approver"
        )
    for subgroup in plan.gates.limits.subgroups.declared:
        if subgroup.attribute not in set(Attribute):
            raise PlanError(
                f"{source}: gates.limits.subgroups.declared: {subgroup.attribute} is no attribute "
                f"of a scan: name one of {', '.join(Attribute)}"
            )
    champion = serving.champion(session, plan.model)
    for task in () if champion is None else tasks_of(champion):
        unfit = why_unfit(plan, task)
        if unfit is not None and plan.authority is not Authority.NONE:
            raise PlanError(f"{source}: {unfit[0]}: {unfit[1]}")
    known = set(session.scalars(select(ScanRow.site).distinct()))
    named = {"data.sites": plan.data.sites or []}
    named |= {f"stages.{number}.sites": stage.sites for number, stage in enumerate(plan.stages)}
    for key, sites in named.items():
        unknown = [site for site in sites if site not in known]
        # Before the first scan nobody knows which sites there will be.
        if known and unknown:
            raise PlanError(
                f"{source}: {key}: no scan ever came from {', '.join(unknown)}; from "
                f"{', '.join(sorted(known))} some did: correct the name"
            )
