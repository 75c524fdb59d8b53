"""The cause of an episode: a tree, answered only as deep as the evidence allows.

Causes follow Castro et al. (2020), "Causality matters in medical imaging",
Nature Communications 11:3673. Pixels alone cannot tell an acquisition change
from a fault in the pipeline; metadata and the place can. So an acquisition change
is named only where a new value of an equipment tag carries the shift, or one
scanner alone; and a change in the pipeline only where a whole site moved alone.
What stands on the first level is told by the shift's pattern
(`monitor/statistics/attribution`), where there is one; a pattern that is likest technical but
doubtful names it together with the place, where one scanner's scans alone moved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from monitor.localising import Place, SubgroupVerdict
from monitor.statistics.attribution.classifier import Attribution, Doubt
from monitor.statistics.attribution.first_level import FirstLevel
from monitor.subgroups import ACQUISITION, HIERARCHY, Attribute, Subgroup
from registry.canonical import Json

#: A new tag value explains a shift if at least this share of the shifted scans has it.
EXPLAINING_SHARE = 0.5
#: A value is new if at most this share of the reference has it.
NEW_SHARE = 0.005
#: Where there is no pattern: at this share of scans beyond the reference's 95th percentile
#: of outlier scores, most scans are displaced, as a change of the image chain does.
DISPLACED_SHARE = 0.5
#: Where more scans than that are to the bit what another patient's is, no anatomy was sent.
SHARED_SHARE = 0.5


class Cause(StrEnum):
    """The tree's nodes; acquisition and pipeline stand below technical."""

    TECHNICAL = "technical"
    ACQUISITION = "acquisition"
    PIPELINE = "pipeline"
    PREVALENCE = "prevalence"
    CASE_MIX = "case mix"
    POPULATION = "population"
    PRACTICE = "practice"
    ROUTING = "routing"
    MIXED = "mixed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftEvidence:
    """What is known of a shift when its cause is asked for."""

    place: Place
    #: every subgroup that was tested in the shifted window
    tested: Sequence[SubgroupVerdict]
    #: attribute -> value -> share of scans: in the reference, and where the shift is
    reference_shares: Mapping[Attribute, Mapping[str, float]]
    place_shares: Mapping[Attribute, Mapping[str, float]]
    #: share of the place's scans beyond the reference's 95th percentile of outlier scores
    displaced_share: float
    #: what the shift's pattern says, None where there is none; and then why
    pattern: Attribution | None = None
    no_pattern: str = ""
    #: scans that it does without, since their pixels cannot be read again
    unread: int = 0
    #: how frequent the finding is now, a sentence; empty where no scan can tell it
    prevalence: str = ""
    #: attributes whose shares changed beyond chance, a sentence each
    metadata: Sequence[str] = ()
    #: scans of the place, and how many have the very embedding of another patient's
    scans: int = 0
    shared: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """A cause, where it sits, and the evidence that decided."""

    cause: Cause
    subgroup: Subgroup | None
    #: one sentence for each piece of evidence, in the order of their weight
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, Json]:
        return {
            "cause": self.cause.value,
            "subgroup": str(self.subgroup) if self.subgroup else None,
            "reasons": list(self.reasons),
        }


