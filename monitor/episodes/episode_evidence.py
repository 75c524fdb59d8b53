"""What an episode carries: where the shift is, since when, its cause, and what shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from monitor import embeddings
from monitor.datasets import members
from monitor.embeddings import EmbeddedScans
from monitor.episodes.attributing import Attributor
from monitor.episodes.causes import NEW_SHARE, Diagnosis, ShiftEvidence, diagnose, shares
from monitor.episodes.further_shifts import PlacedShift
from monitor.episodes.metadata_shift import AttributeShift, metadata_shifts
from monitor.evaluation import Evaluation, ReferenceVerdict, leading
from monitor.kept_answers import once
from monitor.localising import Place, SubgroupVerdict, locate
from monitor.profiles import ReferenceProfile, Verdict
from monitor.references import ProfileStore
from monitor.statistics.embeddings import Floats
from monitor.subgroups import ACQUISITION, HIERARCHY, Attribute, Subgroup, value_of
from monitor.tables import EpisodeRow, ScanRow
from monitor.windows import Window
from registry.canonical import Json
from registry.errors import NotFoundError

#: How many of the heaviest scans an episode keeps to be shown.
HEAVIEST = 12
#: How many detectors and subgroups it names.
NAMED = 6
OUTLIER_QUANTILE = 0.95
#: Before an onset that no place has told, it is looked for so far back.
LOOKED_BACK = timedelta(weeks=4)
#: A subgroup's scans alone have a value if it and the value share so much of either.
ALONE_SHARE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmEvidence:
    """What was found when an alarm was raised."""

    diagnosis: Diagnosis
    dated: KnownOnset
    verdict: Verdict
    #: [{scan, weight}], heaviest first
    heaviest: tuple[Json, ...]
    #: everything, as the episode keeps it
    document: dict[str, Json]

    @property
    def onset(self) -> datetime:
        return self.dated.onset


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownOnset:
    """When a shift began, told scan by scan."""

    #: against which it was seen, by id
    reference: int
    onset: datetime
    #: between which it began: by a stream in 9 of 10 cases, else in 19 of 20
    low: datetime
    high: datetime
    #: the scans of its place alone told it, among which it does not dilute
    by_place: bool = False

    @property
    def interval(self) -> list[Json]:
        return [self.low.isoformat(), self.high.isoformat()]

    def surer_than(self, other: KnownOnset) -> bool:
        return self.high - self.low < other.high - other.low


def gather(
    session: Session,
    store: ProfileStore,
    evaluation: Evaluation,
    *,
    attributor: Attributor | None = None,
    known: KnownOnset | None = None,
    placed: PlacedShift | None = None,
) -> AlarmEvidence:
    """Find out what an alarm is about.

    Parameters
    ----------
    attributor : reads the shift's pattern, and metadata are then tested, too; without it, new
        equipment and place alone tell the cause
    known : of a stream's alarm; the evaluation is then one of the scans since its onset, and
        must have judged them against that reference
    placed : where the shift is, if it is one of several

    Raises
    ------
    NotFoundError
        If no reference could judge the window.
    """
    window = evaluation.window
    spec = evaluation.monitor.specification
    attributes = (*ACQUISITION, *spec.subgroup_attributes)
    if placed is not None:
        seen = _Seen.of(session, placed.item, attributes, place=placed.place)
    elif known is not None:
        seen = _Seen.of(session, _against(evaluation, known.reference), attributes)
    else:
        seen = _most_telling(session, evaluation, attributes)
    item, place, known_scans, known_shares = seen.item, seen.place, seen.known, seen.shares
    carrier = place.carrier
    verdict = carrier.verdict if carrier else item.verdict
    profile = store.load(carrier.profile_digest if carrier else item.reference.profile_digest)
    began = carrier.onset if carrier else item.onset
    if known is not None:
        began = known.onset
    # What came before the first window is the reference's own past.
    earliest = min(began, max(began - spec.window_length, spec.anchor))
    dated_so_far = known.onset if known else _dated_without_place(session, evaluation)
    if dated_so_far is not None and carrier is not None:
        earliest = _looked_back_to(session, evaluation, item, min(began, dated_so_far))
    around = _placed(
        embeddings.in_window(
            session, item.reference.version, Window(start=earliest, end=window.end)
        ),
        place,
    )
    since = [scan.arrived_at >= began for scan in around.scans]
    shifted = around.where(since)
    if known is not None and carrier is None:
        dated, weights = known, profile.scan_weights(shifted.vectors, shifted.patients)
    else:
        dated, weights = _onset(item.reference.id, profile, around, since)
        dated = replace(dated, by_place=carrier is not None)
        # A place that is not the shift's tells it less surely than all scans do.
        if known is not None and not (known.by_place or dated.surer_than(known)):
            dated = known
    onset = dated.onset
    displaced = float(np.mean(profile.scan_scores(shifted.vectors) > OUTLIER_QUANTILE))
    # The first of the windows that persisted may have begun before the shift did.
    since_onset = [scan for scan in around.scans if scan.arrived_at >= onset]
    attributed = attributor and attributor.attribute(
        session,
        evaluation.monitor,
        Window(start=min(onset, window.start), end=window.end),
        place.subgroup,
    )
    metadata = _metadata(known_scans, shifted, place, attributes) if attributor else ()
    diagnosis = diagnose(
        ShiftEvidence(
            place=place,
            tested=item.subgroups,
            reference_shares=known_shares,
            place_shares=_shares(since_onset, attributes),
            displaced_share=displaced,
            pattern=attributed.attribution if attributed else None,
            no_pattern=(attributed.reason or "") if attributed else "",
            unread=attributed.unread if attributed else 0,
            prevalence=attributed.prevalence_words() if attributed else "",
            metadata=[one.words() for one in metadata],
            scans=len(shifted),
            shared=shifted.shared(),
        )
    )
    return AlarmEvidence(
        diagnosis=diagnosis,
        dated=dated,
        verdict=verdict,
        heaviest=_heaviest(weights, shifted),
        document={
            "diagnosis": diagnosis.to_dict(),
            "pattern": attributed.to_dict() if attributed else None,
            "metadata": [one.to_dict() for one in metadata],
            "place": place.reason,
            "onset_interval": dated.interval,
            "displaced_share": displaced,
            "window": str(window),
            "encoder": item.reference.encoder,
            # A stream holds its wealth against a budget, and no p-value against a level.
            "alpha": evaluation.alpha if known is None else None,
            "effect": [verdict.effect.value, verdict.effect.low, verdict.effect.high],
            "ordinary_effect": verdict.ordinary_effect,
            "smallest_effect": verdict.smallest_effect,
            "detectors": _detectors(verdict),
            "subgroups": _subgroups(item),
            "not_judged": list(evaluation.notes),
            **_beside(placed),
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A verdict on the window, where it says that the shift is, and its reference's scans."""

    item: ReferenceVerdict
    place: Place
    known: Sequence[ScanRow]
    shares: Mapping[Attribute, Mapping[str, float]]

    @classmethod
    def of(
        cls,
        session: Session,
        item: ReferenceVerdict,
        attributes: Sequence[Attribute],
        *,
        place: Place | None = None,
    ) -> _Seen:
        """Locate a verdict's shift, unless its place is known."""
        known = members(session, item.reference.dataset)
        known_shares = once(
            session,
            ("shares", item.reference.dataset, tuple(attributes)),
            lambda: _shares(known, attributes),
        )
        return cls(
            item=item,
            place=place
            or locate(
                item.subgroups,
                scans=item.verdict.scans,
                new_values=_new_values(item.scans, known_shares, item.subgroups),
            ),
            known=known,
            shares=known_shares,
        )


