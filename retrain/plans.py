"""Change plans in force: applied, numbered, and never edited."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from registry import ledger
from registry.canonical import Json, sha256
from registry.database import Database
from registry.errors import BadInputError, NotFoundError, PlanError, RefusedError
from registry.identities import Identity, Role
from retrain.change_plan import Plan, parse_plan
from retrain.soundness import require_sound
from retrain.tables import PlanRow


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedPlan:
    """A plan in force, with its number and digest."""

    id: int
    number: int
    digest: str
    plan: Plan
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A key whose value is another in a later plan; None where a plan has no such key."""

    key: str
    before: Json
    after: Json

    def to_dict(self) -> Json:
        return {"key": self.key, "before": self.before, "after": self.after}

    def in_words(self) -> str:
        """Return the change in a line, with values as a plan would write them."""
        return f"{self.key}: {_as_written(self.before)} → {_as_written(self.after)}"


def _as_written(value: Json) -> str:
    """Return a value as a plan writes it; keys of it that are left out do not show."""
    match value:
        case None:
            return "not set"
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer():
            return str(int(value))
        case list():
            return f"[{', '.join(map(_as_written, value))}]"
        case dict():
            said = [f"{k}: {_as_written(one)}" for k, one in value.items() if one is not None]
            return f"{{{', '.join(said)}}}"
        case _:
            return str(value)


def apply_file(
    database: Database, content: bytes, *, source: str, by: Identity, at: datetime
) -> tuple[AppliedPlan, list[Change]]:
    """Put a plan into force, and return it with what it changes; a refused one is recorded.

    Raises
    ------
    PlanError
        Naming the file, the line and the key.
    NotPermittedError
        If the identity is no administrator.
    """
    try:
        by.require(Role.ADMIN, "apply a change plan")
        text = _text(content, source)
        # Before the transaction: reading takes as long as the plan's arithmetic does, and nobody
        # else could write meanwhile.
        plan = parse_plan(text, source=source)
        with database.transaction() as session:
            require_sound(session, plan, text, source=source)
            before = in_force(session, plan.model)
            after = put_into_force(session, plan, text, actor=by.name, at=at)
    except (BadInputError, RefusedError) as error:
        with database.transaction() as session:
            ledger.append(
                session,
                at=at,
                actor=by.name,
                kind="plan.refused",
                subject="change plan",
                facts={"digest": sha256(content), "problem": str(error)},
            )
        raise
    return after, changes_between(before.plan if before else None, after.plan)


def _text(content: bytes, source: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise PlanError(f"{source}:{line}: is not UTF-8 text: save it as UTF-8") from error


def apply_plan(
    session: Session, text: str, *, source: str, actor: str, at: datetime
) -> AppliedPlan:
    """Read a plan and put it into force; the same text again changes nothing."""
    return put_into_force(session, parse_plan(text, source=source), text, actor=actor, at=at)


def put_into_force(
    session: Session, plan: Plan, text: str, *, actor: str, at: datetime
) -> AppliedPlan:
    """Put a plan that was read into force; the same text again changes nothing.

    Parameters
    ----------
    text : what it was read from
    """
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


def require_plan(session: Session, model: str, number: int | None = None) -> AppliedPlan:
    """Return the plan in force, or that of a number.

    Raises
    ------
    NotFoundError
        If the model is locked for want of one, or never had that one.
    """
    plan = in_force(session, model)
    if plan is not None and number is not None:
        row = session.scalars(
            select(PlanRow).where(PlanRow.model == model, PlanRow.number == number)
        ).first()
        if row is None:
            raise NotFoundError(
                f"model {model} had no plan {number}: its newest is {plan.number}"
            )
        return _read(row)
    if plan is None:
        raise NotFoundError(
            f"model {model} has no change plan, so it is locked: `driftward plan apply FILE.yaml`"
        )
    return plan


def all_plans(session: Session, model: str) -> list[PlanRow]:
    """Return the plans that a model has had, newest first."""
    query = select(PlanRow).where(PlanRow.model == model).order_by(PlanRow.number.desc())
    return list(session.scalars(query))


def changes_between(before: Plan | None, after: Plan) -> list[Change]:
    """Return the keys whose values differ, in the order of the schema."""
    old = {} if before is None else dict(_leaves(before.model_dump(mode="json")))
    new = dict(_leaves(after.model_dump(mode="json")))
    return [
        Change(key=key, before=old.get(key), after=new.get(key))
        for key in dict.fromkeys([*new, *old])
        if old.get(key) != new.get(key)
    ]


def _leaves(document: dict[str, Json], above: str = "") -> Iterator[tuple[str, Json]]:
    for name, value in document.items():
        key = f"{above}{name}"
        if isinstance(value, dict):
            yield from _leaves(value, f"{key}.")
        else:
            yield key, value


def by_id(session: Session, plan: int) -> AppliedPlan:
    """Return one applied plan, whether or not it is still in force."""
    return _read(session.get_one(PlanRow, plan))


def _read(row: PlanRow) -> AppliedPlan:
    plan = _parsed(row.text, f"plan {row.number} of {row.model}")
    return AppliedPlan(
        id=row.id, number=row.number, digest=row.digest, plan=plan, text=row.text
    )


@lru_cache(maxsize=16)
def _parsed(text: str, source: str) -> Plan:
    """Parse a plan once: it is asked for with every decision, and cannot be changed."""
    return parse_plan(text, source=source, applied=True)