def diagnose(evidence: ShiftEvidence) -> Diagnosis:
    """Name the cause that the evidence allows, and the subgroup that carries the shift."""
    place = evidence.place
    displaced = (
        f"{evidence.displaced_share:.0%} of scans lie beyond the reference's 95th percentile "
        "(5 % would be expected)"
    )
    new = _new_equipment(evidence)
    seen = (*_shared_words(evidence), *_pattern_words(evidence))
    if new is not None:
        subgroup, attribute, value = new
        named = subgroup if subgroup.terms[-1] == (attribute, value) else None
        what = _words(named or Subgroup.of(attribute, value))
        reasons = (
            f"{what} is new: {evidence.place_shares[attribute][value]:.0%} of these "
            "scans have it, and none or almost none of the reference",
            *_new_site_words(evidence),
            place.reason if named is None else _sisters_words(evidence, named),
            *seen,
            displaced,
        )
        if _contradicted(evidence.pattern):
            return Diagnosis(
                cause=Cause.UNKNOWN,
                subgroup=subgroup,
                reasons=(*reasons, "the new value and the pattern speak for different causes"),
            )
        return Diagnosis(cause=Cause.ACQUISITION, subgroup=subgroup, reasons=reasons)
    others = (*evidence.metadata, "no equipment tag has a new value")
    first = _first_level(evidence)
    if first is not Cause.TECHNICAL:
        return Diagnosis(
            cause=first,
            subgroup=place.subgroup,
            reasons=(*seen, displaced, place.reason, *others),
        )
    cause, located = _technical(place)
    if evidence.pattern is not None and _alone_and_likest_technical(evidence.pattern, place):
        located = ("that one scanner's scans alone moved names the cause with it", *located)
    return Diagnosis(
        cause=cause, subgroup=place.subgroup, reasons=(*seen, displaced, *located, *others)
    )


def _first_level(evidence: ShiftEvidence) -> Cause:
    """Return the cause on the tree's first level."""
    found = evidence.pattern
    if evidence.shared > SHARED_SHARE * evidence.scans:
        return Cause.TECHNICAL
    if found is not None and _alone_and_likest_technical(found, evidence.place):
        return Cause.TECHNICAL
    if found is not None:
        return Cause(found.cause.value)
    many = evidence.displaced_share >= DISPLACED_SHARE
    return Cause.TECHNICAL if many else Cause.UNKNOWN


def _alone_and_likest_technical(found: Attribution, place: Place) -> bool:
    """Return whether the place says what a doubtful pattern does not dare to.

    Changes of the image chain have more faces than were simulated. That scans of one scanner
    alone moved is evidence of its own for what the pattern holds for likest.
    """
    return (
        found.cause is FirstLevel.UNKNOWN
        and found.leading is FirstLevel.TECHNICAL
        and place.subgroup is not None
        and place.subgroup.attributes[-1] in HIERARCHY
        and place.subgroup.attributes[-1] is not Attribute.SITE
    )


def _contradicted(pattern: Attribution | None) -> bool:
    """Return whether a pattern surely speaks against a change of the equipment."""
    may_be = {FirstLevel.TECHNICAL, FirstLevel.MIXED, FirstLevel.UNKNOWN}
    return pattern is not None and pattern.cause not in may_be


def _new_site_words(evidence: ShiftEvidence) -> tuple[str, ...]:
    """Return that the place is a site which the reference does not know, where it is."""
    place = evidence.place.subgroup
    known = evidence.reference_shares.get(Attribute.SITE)
    if place is None or known is None:
        return ()
    return tuple(
        f"site {site} is new, too: nothing need have changed there"
        for site in place.sites
        if site not in known
    )


def _shared_words(evidence: ShiftEvidence) -> tuple[str, ...]:
    if not evidence.shared:
        return ()
    return (
        f"{evidence.shared} of {evidence.scans} scans are to the bit what another patient's is: "
        "blank images, a test pattern, or one image under several names",
    )


def _pattern_words(evidence: ShiftEvidence) -> tuple[str, ...]:
    """Return what the pattern says, and which of its pieces decided."""
    found = evidence.pattern
    if found is None:
        return (f"no pattern to tell the cause by: {evidence.no_pattern}",) * bool(
            evidence.no_pattern
        )
    next_best = ", ".join(f"{cause.value} {share:.0%}" for cause, share in found.runners_up[:2])
    others = f"; next {next_best}" if next_best else ""
    if found.doubt is Doubt.NONE:
        kind = found.likest if found.cause is FirstLevel.MIXED else found.cause.value
        said = (
            f"the pattern is that of {kind}: on held-out images {found.confidence:.0%} of "
            f"answers this sure were right{others}"
        )
    else:
        # Answers were counted on windows that are like simulated ones, which this one is not.
        nearest = (
            found.likest
            if found.doubt is Doubt.UNLIKE
            else f"{found.likest} is likest (right in {found.confidence:.0%} of such cases)"
        )
        said = f"the pattern names no cause, as {found.doubt.value}: {nearest}{others}"
    prevalence = (evidence.prevalence,) * bool(evidence.prevalence)
    decided = [one.piece for one in found.evidence if one.contribution > 0.02][:3]
    told_by = (f"what weighed most in it: {', '.join(decided)}",) * bool(decided)
    strange = (
        (f"what is unlike simulated windows of {found.likest}: {', '.join(found.unlike[:3])}",)
        if found.doubt is Doubt.UNLIKE and found.unlike
        else ()
    )
    without = (
        f"the pattern does without {evidence.unread} scan{'s' * (evidence.unread > 1)} whose "
        "pixels cannot be read again: `driftward scan verify` says why",
    ) * bool(evidence.unread)
    return (said, *strange, *told_by, *without, *prevalence)


