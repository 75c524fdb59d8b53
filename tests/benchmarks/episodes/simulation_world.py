"""Three hospitals and their patients: who is imaged where and when, and what befalls them.

Nothing here knows of Driftward. A visit is one radiograph of one patient at one scanner; weeks
are counted from the first that is watched, and those of the history are negative.

The images that ship are fewer than the visits. So each site has images of its own, from which
every week draws anew, none twice; each visit is another patient, who stands and is exposed in a
way of his own. The weeks of the reference are drawn exactly as those that are watched, so that
ordinary weeks differ from it by the week's effects alone. The champion is trained on others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property

import numpy as np
import numpy.typing as npt
from cause_sources import NATURAL

from api.demo.acquisition import Processing
from api.demo.sample import Sample, load_sample

WEEK = timedelta(days=7)
HOUR = timedelta(hours=1)
WEEKS = 26
#: From these weeks' scans the champion is trained, and from those the references are built.
TRAINING_WEEKS, REFERENCE_WEEKS = range(-16, -12), range(-12, 0)
#: Scans a week at all sites; of the history from which is trained, all at its own.
WEEKLY_SCANS, TRAINING_WEEKLY_SCANS = 240, 200
TRAINING_SITE = "north"

#: Share of scans with pneumonia, and by how much of it weeks differ.
PREVALENCE, PREVALENCE_SPREAD = 0.6, 0.15
OUTBREAK_PREVALENCE = 0.9
#: Standard deviations of a week's offset of gray values at all sites and at one scanner;
#: 1 is from black to white.
OFFSET, SCANNER_OFFSET = 0.01, 0.005
ADULT_SHARE = 0.5
HOLIDAY_SHARE = 1 / 3
HOLIDAY_WEEK = 12
#: Scans of a weekend's hour beside a working day's, and of each hour beside noon's.
WEEKEND = 0.35
_HOURS = (
    (0.08,) * 6 + (0.2, 0.5, 0.9, 1, 1, 1, 0.9, 0.9, 1, 1, 0.8, 0.5) + (0.3,) * 3 + (0.12,) * 3
)
#: Images of normal and of ill children that the champion is trained on; the rest is divided
#: among the sites.
_TRAINING_IMAGES = (400, 600)
_PATIENTS_A_WEEK = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanner:
    """One scanner of one site."""

    site: str
    station: str
    model: str
    #: its share of all scans
    share: float
    software: Processing


SCANNERS = (
    Scanner(
        site="north",
        station="NORTH-XR-1",
        model="DR 100",
        share=0.22,
        software=Processing(version="1.4.2"),
    ),
    Scanner(
        site="north",
        station="NORTH-XR-2",
        model="DR 200",
        share=0.19,
        software=Processing(version="3.1.0", edge_amount=0.2),
    ),
    Scanner(
        site="south",
        station="SOUTH-XR-1",
        model="DR 100",
        share=0.19,
        software=Processing(version="1.5.0", contrast=0.8),
    ),
    Scanner(
        site="south",
        station="SOUTH-XR-2",
        model="DR 200",
        share=0.2,
        software=Processing(version="3.2.1", noise=0.004),
    ),
    Scanner(
        site="coast",
        station="COAST-XR-1",
        model="DR 100",
        share=0.2,
        software=Processing(version="1.6.3", edge_amount=0.1, contrast=0.5),
    ),
)
SITES = tuple(dict.fromkeys(scanner.site for scanner in SCANNERS))


class Kind(StrEnum):
    """What a shift is, in the words of the tree of causes."""

    ACQUISITION = "acquisition"
    PREVALENCE = "prevalence"
    POPULATION = "population"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """One seeded shift."""

    kind: Kind
    #: since the first week's beginning
    begins: timedelta
    ends: timedelta
    #: empty where it is everywhere
    site: str = ""
    station: str = ""

    def touches(self, scanner: Scanner, since_start: timedelta) -> bool:
        """Return whether it is going on at a scanner."""
        return (
            self.begins <= since_start < self.ends
            and self.site in {"", scanner.site}
            and self.station in {"", scanner.station}
        )

    @property
    def place(self) -> str:
        return self.station or self.site or "everywhere"


#: The seeded shifts; none begins or ends with a window.
SHIFTS = (
    Shift(
        kind=Kind.ACQUISITION,
        begins=timedelta(weeks=5, days=3, hours=10),
        ends=timedelta(weeks=8, days=3, hours=12),
        site="south",
        station="SOUTH-XR-2",
    ),
    Shift(
        kind=Kind.PREVALENCE,
        begins=timedelta(weeks=12, days=2, hours=8),
        ends=timedelta(weeks=15, days=3, hours=8),
    ),
    Shift(
        kind=Kind.POPULATION,
        begins=timedelta(weeks=19, days=3, hours=8),
        ends=timedelta(weeks=22, days=2, hours=8),
        site="coast",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """When one scanner sends nothing."""

    station: str
    begins: timedelta
    ends: timedelta


#: Tuesday to Thursday of week 4.
OUTAGE = Outage(
    station="NORTH-XR-1",
    begins=timedelta(weeks=3, days=1),
    ends=timedelta(weeks=3, days=4),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """Who is imaged: somebody new at each visit, with an image of the sample for a body."""

    #: of the patient alone
    number: int
    #: the image's place among the sample's children, or adults
    index: int
    adult: bool
    pneumonia: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One radiograph of one patient."""

    patient: Patient
    scanner: Scanner
    at: datetime
    week: int
    #: of the week's gray values at this scanner
    offset: float
    #: the shifts that touch this scan: its chain, or where and when it was taken
    shifts: tuple[Kind, ...]
    #: of how the patient stood and was exposed
    seed: int


