"""Scans: what came in, what was refused and why, and one scan's history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from api.pages import wording
from api.pages.quarantine_page import words_of
from api.pages.states import Shape, State, Tone
from monitor.intake.quarantine import QuarantineCount
from monitor.intake.reasons import Reason
from monitor.scan_history import describe_scan
from monitor.tables import EmbeddingRow, RefusalRow, ScanRow

PAGE = 50
READ = State(word="Read", shape=Shape.CIRCLE, tone=Tone.GOOD)
REFUSED = State(word="Refused", shape=Shape.SQUARE, tone=Tone.WARN)
WAITING = State(word="Waiting", shape=Shape.RING, tone=Tone.QUIET)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanLine:
    """One scan in the list."""

    id: int
    state: State
    site: str
    modality: str
    view: str
    scanner: str
    software: str
    arrived: str
    refusal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalCount:
    """How many scans a model refused for one reason."""

    model: str
    reason: str
    scans: int
    #: 0 to 100, of the largest count
    share: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedFiles:
    """How many files are in quarantine for one reason."""

    code: str
    reason: str
    files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScansPage:
    """Everything on the scans' page."""

    headline: str
    total: int
    scans: tuple[ScanLine, ...]
    refusals: tuple[RefusalCount, ...]
    quarantine: tuple[QuarantinedFiles, ...]
    #: only refused scans are shown
    refused_only: bool
    #: id before which the next page starts, if there is one
    older: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanPage:
    """One scan's page."""

    id: int
    state: State
    site: str
    attributes: tuple[tuple[str, str], ...]
    #: as `describe_scan` returns them
    history: dict[str, Any]


def scans_page(
    session: Session,
    quarantined: Iterable[QuarantineCount],
    *,
    before: int | None,
    refused_only: bool,
    sites: Collection[str] | None = None,
) -> ScansPage:
    """Return one page of scans, newest first.

    Parameters
    ----------
    sites : whose scans may be seen; None for those of all
    """
    query = select(ScanRow).order_by(ScanRow.id.desc()).limit(PAGE + 1)
    counted = select(func.count(ScanRow.id))
    if sites is not None:
        query, counted = (
            query.where(ScanRow.site.in_(sites)),
            counted.where(ScanRow.site.in_(sites)),
        )
    if before is not None:
        query = query.where(ScanRow.id < before)
    if refused_only:
        query = query.where(exists().where(RefusalRow.scan == ScanRow.id))
    rows = list(session.scalars(query))
    more, rows = len(rows) > PAGE, rows[:PAGE]
    refusals = refusal_counts(session, sites)
    total = session.scalar(counted) or 0
    counts: Counter[Reason] = Counter()
    for count in quarantined:
        counts[count.reason] += count.items
    return ScansPage(
        headline=_headline(total, refusals, counts.total()),
        total=total,
        scans=_lines(session, rows),
        refusals=refusals,
        quarantine=tuple(
            QuarantinedFiles(code=reason.value, reason=words_of(reason), files=files)
            for reason, files in counts.most_common()
        ),
        refused_only=refused_only,
        older=rows[-1].id if more else None,
    )


def refusal_counts(
    session: Session, sites: Collection[str] | None = None
) -> tuple[RefusalCount, ...]:
    """Return refusals by model and reason, of these sites or of all, the most frequent first."""
    query = (
        select(RefusalRow.model, RefusalRow.reason, func.count(RefusalRow.id))
        .group_by(RefusalRow.model, RefusalRow.reason)
        .order_by(func.count(RefusalRow.id).desc(), RefusalRow.model, RefusalRow.reason)
    )
    if sites is not None:
        query = query.where(
            RefusalRow.scan.in_(select(ScanRow.id).where(ScanRow.site.in_(sites)))
        )
    rows = session.execute(query).all()
    most = max((number for *_, number in rows), default=1)
    return tuple(
        RefusalCount(model=model, reason=reason, scans=number, share=round(100 * number / most))
        for model, reason, number in rows
    )


def scan_page(session: Session, scan: int) -> ScanPage:
    """Return a scan's page; no pseudonym is on it, since nobody needs one to judge a scan.

    Raises
    ------
    NotFoundError
    """
    history = describe_scan(session, scan)
    row = session.get_one(ScanRow, scan)
    return ScanPage(
        id=scan,
        state=_lines(session, [row])[0].state,
        site=row.site,
        attributes=(
            ("Site", row.site),
            *_composed(history),
            ("Arrived", wording.moment(row.arrived_at)),
            *_studied(history),
            ("Modality", row.modality),
            ("Body part", row.body_part or "not stated"),
            ("View", row.view or "not stated"),
            ("Scanner", _scanner(row)),
            ("Software version", row.software_version or "not stated"),
            ("Protocol", row.protocol or "not stated"),
            ("Sex", row.sex or "not stated"),
            ("Age", "not known" if row.age_years is None else f"{row.age_years} years"),
        ),
        history=history,
    )


def _studied(history: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return what is kept of the day of the study."""
    if history["study_date"] is None:
        return ()
    months = history["months_after_study"]
    how = "shifted" if months is None else f"{wording.counted(months, 'month')} before it came"
    return (("Study", f"{history['study_date']} ({how})"),)


def _composed(history: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return what a series or a study is made of, and why a scan counts no more."""
    lines: list[tuple[str, str]] = []
    made_of = history["made_of"]
    if made_of is not None:
        instances = wording.counted(made_of["instances"], "instance")
        if made_of["incomplete"]:
            announced = made_of["expected"]
            instances += ", incomplete" + (f" of {announced}" if announced else "")
        lines.append(("Read as one", f"{history['unit']} of {instances}"))
        lines.append(("Revision", f"{made_of['revision']} ({made_of['settled_by']})"))
    if history["withdrawn"] is not None:
        lines.append(("Counts no more", history["withdrawn"]))
    return tuple(lines)


def _headline(total: int, refusals: tuple[RefusalCount, ...], quarantined: int) -> str:
    if not total:
        return "No scan has come in yet."
    refused = sum(item.scans for item in refusals)
    text = f"{wording.counted(total, 'scan')}; {wording.counted(refused, 'refusal')}"
    if quarantined:
        text += f"; {wording.counted(quarantined, 'file')} in quarantine"
    return f"{text}."


def _lines(session: Session, rows: list[ScanRow]) -> tuple[ScanLine, ...]:
    ids = [row.id for row in rows]
    refused: dict[int, list[str]] = {}
    for refusal in session.scalars(select(RefusalRow).where(RefusalRow.scan.in_(ids))):
        refused.setdefault(refusal.scan, []).append(f"{refusal.model}: {refusal.reason}")
    read = set(session.scalars(select(EmbeddingRow.scan).where(EmbeddingRow.scan.in_(ids))))
    return tuple(
        ScanLine(
            id=row.id,
            state=REFUSED if row.id in refused else READ if row.id in read else WAITING,
            site=row.site,
            modality=row.modality if row.unit == "instance" else f"{row.modality} {row.unit}",
            view=row.view or "–",
            scanner=_scanner(row),
            software=row.software_version or "–",
            arrived=wording.moment(row.arrived_at),
            refusal="; ".join(refused.get(row.id, [])),
        )
        for row in rows
    )


def _scanner(row: ScanRow) -> str:
    return " ".join(part for part in (row.manufacturer, row.scanner_model) if part) or "–"
