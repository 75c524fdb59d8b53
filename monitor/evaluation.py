"""Evaluation: what the detectors say of one window, and whether it makes an alarm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor import embeddings, references, subgroup_references, verdict_history
from monitor.embeddings import EmbeddedScans
from monitor.localising import SubgroupVerdict
from monitor.monitors import Monitor
from monitor.profiles import LEAST_WINDOW_PATIENTS, ReferenceProfile, Verdict
from monitor.references import ProfileStore
from monitor.subgroup_references import Yardstick
from monitor.subgroups import Subgroup, subgroups_of
from monitor.tables import ReferenceRow, ScanRow, VerdictRow
from monitor.unstated import no_longer_stated
from monitor.windows import Window
from registry import ledger
from registry.canonical import Json
from registry.errors import NotFoundError

#: A window that shows no more than this shows nothing: an alarm needs a far smaller p-value.
QUIET_LEVEL = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceVerdict:
    """A window against one reference."""

    reference: ReferenceRow
    #: of the window, in the order of their ids
    scans: tuple[ScanRow, ...]
    verdict: Verdict
    subgroups: tuple[SubgroupVerdict, ...]
    #: of this window with those before it
    persistence_p_value: float
    #: start of the first of the windows that persisted
    onset: datetime
    #: subgroups that were not tested, and why
    notes: tuple[str, ...]

    @property
    def p_value(self) -> float:
        """Of all scans and every subgroup: half of the budget for either."""
        return self._combined(
            self.persistence_p_value,
            [item.adjusted_persistence_p_value for item in self.subgroups],
        )

    @property
    def lasting_p_value(self) -> float:
        """The same, of what this window shows, too.

        The rule judges blocks of two windows with the one before. So a shift that ended
        before this window still has its small p-value here; it alarmed when it was there.
        """
        return self._combined(
            self.persistence_p_value if shows(self.verdict) else 1.0,
            [
                item.adjusted_persistence_p_value if shows(item.verdict) else 1.0
                for item in self.subgroups
            ],
        )

    @staticmethod
    def _combined(everything: float, subgroups: Sequence[float]) -> float:
        if not subgroups:
            return everything
        return min(1.0, 2.0 * min(everything, *subgroups))


def shows(verdict: Verdict) -> bool:
    """Return whether a window shows anything by itself."""
    return verdict.alarm_p_value <= QUIET_LEVEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Everything that was concluded from one window."""

    monitor: Monitor
    window: Window
    verdicts: tuple[ReferenceVerdict, ...]
    #: what was not judged, and why
    notes: tuple[str, ...]
    #: over every deciding reference, all scans and subgroups; None if none could judge
    p_value: float | None
    alpha: float
    #: one of the monitor's own windows, that has ended: others are judged, and nothing follows
    scheduled: bool
    #: its verdicts are stored: what follows from them did when they were
    judged_before: bool

    @property
    def alarm(self) -> bool:
        """Whether a shift persisted that this window shows, too."""
        lasting = [item.lasting_p_value for item in self.deciding]
        return self.scheduled and bool(lasting) and min(lasting) * len(lasting) <= self.alpha

    @property
    def deciding(self) -> tuple[ReferenceVerdict, ...]:
        return tuple(item for item in self.verdicts if item.reference.decides)


