"""The page of one model: its versions, what each is for, and the history of its champions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.pages import wording
from api.pages.deployed import Deployed, deployed
from api.pages.standing import Standing, monitored_by, standing_of
from api.pages.watched import WatchPanel, watch_panels
from registry import lineage, outbox, recalls, serving, versions
from registry.errors import NotFoundError
from registry.versions import VersionRow, ref
from retrain import allowance, plans
from retrain.allowance import Used
from retrain.plans import AppliedPlan
from retrain.tables import RunRow


@dataclass(frozen=True, slots=True, kw_only=True)
class ReignLine:
    """One span of one champion."""

    version: str
    #: the one site; empty for everywhere
    where: str
    since: str
    until: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RestrictionLine:
    """What was, or is, out of use."""

    what: str
    reason: str
    since: str
    until: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionCard:
    """One version, as its card describes it."""

    name: str
    number: int
    champion: bool
    base: str | None
    run: int | None
    purpose: str
    intended_use: tuple[tuple[str, str], ...]
    not_for: tuple[str, ...]
    training_data: tuple[dict[str, Any], ...]
    licence: str
    digest: str
    encoder_digest: str
    dimension: int
    registered: str
    registered_by: str
    ancestors: tuple[str, ...]
    descendants: tuple[str, ...]
    #: why it must not be used, if it or what it was derived from was recalled
    recalled: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPage:
    """Everything on a model's page."""

    standing: Standing
    monitors: tuple[str, ...]
    numbers: tuple[int, ...]
    card: VersionCard
    deployed: Deployed
    reigns: tuple[ReignLine, ...]
    restrictions: tuple[RestrictionLine, ...]
    plan: AppliedPlan | None
    #: how much of the plan's limits is used up
    used: Used
    #: why the plan allows no run now, None where it does
    forbidden: str | None
    #: over its promoted versions, newest first
    watches: tuple[WatchPanel, ...]
    #: what MLflow could not be told, of any model: it is told in order; None where nothing is
    untold: str | None


def model_page(session: Session, name: str, *, number: int | None, now: datetime) -> ModelPage:
    """Return a model's page; of its versions, the one asked for, the champion or the newest.

    Raises
    ------
    NotFoundError
        If there is no such model or version.
    """
    model = versions.require_model(session, name)
    rows = versions.of_model(session, name)
    champion = serving.champion(session, name)
    shown = _shown(rows, champion, name, number)
    monitors = monitored_by(session, name)
    plan = plans.in_force(session, name)
    return ModelPage(
        standing=standing_of(
            session,
            model=name,
            tier=model.tier,
            monitor=monitors[0] if monitors else None,
            now=now,
        ),
        monitors=tuple(monitor.name for monitor in monitors),
        numbers=tuple(row.number for row in rows),
        card=_card(session, shown, champion=bool(serving.deployments_of(session, shown))),
        deployed=deployed(session, name, now=now),
        reigns=tuple(
            ReignLine(
                version=str(ref(session.get_one(VersionRow, row.version))),
                since=wording.moment(row.since),
                until=wording.moment(row.until) if row.until else "now",
                where="" if row.deployment == serving.EVERYWHERE else row.deployment,
                reason=row.reason,
            )
            for row in reversed(serving.reigns(session, name))
        ),
        restrictions=_restrictions(session, name),
        plan=plan,
        used=allowance.used(session, name, at=now),
        forbidden=None if plan is None else allowance.why_no_run(session, plan, at=now),
        watches=watch_panels(session, name),
        untold=_untold(session),
    )


def _untold(session: Session) -> str | None:
    found = outbox.backlog(session)
    return str(found) if found is not None and found.error is not None else None


def _shown(
    rows: list[VersionRow], champion: VersionRow | None, name: str, number: int | None
) -> VersionRow:
    if number is None and rows:
        return champion or rows[-1]
    for row in rows:
        if row.number == number:
            return row
    raise NotFoundError(f"there is no version {name}@{number}")


def _restrictions(session: Session, model: str) -> tuple[RestrictionLine, ...]:
    rows = session.scalars(
        select(serving.Restriction)
        .where(serving.Restriction.model == model)
        .order_by(serving.Restriction.id.desc())
    )
    return tuple(
        RestrictionLine(
            what=f"{row.kind}: {wording.subgroup_name(row.subgroup)}",
            reason=row.reason,
            since=wording.moment(row.since),
            until=f"{wording.moment(row.until)}: {row.lifted_reason}" if row.until else "now",
        )
        for row in rows
    )


def _card(session: Session, row: VersionRow, *, champion: bool) -> VersionCard:
    card = row.card
    base = session.get_one(VersionRow, row.base) if row.base is not None else None
    flag = recalls.flag_of(session, row)
    return VersionCard(
        name=str(ref(row)),
        number=row.number,
        champion=champion,
        base=str(ref(base)) if base else None,
        run=session.scalars(select(RunRow.id).where(RunRow.candidate == row.id)).first(),
        purpose=card.get("purpose", "–"),
        intended_use=_intended_use(card.get("intended_use", {})),
        not_for=tuple(card.get("not_for", ())),
        training_data=tuple(card.get("training_data", ())),
        licence=card.get("licence", "–"),
        digest=row.bundle_digest,
        encoder_digest=row.encoder_digest,
        dimension=row.dimension,
        registered=wording.moment(row.created_at),
        registered_by=row.created_by,
        ancestors=tuple(str(ref(part)) for part in lineage.ancestors(session, row)),
        descendants=tuple(str(ref(part)) for part in lineage.descendants(session, row)),
        recalled=flag.in_words() if flag else None,
    )


def _intended_use(use: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    ages = use.get("age_years")
    unknown = use.get("unknown_age", "refuse")
    return (
        ("Modality", _any_of(use.get("modalities"))),
        ("Body part", _any_of(use.get("body_parts"))),
        ("View", _any_of(use.get("views"))),
        ("Age", f"{ages[0]} to {ages[1]} years; unknown: {unknown}" if ages else "any"),
    )


def _any_of(values: list[str] | None) -> str:
    return ", ".join(values) if values else "any"
