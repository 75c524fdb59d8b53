"""Monitors: what is watched, with which encoder, in which windows, at which alarm budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.following.settings import StreamSettings
from monitor.known_sites import unknown_sites
from monitor.silence.settings import SilenceSettings
from monitor.subgroups import Attribute
from monitor.tables import MonitorRow, ReferenceRow
from registry import ledger, serving
from registry.canonical import digest_of
from registry.errors import MonitorSpecError, NotFoundError
from registry.version_units import require_one_unit
from registry.versions import VersionRow, find, ref, require_model, tasks_of
from registry.yaml_files import Location, at_key, read_specification

WEEK = timedelta(days=7)
#: An episode opens after two windows in a row, so the budget is kept by blocks of two.
WINDOWS_PER_BLOCK = 2
#: Shortest and longest window.
WINDOW_HOURS = (1, 8_784)
#: Years of the first window's start: from the first on, and before the second.
ANCHOR_YEARS = (1990, 2100)
#: Of a block of windows; beyond it chance would be as good a judge.
LARGEST_ALPHA = 0.5


class MonitorSpecification(BaseModel):
    """A monitor as it stands in its YAML file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    model: str
    task: str
    #: NAME@NUMBER of a fixed encoder that runs beside the champion
    monitoring_encoder: str
    window_hours: Annotated[float, Field(gt=0)]
    #: where the first window starts
    anchor: AwareDatetime
    #: chance of one false alarm a week, over all that can raise it
    alpha_per_week: Annotated[float, Field(gt=0, lt=0.5)]
    subgroup_attributes: list[Attribute]
    #: fewest scans at which a window, or a subgroup of it, is tested
    floor: Annotated[int, Field(ge=20)]
    #: how missing and surplus scans are watched for; None, and they are not
    silence: SilenceSettings | None = Field(default_factory=SilenceSettings)
    #: how scans are followed one by one; None, and they are not
    stream: StreamSettings | None = Field(default_factory=StreamSettings)

    @property
    def window_length(self) -> timedelta:
        return timedelta(hours=self.window_hours)

    @property
    def block_alpha(self) -> float:
        """The alarm budget of one block of two windows, from the budget a week."""
        return self.alpha_per_week * (WINDOWS_PER_BLOCK * self.window_length / WEEK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitor:
    """A monitor in force."""

    name: str
    specification: MonitorSpecification
    digest: str
    applied_at: datetime


def parse_monitor(text: str, *, source: str) -> MonitorSpecification:
    """Read a specification.

    Raises
    ------
    MonitorSpecError
        Naming the file, the line and the key.
    """
    return read_specification(
        text,
        MonitorSpecification,
        source=source,
        what="a monitor; see docs/monitors.md",
        error=MonitorSpecError,
    )


def apply_file(
    session: Session, text: str, *, source: str, actor: str, at: datetime
) -> Monitor:
    """Put a file's monitor into force, or change it.

    Raises
    ------
    MonitorSpecError
        Naming the file, the line and the key; also where a holiday's site never sent a scan, or
        a value is one that nobody can mean.
    NotFoundError
        If there is no such model or encoder.
    """
    specification = parse_monitor(text, source=source)
    holidays = specification.silence.holidays if specification.silence is not None else ()
    sites = [
        (("silence", "holidays", place, "sites"), holiday.sites or ())
        for place, holiday in enumerate(holidays)
    ]
    for key, problem in (*_senseless(specification), *unknown_sites(session, sites)):
        raise MonitorSpecError(f"{at_key(text, key, source=source)}{problem}")
    return apply_monitor(session, specification, actor=actor, at=at)


def _senseless(spec: MonitorSpecification) -> Iterator[tuple[Location, str]]:
    """Yield the keys whose values nobody can mean, each with what is wrong.

    Looked at when a file is applied and not when a monitor is read: what is in force stays
    readable.
    """
    shortest, longest = WINDOW_HOURS
    if not shortest <= spec.window_hours <= longest:
        yield ("window_hours",), f"a window lasts {shortest} to {longest:,} hours (a year)"
        return
    earliest, latest = ANCHOR_YEARS
    if not earliest <= spec.anchor.year < latest:
        yield ("anchor",), f"the first window starts from {earliest} on and before {latest}"
    if spec.block_alpha >= LARGEST_ALPHA:
        yield (
            ("alpha_per_week",),
            f"{spec.alpha_per_week:g} a week is {spec.block_alpha:.2g} over two windows of "
            f"{spec.window_hours:g} hours, of which more would alarm by chance than not: lower "
            "it, or shorten the windows",
        )
    if len(set(spec.subgroup_attributes)) < len(spec.subgroup_attributes):
        yield ("subgroup_attributes",), "name each attribute once"


def apply_monitor(
    session: Session, specification: MonitorSpecification, *, actor: str, at: datetime
) -> Monitor:
    """Put a monitor into force, or change it; the same specification again changes nothing.

    Raises
    ------
    NotFoundError
        If there is no such model or encoder.
    MonitorSpecError
        If the model and its encoder read scans in different units, the champion has no such
        task, or the monitor has references of another model or encoder.
    """
    require_model(session, specification.model)
    fixed = find(session, specification.monitoring_encoder)
    champion = serving.champion(session, specification.model)
    require_one_unit([fixed] if champion is None else [fixed, champion])
    if champion is not None:
        _require_task(champion, specification.task)
    document = specification.model_dump(mode="json")
    digest = digest_of(document)
    row = session.get(MonitorRow, specification.name)
    if row is not None and row.digest == digest:
        return _read(row)
    if row is not None:
        _require_what_references_are_of(session, row, specification)
    if row is None:
        row = MonitorRow(name=specification.name)
        session.add(row)
    row.model, row.specification, row.digest = specification.model, document, digest
    row.applied_at = at
    ledger.append(
        session,
        at=at,
        actor=actor,
        kind="monitor.applied",
        subject=specification.name,
        facts={"digest": digest, "specification": document},
        seals=[row],
    )
    return _read(row)


def _require_task(champion: VersionRow, task: str) -> None:
    names = [one.name for one in tasks_of(champion)]
    # A version from before tasks were kept names none.
    if names and task not in names:
        raise MonitorSpecError(
            f"task: {ref(champion)} has no task {task}; it has {', '.join(names)}"
        )


def _require_what_references_are_of(
    session: Session, row: MonitorRow, specification: MonitorSpecification
) -> None:
    """Refuse another model or encoder where references, verdicts and streams are of the one before.

    Scans are embedded by what the specification names, so that the others would get none.
    """
    before = _read(row).specification
    for key in ("model", "monitoring_encoder"):
        kept, wanted = getattr(before, key), getattr(specification, key)
        if kept == wanted:
            continue
        known = select(ReferenceRow.id).where(ReferenceRow.monitor == row.name).limit(1)
        if session.scalars(known).first() is not None:
            raise MonitorSpecError(
                f"{key}: monitor {row.name} has references, verdicts and streams of {kept}: give "
                f"the monitor with {wanted} a name of its own"
            )


def require_monitor(session: Session, name: str) -> Monitor:
    """Return the monitor of that name.

    Raises
    ------
    NotFoundError
        Naming the monitors that do exist.
    """
    row = session.get(MonitorRow, name)
    if row is None:
        have = ", ".join(monitor.name for monitor in all_monitors(session))
        raise NotFoundError(f"there is no monitor {name}: {have or 'none was applied yet'}")
    return _read(row)


def all_monitors(session: Session) -> list[Monitor]:
    """Return every monitor, by name."""
    return [_read(row) for row in session.scalars(select(MonitorRow).order_by(MonitorRow.name))]


def _read(row: MonitorRow) -> Monitor:
    return Monitor(
        name=row.name,
        specification=MonitorSpecification.model_validate(row.specification),
        digest=row.digest,
        applied_at=row.applied_at,
    )