def evaluate(
    session: Session, store: ProfileStore, monitor: Monitor, window: Window, *, now: datetime
) -> Evaluation:
    """Compare a window with every current reference of a monitor.

    Parameters
    ----------
    now : a window that has not ended is not what its monitor judges

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
    # The trend is judged by the same embeddings as the monitoring encoder's newest reference.
    read: dict[int, EmbeddedScans] = {}
    for row in rows:
        if row.version not in read:
            read[row.version] = embeddings.in_window(session, row.version, window)
        scans = read[row.version]
        if scans.unusable:
            count = f"{scans.unusable} scan{'s' * (scans.unusable > 1)}"
            notes.append(f"{row.encoder} encoder: embeddings that are no numbers, of {count}")
        if len(scans) < monitor.specification.floor:
            notes.append(
                f"{row.encoder} encoder: {len(scans)} scans are fewer than the floor of "
                f"{monitor.specification.floor}; no verdict"
            )
            continue
        found.append(_judge(session, store, monitor, window, row, scans))
    deciding = [item for item in found if item.reference.decides]
    notes += _said(found)
    smallest = min((item.p_value for item in deciding), default=None)
    return Evaluation(
        monitor=monitor,
        window=window,
        verdicts=tuple(found),
        notes=tuple(notes),
        # Bonferroni over the encoders, whose verdicts are dependent in an unknown way.
        p_value=None if smallest is None else min(1.0, smallest * len(deciding)),
        alpha=monitor.specification.block_alpha,
        scheduled=window.end <= now
        and verdict_history.is_scheduled(monitor.specification, window),
        judged_before=verdict_history.is_judged(session, monitor.name, window),
    )


def _said(found: Sequence[ReferenceVerdict]) -> list[str]:
    """Return what was not judged, with the encoder where only some of them say so."""
    said: dict[str, list[str]] = {}
    for item in found:
        for note in item.notes:
            said.setdefault(note, []).append(item.reference.encoder)
    return [
        note
        if len(encoders) == len(found)
        else f"{' and '.join(dict.fromkeys(encoders))} encoder: {note}"
        for note, encoders in said.items()
    ]


def _judge(
    session: Session,
    store: ProfileStore,
    monitor: Monitor,
    window: Window,
    row: ReferenceRow,
    scans: EmbeddedScans,
) -> ReferenceVerdict:
    profile = store.load(row.profile_digest)
    verdict = _check(profile, window, row, scans)
    persistence, onset = verdict_history.persistence(
        session, profile, monitor, window, row, verdict
    )
    tested, notes = _subgroups(session, store, monitor, window, row, scans)
    return ReferenceVerdict(
        reference=row,
        scans=scans.scans,
        verdict=verdict,
        subgroups=tuple(tested),
        persistence_p_value=persistence,
        onset=onset,
        notes=(
            *notes,
            *no_longer_stated(
                session,
                row,
                scans.scans,
                monitor.specification.subgroup_attributes,
                floor=monitor.specification.floor,
            ),
        ),
    )


def _check(
    profile: ReferenceProfile, window: Window, row: ReferenceRow, scans: EmbeddedScans
) -> Verdict:
    return profile.check(
        scans.vectors,
        scans.patients,
        weeks=scans.weeks(window.start),
        space=row.space,
        # A scanner that sends blank images is what an alarm is for.
        copies=True,
    )


def _subgroups(
    session: Session,
    store: ProfileStore,
    monitor: Monitor,
    window: Window,
    row: ReferenceRow,
    scans: EmbeddedScans,
) -> tuple[list[SubgroupVerdict], list[str]]:
    """Test every subgroup that is large enough, and say which could not be tested."""
    spec = monitor.specification
    known = subgroup_references.of_reference(session, row)
    tested: list[tuple[Subgroup, EmbeddedScans, Yardstick, Verdict, float, datetime]] = []
    notes: list[str] = []
    for subgroup, belongs in subgroups_of(
        scans.scans, spec.subgroup_attributes, at_least=spec.floor
    ):
        part = scans.where(belongs)
        yardstick = subgroup_references.yardstick(row, known, subgroup, part.scans)
        if isinstance(yardstick, str):
            notes.append(f"{subgroup}: {yardstick}")
            continue
        if len(set(part.patients)) < LEAST_WINDOW_PATIENTS:
            notes.append(f"{subgroup}: fewer than {LEAST_WINDOW_PATIENTS} patients")
            continue
        profile = store.load(yardstick.profile_digest)
        verdict = _check(profile, window, row, part)
        persistence, onset = verdict_history.persistence(
            session, profile, monitor, window, row, verdict, subgroup=str(subgroup)
        )
        tested.append((subgroup, part, yardstick, verdict, persistence, onset))
    now = benjamini_hochberg([verdict.alarm_p_value for _, _, _, verdict, _, _ in tested])
    lasting = benjamini_hochberg([persistence for *_, persistence, _ in tested])
    return [
        SubgroupVerdict(
            subgroup=subgroup,
            scans=frozenset(scan.id for scan in part.scans),
            verdict=verdict,
            profile_digest=yardstick.profile_digest,
            compared_with=yardstick.subgroup,
            adjusted_p_value=adjusted,
            persistence_p_value=persistence,
            adjusted_persistence_p_value=adjusted_persistence,
            onset=onset,
        )
        for (subgroup, part, yardstick, verdict, persistence, onset), adjusted, (
            adjusted_persistence
        ) in zip(tested, now, lasting, strict=True)
    ], notes


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


def leading(evaluation: Evaluation) -> ReferenceVerdict:
    """Return the deciding verdict with the smallest p-value.

    Raises
    ------
    NotFoundError
        If no reference could judge the window.
    """
    if not evaluation.deciding:
        raise NotFoundError(f"no verdict on {evaluation.window}: {'; '.join(evaluation.notes)}")
    return min(evaluation.deciding, key=lambda item: item.p_value)


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
        parts: list[tuple[str, Verdict, float, dict[str, Json]]] = [
            ("", item.verdict, item.persistence_p_value, {})
        ]
        parts += [
            (
                str(part.subgroup),
                part.verdict,
                part.persistence_p_value,
                {
                    "adjusted": part.adjusted_p_value,
                    "compared_with": str(part.compared_with) if part.compared_with else None,
                },
            )
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
    persistence: float,
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
