"""Labels and disputes for whoever looks at them, and how far readers agree."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from typing import TypeAlias

import numpy as np
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from monitor.labelling.influence import words_of
from monitor.labelling.truth import Dispute, Truth, decide, voices_of
from monitor.labels import labels_of
from monitor.statistics.agreement import Integers, cohen_kappa, fleiss_kappa
from monitor.tables import LabelRow, ScanRow
from registry.canonical import Json, to_json
from registry.errors import NotFoundError

_CHUNK = 5_000
#: What one reader said of a scan: a class, or of one class of a multi-label task whether it holds.
_Said: TypeAlias = str


@dataclass(frozen=True, slots=True, kw_only=True)
class DisputedScan:
    """A scan that has no truth until it is adjudicated."""

    scan: int
    task: str
    site: str
    #: when it became disputed, at the latest
    since: datetime
    #: what is held against each other
    voices: tuple[LabelRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairAgreement:
    """How far two readers agree on the scans that both labelled."""

    readers: tuple[str, str]
    scans: int
    agreed: int
    #: Cohen's; None where one of them never varied and the other neither
    kappa: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupAgreement:
    """How far readers agree on the scans that so many of them labelled."""

    readers: int
    scans: int
    #: on which all said the same
    unanimous: int
    #: Fleiss'; None where all said the same of all
    kappa: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far the readers of a task agree."""

    task: str
    #: of a multi-label task: the class that it is about
    about: str | None
    pairs: tuple[PairAgreement, ...]
    groups: tuple[GroupAgreement, ...]


def describe_label(row: LabelRow) -> dict[str, Json]:
    """Return a label as commands and the API show it."""
    return {
        "label": row.id,
        "scan": row.scan,
        "task": row.task,
        "value": row.value,
        "classes": None if row.classes is None else list(row.classes),
        "provenance": row.provenance,
        "reader": row.reader,
        "signed_at": to_json(row.signed_at),
        "ai_influenced": row.ai_influenced,
        "influence_reason": row.influence_reason,
        "influence": words_of(row.influence_reason),
        "arrived_at": to_json(row.arrived_at),
    }


def describe_truth(task: str, found: Truth | Dispute) -> dict[str, Json]:
    """Return what is true of a scan and a task, or that its readers disagree."""
    if isinstance(found, Dispute):
        return {
            "task": task,
            "disputed": True,
            "labels": [row.id for row in found.voices],
        }
    return {
        "task": task,
        "disputed": False,
        "value": found.value,
        "classes": None if found.classes is None else list(found.classes),
        "provenance": found.provenance.value,
        "ai_influenced": found.ai_influenced,
        "labels": list(found.labels),
    }


def newest_labels(
    session: Session,
    *,
    task: str | None = None,
    site: str | None = None,
    before: int | None = None,
    limit: int = 20,
) -> list[LabelRow]:
    """Return labels, newest first."""
    query = select(LabelRow).order_by(LabelRow.id.desc()).limit(limit)
    if task is not None:
        query = query.where(LabelRow.task == task)
    if site is not None:
        query = query.where(_of_site(site))
    if before is not None:
        query = query.where(LabelRow.id < before)
    return list(session.scalars(query))


def labels_of_scan(session: Session, scan: int) -> dict[str, list[LabelRow]]:
    """Return every label of one scan by task, in the order in which they came.

    Raises
    ------
    NotFoundError
    """
    if session.get(ScanRow, scan) is None:
        raise NotFoundError(f"there is no scan {scan}: see `driftward scan list`")
    return {task: rows for (_, task), rows in sorted(labels_of(session, [scan]).items())}


def disputed_scans(
    session: Session, *, task: str | None = None, site: str | None = None
) -> list[DisputedScan]:
    """Return the scans whose readers disagree, the oldest first."""
    found: list[DisputedScan] = []
    for (scan, of_task), rows in _by_scan(session, task=task, site=site):
        decision = decide(rows)
        if isinstance(decision, Dispute):
            row = session.get_one(ScanRow, scan)
            found.append(
                DisputedScan(
                    scan=scan,
                    task=of_task,
                    site=row.site,
                    since=max(voice.arrived_at for voice in decision.voices),
                    voices=decision.voices,
                )
            )
    return sorted(found, key=lambda one: (one.since, one.scan, one.task))