def _technical(place: Place) -> tuple[Cause, tuple[str, ...]]:
    """Tell acquisition from pipeline by where a technical change sits."""
    if place.subgroup is None:
        everywhere = "pixels cannot tell acquisition from pipeline where no place stands out"
        return Cause.TECHNICAL, (place.reason, everywhere)
    innermost = place.subgroup.attributes[-1]
    if innermost is Attribute.SITE:
        shared = "what its scanners share is the pipeline"
        return Cause.PIPELINE, (place.reason, shared)
    if innermost in HIERARCHY:
        alone = "the pipeline that it shares with them brings their scans as before"
        return Cause.ACQUISITION, (place.reason, alone)
    return Cause.TECHNICAL, (place.reason,)


def _new_equipment(evidence: ShiftEvidence) -> tuple[Subgroup, Attribute, str] | None:
    """Return where a new equipment value carries the shift, with the value.

    The most specific attribute comes first. Where all scans of a scanner have the new value,
    the two are one subgroup, which goes by the scanner's name.
    """
    tested = {item.subgroup for item in evidence.tested}
    moved = {item.subgroup for item in evidence.tested if item.moved}
    place = evidence.place.subgroup
    for attribute in ACQUISITION:
        known = evidence.reference_shares.get(attribute, {})
        for value, share in sorted(
            evidence.place_shares.get(attribute, {}).items(), key=lambda item: -item[1]
        ):
            if known.get(value, 0.0) > NEW_SHARE or share < EXPLAINING_SHARE:
                continue
            subgroup = Subgroup.of(attribute, value)
            if place is not None and (attribute, value) in place.terms:
                return place, attribute, value
            if (
                place is not None
                and place.attributes[-1] in HIERARCHY
                and subgroup not in tested
            ):
                return place, attribute, value
            if subgroup in moved and not any(
                item.moved for item in _sisters(evidence, subgroup)
            ):
                return subgroup, attribute, value
    return None


def _sisters(evidence: ShiftEvidence, subgroup: Subgroup) -> list[SubgroupVerdict]:
    """Return the other tested values of a subgroup's innermost attribute."""
    return [
        item
        for item in evidence.tested
        if item.subgroup.attributes == subgroup.attributes
        and item.subgroup.terms[:-1] == subgroup.terms[:-1]
        and item.subgroup != subgroup
    ]


def _sisters_words(evidence: ShiftEvidence, subgroup: Subgroup) -> str:
    sisters = [
        f"{item.subgroup.terms[-1][1]} (p = {item.adjusted_p_value:.2g})"
        for item in _sisters(evidence, subgroup)
    ]
    if not sisters:
        return "no scans of an older value arrived to compare with"
    return f"scans with an older value did not move: {', '.join(sisters)}"


def shares(values: Sequence[str | None]) -> dict[str, float]:
    """Return each value's share; absent values count in the denominator only."""
    counts: dict[str, int] = {}
    for value in values:
        if value is not None:
            counts[value] = counts.get(value, 0) + 1
    return {value: count / len(values) for value, count in counts.items()}


def _words(subgroup: Subgroup) -> str:
    return " at ".join(
        f"{attribute.value.replace('_', ' ')} {value}"
        for attribute, value in reversed(subgroup.terms)
    )
