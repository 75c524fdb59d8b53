"""Evaluation: what the detectors say of one window, and whether it makes an alarm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor import embeddings, references
from monitor.embeddings import EmbeddedScans
from monitor.monitors import Monitor, MonitorSpecification
from monitor.profiles import ReferenceProfile, Verdict
from monitor.references import ProfileStore
from monitor.subgroups import Subgroup
from monitor.tables import ReferenceRow, VerdictRow
from monitor.windows import Window, complete_windows
from registry import ledger
from registry.canonical import Json
from registry.errors import NotFoundError

#: An episode opens after two windows in a row, so the budget is kept by blocks of two.
WINDOWS_PER_BLOCK = 2
WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubgroupVerdict:
    """A verdict on one subgroup, its p-value adjusted for how many were tested."""

    subgroup: Subgroup
    verdict: Verdict
    adjusted_p_value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceVerdict:
    """A window against one reference."""

    reference: ReferenceRow
    verdict: Verdict
    subgroups: tuple[SubgroupVerdict, ...]
    #: of this window with those before it
    persistence_p_value: float
    #: start of the first of the windows that persisted
    onset: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Everything that was concluded from one window."""

    monitor: Monitor
    window: Window
    verdicts: tuple[ReferenceVerdict, ...]
    #: references that are too large or windows that are too small to be judged
    notes: tuple[str, ...]
    #: over every deciding reference; None if none could judge
    p_value: float | None
    alpha: float

    @property
    def alarm(self) -> bool:
        return self.p_value is not None and self.p_value <= self.alpha

    @property
    def deciding(self) -> tuple[ReferenceVerdict, ...]:
        return tuple(item for item in self.verdicts if item.reference.decides)


def block_alpha(monitor: Monitor) -> float:
    """Return the alarm budget of one block of two windows, from the budget a week."""
    blocks_per_week = WEEK / (monitor.specification.window_length * WINDOWS_PER_BLOCK)
    return monitor.specification.alpha_per_week / blocks_per_week


def position(monitor: Monitor, window: Window) -> int:
    """Return how many windows lie between the monitor's anchor and this one."""
    spec = monitor.specification
    return round((window.start - spec.anchor) / spec.window_length)


def evaluate(
    session: Session, store: ProfileStore, monitor: Monitor, window: Window
) -> Evaluation:
    """Compare a window with every current reference of a monitor.

    Raises
    ------
    NotFoundError
        If the monitor has no reference yet.
    """
    rows = references.deciding(session, monitor.name)
    trend = references.trend(session, monitor.name)
    if trend is None or not rows:
        raise NotFoundError(
            f"monitor {monitor.name} has no reference yet: "
            f"`driftward reference build {monitor.name}`"
        )
    if trend.id not in {row.id for row in rows}:
        rows.append(trend)
    found: list[ReferenceVerdict] = []
    notes: list[str] = []
    for row in rows:
        scans = embeddings.in_window(session, row.version, window)
        if len(scans) < monitor.specification.floor:
            notes.append(
                f"{row.encoder} encoder: {len(scans)} scans are fewer than the floor of "
                f"{monitor.specification.floor}; no verdict"
            )
            continue
        found.append(
            _judge(session, store.load(row.profile_digest), monitor, window, row, scans)
        )
    deciding = [item for item in found if item.reference.decides]
    smallest = min((item.persistence_p_value for item in deciding), default=None)
    return Evaluation(
        monitor=monitor,
        window=window,
        verdicts=tuple(found),
        notes=tuple(notes),
        # Bonferroni over the encoders, whose verdicts are dependent in an unknown way.
        p_value=None if smallest is None else min(1.0, smallest * len(deciding)),
        alpha=block_alpha(monitor),
    )


