"""The first level of the tree of causes, as far as a pattern tells it."""

from __future__ import annotations

from enum import StrEnum


class FirstLevel(StrEnum):
    """What a pattern can name; acquisition and pipeline below technical need more than that."""

    TECHNICAL = "technical"
    PREVALENCE = "prevalence"
    CASE_MIX = "case mix"
    POPULATION = "population"
    ROUTING = "routing"
    MIXED = "mixed"
    UNKNOWN = "unknown"
