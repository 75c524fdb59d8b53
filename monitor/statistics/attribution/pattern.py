"""The pattern of a shift: named numbers without units, comparable between encoders.

They come in pieces, each of which a person can read: how far the portfolio's members moved,
what a new prevalence leaves of it, in which directions it lies, how many scans lie far out,
whether all moved alike, what the champion's probabilities and the pixels say, and whether one
group carries it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from scipy.special import logit

from monitor.statistics.attribution.class_views import ClassView
from monitor.statistics.attribution.coherence import Coherence, coherence
from monitor.statistics.attribution.far_part import far_part
from monitor.statistics.attribution.findings import (
    FindingReference,
    FindingShift,
    ShiftsByFinding,
    finding_shift,
    shifts_by_finding,
)
from monitor.statistics.attribution.location import Location, locate
from monitor.statistics.attribution.pixel_shift import PixelReference, PixelShift, pixel_shift
from monitor.statistics.attribution.shifts import (
    FeatureSums,
    signed_log,
    squared_shifts_by_band,
    standardised_shifts,
)
from monitor.statistics.attribution.spaces import DISTANCES, SeenScans, SpaceReference
from monitor.statistics.attribution.standing_apart import OwnMiddle, apart_numbers
from monitor.statistics.attribution.ties import Tie
from monitor.statistics.attribution.undisplaced import undisplaced
from monitor.statistics.attribution.view_ties import SPACES, fit_ties, tie_numbers
from monitor.statistics.attribution.views import (
    ASPECTS,
    fit_views,
    view_numbers,
    view_values,
)
from monitor.statistics.embeddings import Floats, Singles
from monitor.statistics.patients import Identifiers, Patients
from monitor.statistics.portfolio import Portfolio

#: members whose shifts enter; where a reference is too small for one, the next stands for it
MEMBERS: tuple[tuple[str, ...], ...] = (
    ("whitened-mean-16", "whitened-mean-all"),
    ("whitened-mean-64", "whitened-mean-all"),
    ("whitened-mean-256", "whitened-mean-all"),
    ("whitened-mean-all",),
    ("fourier-mmd-wide",),
    ("fourier-mmd-leading-wide",),
    ("fourier-mmd-whitened",),
    ("log-mahalanobis-fine",),
    ("log-mahalanobis-coarse",),
    ("residual",),
    ("novelty",),
    ("variances",),
    ("occupancy",),
    ("occupancy-peak",),
)
_BAND_NAMES = ("first 16", "to 64", "to 256", "other")
# Beyond it a shift of the pixels is no accident: standard errors.
_CLEAR = 4.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measures:
    """Pixel measures of scans."""

    #: [n, m]
    values: Floats
    #: [m] each, with what it is a measure of
    names: tuple[str, ...]
    aspects: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AttributionReference:
    """What a shift is compared with to find its cause."""

    monitoring: SpaceReference
    champion: SpaceReference
    finding: FindingReference
    #: by space, how far out its own scans lie, [N, 3]
    distances: Mapping[str, Floats]
    #: by name, of `VIEWS`; those of pixels only where these are kept
    views: Mapping[str, ClassView]
    #: None where pixels are not kept
    pixels: PixelReference | None
    #: the pixels' measures as either space's embeddings tell them, where pixels are kept, and
    #: the champion's space as the monitoring one tells it, by name
    ties: Mapping[str, Tie]
    #: by view but the head's, how far its own scans lie from their middle
    middles: Mapping[str, OwnMiddle]

    @classmethod
    def fit(
        cls,
        *,
        monitoring: Portfolio,
        monitoring_embeddings: Singles,
        champion: Portfolio,
        champion_embeddings: Singles,
        patients: Patients,
        probabilities: Floats,
        finding: Floats,
        measures: Measures | None,
        fitted_on: int | None = None,
        seed: int,
    ) -> AttributionReference:
        """Learn what is needed of a reference, of which every array has the same N scans.

        Parameters
        ----------
        monitoring, champion : portfolios fitted on the reference in either space
        monitoring_embeddings, champion_embeddings : [N, d] and [N, d']
        patients : whose scans they are
        probabilities : [N] of the finding by the champion, calibrated
        finding : [N] 1 with the finding, 0 without it; or its probability, where no label is
        measures : of the pixels, or None
        fitted_on : scans that the portfolios were fitted on, these N among them; N by default
        seed : of what is drawn

        Raises
        ------
        BadInputError
            If the arrays are not of one length.
        InsufficientDataError
            If fewer than 20 scans have the finding, or are without it.
        """
        spaces = [
            SpaceReference.fit(
                portfolio, embeddings, patients, finding, fitted_on=fitted_on, seed=seed
            )
            for portfolio, embeddings in (
                (monitoring, monitoring_embeddings),
                (champion, champion_embeddings),
            )
        ]
        seen = [
            space.see(embeddings)
            for space, embeddings in zip(
                spaces, (monitoring_embeddings, champion_embeddings), strict=True
            )
        ]
        pixels = (
            None
            if measures is None
            else PixelReference.fit(
                measures.values, finding, names=measures.names, aspects=measures.aspects
            )
        )
        return cls.of(
            monitoring=(spaces[0], seen[0]),
            champion=(spaces[1], seen[1]),
            finding=FindingReference.fit(spaces[1], seen[1], probabilities, finding),
            pixels=pixels,
            measures=None if measures is None else measures.values,
            patients=patients,
            seed=seed,
        )

    @classmethod
    def of(
        cls,
        *,
        monitoring: tuple[SpaceReference, SeenScans],
        champion: tuple[SpaceReference, SeenScans],
        finding: FindingReference,
        pixels: PixelReference | None,
        measures: Floats | None,
        patients: Patients,
        seed: int,
    ) -> AttributionReference:
        """Learn how a reference's scans go together, once it is known in either space.

        Parameters
        ----------
        monitoring, champion : either space, with the reference's scans as if they were new
        finding : what is known of the finding in the champion's space
        pixels, measures : the distribution of pixel measures, and the scans' [N, m]; or None
        patients : whose scans they are
        seed : of what is drawn
        """
        seen_by_space = dict(zip(SPACES, (monitoring, champion), strict=True))
        scores = None if pixels is None or measures is None else pixels.normal_scores(measures)
        values = view_values(seen_by_space, pixels=pixels, scores=scores)
        return cls(
            monitoring=monitoring[0],
            champion=champion[0],
            finding=finding,
            distances={name: seen.distances for name, (_, seen) in seen_by_space.items()},
            views=fit_views(
                values, probabilities=finding.probabilities, finding=finding.finding, seed=seed
            ),
            pixels=pixels,
            ties=fit_ties(seen_by_space, scores=scores, patients=patients, seed=seed),
            middles={name: OwnMiddle.fit(own) for name, own in values.items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpaceShift:
    """A window's shift in one space, before it is known what for the prevalence accounts."""

    space: SpaceReference
    seen: SeenScans
    sums: FeatureSums
    along: Coherence
    place: Location | None

    @classmethod
    def of(
        cls,
        space: SpaceReference,
        seen: SeenScans,
        patients: Patients,
        groups: Identifiers | None,
    ) -> SpaceShift:
        """Look at a window in one space.

        Parameters
        ----------
        seen : [n] the window's scans as seen from the reference
        patients : whose scans they are; five at least
        groups : [n] identifiers, say of scanners, or None
        """
        along = coherence(space, seen, patients)
        return cls(
            space=space,
            seen=seen,
            sums=FeatureSums.of(space, seen, patients),
            along=along,
            place=locate(along.scores, groups),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """Named numbers, in pieces."""

    #: piece -> name -> value
    pieces: Mapping[str, Mapping[str, float]]

    def __post_init__(self) -> None:
        frozen = {piece: MappingProxyType(dict(own)) for piece, own in self.pieces.items()}
        object.__setattr__(self, "pieces", MappingProxyType(frozen))

    @property
    def names(self) -> tuple[tuple[str, str], ...]:
        """(piece, name) of each number, in order."""
        return tuple((piece, name) for piece, own in self.pieces.items() for name in own)

    @property
    def values(self) -> Floats:
        """All numbers, in order."""
        return np.array([value for own in self.pieces.values() for value in own.values()])


def pattern(
    reference: AttributionReference,
    *,
    monitoring: SpaceShift,
    champion: SpaceShift,
    probabilities: Floats,
    measures: Floats | None,
    patients: Patients,
) -> Pattern:
    """Return the pattern of a window's shift.

    Parameters
    ----------
    monitoring, champion : the shift in either space
    probabilities : [n] of the finding, calibrated as the reference's
    measures : [n, m] pixel measures, or None where pixels are not kept
    patients : whose scans they are
    """
    shifts = dict(zip(SPACES, (monitoring, champion), strict=True))
    scores = (
        None
        if reference.pixels is None or measures is None
        else reference.pixels.normal_scores(measures)
    )
    values = view_values(
        {name: (shift.space, shift.seen) for name, shift in shifts.items()},
        pixels=reference.pixels,
        scores=scores,
    )
    before = reference.champion.prevalence
    found = finding_shift(reference.finding, probabilities)
    by_finding = shifts_by_finding(
        champion.space,
        reference.finding,
        champion.seen,
        probabilities,
        prevalence=found.prevalence,
    )
    pieces: dict[str, dict[str, float]] = {
        "size": {"patients": float(np.log10(patients.count))},
        "finding": dict(_finding_numbers(found, by_finding)),
        "views": dict(
            view_numbers(
                {
                    name: reference.views[name].read(own, prevalence=before)
                    for name, own in {"head": logit(probabilities)[:, None], **values}.items()
                },
                reference.views,
                before=before,
            )
        ),
    }
    for name, shift in shifts.items():
        pieces[f"{name} members"] = dict(_member_numbers(shift, found.prevalence))
        pieces[f"{name} directions"] = dict(_band_numbers(shift, found.prevalence))
        pieces[f"{name} far part"] = dict(_far_numbers(shift.seen))
        pieces[f"{name} coherence"] = dict(_coherence_numbers(shift.along))
        pieces[f"{name} location"] = dict(_location_numbers(shift.along, shift.place))
        pieces[f"{name} undisplaced"] = dict(
            _undisplaced_numbers(
                reference.finding, reference.distances[name], shift, probabilities
            )
        )
    if reference.pixels is None or measures is None:
        pieces["pixels"] = dict(_no_pixels())
    else:
        moved = pixel_shift(reference.pixels, measures, patients, prevalence=found.prevalence)
        pieces["pixels"] = dict(_pixel_numbers(reference.pixels, moved))
    pieces["how views go together"] = dict(
        tie_numbers(
            reference.ties,
            {name: (shift.space, shift.seen, shift.place) for name, shift in shifts.items()},
            scores=scores,
            aspects=() if reference.pixels is None else reference.pixels.aspects,
            patients=patients,
        )
    )
    pieces["standing apart"] = dict(
        apart_numbers(reference.middles, values, names=(*SPACES, *ASPECTS))
    )
    return Pattern(pieces=pieces)


def _member_numbers(shift: SpaceShift, prevalence: float) -> Iterator[tuple[str, float]]:
    space = shift.space
    plain, left = (
        standardised_shifts(space, shift.sums, prevalence=at)
        for at in (space.prevalence, prevalence)
    )
    for names in MEMBERS:
        g = next(space.names.index(name) for name in names if name in space.names)
        yield names[0], signed_log(plain[g])
        yield f"{names[0]}, prevalence accounted for", signed_log(left[g])


def _band_numbers(shift: SpaceShift, prevalence: float) -> Iterator[tuple[str, float]]:
    space = shift.space
    for label, at in (("", space.prevalence), (", prevalence accounted for", prevalence)):
        bands = squared_shifts_by_band(space, shift.sums, prevalence=at)
        positive = np.maximum(bands, 0.0)
        total = float(positive.sum())
        yield f"squared shift{label}", float(np.log1p(total))
        for name, part in zip(_BAND_NAMES, positive, strict=True):
            yield f"share in {name} directions{label}", float(part / max(total, 1e-9))


def _far_numbers(seen: SeenScans) -> Iterator[tuple[str, float]]:
    for column, distance in enumerate(DISTANCES):
        part = far_part(seen.distances[:, column])
        for label, value in zip(
            ("10 %", "median", "90 %", "97 %"), part.quantiles, strict=True
        ):
            yield f"{distance}: {label}", signed_log(value)
        yield f"{distance}: share far", part.far
        yield f"{distance}: share very far", part.very_far
        yield f"{distance}: how far", float(np.log1p(part.distance))
        yield f"{distance}: gap", part.gap
        yield f"{distance}: farther group", part.group


def _coherence_numbers(along: Coherence) -> Iterator[tuple[str, float]]:
    yield "displacement", along.mean
    yield "spread", along.spread
    for label, value in zip(("lower end", "middle", "upper end"), along.quantiles, strict=True):
        yield f"displacement of the {label}", float(value)
    yield "lower over upper end", along.lower_over_upper
    for label, value in zip(("10 %", "25 %", "50 %"), along.untouched, strict=True):
        yield f"untouched below {label}", float(value)


def _location_numbers(along: Coherence, place: Location | None) -> Iterator[tuple[str, float]]:
    inside = np.ones(len(along.scores), dtype=bool) if place is None else place.inside
    own = along.scores[inside]
    lower = float(np.quantile(own, 0.1)) + 1.28
    yield "contrast", 0.0 if place is None else signed_log(place.contrast)
    yield "share of the group", 1.0 if place is None else place.share
    yield "displacement of the group", float(own.mean())
    yield "displacement of the others", 0.0 if place is None else place.others
    yield "displacement of the group's lower end", lower
    yield "untouched in the group", float(np.mean(own <= -0.674)) / 0.25


def _undisplaced_numbers(
    finding: FindingReference, distances: Floats, shift: SpaceShift, probabilities: Floats
) -> Iterator[tuple[str, float]]:
    for part, change, evidence in undisplaced(
        probabilities,
        shift.seen.distances,
        shift.along,
        reference=finding.probabilities,
        reference_distances=distances,
        sample=finding.probabilities[shift.space.sample_rows],
    ):
        yield f"change of prevalence, {part}", change
        yield f"evidence of the change, {part}", signed_log(evidence)


def _finding_numbers(
    found: FindingShift, by_finding: ShiftsByFinding
) -> Iterator[tuple[str, float]]:
    yield "change of prevalence", found.prevalence - found.before
    yield "evidence of the change", signed_log(found.evidence)
    yield "distance of probabilities", float(np.log1p(found.distance))
    yield "distance left by the prevalence", float(np.log1p(found.residual_distance))
    yield "displacement without the finding", signed_log(by_finding.sizes[0])
    yield "displacement with the finding", signed_log(by_finding.sizes[1])
    yield "same direction in both", by_finding.cosine


def _pixel_numbers(reference: PixelReference, moved: PixelShift) -> Iterator[tuple[str, float]]:
    yield "measured", 1.0
    aspects = np.array(reference.aspects)
    for aspect in ASPECTS:
        own = aspects == aspect
        yield f"{aspect}: displacement", float(np.abs(moved.shifts[own]).max())
        left = float(np.abs(moved.residuals[own]).max())
        yield f"{aspect}: displacement, prevalence accounted for", left
        yield f"{aspect}: evidence", signed_log(left / moved.error)
    clear = np.abs(moved.residuals) > _CLEAR * moved.error
    yield "share of measures displaced", float(clear.mean())
    yield "all alike", moved.alike
    yield "scans beyond all known", moved.scans_beyond
    yield "measures beyond all known", moved.measures_beyond


def _no_pixels() -> Iterator[tuple[str, float]]:
    yield "measured", 0.0
    for aspect in ASPECTS:
        yield f"{aspect}: displacement", 0.0
        yield f"{aspect}: displacement, prevalence accounted for", 0.0
        yield f"{aspect}: evidence", 0.0
    for name in ("share of measures displaced", "all alike"):
        yield name, 0.0
    for name in ("scans beyond all known", "measures beyond all known"):
        yield name, 0.0