def _most_telling(
    session: Session, evaluation: Evaluation, attributes: Sequence[Attribute]
) -> _Seen:
    """Return what sees the shift most clearly, or what comes next and says where it is.

    In one space all subgroups may seem to have moved, or none by itself, while another tells
    which of them did.
    """
    clearest = _Seen.of(session, leading(evaluation), attributes)
    if clearest.place.carrier is not None:
        return clearest
    for item in sorted(evaluation.deciding, key=lambda item: item.p_value)[1:]:
        seen = _Seen.of(session, item, attributes)
        if seen.place.carrier is not None:
            return seen
    return clearest


def _beside(placed: PlacedShift | None) -> dict[str, Json]:
    """Return what a further shift was told apart from, and what moved with it."""
    if placed is None or not placed.apart_from:
        return {}
    return {
        "apart_from": [str(one) for one in placed.apart_from],
        "moved_with": [str(one) for one in placed.moved_with],
    }


def _against(evaluation: Evaluation, reference: int) -> ReferenceVerdict:
    for item in evaluation.verdicts:
        if item.reference.id == reference:
            return item
    raise NotFoundError(
        f"no verdict on {evaluation.window} against reference {reference}: "
        f"{'; '.join(evaluation.notes)}"
    )


def _placed(scans: EmbeddedScans, place: Place) -> EmbeddedScans:
    """Return the scans of the place, in the order of arrival."""
    kept = scans.where(
        [place.subgroup is None or place.subgroup.holds(scan) for scan in scans.scans]
    )
    order = sorted(range(len(kept)), key=lambda index: (kept.scans[index].arrived_at, index))
    return kept.ordered(order)


