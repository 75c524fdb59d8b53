"""The retraining tables: plans, decisions, runs and what led each run to its end."""

from __future__ import annotations

from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from registry.database import Base
from registry.ledger import AppendOnly, Kept, Sealed


class PlanRow(AppendOnly, Sealed, Base):
    """One applied version of a model's change plan."""

    __tablename__ = "plans"
    __table_args__ = (UniqueConstraint("model", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    #: may be applied before the model's first version exists
    model: Mapped[str] = mapped_column(index=True)
    number: Mapped[int]
    digest: Mapped[str]
    #: the file as it was applied
    text: Mapped[str]
    applied_at: Mapped[datetime]
    applied_by: Mapped[str]


class DecisionRow(AppendOnly, Sealed, Base):
    """What was decided for an episode, under which plan, and why."""

    __tablename__ = "decisions"
    __table_args__ = (UniqueConstraint("episode", "plan", "action", "reason"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    episode: Mapped[int] = mapped_column(ForeignKey("episodes.id"), index=True)
    #: None while the model has no plan
    plan: Mapped[int | None] = mapped_column(ForeignKey("plans.id"))
    action: Mapped[str]
    reason: Mapped[str]
    #: carried out by itself, or only proposed
    carried_out: Mapped[bool]
    decided_at: Mapped[datetime]


class RunRow(Kept, Sealed, Base):
    """One training execution, from plan to promotion or refusal."""

    __tablename__ = "runs"
    __table_args__ = (UniqueConstraint("episode", "plan"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(index=True)
    #: None for the run that makes a model's first version
    episode: Mapped[int | None] = mapped_column(ForeignKey("episodes.id"))
    plan: Mapped[int] = mapped_column(ForeignKey("plans.id"))
    state: Mapped[str] = mapped_column(index=True)
    strategy: Mapped[str]
    base: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    champion_before: Mapped[int | None] = mapped_column(ForeignKey("versions.id"))
    candidate: Mapped[int | None] = mapped_column(ForeignKey("versions.id"))
    seed: Mapped[int]
    #: purpose -> dataset id
    datasets: Mapped[dict[str, Any]]
    #: the card, preprocessing and tasks that the candidate will carry, and other settings
    settings: Mapped[dict[str, Any]]
    #: why it ended, or what it waits for
    note: Mapped[str]
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]


class GateOutcomeRow(AppendOnly, Sealed, Base):
    """What one gate said of one run's candidate."""

    __tablename__ = "gate_outcomes"
    __table_args__ = (UniqueConstraint("run", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    run: Mapped[int] = mapped_column(ForeignKey("runs.id"), index=True)
    name: Mapped[str]
    #: passed, failed, not evaluable
    outcome: Mapped[str]
    #: a sentence that a tired person understands
    sentence: Mapped[str]
    detail: Mapped[dict[str, Any]]
    decided_at: Mapped[datetime]


class ApprovalRow(AppendOnly, Sealed, Base):
    """One signature, bound to the digest of what was seen."""

    __tablename__ = "approvals"
    __added__ = MappingProxyType(
        {"printed_name": None, "proof": None, "token": None, "expires_at": None, "parts": {}}
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    run: Mapped[int] = mapped_column(ForeignKey("runs.id"), index=True)
    by: Mapped[str]
    #: approved, rejected
    meaning: Mapped[str]
    reason: Mapped[str]
    #: digest over `parts`; of a signature that has none, over candidate, gates and plan
    seen: Mapped[str]
    signed_at: Mapped[datetime]
    #: of the signer (21 CFR 11.50)
    printed_name: Mapped[str | None]
    #: what the signer showed: password, token, operating system
    proof: Mapped[str | None]
    #: number of the token that was shown
    token: Mapped[str | None]
    #: from when on it no longer counts
    expires_at: Mapped[datetime | None]
    #: digests of candidate, champion, gates, shadow, plan and evidence
    parts: Mapped[dict[str, Any]] = mapped_column(default=dict)


class LockedSetUseRow(AppendOnly, Sealed, Base):
    """One use of a locked set by a gate: uses are a budget that the plan declares."""

    __tablename__ = "locked_set_uses"
    __table_args__ = (UniqueConstraint("dataset", "run"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    dataset: Mapped[int] = mapped_column(ForeignKey("datasets.id"), index=True)
    run: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    used_at: Mapped[datetime]


class ReviewRow(AppendOnly, Sealed, Base):
    """A person's review of a model as a whole: from it on its changes are counted anew."""

    __tablename__ = "reviews"

    id: Mapped[int] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(index=True)
    #: the champion that was found fit
    version: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    #: in force then; None where there was none
    plan: Mapped[int | None] = mapped_column(ForeignKey("plans.id"))
    by: Mapped[str]
    reason: Mapped[str]
    reviewed_at: Mapped[datetime]


class WatchRow(Kept, Sealed, Base):
    """A promoted version's first weeks in one deployment, held to what its gates promised."""

    __tablename__ = "watches"
    __table_args__ = (UniqueConstraint("version", "deployment", "since"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(ForeignKey("models.name"), index=True)
    deployment: Mapped[str]
    version: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    #: whose gates promised it
    run: Mapped[int] = mapped_column(ForeignKey("runs.id"), index=True)
    plan: Mapped[int] = mapped_column(ForeignKey("plans.id"))
    #: watching, passed, failed, not evaluable, cut short
    state: Mapped[str] = mapped_column(index=True)
    #: of the promotion there
    since: Mapped[datetime]
    #: when its days are over
    until: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    #: how it ended, in a sentence; empty while it goes on
    note: Mapped[str]


class WatchLookRow(AppendOnly, Sealed, Base):
    """One look of a watch: at most one a day."""

    __tablename__ = "watch_looks"
    __table_args__ = (UniqueConstraint("watch", "day"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    watch: Mapped[int] = mapped_column(ForeignKey("watches.id"), index=True)
    #: days since the promotion that were over, from 1
    day: Mapped[int]
    looked_at: Mapped[datetime]
    #: watching, passed, failed, not evaluable: what the watch was after it
    state: Mapped[str]
    #: patients with a label that counts
    labelled: Mapped[int]
    #: each measure with its promises, what was seen, and what was spent of the error rate
    measures: Mapped[list[Any]]
    #: {sign, sentence} of what was seen without labels
    warnings: Mapped[list[Any]]
