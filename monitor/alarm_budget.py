"""A false-alarm budget in plain words."""

from __future__ import annotations

import re

from registry.errors import BadInputError

_DAYS = {"day": 1, "week": 7, "month": 30, "quarter": 90, "year": 360}
_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {word: number for number, word in enumerate(_WORDS, start=1)}
_BUDGET = re.compile(
    rf"\s*(?:at most\s+)?(?P<count>\d+|a|an|{'|'.join(_NUMBERS)})"
    r"(?:\s+(?:false\s+)?alarms?)?\s+(?:per|a|an|every)\s+"
    rf"(?:(?P<several>\d+|{'|'.join(_NUMBERS)})\s+)?(?P<period>{'|'.join(_DAYS)})s?\s*",
    re.IGNORECASE,
)


def scans_between_false_alarms(budget: str, *, scans_a_day: float) -> int:
    """Return a budget as the mean number of scans between two false alarms.

    Periods are those of a timetable: a month has 30 days, a quarter 90, a year 360.

    Parameters
    ----------
    budget : such as "one per quarter", "2 false alarms a year", "one every two weeks"
    scans_a_day : that the stream has on average, days without scans counted

    Raises
    ------
    BadInputError
        If the budget is not of this form, allows none, or the stream has no scans.

    Examples
    --------
    >>> scans_between_false_alarms("one per quarter", scans_a_day=400)
    36000
    >>> scans_between_false_alarms("two false alarms a year", scans_a_day=25)
    4500
    """
    found = _BUDGET.fullmatch(budget)
    if found is None:
        raise BadInputError(
            f"{budget!r} is no false-alarm budget: say how many per how long, as in "
            '"one per quarter" or "two a year"'
        )
    count, several = _number(found["count"]), _number(found["several"] or "one")
    if count == 0 or several == 0:
        raise BadInputError(
            f"{budget!r} allows no false alarm at all, and no test can promise that: "
            'allow a few, as in "one per year"'
        )
    if not 0 < scans_a_day < float("inf"):
        raise BadInputError(f"a stream needs scans to be watched, got {scans_a_day} a day")
    days = _DAYS[found["period"].lower()] * several
    return max(1, round(days * scans_a_day / count))


def _number(word: str) -> int:
    word = word.lower()
    return 1 if word in {"a", "an"} else int(word) if word.isdigit() else _NUMBERS[word]
