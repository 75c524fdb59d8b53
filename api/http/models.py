"""Models, their versions, and how versions descend from each other."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.http.access import READ
from api.http.installation import Installation
from api.http.numbers import Number
from registry import lineage, recalls, serving, versions
from registry.versions import ModelRow, VersionRef, VersionRow, ref
from retrain.watching import showing

router = APIRouter(prefix="/api/v1/models", tags=["models"])


class Restriction(BaseModel):
    """What is out of use now."""

    kind: str
    subgroup: str | None
    reason: str
    since: AwareDatetime


class Model(BaseModel):
    """A model, and what of it is in use."""

    name: str
    tier: str
    created_at: AwareDatetime
    champion: str | None
    versions: list[str]
    restrictions: list[Restriction]


class Version(BaseModel):
    """An immutable version."""

    name: str
    model: str
    number: int
    tier: str
    origin: str
    base: str | None
    champion: bool
    #: deployments at which it is the champion: `everywhere`, or sites
    serves: list[str]
    #: why it must not be used, if it or what it was derived from was recalled
    recalled: str | None
    bundle_digest: str
    encoder_digest: str
    space: str
    dimension: int
    card: dict[str, Any]
    mlflow_run: str
    created_at: AwareDatetime
    created_by: str


class Lineage(BaseModel):
    """What a version was made of, and what was made of it."""

    version: Version
    ancestors: list[Version]
    descendants: list[Version]


class WatchLook(BaseModel):
    """What one day's look came to."""

    day: int
    looked_at: AwareDatetime
    #: patients with a label that counts
    labelled: int
    #: each with its estimate, its interval, and what was promised of it
    measures: list[dict[str, Any]]
    #: what is seen without labels
    warnings: list[dict[str, Any]]


class Watch(BaseModel):
    """A promoted version's first weeks, against what its gates promised."""

    watch: int
    deployment: str
    version: str
    run: int
    #: watching, passed, failed, not evaluable, cut short
    state: str
    since: AwareDatetime
    until: AwareDatetime
    ended_at: AwareDatetime | None
    #: how it ended; empty while it goes on
    note: str
    error_rate: float | None
    when_it_fails: str | None
    looks: int
    #: when the next look is due; null at the end
    next_look: AwareDatetime | None
    newest_look: WatchLook | None
    #: the command that a failed watch offers
    offered: str | None


@router.get("", summary="List models", dependencies=[READ])
def list_models(driftward: Installation) -> list[Model]:
    """Return every model, by name."""
    with driftward.database.reading() as session:
        rows = session.scalars(select(ModelRow).order_by(ModelRow.name))
        return [_model(session, row) for row in rows]


@router.get("/{name}", summary="Show a model", dependencies=[READ])
def show_model(name: str, driftward: Installation) -> Model:
    """Return one model."""
    with driftward.database.reading() as session:
        return _model(session, versions.require_model(session, name))


@router.get("/{name}/watches", summary="List a model's watches", dependencies=[READ])
def list_watches(name: str, driftward: Installation) -> list[Watch]:
    """Return the watches over a model's promoted versions, newest first."""
    with driftward.database.reading() as session:
        versions.require_model(session, name)
        rows = showing.watches_of(session, name)
        return [Watch.model_validate(showing.told(session, row)) for row in rows]


@router.get("/{name}/versions", summary="List a model's versions", dependencies=[READ])
def list_versions(name: str, driftward: Installation) -> list[Version]:
    """Return a model's versions, newest last."""
    with driftward.database.reading() as session:
        return [_version(session, row) for row in versions.of_model(session, name)]


@router.get("/{name}/versions/{number}", summary="Show a version", dependencies=[READ])
def show_version(name: str, number: Number, driftward: Installation) -> Version:
    """Return one version with its card."""
    with driftward.database.reading() as session:
        return _version(session, _find(session, name, number))


@router.get(
    "/{name}/versions/{number}/lineage", summary="Show a version's lineage", dependencies=[READ]
)
def show_lineage(name: str, number: Number, driftward: Installation) -> Lineage:
    """Return the bases behind a version, nearest first, and every version derived from it."""
    with driftward.database.reading() as session:
        row = _find(session, name, number)
        return Lineage(
            version=_version(session, row),
            ancestors=[_version(session, part) for part in lineage.ancestors(session, row)],
            descendants=[_version(session, part) for part in lineage.descendants(session, row)],
        )


def _find(session: Session, name: str, number: int) -> VersionRow:
    return versions.find(session, VersionRef(model=name, number=number))


def _model(session: Session, row: ModelRow) -> Model:
    champion = serving.champion(session, row.name)
    return Model(
        name=row.name,
        tier=row.tier,
        created_at=row.created_at,
        champion=str(ref(champion)) if champion else None,
        versions=[str(ref(version)) for version in versions.of_model(session, row.name)],
        restrictions=[
            Restriction(
                kind=item.kind, subgroup=item.subgroup, reason=item.reason, since=item.since
            )
            for item in serving.restrictions(session, row.name)
        ],
    )


def _version(session: Session, row: VersionRow) -> Version:
    base = session.get_one(VersionRow, row.base) if row.base is not None else None
    serves = serving.deployments_of(session, row)
    flag = recalls.flag_of(session, row)
    return Version(
        name=str(ref(row)),
        model=row.model,
        number=row.number,
        tier=row.tier,
        origin=row.origin,
        base=str(ref(base)) if base else None,
        champion=bool(serves),
        serves=serves,
        recalled=flag.in_words() if flag else None,
        bundle_digest=row.bundle_digest,
        encoder_digest=row.encoder_digest,
        space=row.space,
        dimension=row.dimension,
        card=row.card,
        mlflow_run=row.mlflow_run,
        created_at=row.created_at,
        created_by=row.created_by,
    )
