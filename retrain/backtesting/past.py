"""What an installation has stored of a monitor's past: read once, and told in its own order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Table, func, select
from sqlalchemy.orm import Session

from monitor.assembling.counting import unit_watched
from monitor.assembling.tables import ScanMemberRow, WithdrawnScanRow
from monitor.episodes.episodes import EpisodeState
from monitor.following.budget import BURN_IN, MEASURED
from monitor.tables import (
    DatasetMember,
    DatasetRow,
    EmbeddingRow,
    EpisodeRow,
    LabelRow,
    MonitorRow,
    PatientMergeRow,
    ReferenceRow,
    RefusalRow,
    ResultRow,
    ScanRow,
    SubgroupReferenceRow,
    VerdictRow,
)
from registry import lineage
from registry.database import Base
from registry.errors import InsufficientDataError, NotFoundError
from registry.ledger import LedgerEntry, LedgerHead
from registry.serving import EVERYWHERE, Reign
from registry.versions import ModelRow, VersionRow, find, ref
from retrain.backtesting.question import Question
from retrain.states import RunState, has_ended
from retrain.tables import PlanRow, ReviewRow, RunRow

#: A table's row by its columns' names.
Row: TypeAlias = dict[str, Any]
#: Before the span, from which scans are shown, too: streams take them for ordinary, and scans
#: a day are counted on them.
BEFORE = max(BURN_IN, MEASURED)
#: Values that one query looks for.
_AT_ONCE = 2000
#: A query reads all between its first value and its last, where these are so many times as many.
_DENSE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """Everything stored that a replay shows, by table; what came within the span is in order."""

    question: Question
    #: that served when the span began, since when, and the fixed encoder
    champion: VersionRow
    served_since: datetime
    encoder: VersionRow
    #: that decided then, and the trend's
    references: tuple[ReferenceRow, ...]
    #: what stood there when the span began, in an order that foreign keys allow
    founded: Mapping[type[Base], Sequence[Row]]
    #: moments at which the champion moved before: (kind, subject, at)
    moves: Sequence[tuple[str, str, datetime]]
    #: that arrived within the span, in the order of arrival
    scans: Sequence[Row]
    #: of all scans by the two versions, by scan
    embeddings: Mapping[int, Sequence[Row]]
    #: of the champion, by scan
    results: Mapping[int, Sequence[Row]]
    #: that arrived within the span, in the order in which they came
    labels: Sequence[Row]
    refusals: Mapping[int, Sequence[Row]]
    #: of series and studies: their instances
    members: Mapping[int, Sequence[Row]]
    #: of scans, in the order in which they came to count no more
    withdrawals: Sequence[Row]
    #: scans of the span that no embedding in the champion's space stands for
    unread: int
    #: digest of the ledger's newest entry when all this was read
    head: str | None

    def vectors(self) -> dict[int, bytes]:
        """Return each scan's embedding in the champion's space, as it is stored."""
        champion = self.champion.id
        return {
            scan: row["vector"]
            for scan, rows in self.embeddings.items()
            for row in rows
            if row["version"] == champion
        }


def scans_of_span(session: Session, question: Question) -> int:
    """Count the scans that arrived within a question's span."""
    query = select(func.count(ScanRow.id)).where(
        ScanRow.arrived_at >= question.since, ScanRow.arrived_at < question.until
    )
    return session.scalar(query) or 0