def _judge(
    session: Session,
    profile: ReferenceProfile,
    monitor: Monitor,
    window: Window,
    row: ReferenceRow,
    scans: EmbeddedScans,
) -> ReferenceVerdict:
    verdict = profile.check(
        scans.vectors, scans.patients, weeks=scans.weeks(window.start), space=row.space
    )
    persistence, onset = _persistence(session, profile, monitor, window, row, verdict)
    return ReferenceVerdict(
        reference=row,
        verdict=verdict,
        subgroups=tuple(_subgroups(profile, monitor, window, row, scans)),
        persistence_p_value=persistence,
        onset=onset,
    )


def _subgroups(
    profile: ReferenceProfile,
    monitor: Monitor,
    window: Window,
    row: ReferenceRow,
    scans: EmbeddedScans,
) -> list[SubgroupVerdict]:
    tested: list[tuple[Subgroup, Verdict]] = []
    for attribute in monitor.specification.subgroup_attributes:
        values = {getattr(scan, attribute.value) for scan in scans.scans} - {None}
        for value in sorted(values):
            subgroup = Subgroup(attribute=attribute, value=value)
            part = scans.where([subgroup.holds(scan) for scan in scans.scans])
            if len(part) >= monitor.specification.floor:
                verdict = profile.check(
                    part.vectors,
                    part.patients,
                    weeks=part.weeks(window.start),
                    space=row.space,
                )
                tested.append((subgroup, verdict))
    adjusted = benjamini_hochberg([verdict.alarm_p_value for _, verdict in tested])
    return [
        SubgroupVerdict(subgroup=subgroup, verdict=verdict, adjusted_p_value=p_value)
        for (subgroup, verdict), p_value in zip(tested, adjusted, strict=True)
    ]


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for the false-discovery rate.

    Benjamini and Hochberg (1995), JRSS B 57:289-300.

    >>> benjamini_hochberg([0.01, 0.04, 0.03])
    [0.03, 0.04, 0.04]
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index], reverse=True)
    adjusted, smallest = [1.0] * len(p_values), 1.0
    for rank, index in zip(range(len(p_values), 0, -1), order, strict=True):
        smallest = min(smallest, p_values[index] * len(p_values) / rank)
        adjusted[index] = smallest
    return adjusted


def _persistence(
    session: Session,
    profile: ReferenceProfile,
    monitor: Monitor,
    window: Window,
    row: ReferenceRow,
    verdict: Verdict,
) -> tuple[float, datetime]:
    """Return the p-value of two windows in a row, and when the run of them began.

    The rule is calibrated over a block of two windows and the one before it
    (DESIGN: budget a week). A window that was not judged stands in as 1, and
    so does the one that is still to come in mid-block: both only make the
    rule stricter.
    """
    length = monitor.specification.window_length
    earlier = 1 + position(monitor, window) % WINDOWS_PER_BLOCK
    p_values: list[float] = []
    sizes: list[int] = []
    starts = [window.start - length * back for back in range(earlier, 0, -1)]
    for start in starts:
        before = session.scalars(
            select(VerdictRow).where(
                VerdictRow.reference == row.id,
                VerdictRow.start == start,
                VerdictRow.subgroup == "",
            )
        ).first()
        p_values.append(before.alarm_p_value if before else 1.0)
        sizes.append(before.patients if before else verdict.patients)
    p_values.append(verdict.alarm_p_value)
    sizes.append(verdict.patients)
    while len(p_values) <= WINDOWS_PER_BLOCK:
        p_values.append(1.0)
        sizes.append(verdict.patients)
    pairs = [max(pair) for pair in pairwise(p_values)]
    first = min(range(len(pairs)), key=lambda index: pairs[index])
    return (
        profile.persistence_p_value(p_values, sizes),
        (*starts, window.start)[first],
    )


