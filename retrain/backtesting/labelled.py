"""The labelled scans of a replayed span: what was known of each, and from when on."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

import numpy as np
import numpy.typing as npt
from sqlalchemy import select

from monitor import labels
from monitor.assembling.counting import read_as, unit_watched
from monitor.labelling.truth import Truth, decide
from monitor.tables import LabelRow, ScanRow
from retrain.backtesting.scratch import Scratch
from retrain.backtesting.stored_reading import as_array
from retrain.label_rules import LabelRules


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownScan:
    """A scan with its labels, in the order in which they came."""

    scan: ScanRow
    labels: tuple[LabelRow, ...]
    #: what is true by some of the labels, by their places: policies ask week after week
    _decided: dict[tuple[int, ...], Truth | None] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def truth(self, at: datetime) -> Truth | None:
        """Return what was true of it by the labels of a time, or None while none decided."""
        return self._truth(
            tuple(place for place, row in enumerate(self.labels) if row.arrived_at < at)
        )

    def known_since(self) -> datetime | None:
        """Return when its first truth was known."""
        for place, row in enumerate(self.labels):
            if self._truth(tuple(range(place + 1))) is not None:
                return row.arrived_at
        return None

    def _truth(self, places: tuple[int, ...]) -> Truth | None:
        if not places:
            return None
        if places not in self._decided:
            found = decide([self.labels[place] for place in places])
            self._decided[places] = found if isinstance(found, Truth) else None
        return self._decided[places]


@dataclass(frozen=True, kw_only=True)
class LabelledSpan:
    """The scans of the span that the model reads and that had a label by its end."""

    #: in the order of arrival
    scans: tuple[KnownScan, ...]
    #: float32, [n, d]
    embeddings: npt.NDArray[np.float32]
    since: datetime
    until: datetime
    #: a label's value where the finding is there
    present: int

    @classmethod
    def of(cls, scratch: Scratch) -> LabelledSpan:
        """Read them from a scratch installation whose replay is over."""
        question, vectors = scratch.past.question, scratch.reader.vectors
        with scratch.database.reading() as session:
            unit = unit_watched(session, question.monitor)
            rows = session.scalars(
                select(ScanRow)
                .where(
                    ScanRow.arrived_at >= question.since,
                    ScanRow.arrived_at < question.until,
                    read_as(unit),
                    labels.having_label(scratch.task),
                )
                .order_by(ScanRow.arrived_at, ScanRow.id)
            ).all()
            known = labels.labels_of(session, [row.id for row in rows])
        found = tuple(
            KnownScan(scan=row, labels=tuple(known[row.id, scratch.task]))
            for row in rows
            if row.id in vectors
        )
        return cls(
            scans=found,
            embeddings=(
                as_array([vectors[one.scan.id] for one in found])
                if found
                else np.empty((0, scratch.past.champion.dimension), dtype=np.float32)
            ),
            since=question.since,
            until=question.until,
            present=scratch.reader.task(scratch.past.champion, scratch.task).present,
        )

    @cached_property
    def final(self) -> tuple[Truth | None, ...]:
        """What is true of each by every label that had come by the end."""
        return tuple(one.truth(self.until) for one in self.scans)

    @cached_property
    def judged(self) -> npt.NDArray[np.bool_]:
        """Whether a scan's truth may judge: decided, and by no AI, [n]."""
        return np.array(
            [truth is not None and not truth.ai_influenced for truth in self.final], dtype=bool
        )

    @cached_property
    def truth(self) -> npt.NDArray[np.bool_]:
        """Whether the finding is there, by the final truth, [n]."""
        return np.array(
            [truth is not None and truth.value == self.present for truth in self.final]
        )

    @cached_property
    def patients(self) -> list[str]:
        """One a scan: a patient of one site is not one of another."""
        return [f"{one.scan.site}/{one.scan.person}" for one in self.scans]

    def usable(
        self, rules: LabelRules, *, after: datetime, at: datetime
    ) -> list[tuple[int, Truth]]:
        """Return the scans that arrived from a time on and may train at another, with truths."""
        found = []
        for place in self.places(after, at).tolist():
            truth = self.scans[place].truth(at)
            if (
                truth is not None
                and truth.provenance in rules.provenance
                and (rules.ai_influenced_may_train or not truth.ai_influenced)
            ):
                found.append((place, truth))
        return found

    def places(self, since: datetime, until: datetime) -> npt.NDArray[np.int64]:
        """Return the numbers of the scans that arrived from one time on and before another."""
        return np.arange(bisect_left(self._times, since), bisect_left(self._times, until))

    @cached_property
    def _times(self) -> list[datetime]:
        return [one.scan.arrived_at for one in self.scans]