def read_past(session: Session, question: Question) -> Past:
    """Read what a replay shows.

    Raises
    ------
    NotFoundError
        If no champion served, or no reference was in force, when the span began.
    InsufficientDataError
        If nothing is stored of the span.
    """
    spec = question.monitor.specification
    reign = _served(session, question)
    champion = session.get_one(VersionRow, reign.version)
    encoder = find(session, spec.monitoring_encoder)
    deciding = _in_force(session, question)
    runs = _ended_runs(session, question)
    datasets = _datasets(session, deciding, runs, (champion, encoder))
    scans = _scans(session, question, [row["id"] for row in datasets])
    members = _members(session, [scan["id"] for scan in scans.values()])
    for instance in _rows_in(
        session,
        ScanRow,
        ScanRow.id,
        {row["member"] for rows in members.values() for row in rows} - scans.keys(),
    ):
        scans[instance["id"]] = instance
    within = sorted(
        (row for row in scans.values() if question.since <= row["arrived_at"] < question.until),
        key=lambda row: (row["arrived_at"], row["id"]),
    )
    unit = unit_watched(session, question.monitor).value
    counted = [row["id"] for row in within if row["unit"] == unit]
    embeddings = _embeddings(session, scans, champion, encoder)
    read = [scan for scan in counted if _by(embeddings.get(scan, ()), champion.id)]
    if not read:
        raise InsufficientDataError(
            what=f"scans of {question.since:%Y-%m-%d} to {question.until:%Y-%m-%d} that "
            f"{ref(champion)} has embedded",
            needed=1,
            got=0,
        )
    refusals = _by_scan(
        row
        for row in _rows_in(session, RefusalRow, RefusalRow.scan, scans)
        if row["model"] == spec.model
    )
    labels = sorted(
        _rows_in(session, LabelRow, LabelRow.scan, scans),
        key=lambda row: (row["arrived_at"], row["id"]),
    )
    return Past(
        question=question,
        champion=champion,
        served_since=reign.since,
        encoder=encoder,
        references=tuple(deciding),
        founded=_founded(
            session, question, scans, labels, datasets, deciding, runs, refusals, members
        ),
        moves=_moves(session, question),
        scans=within,
        embeddings=embeddings,
        results=_by_scan(
            _unnumbered(row)
            for row in _rows_in(session, ResultRow, ResultRow.scan, scans)
            if row["version"] == champion.id
        ),
        labels=[row for row in labels if question.since <= row["arrived_at"] < question.until],
        refusals=refusals,
        members=members,
        withdrawals=sorted(
            _rows_in(session, WithdrawnScanRow, WithdrawnScanRow.scan, scans),
            key=lambda row: (row["withdrawn_at"], row["scan"]),
        ),
        unread=sum(scan not in refusals for scan in counted) - len(read),
        head=session.scalar(select(LedgerHead.digest)),
    )


def _served(session: Session, question: Question) -> Reign:
    model, since = question.monitor.specification.model, question.since
    row = session.scalars(
        select(Reign)
        .where(Reign.model == model, Reign.deployment == EVERYWHERE, Reign.since <= since)
        .order_by(Reign.since.desc(), Reign.id.desc())
    ).first()
    if row is None:
        first = session.scalars(
            select(Reign).where(Reign.model == model).order_by(Reign.since)
        ).first()
        known = (
            f"its first serves since {first.since.isoformat()}: begin there, or later"
            if first
            else "none was ever promoted"
        )
        raise NotFoundError(f"no version of {model} served at {since.isoformat()}: {known}")
    return row


def _in_force(session: Session, question: Question) -> list[ReferenceRow]:
    """Return the references that decided when the span began, and the trend's."""
    name, since = question.monitor.name, question.since
    rows = list(
        session.scalars(
            select(ReferenceRow)
            .where(ReferenceRow.monitor == name)
            .order_by(ReferenceRow.accepted_at, ReferenceRow.id)
        )
    )
    before = [row for row in rows if row.accepted_at <= since]
    if not before:
        known = (
            f"its first was accepted at {rows[0].accepted_at.isoformat()}: begin there, or later"
            if rows
            else f"`driftward reference build {name}` makes one"
        )
        raise NotFoundError(f"monitor {name} had no reference at {since.isoformat()}: {known}")
    # References of both encoders are accepted together, and take the place of those before.
    newest = before[-1].accepted_at
    return [row for row in before if row.accepted_at == newest or row.trend]


