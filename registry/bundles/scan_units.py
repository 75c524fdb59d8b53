"""The declaration of what is read as one scan where that is more than one instance.

The declaration alone stands here. `monitor.assembling` carries out what makes
a series or a study one scan, `monitor.embedding.aggregation` what makes its instances
one embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from registry.bundles.documents import Section
from registry.canonical import Json
from registry.errors import BundleError

# Instances of one scan are embedded together: more of them than this fill a
# batch of their own, and add little to a mean.
MOST_INSTANCES = 64
SHORTEST_SETTLE_SECONDS, LONGEST_SETTLE_SECONDS = 1, 24 * 3600
LONGEST_WAIT_HOURS = 14 * 24


class Choose(StrEnum):
    """Which of a scan's instances are read, in their order along the normal."""

    MIDDLE = "middle"  #: neighbours about the middle
    EVENLY = "evenly"  #: the middle of each of as many equal parts
    ALL = "all"  #: every one; a scan of more than may be read is refused


class Aggregate(StrEnum):
    """How what was said of instances becomes what is said of the scan."""

    MEAN = "mean"
    MAX = "max"


class SeriesChoice(StrEnum):
    """Which of several series of one study are read."""

    ALL = "all"
    LARGEST = "largest"  #: the one with most instances


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which series a model reads.

    Raises
    ------
    BundleError
        If a value is impossible; the message names it.
    """

    modalities: tuple[str, ...] = ()  #: codes as "CT"; none: any
    least_instances: int = 1  #: a series of fewer is refused, and joins when more come
    protocol_words: tuple[str, ...] = ()  #: one of them stands in its protocol; none: any
    series: SeriesChoice = SeriesChoice.ALL

    def __post_init__(self) -> None:
        if self.least_instances < 1:
            raise BundleError(
                f"reading: least_instances {self.least_instances} must be at least 1"
            )
        if any(code != code.upper() for code in self.modalities):
            raise BundleError(
                f"reading: modalities {list(self.modalities)} are codes in capitals, as CT"
            )

    def series_refusal(
        self, *, modality: str, protocol: str | None, instances: int
    ) -> str | None:
        """Return why a series is not read, or None if it is."""
        if self.modalities and modality.upper() not in self.modalities:
            return f"series of modality {modality}: it reads series of {', '.join(self.modalities)}"
        words = (protocol or "").casefold()
        if self.protocol_words and not any(
            word.casefold() in words for word in self.protocol_words
        ):
            return (
                f"series of protocol {protocol or 'not stated'}: it reads those named "
                f"{', '.join(self.protocol_words)}"
            )
        if instances < self.least_instances:
            return (
                f"series of {instances} instances: it reads those of {self.least_instances} on"
            )
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a series or a study becomes one scan, and its instances one embedding.

    Raises
    ------
    BundleError
        If a value is impossible; the message names it.
    """

    select: Selection = Selection()
    choose: Choose = Choose.EVENLY
    at_most: int = 16  #: instances that are read of one scan
    embedding: Aggregate = Aggregate.MEAN  #: of the instances', as the encoder returns them
    #: of the instances' calibrated probabilities; of several classes of which one holds, `max`
    #: takes those of the instance in which the class that is looked for is likeliest
    probabilities: Aggregate = Aggregate.MEAN
    settle_seconds: int = 120  #: nothing came for so long: it is whole
    longest_wait_hours: float = 24.0  #: what is there then counts

    def __post_init__(self) -> None:
        if not 1 <= self.at_most <= MOST_INSTANCES:
            raise BundleError(
                f"reading: at_most {self.at_most} is not of 1 to {MOST_INSTANCES} instances"
            )
        if not SHORTEST_SETTLE_SECONDS <= self.settle_seconds <= LONGEST_SETTLE_SECONDS:
            raise BundleError(
                f"reading: settle_seconds {self.settle_seconds} must lie between "
                f"{SHORTEST_SETTLE_SECONDS} and {LONGEST_SETTLE_SECONDS}"
            )
        if not self.settle_seconds / 3600 <= self.longest_wait_hours <= LONGEST_WAIT_HOURS:
            raise BundleError(
                f"reading: longest_wait_hours {self.longest_wait_hours} must not be shorter than "
                f"settle_seconds, nor above {LONGEST_WAIT_HOURS}"
            )

    def chosen(self, count: int) -> tuple[int, ...]:
        """Return the numbers of the instances that are read of so many, from 0, in their order.

        >>> Reading(choose=Choose.EVENLY, at_most=3).chosen(10)
        (1, 5, 8)
        >>> Reading(choose=Choose.MIDDLE, at_most=3).chosen(10)
        (3, 4, 5)
        >>> Reading(choose=Choose.MIDDLE, at_most=3).chosen(2)
        (0, 1)
        """
        if count <= self.at_most or self.choose is Choose.ALL:
            return tuple(range(count))
        if self.choose is Choose.MIDDLE:
            first = (count - self.at_most) // 2
            return tuple(range(first, first + self.at_most))
        return tuple(
            (2 * part + 1) * count // (2 * self.at_most) for part in range(self.at_most)
        )

    def too_many(self, count: int) -> bool:
        """Say whether a scan of so many instances cannot be read whole, as it was declared to be."""
        return self.choose is Choose.ALL and count > self.at_most

    def to_json(self) -> dict[str, Json]:
        """Return the section `reading` of preprocessing.json."""
        return {
            "select": {
                "modalities": [*self.select.modalities],
                "least_instances": self.select.least_instances,
                "protocol_words": [*self.select.protocol_words],
                "series": self.select.series.value,
            },
            "instances": {"choose": self.choose.value, "at_most": self.at_most},
            "aggregate": {
                "embedding": self.embedding.value,
                "probabilities": self.probabilities.value,
            },
            "settle_seconds": self.settle_seconds,
            "longest_wait_hours": float(self.longest_wait_hours),
        }

    @classmethod
    def from_section(cls, section: Section) -> Reading:
        """Return the declaration in a section, all of whose keys may be left out.

        Raises
        ------
        BundleError
            If it is not valid, or has an unknown key.
        """
        default = cls()
        select, instances, aggregate = (
            section.section(key)
            if key in section
            else Section({}, name=f"{section.name}: {key}")
            for key in ("select", "instances", "aggregate")
        )
        reading = cls(
            select=_selection(select),
            choose=instances.choice("choose", Choose)
            if "choose" in instances
            else default.choose,
            at_most=instances.integer("at_most") if "at_most" in instances else default.at_most,
            embedding=_aggregate(aggregate, "embedding"),
            probabilities=_aggregate(aggregate, "probabilities"),
            settle_seconds=section.integer("settle_seconds")
            if "settle_seconds" in section
            else default.settle_seconds,
            longest_wait_hours=section.number("longest_wait_hours")
            if "longest_wait_hours" in section
            else default.longest_wait_hours,
        )
        for part in (select, instances, aggregate, section):
            part.close()
        return reading


def _selection(section: Section) -> Selection:
    default = Selection()
    return Selection(
        modalities=section.texts("modalities") if "modalities" in section else (),
        least_instances=section.integer("least_instances")
        if "least_instances" in section
        else default.least_instances,
        protocol_words=section.texts("protocol_words") if "protocol_words" in section else (),
        series=section.choice("series", SeriesChoice)
        if "series" in section
        else default.series,
    )


def _aggregate(section: Section, key: str) -> Aggregate:
    return section.choice(key, Aggregate) if key in section else Aggregate.MEAN
