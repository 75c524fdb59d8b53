"""Models and their versions: what is registered, under which tier, derived from what."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Self

from sqlalchemy import JSON, ForeignKey, UniqueConstraint, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from registry import ledger
from registry.bundles.bundle import Bundle
from registry.bundles.card import Tier
from registry.bundles.heads import Task, task_from
from registry.canonical import Json
from registry.database import Base
from registry.errors import BadInputError, ConflictError, NotFoundError


class Origin(StrEnum):
    """How a version came to be."""

    IMPORT = "import"
    RUN = "run"


class ModelRow(ledger.Kept, ledger.Sealed, Base):
    __tablename__ = "models"

    name: Mapped[str] = mapped_column(primary_key=True)
    tier: Mapped[str]
    created_at: Mapped[datetime]


class VersionRow(ledger.Kept, ledger.Sealed, Base):
    __tablename__ = "versions"
    __table_args__ = (UniqueConstraint("model", "number"),)
    # Filled by the outbox, after the fact.
    __unsealed__ = frozenset({"mlflow_version"})
    __added__ = MappingProxyType({"reading": None, "tasks": None})

    id: Mapped[int] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(ForeignKey("models.name"), index=True)
    number: Mapped[int]
    tier: Mapped[str]
    origin: Mapped[str]
    base: Mapped[int | None] = mapped_column(ForeignKey("versions.id"), index=True)
    #: digest of every file of the bundle
    bundle_digest: Mapped[str]
    encoder_digest: Mapped[str]
    #: encoder and preprocessing: embeddings are compared within one space only
    space: Mapped[str] = mapped_column(index=True)
    dimension: Mapped[int]
    card: Mapped[dict[str, Any]]
    artifact_uri: Mapped[str]
    mlflow_run: Mapped[str]
    mlflow_version: Mapped[str | None]
    #: the unit that it reads and how, as its bundle declares; None where that is an instance
    reading: Mapped[dict[str, Any] | None] = mapped_column(
        JSON(none_as_null=True), default=None
    )
    #: as heads.json has them; None in rows from before they were kept (`task_of`)
    tasks: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True), default=None)
    created_at: Mapped[datetime]
    created_by: Mapped[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRef:
    """`NAME@NUMBER`, as people write a version."""

    model: str
    number: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `NAME@NUMBER`.

        Raises
        ------
        BadInputError
            For any other form.

        >>> VersionRef.parse("pneumonia@2")
        VersionRef(model='pneumonia', number=2)
        """
        name, _, number = text.rpartition("@")
        if not name or not number.isdecimal():
            raise BadInputError(
                f"{text!r} is not a version: write NAME@NUMBER, as in pneumonia@2"
            )
        return cls(model=name, number=int(number))

    def __str__(self) -> str:
        return f"{self.model}@{self.number}"


def ref(row: VersionRow) -> VersionRef:
    """Return the name of a version."""
    return VersionRef(model=row.model, number=row.number)


def register(
    session: Session,
    bundle: Bundle,
    *,
    model: str,
    base: VersionRow | None,
    origin: Origin,
    artifact_uri: str,
    mlflow_run: str,
    actor: str,
    at: datetime,
) -> VersionRow:
    """Register a stored bundle as the next version of `model`.

    Raises
    ------
    BadInputError
        If the base stands at a tier below the bundle's.
    ConflictError
        If the model exists at another tier, or this very bundle is a version already.
    """
    tier = bundle.card.tier
    if base is not None and not tier.may_derive_from(Tier(base.tier)):
        raise BadInputError(
            f"base {ref(base)} is of the tier {base.tier}, below {tier.value}: "
            "a base stands at its version's own tier or above it"
        )
    known = session.get(ModelRow, model)
    if known is None:
        known = ModelRow(name=model, tier=tier.value, created_at=at)
        session.add(known)
    elif known.tier != tier.value:
        raise ConflictError(f"model {model} is of the tier {known.tier}, not {tier.value}")
    twin = session.scalars(
        select(VersionRow).where(
            VersionRow.model == model, VersionRow.bundle_digest == bundle.digest
        )
    ).first()
    if twin is not None:
        raise ConflictError(f"this bundle is already registered, as {ref(twin)}")
    newest = session.scalar(
        select(func.max(VersionRow.number)).where(VersionRow.model == model)
    )
    row = VersionRow(
        model=model,
        number=(newest or 0) + 1,
        tier=tier.value,
        origin=origin.value,
        base=base.id if base else None,
        bundle_digest=bundle.digest,
        encoder_digest=bundle.encoder_digest,
        space=bundle.space,
        dimension=bundle.dimension,
        card=bundle.card.to_json(),
        artifact_uri=artifact_uri,
        mlflow_run=mlflow_run,
        created_at=at,
        created_by=actor,
        reading=_reading(bundle),
        tasks=[task.to_json() for task in bundle.tasks],
    )
    session.add(row)
    session.flush()
    facts: dict[str, Json] = {
        "tier": row.tier,
        "origin": row.origin,
        "base": str(ref(base)) if base else None,
        "bundle": row.bundle_digest,
        "space": row.space,
        "mlflow_run": mlflow_run,
    }
    ledger.append(
        session,
        at=at,
        actor=actor,
        kind="version.registered",
        subject=str(ref(row)),
        facts=facts,
        seals=[known, row],
    )
    return row


def _reading(bundle: Bundle) -> dict[str, Json] | None:
    preprocessing = bundle.preprocessing
    if preprocessing.reading is None:
        return None
    return {"unit": preprocessing.unit.value, **preprocessing.reading.to_json()}


def tasks_of(row: VersionRow) -> list[Task]:
    """Return a version's tasks; none of a version from before they were kept."""
    return [task_from(record) for record in row.tasks or []]


def task_of(row: VersionRow, name: str) -> Task | None:
    """Return a version's task of that name, None where it has none or does not say."""
    return next((task for task in tasks_of(row) if task.name == name), None)


def find(session: Session, name: VersionRef | str) -> VersionRow:
    """Return the version of that name.

    Raises
    ------
    NotFoundError
        Naming the versions that do exist.
    """
    wanted = VersionRef.parse(name) if isinstance(name, str) else name
    row = session.scalars(
        select(VersionRow).where(
            VersionRow.model == wanted.model, VersionRow.number == wanted.number
        )
    ).first()
    if row is None:
        have = session.scalars(
            select(VersionRow.number)
            .where(VersionRow.model == wanted.model)
            .order_by(VersionRow.number)
        ).all()
        known = f"it has {', '.join(map(str, have))}" if have else "no model has that name"
        raise NotFoundError(f"there is no version {wanted}: {known}")
    return row


def require_model(session: Session, name: str) -> ModelRow:
    """Return the model of that name, or say which exist."""
    row = session.get(ModelRow, name)
    if row is None:
        have = session.scalars(select(ModelRow.name).order_by(ModelRow.name)).all()
        raise NotFoundError(
            f"there is no model {name}: {', '.join(have) or 'none is registered yet'}"
        )
    return row


def of_model(session: Session, model: str) -> list[VersionRow]:
    """Return a model's versions, newest last."""
    require_model(session, model)
    return list(
        session.scalars(
            select(VersionRow).where(VersionRow.model == model).order_by(VersionRow.number)
        )
    )
