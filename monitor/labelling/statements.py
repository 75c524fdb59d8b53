"""What a file states about scans, and the scans that it is about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.assembling.tables import ScanMemberRow
from monitor.labelling.influence import PARAMETERS
from monitor.labelling.provenance import Provenance
from monitor.labelling.signing import signed_at_earliest
from monitor.labelling.values import LabelValue
from monitor.tables import ScanRow
from registry.bundles.preprocessing import Unit
from registry.errors import LabelError


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One value of one task, as a file or a report states it."""

    #: where in the file, in words without anything of its content
    place: str
    #: pseudonyms of the instances that it is about
    instances: tuple[str, ...] = ()
    #: and of the studies, where it names no instances
    studies: tuple[str, ...] = ()
    task: str
    value: LabelValue
    provenance: Provenance
    #: a code that the site chose, or a keyed pseudonym
    reader: str
    #: None where the report does not say
    signed_at: datetime | None
    #: a device took part in what is stated
    assisted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was read of one file."""

    statements: tuple[Statement, ...]
    #: statements of the file whose concepts no mapping names
    passed_over: int = 0


class ScanFinder:
    """Finds the scans of one site that statements are about."""

    def __init__(
        self, session: Session, site: str, statements: Iterable[Statement], *, source: str
    ) -> None:
        self._source, self._site = source, site
        statements = list(statements)
        instances = {name for one in statements for name in one.instances}
        studies = {name for one in statements for name in one.studies}
        self._by_instance: dict[str, ScanRow] = {}
        self._by_study: dict[str, list[ScanRow]] = defaultdict(list)
        rows = select(ScanRow).where(ScanRow.site == site, ScanRow.unit == Unit.INSTANCE.value)
        for part in parts(sorted(instances)):
            for row in session.scalars(rows.where(ScanRow.instance.in_(part))):
                self._by_instance[row.instance] = row
        for part in parts(sorted(studies)):
            for row in session.scalars(rows.where(ScanRow.study.in_(part))):
                self._by_study[row.study].append(row)
        several = [row.id for rows in self._by_study.values() for row in rows]
        several += [
            row.id for one in statements if len(one.instances) > 1 for row in self._named(one)
        ]
        self._members = _members_among(session, set(several))

    def require_all(self, statements: Sequence[Statement]) -> None:
        """Refuse statements of which nothing was ever taken in.

        Raises
        ------
        LabelError
            Naming their places.
        """
        unknown = [one.place for one in statements if not self._named(one)]
        if unknown:
            labels = "1 label names" if len(unknown) == 1 else f"{len(unknown)} labels name"
            raise LabelError(
                f"{self._source}: {labels} scans that site {self._site} never "
                f"sent ({first_of(unknown)}): nothing was taken; add the scans first",
                problem="unknown_scan",
                place=unknown[0],
            )

    def require_made(self, statements: Sequence[Statement]) -> None:
        """Refuse statements that were signed before there was a scan to read.

        Raises
        ------
        LabelError
            Naming their places.
        """
        early = [
            one.place
            for one in statements
            if one.signed_at is not None
            and any(one.signed_at < signed_at_earliest(row) for row in self._named(one))
        ]
        if early:
            raise LabelError(
                f"{self._source}: {first_of(early)}: signed_at lies before the scan can have been "
                "made: nothing was taken; look for a mistyped year, or for a label of another scan",
                problem="before_scan",
                place=early[0],
            )

    def scans_of(self, statement: Statement) -> list[int]:
        """Return the scans that get a label.

        A label of one instance is that instance's. What is said of a study, or of several
        instances, holds for each; of a series that is read as one, one instance stands for all.
        """
        named = self._named(statement)
        if len(statement.instances) == 1:
            return [row.id for row in named]
        by_series: dict[str, list[int]] = defaultdict(list)
        for row in named:
            by_series[row.series].append(row.id)
        chosen: list[int] = []
        for scans in by_series.values():
            read_as_one = sorted(self._members.intersection(scans))
            chosen += read_as_one[:1] or scans
        return sorted(chosen)

    def _named(self, statement: Statement) -> list[ScanRow]:
        named = [
            self._by_instance[name] for name in statement.instances if name in self._by_instance
        ]
        of_studies = [row for name in statement.studies for row in self._by_study[name]]
        return named or of_studies


def parts(values: Sequence[str]) -> list[Sequence[str]]:
    """Return parts small enough for one statement's parameters."""
    return [values[start : start + PARAMETERS] for start in range(0, len(values), PARAMETERS)]


def first_of(places: Sequence[str], *, shown: int = 5) -> str:
    """Return the first places in words."""
    return ", ".join(places[:shown]) + (", …" if len(places) > shown else "")


def _members_among(session: Session, scans: Collection[int]) -> set[int]:
    found: set[int] = set()
    wanted = sorted(scans)
    for start in range(0, len(wanted), PARAMETERS):
        found.update(
            session.scalars(
                select(ScanMemberRow.member).where(
                    ScanMemberRow.member.in_(wanted[start : start + PARAMETERS])
                )
            )
        )
    return found
