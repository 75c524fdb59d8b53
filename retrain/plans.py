"""The change plan: on whose authority, how, and within which limits a model may change.

A plan is a versioned YAML file. Unknown keys are errors that name the key,
and nothing has a default that would permit more than the file says: without a
plan, or with the authority `none`, a model is locked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from monitor.causes import Cause
from registry import ledger
from registry.canonical import sha256
from registry.errors import BadInputError, NotFoundError, PlanError
from registry.yaml_files import read_specification
from retrain.gates.limits import GateLimits
from retrain.gates.outcome import Gate
from retrain.tables import PlanRow


class Authority(StrEnum):
    """On whose authority a model may be changed at all."""

    NONE = "none"
    RESEARCH = "research"
    IN_HOUSE = "in-house"
    PCCP = "pccp"


class Autonomy(StrEnum):
    """What may happen without a person."""

    OBSERVE = "observe"
    PROPOSE = "propose"
    ACT = "act"


class Strategy(StrEnum):
    """How a candidate is made."""

    LINEAR_PROBE = "linear probe"
    FULL = "full fine-tuning"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Fraction = Annotated[float, Field(ge=0, le=1)]


class LabelRules(_Part):
    """What labels a run needs."""

    #: labelled scans of the shift that must exist before a run is queued
    at_least: Annotated[int, Field(ge=1)]
    #: provenances that count
    provenance: list[str]
    #: share of labelled patients set aside for the locked drifted set
    locked_share: Fraction
    #: share set aside to choose the candidate by
    selection_share: Fraction


class GateRules(_Part):
    """Which gates a candidate must pass, and their limits."""

    required: Annotated[list[Gate], Field(min_length=1)]
    limits: GateLimits
    #: how often one locked set may judge
    locked_set_uses: Annotated[int, Field(ge=1)]
    #: what the AUC of a model's first version must be shown to reach
    first_version_auc: Fraction


class TrainingRules(_Part):
    """How a candidate is trained; part of the plan, so that its digest covers it."""

    epochs: Annotated[int, Field(ge=1, le=500)]
    batch_size: Annotated[int, Field(ge=2)]
    #: AdamW learning rates: the encoder's is the smaller one
    encoder_rate: Annotated[float, Field(gt=0)]
    head_rate: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    #: share of the encoder's layers, from the input on, that stay as they are
    frozen_share: Fraction
    #: scans of the base's own training data mixed in for each scan of the shift
    replay_ratio: Annotated[float, Field(ge=0)]


class ApprovalRules(_Part):
    """Who must sign."""

    people: Annotated[int, Field(ge=1)]
    role: str = "approver"


class Plan(_Part):
    """A change plan as it stands in its file."""

    model: str
    authority: Authority = Authority.NONE
    #: the PCCP's number; required with that authority
    authority_number: str | None = None
    autonomy: Autonomy
    #: causes that permit a modification, and which
    modifications: dict[Cause, Strategy]
    #: causes on which the model is restricted for the subgroup at once
    restrict_on: list[Cause]
    labels: LabelRules
    training: TrainingRules
    gates: GateRules
    approval: ApprovalRules
    shadow_days: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def _authority_is_numbered(self) -> Self:
        if self.authority is Authority.PCCP and not self.authority_number:
            raise ValueError(
                "authority pccp needs authority_number, the authorised plan's number"
            )
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedPlan:
    """A plan in force, with its number and digest."""

    id: int
    number: int
    digest: str
    plan: Plan
    text: str = field(repr=False)


def parse_plan(text: str, *, source: str) -> Plan:
    """Read a plan.

    Raises
    ------
    PlanError
        Naming the file, the line and the key.
    """
    try:
        return read_specification(
            text,
            Plan,
            source=source,
            what="a change plan; see docs/change-plan.md",
            error=PlanError,
        )
    except PlanError:
        raise
    except BadInputError as error:
        raise PlanError(f"{source}: gates: {error}") from error


def apply_plan(
    session: Session, text: str, *, source: str, actor: str, at: datetime
) -> AppliedPlan:
    """Put a plan into force; the same text again changes nothing."""
    plan = parse_plan(text, source=source)
    digest = sha256(text.encode())
    current = in_force(session, plan.model)
    if current is not None and current.digest == digest:
        return current
    newest = session.scalar(select(func.max(PlanRow.number)).where(PlanRow.model == plan.model))
    row = PlanRow(
        model=plan.model,
        number=(newest or 0) + 1,
        digest=digest,
        text=text,
        applied_at=at,
        applied_by=actor,
    )
    session.add(row)
    session.flush()
    ledger.append(
        session,
        at=at,
        actor=actor,
        kind="plan.applied",
        subject=plan.model,
        facts={"number": row.number, "digest": digest, "authority": plan.authority.value},
        seals=[row],
    )
    return AppliedPlan(id=row.id, number=row.number, digest=digest, plan=plan, text=text)


def in_force(session: Session, model: str) -> AppliedPlan | None:
    """Return the newest plan of a model, or None: the model is then locked."""
    row = session.scalars(
        select(PlanRow).where(PlanRow.model == model).order_by(PlanRow.number.desc()).limit(1)
    ).first()
    return _read(row) if row else None


def require_plan(session: Session, model: str) -> AppliedPlan:
    """Return the plan in force.

    Raises
    ------
    NotFoundError
        If the model is locked for want of one.
    """
    plan = in_force(session, model)
    if plan is None:
        raise NotFoundError(
            f"model {model} has no change plan, so it is locked: `driftward plan apply FILE.yaml`"
        )
    return plan


def by_id(session: Session, plan: int) -> AppliedPlan:
    """Return one applied plan, whether or not it is still in force."""
    return _read(session.get_one(PlanRow, plan))


def _read(row: PlanRow) -> AppliedPlan:
    plan = parse_plan(row.text, source=f"plan {row.number} of {row.model}")
    return AppliedPlan(
        id=row.id, number=row.number, digest=row.digest, plan=plan, text=row.text
    )