def _ended_runs(session: Session, question: Question) -> list[RunRow]:
    """Return the runs that had ended when the span began: they count against its limits."""
    return [
        row
        for row in session.scalars(
            select(RunRow)
            .where(
                RunRow.model == question.monitor.specification.model,
                RunRow.changed_at <= question.since,
            )
            .order_by(RunRow.id)
        )
        if has_ended(RunState(row.state))
    ]


def _datasets(
    session: Session,
    deciding: Sequence[ReferenceRow],
    runs: Sequence[RunRow],
    versions: Sequence[VersionRow],
) -> list[Row]:
    """Return the datasets of references and runs, and those that trained the versions."""
    wanted = {row.dataset for row in deciding}
    wanted |= {int(dataset) for run in runs for dataset in run.datasets.values()}
    digests = {
        data["digest"]
        for version in versions
        for part in (version, *lineage.ancestors(session, version))
        for data in part.card["training_data"]
        if data["digest"]
    }
    return [
        row
        for row in _rows(session, DatasetRow)
        if row["id"] in wanted or row["digest"] in digests
    ]


def _scans(session: Session, question: Question, datasets: Sequence[int]) -> dict[int, Row]:
    """Return the datasets' scans and those of the span, with the weeks before it."""
    unit = unit_watched(session, question.monitor)
    rows = _rows(
        session,
        ScanRow,
        ScanRow.unit == unit.value,
        ScanRow.arrived_at >= question.since - BEFORE,
        ScanRow.arrived_at < question.until,
    )
    found = {row["id"]: row for row in rows}
    of_datasets = select(DatasetMember.scan).where(DatasetMember.dataset.in_(datasets))
    for row in _rows(session, ScanRow, ScanRow.id.in_(of_datasets)):
        found[row["id"]] = row
    return dict(sorted(found.items()))


def _members(session: Session, scans: Iterable[int]) -> dict[int, list[Row]]:
    return _by_scan(_rows_in(session, ScanMemberRow, ScanMemberRow.scan, scans))


def _embeddings(
    session: Session, scans: Iterable[int], champion: VersionRow, encoder: VersionRow
) -> dict[int, list[Row]]:
    """Return what stands for each scan in both spaces, as the two versions' own.

    A later version that kept the encoder embeds as the one before it did.
    """
    found: dict[int, list[Row]] = {}
    spaces = [(version.space, version.id) for version in (champion, encoder)]
    for row in _rows_in(session, EmbeddingRow, EmbeddingRow.scan, scans):
        wanted = [version for space, version in spaces if space == row["space"]]
        if not wanted:
            continue
        own = found.setdefault(row["scan"], [])
        bare = _unnumbered(row)
        own += [{**bare, "version": version} for version in wanted if not _by(own, version)]
    return found