@dataclass(slots=True, kw_only=True)
class _Waiting:
    """The images of one site for one week, each for one visit."""

    rng: np.random.Generator
    pools: dict[str, npt.NDArray[np.int64]]
    taken: dict[str, int] = field(default_factory=dict)

    def next(self, kind: str) -> int:
        at = self.taken.get(kind, 0)
        if at == 0:
            self.pools[kind] = self.rng.permutation(self.pools[kind])
        if at == len(self.pools[kind]):
            raise ValueError(f"a week needs more than the {at} images {kind}: send fewer scans")
        self.taken[kind] = at + 1
        return int(self.pools[kind][at])


@dataclass(frozen=True, kw_only=True)
class World:
    """All visits, by the seed alone."""

    seed: int
    #: when the first watched week begins; a Monday, midnight UTC
    start: datetime
    #: without shifts, outage and holiday where not
    eventful: bool = True

    def visits(self, week: int) -> list[Visit]:
        """Return a week's visits in the order of time."""
        rng = np.random.default_rng([self.seed, 3, week - min(TRAINING_WEEKS)])
        prevalence = PREVALENCE * (1 + PREVALENCE_SPREAD * rng.uniform(-1, 1))
        shared = OFFSET * rng.standard_normal()
        own = dict(
            zip(
                (scanner.station for scanner in SCANNERS),
                shared + SCANNER_OFFSET * rng.standard_normal(len(SCANNERS)),
                strict=True,
            )
        )
        moments = sorted(
            (since, number)
            for number, scanner in enumerate(SCANNERS)
            for since in self._moments(scanner, week, rng)
        )
        waiting = {
            site: _Waiting(rng=rng, pools=dict(self._pools(site, week))) for site in SITES
        }
        return [
            self._visit(
                SCANNERS[number],
                week * WEEK + since,
                week,
                prevalence=prevalence,
                offset=float(own[SCANNERS[number].station]),
                waiting=waiting[SCANNERS[number].site],
                number=_PATIENTS_A_WEEK * (week - min(TRAINING_WEEKS)) + place,
                rng=rng,
            )
            for place, (since, number) in enumerate(moments)
        ]

    def touched(self, scanner: Scanner, since_start: timedelta) -> tuple[Shift, ...]:
        """Return the shifts that are going on at a scanner."""
        if not self.eventful:
            return ()
        return tuple(shift for shift in SHIFTS if shift.touches(scanner, since_start))

    def _visit(
        self,
        scanner: Scanner,
        since_start: timedelta,
        week: int,
        *,
        prevalence: float,
        offset: float,
        waiting: _Waiting,
        number: int,
        rng: np.random.Generator,
    ) -> Visit:
        kinds = tuple(shift.kind for shift in self.touched(scanner, since_start))
        if Kind.PREVALENCE in kinds:
            prevalence *= OUTBREAK_PREVALENCE / PREVALENCE
        ill = int(rng.random() < min(prevalence, 0.95))
        adult = rng.random() < ADULT_SHARE and Kind.POPULATION in kinds
        pool = "adult" if adult else ("normal", "ill")[ill]
        return Visit(
            patient=Patient(
                number=number,
                index=waiting.next(pool),
                adult=adult,
                pneumonia=-1 if adult else ill,
            ),
            scanner=scanner,
            at=self.start + since_start,
            week=week,
            offset=offset,
            shifts=kinds,
            seed=int(rng.integers(2**31)),
        )

    def _moments(
        self, scanner: Scanner, week: int, rng: np.random.Generator
    ) -> Iterator[timedelta]:
        """Yield when scans are taken, since the week's beginning."""
        training = week in TRAINING_WEEKS
        if training and scanner.site != TRAINING_SITE:
            return
        own = sum(one.share for one in SCANNERS if one.site == TRAINING_SITE)
        total = TRAINING_WEEKLY_SCANS / own if training else WEEKLY_SCANS
        rates = np.array([hour * day for day in (1,) * 5 + (WEEKEND,) * 2 for hour in _HOURS])
        rates *= total * scanner.share / rates.sum()
        if self.eventful and week == HOLIDAY_WEEK - 1:
            rates *= HOLIDAY_SHARE
        for hour, count in enumerate(rng.poisson(rates).tolist()):
            for part in sorted(rng.random(count).tolist()):
                since = (hour + part) * HOUR
                silent = self.eventful and scanner.station == OUTAGE.station
                if not (silent and OUTAGE.begins <= week * WEEK + since < OUTAGE.ends):
                    yield since

    def _pools(self, site: str, week: int) -> dict[str, npt.NDArray[np.int64]]:
        """Return the places of a site's images in the sample, by kind."""
        place = SITES.index(site)
        training = week in TRAINING_WEEKS
        pools = {
            kind: order[:most] if training else order[most:][place :: len(SITES)]
            for kind, order, most in zip(
                ("normal", "ill"), self._children, _TRAINING_IMAGES, strict=True
            )
        }
        return {**pools, "adult": self._adults}

    @cached_property
    def sample(self) -> Sample:
        return load_sample()

    @cached_property
    def _children(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the places of normal and of ill children, each in the seed's order."""
        ill = np.array([one.pneumonia for one in self.sample.children[: NATURAL.start]])
        order = np.random.default_rng([self.seed, 1]).permutation(len(ill))
        return order[ill[order] == 0], order[ill[order] == 1]

    @cached_property
    def _adults(self) -> npt.NDArray[np.int64]:
        """Return the adults that are imaged as the children are: lying down, from in front."""
        return np.array([one.index for one in self.sample.adults if one.view == "AP"])