def store_verdicts(
    session: Session, evaluation: Evaluation, *, actor: str, at: datetime
) -> None:
    """Store an evaluation's verdicts; those that are stored already stay as they are."""
    stored = {
        (row.reference, row.subgroup)
        for row in session.scalars(
            select(VerdictRow).where(
                VerdictRow.monitor == evaluation.monitor.name,
                VerdictRow.start == evaluation.window.start,
                VerdictRow.end == evaluation.window.end,
            )
        )
    }
    rows: list[VerdictRow] = []
    for item in evaluation.verdicts:
        parts: list[tuple[str, Verdict, float | None, dict[str, Json]]] = [
            ("", item.verdict, item.persistence_p_value, {})
        ]
        parts += [
            (str(part.subgroup), part.verdict, None, {"adjusted": part.adjusted_p_value})
            for part in item.subgroups
        ]
        rows += [
            _row(evaluation, item.reference, subgroup, verdict, persistence, extra, at)
            for subgroup, verdict, persistence, extra in parts
            if (item.reference.id, subgroup) not in stored
        ]
    if not rows:
        return
    session.add_all(rows)
    session.flush()
    ledger.append(
        session,
        at=at,
        actor=actor,
        kind="window.evaluated",
        subject=evaluation.monitor.name,
        facts={
            "window": str(evaluation.window),
            "p_value": evaluation.p_value,
            "alpha": evaluation.alpha,
            "alarm": evaluation.alarm,
            "notes": list(evaluation.notes),
        },
        seals=rows,
    )


def _row(
    evaluation: Evaluation,
    reference: ReferenceRow,
    subgroup: str,
    verdict: Verdict,
    persistence: float | None,
    extra: Mapping[str, Json],
    at: datetime,
) -> VerdictRow:
    return VerdictRow(
        monitor=evaluation.monitor.name,
        reference=reference.id,
        start=evaluation.window.start,
        end=evaluation.window.end,
        subgroup=subgroup,
        scans=verdict.scans,
        patients=verdict.patients,
        p_value=verdict.p_value,
        week_p_value=verdict.week_p_value,
        effect=verdict.effect.value,
        effect_low=verdict.effect.low,
        effect_high=verdict.effect.high,
        ordinary_effect=verdict.ordinary_effect,
        smallest_effect=verdict.smallest_effect,
        persistence_p_value=persistence,
        detail={
            "detectors": {
                name: {
                    "p_value": part.p_value,
                    "statistic": part.statistic,
                    "effect": part.effect,
                }
                for name, part in verdict.detectors.items()
            },
            "subsampled": verdict.subsampled,
            "seed": verdict.seed,
            **extra,
        },
        created_at=at,
    )


def unjudged_windows(session: Session, monitor: Monitor, *, until: datetime) -> list[Window]:
    """Return the windows that have ended and have no verdict of a deciding reference yet.

    Windows that ended before the reference was accepted are left out.
    """
    rows = references.deciding(session, monitor.name)
    if not rows:
        return []
    judged = set(
        session.scalars(
            select(VerdictRow.start).where(
                VerdictRow.reference.in_([row.id for row in rows]), VerdictRow.subgroup == ""
            )
        )
    )
    since = max(row.accepted_at for row in rows)
    spec = monitor.specification
    return [
        window
        for window in complete_windows(spec.anchor, spec.window_length, until=until)
        if window.start not in judged and window.end > since
    ]


def newest_window(specification: MonitorSpecification, *, until: datetime) -> Window:
    """Return the newest window that has ended by `until`.

    Raises
    ------
    NotFoundError
        If the first one has not.
    """
    spec = specification
    windows = list(complete_windows(spec.anchor, spec.window_length, until=until))
    if not windows:
        raise NotFoundError(
            f"the first window of {spec.name} ends {spec.anchor + spec.window_length}: "
            "name one with --since and --until"
        )
    return windows[-1]


def leading(evaluation: Evaluation) -> ReferenceVerdict:
    """Return the deciding verdict with the smallest persistence p-value.

    Raises
    ------
    NotFoundError
        If no reference could judge the window.
    """
    if not evaluation.deciding:
        raise NotFoundError(f"no verdict on {evaluation.window}: {'; '.join(evaluation.notes)}")
    return min(evaluation.deciding, key=lambda item: item.persistence_p_value)
