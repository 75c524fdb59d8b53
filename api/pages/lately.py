"""What happened lately: the ledger's newest entries that people ask about, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.pages import wording
from api.pages.ledger_page import entry_of, link_of
from monitor.silence.words import source_name
from registry.ledger import Entry, LedgerEntry

SHOWN = 10

Words: TypeAlias = Callable[[str, Mapping[str, Any]], str]

#: Kinds of entry that are shown, each with its words for (subject, facts).
_WORDS: dict[str, Words] = {
    "episode.opened": lambda subject, facts: (
        f"{subject} opened: {wording.cause_name(facts['cause'])} in "
        f"{wording.scans_of(facts['subgroup'])}"
    ),
    "episode.impact": lambda subject, facts: f"{subject}: impact {facts['impact']}",
    "episode.accepted": lambda subject, facts: f"{subject} accepted: {facts['reason']}",
    "episode.closed": lambda subject, facts: f"{subject} closed: {facts['reason']}",
    "silence.opened": lambda subject, facts: (
        f"{subject}: silence alarm {facts['alarm']} opened, {facts['kind']} scans of "
        f"{source_name(facts['subgroup'])}"
    ),
    "silence.closed": lambda subject, facts: (
        f"{subject}: silence alarm {facts['alarm']} closed, {facts['reason']}"
    ),
    "model.restricted": lambda subject, facts: (
        f"{subject} restricted for {wording.subgroup_name(facts['subgroup'])}"
    ),
    "model.suspended": lambda subject, _: f"{subject} suspended",
    "model.restriction_lifted": lambda subject, facts: (
        f"{subject} back in use for {wording.subgroup_name(facts['subgroup'])}"
    ),
    "gates.evaluated": lambda subject, facts: (
        f"{subject}: {sum(item == 'passed' for item in facts['outcomes'].values())} of "
        f"{len(facts['outcomes'])} gates passed"
    ),
    "approval.approved": lambda subject, _: f"{subject} approved",
    "approval.rejected": lambda subject, facts: f"{subject} rejected: {facts['reason']}",
    "run.failed": lambda subject, _: f"{subject} failed",
    "run.planned": lambda subject, facts: f"{subject} planned for {facts['model']}",
    "champion.promoted": lambda subject, _: f"{subject} promoted",
    "champion.advanced": lambda subject, facts: (
        f"{subject} went on to {', '.join(facts.get('deployments', [facts['deployment']]))}"
    ),
    "champion.rolled_back": lambda subject, facts: (
        f"rolled back to {subject}: {facts['reason']}"
    ),
    "plan.applied": lambda subject, facts: f"plan {facts['number']} of {subject} applied",
    "monitor.applied": lambda subject, _: f"monitor {subject} applied",
    "reference.accepted": lambda subject, facts: (
        f"{subject} has a new reference of {wording.counted(facts['scans'], 'scan')}"
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One thing that happened."""

    at: str
    text: str
    by: str
    link: str | None


def lately(session: Session) -> tuple[Happening, ...]:
    """Return what happened lately, newest first."""
    rows = session.scalars(
        select(LedgerEntry)
        .where(LedgerEntry.kind.in_(_WORDS))
        .order_by(LedgerEntry.sequence.desc())
        .limit(SHOWN)
    )
    return tuple(_happening(entry_of(row)) for row in rows)


def _happening(entry: Entry) -> Happening:
    text = _WORDS[entry.kind](entry.subject, entry.facts)
    return Happening(
        at=wording.moment(entry.recorded_at),
        # A model's name stays as it is written.
        text=wording.sentence(text) if text.startswith(("episode ", "run ")) else text,
        by=entry.actor,
        link=link_of(entry.kind, entry.subject),
    )