def _founded(
    session: Session,
    question: Question,
    scans: Mapping[int, Row],
    labels: Sequence[Row],
    datasets: Sequence[Row],
    deciding: Sequence[ReferenceRow],
    runs: Sequence[RunRow],
    refusals: Mapping[int, Sequence[Row]],
    members: Mapping[int, Sequence[Row]],
) -> dict[type[Base], list[Row]]:
    """Return the rows that stood there when the span began, in the order of foreign keys."""
    since, model = question.since, question.monitor.specification.model
    references_kept = {row.id for row in deciding}
    episodes = [run.episode for run in runs if run.episode is not None]
    versions = _rows(session, VersionRow, VersionRow.created_at <= since)
    before = [row for row in scans.values() if row["arrived_at"] < since]
    return {
        ModelRow: _rows(session, ModelRow),
        VersionRow: versions,
        MonitorRow: [_unheard(row) for row in _rows(session, MonitorRow)],
        PatientMergeRow: _rows(session, PatientMergeRow),
        ScanRow: before,
        RefusalRow: [row for scan in before for row in refusals.get(scan["id"], ())],
        ScanMemberRow: [row for scan in before for row in members.get(scan["id"], ())],
        DatasetRow: list(datasets),
        DatasetMember: _rows_in(
            session, DatasetMember, DatasetMember.dataset, [row["id"] for row in datasets]
        ),
        LabelRow: [row for row in labels if row["arrived_at"] < since],
        ReferenceRow: [
            {**row, "decides": row["accepted_at"] == deciding[-1].accepted_at}
            for row in _rows(session, ReferenceRow)
            if row["id"] in references_kept
        ],
        SubgroupReferenceRow: [
            row
            for row in _rows(session, SubgroupReferenceRow)
            if row["reference"] in references_kept
        ],
        VerdictRow: [
            row
            for row in _rows_in(session, VerdictRow, VerdictRow.reference, references_kept)
            if row["end"] <= since
        ],
        PlanRow: _rows(session, PlanRow, PlanRow.model == model, PlanRow.applied_at <= since),
        # For the runs that name them: what is open then is found anew by the replay.
        EpisodeRow: [
            {**row, "state": EpisodeState.CLOSED.value}
            for row in _rows_in(session, EpisodeRow, EpisodeRow.id, episodes)
        ],
        RunRow: [
            row for row in _rows(session, RunRow) if row["id"] in {run.id for run in runs}
        ],
        ReviewRow: _rows(
            session, ReviewRow, ReviewRow.model == model, ReviewRow.reviewed_at <= since
        ),
    }


def _unnumbered(row: Row) -> Row:
    """Let a row take the next number where it is put: others are made beside it."""
    del row["id"]
    return row


def _unheard(row: Row) -> Row:
    """Return a monitor that watches for no silence: what lacks then lacked whatever the plan."""
    return {**row, "specification": {**row["specification"], "silence": None}}


def _moves(session: Session, question: Question) -> list[tuple[str, str, datetime]]:
    model = question.monitor.specification.model
    return [
        (row.kind, row.subject, row.recorded_at)
        for row in session.scalars(
            select(LedgerEntry)
            .where(
                LedgerEntry.kind.in_(("champion.promoted", "champion.rolled_back")),
                LedgerEntry.recorded_at <= question.since,
            )
            .order_by(LedgerEntry.sequence)
        )
        if row.subject.startswith(f"{model}@")
    ]


def _rows(session: Session, table: type[Base], *where: ColumnElement[bool]) -> list[Row]:
    """Return a table's rows by their columns, ordered by key."""
    columns = table_of(table)
    query = select(columns).where(*where).order_by(*columns.primary_key.columns)
    # Not by the session itself, which would look for objects to make of each row.
    found = session.connection().execute(query)
    names = tuple(found.keys())
    return [dict(zip(names, row, strict=True)) for row in found]


def _rows_in(
    session: Session, table: type[Base], column: Any, values: Iterable[int]
) -> list[Row]:
    """Return the rows whose column has one of the values, however many these are."""
    wanted = sorted(set(values))
    found: list[Row] = []
    for start in range(0, len(wanted), _AT_ONCE):
        part = wanted[start : start + _AT_ONCE]
        if part[-1] - part[0] < _DENSE * len(part):
            # Named by their ends: a statement with thousands of numbers is slow to make.
            among, name = set(part), column.key
            between = _rows(session, table, column.between(part[0], part[-1]))
            found += [row for row in between if row[name] in among]
        else:
            found += _rows(session, table, column.in_(part))
    return found


def table_of(table: type[Base]) -> Table:
    """Return a table by its columns, without the objects that its rows make."""
    found = table.__table__
    assert isinstance(found, Table)  # noqa: S101 - every one of ours is
    return found


def _by_scan(rows: Iterable[Row]) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(row["scan"], []).append(row)
    return found


def _by(rows: Iterable[Row], version: int) -> bool:
    return any(row["version"] == version for row in rows)