def _onset(
    reference: int, profile: ReferenceProfile, around: EmbeddedScans, shifted: Sequence[bool]
) -> tuple[KnownOnset, Floats]:
    """Return when the shift began, scan by scan, and what the shifted scans weigh in it."""
    found, weights = profile.onset(around.vectors, around.patients, np.array(shifted))
    onset, low, high = (
        around.scans[place].arrived_at for place in (found.index, found.low, found.high)
    )
    return KnownOnset(reference=reference, onset=onset, low=low, high=high), weights


def _dated_without_place(session: Session, evaluation: Evaluation) -> datetime | None:
    """Return the first onset of open episodes that a place may date anew, if there are any.

    Those without a place, and those that streams placed and no window has confirmed.
    """
    rows = session.scalars(
        select(EpisodeRow).where(
            EpisodeRow.monitor == evaluation.monitor.name, EpisodeRow.closed_at.is_(None)
        )
    )
    onsets = (
        row.onset for row in rows if row.subgroup is None or row.evidence["alpha"] is None
    )
    return min(onsets, default=None)


def _looked_back_to(
    session: Session, evaluation: Evaluation, item: ReferenceVerdict, onset: datetime
) -> datetime:
    """Return from when on a shift is looked for once more, by its place's scans.

    A shift of few scans dilutes among all, which dates it late.
    """
    ended = session.scalar(
        select(func.max(EpisodeRow.closed_at)).where(
            EpisodeRow.monitor == evaluation.monitor.name, EpisodeRow.closed_at <= onset
        )
    )
    earliest = max(onset - LOOKED_BACK, item.reference.accepted_at)
    return min(onset, earliest if ended is None else max(earliest, ended))


def _new_values(
    window: Sequence[ScanRow],
    reference_shares: Mapping[Attribute, Mapping[str, float]],
    tested: Sequence[SubgroupVerdict],
) -> dict[Subgroup, str]:
    """Return which equipment value is new, and is had by the scans of a subgroup and no others."""
    found: dict[Subgroup, str] = {}
    for attribute in ACQUISITION:
        known = reference_shares[attribute]
        having: dict[str, set[int]] = {}
        for scan in window:
            value = value_of(scan, attribute)
            if value is not None and known.get(value, 0.0) <= NEW_SHARE:
                having.setdefault(value, set()).add(scan.id)
        for item in tested:
            if item.subgroup.attributes[-1] not in HIERARCHY:
                continue
            for value, scans in having.items():
                both = len(scans & item.scans)
                if both >= ALONE_SHARE * len(scans) and both >= ALONE_SHARE * len(item.scans):
                    words = f"the new {attribute.value.replace('_', ' ')} {value}"
                    found.setdefault(item.subgroup, words)
    return found


def _shares(
    scans: Sequence[ScanRow], attributes: Sequence[Attribute]
) -> dict[Attribute, dict[str, float]]:
    return {
        attribute: shares([value_of(scan, attribute) for scan in scans])
        for attribute in attributes
    }


def _metadata(
    reference: Sequence[ScanRow],
    shifted: EmbeddedScans,
    place: Place,
    attributes: Sequence[Attribute],
) -> tuple[AttributeShift, ...]:
    """Return the attributes that differ, but for those that the place was chosen by.

    A place is compared with its own past, where it has one: its scanners are not the fleet's.
    """
    subgroup = place.subgroup
    chosen_by = set(subgroup.attributes) if subgroup else set()
    asked = [one for one in dict.fromkeys(attributes) if one not in chosen_by]
    own = [scan for scan in reference if subgroup is None or subgroup.holds(scan)]
    found = metadata_shifts(own or reference, shifted.scans, asked)
    return tuple(one for one in found if one.differs)


def _heaviest(weights: Floats, shifted: EmbeddedScans) -> tuple[Json, ...]:
    order = np.argsort(-weights, kind="stable")[:HEAVIEST]
    return tuple(
        {"scan": shifted.scans[index].id, "weight": round(float(weights[index]), 6)}
        for index in order
    )


def _detectors(verdict: Verdict) -> list[Json]:
    """Return the detectors that drove the verdict, the strongest first."""
    ordered = sorted(verdict.detectors.items(), key=lambda pair: pair[1].p_value)
    return [
        {"name": name, "p_value": found.p_value, "effect": found.effect}
        for name, found in ordered[:NAMED]
    ]


def _subgroups(item: ReferenceVerdict) -> list[Json]:
    """Return what was said of every subgroup, those that moved first."""
    ordered = sorted(item.subgroups, key=lambda part: (part.adjusted_p_value, -len(part.scans)))
    return [_subgroup(part) for part in ordered]


def _subgroup(part: SubgroupVerdict) -> Json:
    return {
        "subgroup": str(part.subgroup),
        "scans": len(part.scans),
        "adjusted_p_value": part.adjusted_p_value,
        "effect": part.verdict.effect.value,
        "smallest_effect": part.verdict.smallest_effect,
        "moved": part.moved,
        "compared_with": str(part.compared_with) if part.compared_with else None,
    }