def agreements(
    session: Session, *, task: str | None = None, site: str | None = None
) -> list[Agreement]:
    """Return how far readers agree, by task, and by class of a multi-label task.

    Of each reader the newest label of a scan counts, whatever is true by all of them.
    """
    said: dict[tuple[str, str | None], list[dict[str, _Said]]] = defaultdict(list)
    classes: dict[str, set[str]] = defaultdict(set)
    sets: dict[str, list[list[LabelRow]]] = defaultdict(list)
    for (_, of_task), rows in _by_scan(session, task=task, site=site):
        voices = [row for row in voices_of(rows) if row.reader]
        if len(voices) < 2:
            continue
        if all(row.classes is not None for row in voices):
            sets[of_task].append(voices)
            classes[of_task].update(name for row in voices for name in row.classes or ())
        else:
            said[of_task, None].append({row.reader: str(row.value) for row in voices})
    for of_task, names in classes.items():
        for name in names:
            said[of_task, name] = [
                {row.reader: str(name in (row.classes or ())) for row in voices}
                for voices in sets[of_task]
            ]
    return [
        Agreement(task=of_task, about=about, pairs=_pairs(scans), groups=_groups(scans))
        for (of_task, about), scans in sorted(
            said.items(), key=lambda item: (item[0][0], item[0][1] or "")
        )
    ]


def _pairs(scans: Sequence[dict[str, _Said]]) -> tuple[PairAgreement, ...]:
    together: dict[tuple[str, str], list[tuple[_Said, _Said]]] = defaultdict(list)
    for said in scans:
        for one, other in combinations(sorted(said), 2):
            together[one, other].append((said[one], said[other]))
    return tuple(
        PairAgreement(
            readers=readers,
            scans=len(both),
            agreed=sum(one == other for one, other in both),
            kappa=cohen_kappa(_table(both)),
        )
        for readers, both in sorted(together.items())
    )


def _table(both: Sequence[tuple[_Said, _Said]]) -> Integers:
    values = sorted({value for pair in both for value in pair})
    table = np.zeros((len(values), len(values)), dtype=np.int64)
    for one, other in both:
        table[values.index(one), values.index(other)] += 1
    return table


def _groups(scans: Sequence[dict[str, _Said]]) -> tuple[GroupAgreement, ...]:
    by_readers: dict[int, list[Counter[_Said]]] = defaultdict(list)
    for said in scans:
        by_readers[len(said)].append(Counter(said.values()))
    found: list[GroupAgreement] = []
    for readers, counts in sorted(by_readers.items()):
        values = sorted({value for one in counts for value in one})
        table = np.array([[one[value] for value in values] for one in counts], dtype=np.int64)
        found.append(
            GroupAgreement(
                readers=readers,
                scans=len(counts),
                unanimous=sum(len(one) == 1 for one in counts),
                kappa=fleiss_kappa(table),
            )
        )
    return tuple(found)


def _by_scan(
    session: Session, *, task: str | None, site: str | None
) -> Iterator[tuple[tuple[int, str], list[LabelRow]]]:
    """Yield the labels of each labelled scan and task."""
    query = select(LabelRow.scan).distinct().order_by(LabelRow.scan)
    if task is not None:
        query = query.where(LabelRow.task == task)
    if site is not None:
        query = query.where(_of_site(site))
    scans = list(session.scalars(query))
    for start in range(0, len(scans), _CHUNK):
        for key, rows in labels_of(session, scans[start : start + _CHUNK]).items():
            if task is None or key[1] == task:
                yield key, rows


def _of_site(site: str) -> ColumnElement[bool]:
    return LabelRow.scan.in_(select(ScanRow.id).where(ScanRow.site == site))
