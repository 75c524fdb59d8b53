"""Whether an AI influenced a label: derived, never claimed by a file.

A label is free of influence where nothing that an AI said of the scan can have reached its
reader before he signed: no result that was delivered, and no place in a worklist that an AI
ordered. What is not known counts as influence. Our own models can have ordered a worklist by
what was delivered alone, so a site that stated nothing of its worklist loses only labels of
scans of which something was delivered; of a product that is none of ours nothing can be derived,
and an import says that it was not stated.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from monitor.assembling.tables import ScanMemberRow
from monitor.labelling.signing import borne_out
from monitor.labelling.tables import WorklistRow
from monitor.tables import ResultRow, ScanRow
from registry.errors import LabelError
from registry.versions import ModelRow, VersionRow

#: Values that one statement looks up; databases limit its parameters.
PARAMETERS = 500
_DELIVERED = "delivered"


class InfluenceReason(StrEnum):
    """What decided whether an AI influenced a label."""

    SIGNING_UNKNOWN = "signing_unknown"
    SIGNING_DOUBTFUL = "signing_doubtful"
    ASSISTED = "assisted"
    RESULT_BEFORE = "result_before"
    WORKLIST_ORDERED = "worklist_ordered"
    WORKLIST_UNKNOWN = "worklist_unknown"
    BEFORE_RESULTS = "before_results"
    INDEPENDENT = "independent"

    @property
    def influenced(self) -> bool:
        return self not in {InfluenceReason.BEFORE_RESULTS, InfluenceReason.INDEPENDENT}


#: What each reason says, after "influenced: " or "not influenced: ".
WORDS: Mapping[InfluenceReason, str] = MappingProxyType(
    {
        InfluenceReason.SIGNING_UNKNOWN: "when the reader signed is unknown",
        InfluenceReason.SIGNING_DOUBTFUL: (
            "signed more than half a year before the scan came, which no kept month of its study "
            "bears out"
        ),
        InfluenceReason.ASSISTED: "a device took part in the report",
        InfluenceReason.RESULT_BEFORE: "a result was delivered before the reader signed",
        InfluenceReason.WORKLIST_ORDERED: "an AI ordered the worklist",
        InfluenceReason.WORKLIST_UNKNOWN: (
            "a result that may have ordered the worklist was delivered before the reader signed"
        ),
        InfluenceReason.BEFORE_RESULTS: "signed before any result that could have mattered",
        InfluenceReason.INDEPENDENT: (
            "no result of the task was delivered before, and no AI orders the worklist"
        ),
    }
)


def words_of(reason: str | None) -> str:
    """Return what a stored reason says."""
    if reason is None:
        return "derived before reasons were kept"
    return WORDS[InfluenceReason(reason)]


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstResults:
    """When something was first said of a scan."""

    #: task -> when its first result was delivered
    delivered: Mapping[str, datetime] = field(default_factory=dict)
    #: model -> when it first said anything, delivered or not
    by_model: Mapping[str, datetime] = field(default_factory=dict)


_NOTHING = FirstResults()


@dataclass(frozen=True, slots=True, kw_only=True)
class Worklists:
    """Who orders the worklist of a site, by the time from which that holds."""

    #: (since, who), oldest first
    statements: tuple[tuple[datetime, str | None], ...]
    #: models of ours
    models: frozenset[str]

    @property
    def by_an_ai(self) -> bool:
        """Whether it is stated of any time that an AI ordered it."""
        return any(who is not None for _, who in self.statements)

    def stated_at(self, moment: datetime) -> bool:
        """Say whether it is stated who ordered it at a time."""
        return any(since <= moment for since, _ in self.statements)

    def ordered_by(self, moment: datetime) -> str | None:
        """Return who ordered it at a time for which that is stated."""
        return [who for since, who in self.statements if since <= moment][-1]


def derive(
    first: FirstResults,
    worklists: Worklists,
    *,
    task: str,
    signed_at: datetime | None,
    assisted: bool = False,
    doubtful: bool = False,
) -> InfluenceReason:
    """Return whether an AI influenced a label, and why.

    Parameters
    ----------
    first : of the scan that it is of
    worklists : of the scan's site
    assisted : a device took part in the report itself
    doubtful : nothing bears out that the scan was there when it was signed
    """
    if assisted:
        return InfluenceReason.ASSISTED
    if signed_at is None:
        return InfluenceReason.SIGNING_UNKNOWN
    # Nothing that could have mattered did so at no time, mistyped or not.
    if doubtful and (first.delivered or worklists.by_an_ai):
        return InfluenceReason.SIGNING_DOUBTFUL
    delivered = first.delivered.get(task)
    if delivered is not None and delivered <= signed_at:
        return InfluenceReason.RESULT_BEFORE
    return _by_worklist(first, worklists, signed_at)


def _by_worklist(
    first: FirstResults, worklists: Worklists, signed_at: datetime
) -> InfluenceReason:
    """Return what the order of the worklist did, where no result reached the reader."""
    if not worklists.stated_at(signed_at):
        any_before = any(moment <= signed_at for moment in first.delivered.values())
        return (
            InfluenceReason.WORKLIST_UNKNOWN if any_before else InfluenceReason.BEFORE_RESULTS
        )
    who = worklists.ordered_by(signed_at)
    if who is None:
        return InfluenceReason.INDEPENDENT
    read_at = first.by_model.get(who)
    # What a model of ours had not read yet it cannot have put anywhere.
    if who in worklists.models and (read_at is None or read_at > signed_at):
        return InfluenceReason.BEFORE_RESULTS
    return InfluenceReason.WORKLIST_ORDERED


def first_results(session: Session, scans: Collection[int]) -> dict[int, FirstResults]:
    """Return when something was first said of each of these scans, where anything was."""
    delivered: dict[int, dict[str, datetime]] = defaultdict(dict)
    by_model: dict[int, dict[str, datetime]] = defaultdict(dict)
    wanted = sorted(scans)
    for start in range(0, len(wanted), PARAMETERS):
        part = wanted[start : start + PARAMETERS]
        said = (ResultRow.task, VersionRow.model, ResultRow.delivery)
        own = session.execute(
            select(ResultRow.scan, *said, func.min(ResultRow.created_at))
            .join(VersionRow, VersionRow.id == ResultRow.version)
            .where(ResultRow.scan.in_(part))
            .group_by(ResultRow.scan, *said)
        )
        # A reader of an instance has seen what was said of its series.
        of_whole = session.execute(
            select(ScanMemberRow.member, *said, func.min(ResultRow.created_at))
            .join(ScanMemberRow, ScanMemberRow.scan == ResultRow.scan)
            .join(VersionRow, VersionRow.id == ResultRow.version)
            .where(ScanMemberRow.member.in_(part))
            .group_by(ScanMemberRow.member, *said)
        )
        # The aggregate keeps the column's type, so its time carries UTC.
        for scan, task, model, delivery, moment in (*own, *of_whole):
            if delivery == _DELIVERED:
                tasks = delivered[scan]
                tasks[task] = min(moment, tasks.get(task, moment))
            models = by_model[scan]
            models[model] = min(moment, models.get(model, moment))
    return {
        scan: FirstResults(delivered=delivered.get(scan, {}), by_model=models)
        for scan, models in by_model.items()
    }


def worklists_of(session: Session, site: str) -> Worklists:
    """Return what is stated about the worklist of a site."""
    rows = session.execute(
        select(WorklistRow.since, WorklistRow.ordered_by)
        .where(WorklistRow.site == site)
        .order_by(WorklistRow.since, WorklistRow.id)
    )
    models = frozenset(session.scalars(select(ModelRow.name)))
    return Worklists(statements=tuple((row[0], row[1]) for row in rows), models=models)


def require_site(session: Session, site: str, *, source: str = "") -> None:
    """Refuse a site that no scan came from.

    Parameters
    ----------
    source : what asks for it, for errors

    Raises
    ------
    LabelError
        Naming the sites that there are, never the one that was asked for.
    """
    known = session.scalars(select(ScanRow.id).where(ScanRow.site == site).limit(1)).first()
    if known is None:
        sites = sorted(session.scalars(select(ScanRow.site).distinct()))
        raise LabelError(
            (f"{source}: " if source else "")
            + "no scan of that site was taken in: "
            + (f"there are {', '.join(sites)}" if sites else "add scans first"),
            problem="unknown_site",
        )


def reasons_for(
    session: Session,
    labels: Sequence[tuple[int, str, datetime | None, bool]],
    *,
    site: str,
) -> list[InfluenceReason]:
    """Return the reason for each (scan, task, time of signing, assisted)."""
    worklists = worklists_of(session, site)
    scans = {scan for scan, *_ in labels}
    first = first_results(session, scans)
    known = _scans(session, scans)
    return [
        derive(
            first.get(scan, _NOTHING),
            worklists,
            task=task,
            signed_at=signed_at,
            assisted=assisted,
            doubtful=signed_at is not None and not borne_out(signed_at, known[scan]),
        )
        for scan, task, signed_at, assisted in labels
    ]


@dataclass(frozen=True, slots=True)
class _ScanTimes:
    """What is kept of when a scan was made and when it came."""

    study_date: str | None
    arrived_at: datetime


def _scans(session: Session, scans: Collection[int]) -> dict[int, _ScanTimes]:
    found: dict[int, _ScanTimes] = {}
    wanted = sorted(scans)
    for start in range(0, len(wanted), PARAMETERS):
        rows = session.execute(
            select(ScanRow.id, ScanRow.study_date, ScanRow.arrived_at).where(
                ScanRow.id.in_(wanted[start : start + PARAMETERS])
            )
        )
        found.update({scan: _ScanTimes(study, arrived) for scan, study, arrived in rows})
    return found
