"""Numbers, times and names as the pages write them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from monitor.episodes.causes import Cause
from monitor.subgroups import Attribute, Subgroup

#: How the scans of a subgroup are called, by the attribute that makes it.
_SCANS_OF = {
    Attribute.SITE: "from {value}",
    Attribute.MANUFACTURER: "from {value} scanners",
    Attribute.SCANNER_MODEL: "from {value}",
    Attribute.SOFTWARE_VERSION: "of software version {value}",
    Attribute.STATION: "from station {value}",
    Attribute.PROTOCOL: "of protocol {value}",
    Attribute.VIEW: "of view {value}",
    Attribute.SEX: "of sex {value}",
    Attribute.AGE_BAND: "of patients aged {value}",
}

_CAUSES = {
    Cause.TECHNICAL: "technical change, of acquisition or pipeline",
    Cause.ACQUISITION: "acquisition change",
    Cause.PIPELINE: "change in the pipeline",
    Cause.PREVALENCE: "change of prevalence",
    Cause.CASE_MIX: "change of case mix",
    Cause.POPULATION: "change of population",
    Cause.PRACTICE: "change of practice",
    Cause.ROUTING: "routing fault",
    Cause.MIXED: "several causes at once",
    Cause.UNKNOWN: "change of unknown cause",
}


def fraction(value: float) -> str:
    """Return a number between -1 and 1 as medicine writes it, without the leading zero.

    >>> fraction(0.914), fraction(1.0), fraction(-0.05)
    ('.91', '1.00', '−.05')
    """
    text = f"{abs(value):.2f}"
    sign = "−" if value < 0 and text != "0.00" else ""
    return sign + text.removeprefix("0")


def with_interval(measure: Sequence[float]) -> str:
    """Return [estimate, low, high].

    >>> with_interval([0.914, 0.87, 0.94])
    '.91 (.87–.94)'
    """
    estimate, low, high = measure
    return f"{fraction(estimate)} ({fraction(low)}–{fraction(high)})"


def p_value(value: float) -> str:
    """Return a p-value with two significant digits; it is never written as 0.

    >>> p_value(0.0002), p_value(0.4123), p_value(3e-7), p_value(1.0)
    ('.0002', '.41', '< .0001', '1')
    """
    if value < 0.0001:
        return "< .0001"
    return f"{value:.2g}".removeprefix("0")


def effect(value: float) -> str:
    """Return an effect in standard deviations.

    >>> effect(0.8444)
    '0.84'
    """
    return f"{value:.2f}"


def quantity(value: float | None) -> str:
    """Return any other number with three decimals, or in powers of ten where it is tiny.

    >>> quantity(0.0312), quantity(-0.05), quantity(2.13e-6), quantity(0.0), quantity(None)
    ('0.031', '−0.050', '2.1 × 10⁻⁶', '0', '–')
    """
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 0.0005:
        return f"{value:.3f}".replace("-", "−")
    mantissa, exponent = f"{value:.1e}".replace("-", "−").split("e")
    raised = str(int(exponent.replace("−", "-"))).translate(
        str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    )
    return f"{mantissa} × 10{raised}"


def count(value: int) -> str:
    """Return a whole number with its thousands apart.

    >>> count(1801)
    '1,801'
    """
    return f"{value:,}"


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun.

    >>> counted(1, "model"), counted(3, "entry", "entries")
    ('1 model', '3 entries')
    """
    return f"{count(number)} {one if number == 1 else many or one + 's'}"


def percent(value: float) -> str:
    """Return a share.

    >>> percent(0.414)
    '41 %'
    """
    return f"{100 * value:.0f} %"


def day(moment: datetime) -> str:
    """Return a date.

    >>> day(datetime(2026, 9, 3, 14, 5, tzinfo=UTC))
    '3 Sep 2026'
    """
    moment = moment.astimezone(UTC)
    return f"{moment.day} {moment:%b %Y}"


def moment(at: datetime) -> str:
    """Return a time with its zone.

    >>> moment(datetime(2026, 9, 3, 14, 5, tzinfo=UTC))
    '3 Sep 2026, 14:05 UTC'
    """
    return f"{day(at)}, {at.astimezone(UTC):%H:%M} UTC"


def minute(at: datetime) -> str:
    """Return a time for a list whose heading names the zone, UTC.

    >>> minute(datetime(2026, 9, 3, 14, 5, tzinfo=UTC))
    '3 Sep 14:05'
    """
    at = at.astimezone(UTC)
    return f"{at.day} {at:%b %H:%M}"


def span(start: datetime, end: datetime) -> str:
    """Return a half-open span; whole days are written by their first and last day.

    >>> span(datetime(2026, 9, 3, tzinfo=UTC), datetime(2026, 9, 10, tzinfo=UTC))
    '3–9 Sep 2026'
    >>> span(datetime(2026, 9, 3, tzinfo=UTC), datetime(2026, 9, 6, 12, tzinfo=UTC))
    '3 Sep, 00:00 – 6 Sep 2026, 12:00 UTC'
    """
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    if start.time() == end.time() == datetime.min.time():
        last = end - timedelta(days=1)
        if last <= start:
            return day(start)
        if (start.year, start.month) == (last.year, last.month):
            return f"{start.day}–{day(last)}"
        return f"{start.day} {start:%b}{_year(start, last)} – {day(last)}"
    return f"{start.day} {start:%b}{_year(start, end)}, {start:%H:%M} – {moment(end)}"


def _year(start: datetime, end: datetime) -> str:
    """Return the year of a span's start where its end has another."""
    return f" {start.year}" if start.year != end.year else ""


def ago(at: datetime, now: datetime) -> str:
    """Return how long ago something was, in the largest unit that it fills.

    >>> ago(datetime(2026, 9, 3, tzinfo=UTC), datetime(2026, 9, 5, 3, tzinfo=UTC))
    '2 days ago'
    """
    seconds = (now - at).total_seconds()
    if seconds < 60:
        return "just now"
    for name, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= length:
            return f"{counted(int(seconds // length), name)} ago"
    return "just now"


def subgroup_name(subgroup: str | None) -> str:
    """Return `attribute=value` in words.

    >>> subgroup_name("software_version=2.1"), subgroup_name("")
    ('software version 2.1', 'all scans')
    """
    if not subgroup:
        return "all scans"
    return ", ".join(
        f"{attribute.value.replace('_', ' ')} {value}"
        for attribute, value in Subgroup.parse(subgroup).terms
    )


def scans_of(subgroup: str | None) -> str:
    """Return what to call the scans of a subgroup, for a sentence.

    >>> scans_of("software_version=2.1"), scans_of(None)
    ('scans of software version 2.1', 'scans')
    """
    if not subgroup:
        return "scans"
    words = [
        _SCANS_OF[attribute].format(value=value)
        for attribute, value in reversed(Subgroup.parse(subgroup).terms)
    ]
    return f"scans {' '.join(words)}"


def cause_name(cause: str) -> str:
    """Return a cause for a sentence.

    >>> cause_name("acquisition")
    'acquisition change'
    """
    return _CAUSES[Cause(cause)]


def sentence(text: str) -> str:
    """Return words as a sentence begins; a name that stands first stays as it is written.

    >>> sentence("acquisition change"), sentence("pneumonia@2 was promoted")
    ('Acquisition change', 'pneumonia@2 was promoted')
    """
    first = text.partition(" ")[0]
    if any(character in first for character in "@_/0123456789"):
        return text
    return text[:1].upper() + text[1:]
