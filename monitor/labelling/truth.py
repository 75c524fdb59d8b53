"""What is true of a scan by all the labels that it has, or that its readers disagree.

1. Pathology decides: of each laboratory its newest label, by majority.
2. Without pathology, or where that has no majority, the newest adjudication decides.
3. Without either, the newest label of each reader, by majority: more than half of them. Reports
   and published labels count as readers.
4. Without a majority the scan is *disputed*: it has no truth until it is adjudicated.

Of a multi-label task each class is decided by itself; one class without a majority, and the scan
is disputed. The newest label is the one that was signed last; one without a time of signing is
older than any that has one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from monitor.labelling.provenance import BY_STRENGTH, Provenance
from monitor.tables import LabelRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What is true of a scan and a task."""

    #: number of the class; of a multi-label task 1 if any class holds, and else 0
    value: int
    #: of a multi-label task: the classes that hold, sorted; None of any other
    classes: tuple[str, ...] | None
    #: the weakest of the labels behind it
    provenance: Provenance
    #: an AI influenced at least one of the labels behind it
    ai_influenced: bool
    #: of the newest of them; None where none says
    signed_at: datetime | None
    #: those that were counted, by id, whether they agreed or not
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispute:
    """Labels that were counted and have no majority."""

    voices: tuple[LabelRow, ...]


def decide(rows: Iterable[LabelRow]) -> Truth | Dispute:
    """Return what is true by the labels of one scan and task, of which there is at least one."""
    labels = list(rows)
    if len(labels) == 1 and labels[0].classes is None:
        return _alone(labels[0])
    pathology = _newest_of_each([r for r in labels if r.provenance == Provenance.PATHOLOGY])
    adjudicated = _newest([r for r in labels if r.provenance == Provenance.ADJUDICATED])
    deciding = [voices for voices in (pathology, adjudicated) if voices]
    for voices in deciding or [_newest_of_each(labels)]:
        agreed = _majority(voices)
        if agreed is not None:
            value, classes = agreed
            return Truth(
                value=value,
                classes=classes,
                provenance=_weakest(voices),
                ai_influenced=any(row.ai_influenced for row in voices),
                signed_at=max(
                    (row.signed_at for row in voices if row.signed_at is not None), default=None
                ),
                labels=tuple(row.id for row in voices),
            )
    return Dispute(voices=tuple(voices))


def _alone(row: LabelRow) -> Truth:
    """Return what is true by a scan's only label, as most scans have but one."""
    return Truth(
        value=row.value,
        classes=None,
        provenance=Provenance(row.provenance),
        ai_influenced=row.ai_influenced,
        signed_at=row.signed_at,
        labels=(row.id,),
    )


def voices_of(rows: Iterable[LabelRow]) -> list[LabelRow]:
    """Return the newest label of each reader, whatever its provenance: what readers said."""
    return _newest_of_each(list(rows))


def _newest_of_each(labels: Sequence[LabelRow]) -> list[LabelRow]:
    newest: dict[tuple[str, str], LabelRow] = {}
    for row in sorted(labels, key=_age):
        # A reader without a name is told apart by where the label is from.
        newest[row.reader, "" if row.reader else row.provenance] = row
    return sorted(newest.values(), key=lambda row: row.id)


def _newest(labels: Sequence[LabelRow]) -> list[LabelRow]:
    """Return the label that was signed last, or those that were signed at that same time."""
    last = max((_age(row)[:2] for row in labels), default=None)
    return [row for row in labels if _age(row)[:2] == last]


def _age(row: LabelRow) -> tuple[bool, float, int]:
    known = row.signed_at is not None
    return known, row.signed_at.timestamp() if row.signed_at is not None else 0.0, row.id


def _weakest(voices: Sequence[LabelRow]) -> Provenance:
    return min((Provenance(row.provenance) for row in voices), key=BY_STRENGTH.index)


def _majority(voices: Sequence[LabelRow]) -> tuple[int, tuple[str, ...] | None] | None:
    sets = [row.classes for row in voices if row.classes is not None]
    if len(sets) == len(voices):
        return _majority_by_class(sets)
    counts = Counter((row.value, _set_of(row)) for row in voices)
    (value, classes), most = counts.most_common(1)[0]
    return (value, classes) if 2 * most > len(voices) else None


def _majority_by_class(sets: Sequence[list[str]]) -> tuple[int, tuple[str, ...]] | None:
    counts = Counter(name for classes in sets for name in classes)
    if any(2 * count == len(sets) for count in counts.values()):
        return None
    holding = tuple(sorted(name for name in counts if 2 * counts[name] > len(sets)))
    return int(bool(holding)), holding


def _set_of(row: LabelRow) -> tuple[str, ...] | None:
    return None if row.classes is None else tuple(row.classes)
