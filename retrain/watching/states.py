"""Where a watch stands, and how it may move."""

from __future__ import annotations

from enum import StrEnum


class WatchState(StrEnum):
    """Where a watch stands; all but `WATCHING` are its end."""

    WATCHING = "watching"
    #: its days are over, and no fall below what was promised was found
    PASSED = "passed"
    FAILED = "failed"
    #: its days are over, and labels were too few to say
    NOT_EVALUABLE = "not evaluable"
    #: another version serves
    CUT_SHORT = "cut short"
