"""The quarantine's page: how much, why, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from markupsafe import Markup

from api.pages import wording
from monitor.intake.quarantine import (
    Listing,
    Quarantine,
    QuarantineCount,
    QuarantinedItem,
    counts_of,
)
from monitor.intake.reasons import Reason
from monitor.intake.ways_out import RELEASABLE, WAYS_OUT
from registry.errors import HomeError

PAGE = 50
_WORDS = {
    Reason.AI_RESULT: "result of an AI",
    Reason.NOT_DICOM: "not DICOM",
    Reason.BURNED_IN: "text burned in",
    Reason.BURNED_IN_UNKNOWN: "text perhaps burned in",
    Reason.TEXT_FOUND: "text recognised in the pixels",
    Reason.TEXT_NOT_LOOKED_FOR: "text could not be looked for",
    Reason.CONFLICT: "conflict with a stored image",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteCount:
    """How many items of a reason came from one site."""

    site: str
    items: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonLine:
    """One reason: how many, from where, what it means, and what to do."""

    reason: str
    words: str
    items: int
    size: str
    #: 0 to 100, of the largest count
    share: int
    sites: tuple[SiteCount, ...]
    meaning: str
    action: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemLine:
    """One item in the list."""

    id: str
    words: str
    detail: str
    site: str
    size: str
    at: str
    age: str
    #: the command that leads out of quarantine
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinePage:
    """Everything on the page."""

    headline: str
    #: why nothing can be shown, with the way out; None where all is well
    problem: Markup | None
    total: int
    size: str
    oldest: str | None
    kept_for_days: int
    #: items that expire within a day
    expiring: int
    foreign: int
    reasons: tuple[ReasonLine, ...]
    items: tuple[ItemLine, ...]
    #: what the items are filtered by
    reason: Reason | None
    site: str | None
    #: over the items
    title: str
    #: id before which the next page starts, if there is one
    older: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineMark:
    """How the quarantine stands, in a figure."""

    #: None where it cannot be looked into
    items: int | None
    oldest: datetime | None


def quarantine_mark(quarantine: Callable[[], Quarantine]) -> QuarantineMark:
    """Return how the quarantine stands; a page that shows much else is not lost with it."""
    try:
        items = quarantine().items()
    except HomeError:
        return QuarantineMark(items=None, oldest=None)
    return QuarantineMark(items=len(items), oldest=items[0].at if items else None)


def quarantine_counts(
    quarantine: Callable[[], Quarantine], *, sites: Collection[str] | None
) -> list[QuarantineCount]:
    """Return counts by reason and site, of these sites; none where it cannot be looked into."""
    try:
        return counts_of(_of_sites(quarantine().items(), sites))
    except HomeError:
        return []


def quarantine_page(
    quarantine: Callable[[], Quarantine],
    *,
    keep_for: timedelta,
    now: datetime,
    reason: Reason | None,
    site: str | None,
    before: str | None,
    sites: Collection[str] | None = None,
) -> QuarantinePage:
    """Return the page; `before` names the item after which it starts, newest first.

    Parameters
    ----------
    sites : whose items may be seen; None for those of all
    """
    problem: Markup | None = None
    try:
        listing = quarantine().listing()
    except HomeError as error:
        problem = _with_code(f"{wording.sentence(str(error))}.")
        listing = Listing(items=(), foreign=0)
    listing = replace(listing, items=_of_sites(listing.items, sites))
    items = listing.items
    wanted = [
        item
        for item in reversed(items)
        if (reason is None or item.reason is reason) and (site is None or item.site == site)
    ]
    if before is not None:
        ids = [item.id for item in wanted]
        wanted = wanted[ids.index(before) + 1 :] if before in ids else wanted
    oldest = wording.ago(items[0].at, now) if items else None
    return QuarantinePage(
        headline=_headline(listing, problem, keep_for),
        problem=problem,
        total=len(items),
        size=byte_size(sum(item.size for item in items)),
        oldest=oldest,
        kept_for_days=keep_for.days,
        expiring=sum(item.at < now - keep_for + timedelta(days=1) for item in items),
        foreign=listing.foreign,
        reasons=_reasons(listing),
        items=tuple(_line(item, now) for item in wanted[:PAGE]),
        reason=reason,
        site=site,
        title=_title(reason, site),
        older=wanted[PAGE - 1].id if len(wanted) > PAGE else None,
    )


def _of_sites(
    items: Iterable[QuarantinedItem], sites: Collection[str] | None
) -> tuple[QuarantinedItem, ...]:
    return tuple(item for item in items if sites is None or item.site in sites)


def byte_size(size: int) -> str:
    """Return a number of bytes in the largest unit that it fills.

    >>> byte_size(0), byte_size(1_540_000)
    ('0 B', '1.5 MB')
    """
    for unit, length in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= length:
            return f"{size / length:.1f} {unit}"
    return f"{size} B"


def _headline(listing: Listing, problem: str | None, keep_for: timedelta) -> str:
    if problem is not None:
        return "The quarantine cannot be looked into: what is refused now cannot be kept."
    if not listing.items:
        return "Nothing is in quarantine: everything that came in was taken."
    waiting = sum(item.reason in RELEASABLE for item in listing.items)
    text = (
        f"{wording.counted(len(listing.items), 'file')} came in and "
        f"{'was' if len(listing.items) == 1 else 'were'} not taken as scans. They are kept "
        f"encrypted for {wording.counted(keep_for.days, 'day')} from their first refusal."
    )
    if waiting:
        text += (
            f" {wording.count(waiting)} of them for burned-in text, which a person can deny."
        )
    return text


def _title(reason: Reason | None, site: str | None) -> str:
    what = "Newest" if reason is None else f"{words_of(reason)}, newest"
    return wording.sentence(what) + (f", from {site}" if site else "")


def _reasons(listing: Listing) -> tuple[ReasonLine, ...]:
    counts: dict[Reason, list[QuarantineCount]] = {}
    for count in counts_of(listing.items):
        counts.setdefault(count.reason, []).append(count)
    totals = {reason: sum(count.items for count in of) for reason, of in counts.items()}
    most = max(totals.values(), default=1)
    return tuple(
        ReasonLine(
            reason=reason.value,
            words=words_of(reason),
            items=totals[reason],
            size=byte_size(size) if (size := _size_of(counts[reason])) else "not kept",
            share=round(100 * totals[reason] / most),
            sites=tuple(
                SiteCount(site=count.site, items=count.items) for count in counts[reason]
            ),
            meaning=WAYS_OUT[reason].meaning,
            action=_with_code(WAYS_OUT[reason].action),
        )
        for reason in sorted(totals, key=lambda reason: (-totals[reason], reason))
    )


def _size_of(counts: list[QuarantineCount]) -> int:
    return sum(count.size for count in counts)


def words_of(reason: Reason) -> str:
    """Return a reason's code as words.

    >>> words_of(Reason.NOT_DICOM), words_of(Reason.BURNED_IN_UNKNOWN)
    ('not DICOM', 'text perhaps burned in')
    """
    return _WORDS.get(reason, reason.value.replace("_", " "))


def _with_code(text: str) -> Markup:
    """Return a text with what stands between backticks as code."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else part
        for number, part in enumerate(parts)
    )


def _age(item: QuarantinedItem, now: datetime) -> str:
    first = wording.ago(item.at, now)
    if item.last_at is None:
        return first
    return f"{first}; came {item.times} times, last {wording.ago(item.last_at, now)}"


def _line(item: QuarantinedItem, now: datetime) -> ItemLine:
    verb = "release" if item.reason in RELEASABLE else "retry" if item.kept else "show"
    return ItemLine(
        id=item.id,
        words=words_of(item.reason),
        detail=item.detail,
        site=item.site,
        size=byte_size(item.size) if item.kept else "not kept",
        at=wording.moment(item.at),
        age=_age(item, now),
        command=f"driftward scan quarantine {verb} {item.id}",
    )
