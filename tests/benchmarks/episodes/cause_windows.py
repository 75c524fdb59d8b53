"""Windows of every cause, drawn from what was embedded.

A plan says what happened; a window is the rows it takes from a pool's bank, each scan's
scanner, and the truth. Shifts are of the strengths that a person would want to hear of: what
share of them the portfolio finds at all is part of the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from cause_case_mix import ADULT_ATTRIBUTES, ATTRIBUTES, adult_attribute, attribute
from cause_sources import adults, children, routed
from cause_transforms import PLAIN, Variant, variants

Integers = npt.NDArray[np.int64]

#: the part of a class's children that a case mix prefers
HALF = 0.38
#: of three scanners
SCANNERS = ("one", "two", "three")
#: least and largest share of the scanner at which a shift sits
_SCANNER_SHARE = (0.35, 0.65)
# Strengths that the portfolio finds in most windows of 200 scans; what it misses is counted.
_PREVALENCE_SHIFTS = {
    "training": (-0.3, -0.24, 0.17, 0.22),
    "calibration": (-0.27, 0.19),
    "test": (-0.3, -0.26, 0.21, 0.23),
}
_ADULT_SHARES = {
    "training": (0.12, 0.2, 0.3, 0.5),
    "calibration": (0.15, 0.25, 0.4),
    "test": (0.14, 0.24, 0.35),
}
_ROUTED_SHARES = {
    "training": (0.06, 0.09, 0.14, 0.25),
    "calibration": (0.08, 0.12, 0.2),
    "test": (0.08, 0.11, 0.17),
}
_CASE_MIX_SHARES = {"training": (0.85, 1.0), "calibration": (0.9, 1.0), "test": (0.95, 1.0)}


class Truth(StrEnum):
    """What happened, on the first level of the tree; "none" is an ordinary window."""

    NONE = "none"
    TECHNICAL = "technical"
    PREVALENCE = "prevalence"
    CASE_MIX = "case mix"
    POPULATION = "population"
    ROUTING = "routing"
    MIXED = "mixed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What happened to a window."""

    truth: Truth
    #: what exactly, for tables
    what: str
    variant: Variant = PLAIN
    #: change of the prevalence
    prevalence: float = 0.0
    #: attribute, whether its high half is preferred, share drawn from that half, and of
    #: which class (None: both)
    attribute: tuple[str, bool, float, int | None] | None = None
    adults: float = 0.0
    routed: float = 0.0
    #: the one scanner that it happens at; None for all
    scanner: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pool:
    """Which rows of a bank hold what."""

    part: str
    chain: str
    starts: dict[tuple[str, str], int] = field(default_factory=dict)
    total: int = 0

    @classmethod
    def of(cls, part: str, chain: str) -> Pool:
        starts, total = {}, 0
        for source, variant in cls.order(part, chain):
            starts[source, variant.name] = total
            total += len(
                {"children": children, "adults": adults, "routed": routed}[source](part)
            )
        return cls(part=part, chain=chain, starts=starts, total=total)

    @staticmethod
    def order(part: str, chain: str) -> Iterator[tuple[str, Variant]]:
        """Yield sources and variants in the bank's order."""
        for source in ("children", "adults"):
            for variant in (PLAIN, *variants(part, chain)):
                yield source, variant
        yield "routed", PLAIN

    def patients(self) -> Integers:
        """Return the patient of every row."""
        by_source = {"children": children, "adults": adults, "routed": routed}
        return np.concatenate(
            [
                by_source[source](self.part).patients
                for source, _ in self.order(self.part, self.chain)
            ]
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Window:
    """Rows of a bank, and whose scanner made them."""

    plan: Plan
    rows: Integers
    scanners: npt.NDArray[np.str_]


def plans(part: str, chain: str) -> dict[Truth, list[Plan]]:
    """Return a part's plans on a chain by truth."""
    own = variants(part, chain)
    technical = [
        Plan(truth=Truth.TECHNICAL, what=variant.name, variant=variant, scanner=scanner)
        for variant in own
        for scanner in (None, None, SCANNERS[0])
    ]
    prevalence = [
        Plan(truth=Truth.PREVALENCE, what=f"prevalence {change:+g}", prevalence=change)
        for change in _PREVALENCE_SHIFTS[part]
    ]
    case_mix = [
        Plan(truth=Truth.CASE_MIX, what=f"{name} of {ill}", attribute=(name, high, share, ill))
        for name in ATTRIBUTES[part]
        for high in (False, True)
        for share in _CASE_MIX_SHARES[part]
        for ill in (None, 1)
    ]
    population = [
        Plan(truth=Truth.POPULATION, what=f"adults {share:g}", adults=share, scanner=scanner)
        for share in _ADULT_SHARES[part]
        for scanner in (None, None, SCANNERS[0])
    ]
    routing = [
        Plan(truth=Truth.ROUTING, what=f"routed {share:g}", routed=share, scanner=scanner)
        for share in _ROUTED_SHARES[part]
        for scanner in (None, None, SCANNERS[0])
    ]
    return {
        Truth.NONE: [Plan(truth=Truth.NONE, what="ordinary")],
        Truth.TECHNICAL: technical,
        Truth.PREVALENCE: prevalence,
        Truth.CASE_MIX: case_mix,
        Truth.POPULATION: population,
        Truth.ROUTING: routing,
        Truth.MIXED: list(_mixed(part, own)),
    }


def _mixed(part: str, variants: tuple[Variant, ...]) -> Iterator[Plan]:
    shares, strange = _ADULT_SHARES[part][1:], _ROUTED_SHARES[part][1:]
    for change in _PREVALENCE_SHIFTS[part]:
        for variant in variants:
            yield Plan(
                truth=Truth.MIXED,
                what="prevalence and technical",
                variant=variant,
                prevalence=change,
            )
    for change in _PREVALENCE_SHIFTS[part]:
        for share in shares:
            yield Plan(
                truth=Truth.MIXED,
                what="prevalence and population",
                adults=share,
                prevalence=change,
            )
        for share in strange:
            yield Plan(
                truth=Truth.MIXED,
                what="prevalence and routing",
                routed=share,
                prevalence=change,
            )
    for variant in variants:
        for share in shares:
            yield Plan(
                truth=Truth.MIXED,
                what="technical and population",
                variant=variant,
                adults=share,
            )


def draw(
    plan: Plan, pool: Pool, *, scans: int, prevalence: float, rng: np.random.Generator
) -> Window:
    """Draw a window by a plan; no scan twice.

    `prevalence` is the reference's, at which ordinary windows are.
    """
    first = float(rng.uniform(*_SCANNER_SHARE))
    scanners = rng.choice(SCANNERS, size=scans, p=(first, 0.6 * (1 - first), 0.4 * (1 - first)))
    here = np.ones(scans, dtype=bool) if plan.scanner is None else scanners == plan.scanner
    strange = min(int(rng.binomial(scans, plan.routed)), int(here.sum()))
    strange = min(strange, len(routed(pool.part)))
    grown = min(int(rng.binomial(scans, plan.adults)), int(here.sum()) - strange)
    grown = min(grown, len(adults(pool.part)))
    small = scans - strange - grown
    rows = np.empty(scans, dtype=np.int64)
    at = np.concatenate([rng.permutation(np.flatnonzero(here)), np.flatnonzero(~here)])
    rows[at[:strange]] = pool.starts["routed", "plain"] + rng.choice(
        len(routed(pool.part)), strange, replace=False
    )
    # What is displaced technically is so at the plan's scanner only.
    moved = np.where(here, plan.variant.name, "plain")
    members = _grown(pool.part, grown, rng)
    rows[at[strange : strange + grown]] = [
        pool.starts["adults", str(name)] + member
        for name, member in zip(moved[at[strange : strange + grown]], members, strict=True)
    ]
    rest = at[strange + grown :]
    chosen = _children(
        plan, pool, scans=small, prevalence=prevalence + plan.prevalence, rng=rng
    )
    rows[rest] = [
        pool.starts["children", str(name)] + child
        for name, child in zip(moved[rest], chosen, strict=True)
    ]
    return Window(plan=plan, rows=rows, scanners=scanners)


def _grown(part: str, count: int, rng: np.random.Generator) -> Integers:
    """Draw adults; those that are trained on and counted by are of another kind each time.

    A pool has some fifty of them. Were they always drawn alike, trees would learn what these
    few happen to look like, and what they happen to do to a prevalence.
    """
    if part == "test":
        return rng.choice(len(adults(part)), count, replace=False)
    everyone = rng.permutation(len(adults(part)))
    patients = adults(part).patients[everyone]
    some = np.isin(patients, rng.permutation(np.unique(patients))[: len(set(patients)) // 2])
    values = adult_attribute(part, str(rng.choice(ADULT_ATTRIBUTES)))[everyone]
    high = bool(rng.integers(2))
    half = values > np.median(values) if high else values <= np.median(values)
    kind = rng.integers(3)
    first = np.ones(len(everyone), bool) if kind == 0 else some if kind == 1 else half
    return np.concatenate([everyone[first], everyone[~first]])[:count]


def _children(
    plan: Plan, pool: Pool, *, scans: int, prevalence: float, rng: np.random.Generator
) -> Integers:
    ill = children(pool.part).pneumonia
    by_class = [rng.permutation(np.flatnonzero(ill == value)) for value in (0, 1)]
    having = int(np.clip(rng.binomial(scans, np.clip(prevalence, 0.02, 0.98)), 0, scans))
    having = int(np.clip(having, scans - len(by_class[0]), len(by_class[1])))
    chosen = []
    for value, count in ((0, scans - having), (1, having)):
        own = by_class[value]
        if plan.attribute is not None and plan.attribute[3] in {None, value}:
            own = _preferred(own, plan.attribute, pool, count=count, rng=rng)
        chosen.append(own[:count])
    return rng.permutation(np.concatenate(chosen))


def _preferred(
    rows: Integers,
    preference: tuple[str, bool, float, int | None],
    pool: Pool,
    *,
    count: int,
    rng: np.random.Generator,
) -> Integers:
    """Return a class's children in an order in which `share` of the first come from one half."""
    name, high, share, _ = preference
    values = attribute(pool.part, name)[rows]
    inside = (
        values > np.quantile(values, 1 - HALF) if high else values <= np.quantile(values, HALF)
    )
    half, others = rows[inside], rows[~inside]
    wanted = min(int(rng.binomial(count, share)), len(half))
    first = np.concatenate([half[:wanted], others[: count - wanted]])
    return np.concatenate([first, half[wanted:]])
