"""`driftward scan quarantine …`: what was not taken, why, and the ways out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.options import HomeOption, JsonOption, ReasonOption, opened, show, table

if TYPE_CHECKING:
    from api.assembly import Driftward
    from monitor.intake.quarantine import Listing, QuarantinedItem
    from monitor.intake.reasons import Reason

app = typer.Typer(
    name="quarantine", help="What was not taken in, why, and the ways out of quarantine."
)

CodeOption = Annotated[
    str | None,
    typer.Option("--reason", help="Only items refused for this reason.", show_default=False),
]
AtSiteOption = Annotated[
    str | None, typer.Option("--site", help="Only items from this site.", show_default=False)
]
LimitOption = Annotated[int, typer.Option(help="At most this many, newest first.", min=1)]
ItemsArgument = Annotated[list[str] | None, typer.Argument(metavar="[ITEM]...")]


@app.callback(invoke_without_command=True)
def quarantine(
    context: typer.Context, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """List what was quarantined, and why; the commands below lead out of it."""
    if context.invoked_subcommand is None:
        list_(home=home, as_json=as_json)


@app.command("list")
def list_(
    reason: CodeOption = None,
    site: AtSiteOption = None,
    limit: LimitOption = 50,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what was quarantined, newest first, after its counts by reason and site."""
    driftward = opened(home)
    listing = driftward.quarantine.listing()
    wanted = _reason(reason)
    items = [
        item
        for item in listing.items
        if (wanted is None or item.reason is wanted) and (site is None or item.site == site)
    ]
    now = driftward.clock.now()
    newest = list(reversed(items))[:limit]
    lines = [*_count_lines(items, listing, driftward, now), ""]
    rows = [
        [item.id, item.reason, item.site, _size(item), f"{item.at:%Y-%m-%d %H:%M}", item.times]
        for item in newest
    ]
    if rows:
        lines += table(rows, header=["item", "reason", "site", "size", "first refused", "came"])
    if len(newest) < len(items):
        lines.append(
            f"and {len(items) - len(newest):,} older: `driftward scan quarantine list` takes "
            "--limit, --reason and --site"
        )
    show([_document(item) for item in newest], as_json=as_json, lines=lines)


@app.command("counts")
def counts(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Count what is in quarantine by reason and site."""
    from monitor.intake.quarantine import counts_of

    driftward = opened(home)
    listing = driftward.quarantine.listing()
    document = {
        "items": len(listing.items),
        "bytes": sum(item.size for item in listing.items),
        "foreign_files": listing.foreign,
        "kept_for_days": driftward.settings.quarantine_days,
        "counts": [
            {
                "reason": count.reason,
                "site": count.site,
                "items": count.items,
                "bytes": count.size,
                "oldest": count.oldest,
            }
            for count in counts_of(listing.items)
        ],
    }
    lines = _count_lines(listing.items, listing, driftward, driftward.clock.now())
    show(document, as_json=as_json, lines=lines)


@app.command("show")
def show_(item: str, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show one ITEM, what its reason means, and what to do about it; never its content."""
    from monitor.intake.ways_out import WAYS_OUT

    driftward = opened(home)
    found = driftward.quarantine.find(item)
    way_out = WAYS_OUT[found.reason]
    document = _document(found) | {"meaning": way_out.meaning, "action": way_out.action}
    expires = found.at + timedelta(days=driftward.settings.quarantine_days)
    lines = [
        f"{found.id}: {found.reason}, from {found.site}",
        f"  {found.detail}",
        f"  {_size(found)}, first refused {found.at:%Y-%m-%d %H:%M} UTC, expires "
        f"{expires:%Y-%m-%d}",
        *(
            []
            if found.last_at is None
            else [f"  came {found.times} times, last {found.last_at:%Y-%m-%d %H:%M} UTC"]
        ),
        "",
        way_out.meaning,
        way_out.action,
    ]
    show(document, as_json=as_json, lines=lines)


@app.command("retry")
def retry(
    items: ItemsArgument = None,
    reason: CodeOption = None,
    site: AtSiteOption = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Everything that is in quarantine.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try ITEMs again after a fix; what is taken leaves, once it is stored for good."""
    from api.progress import progress_bar
    from monitor.intake.keeping import chosen

    if not (items or reason or site or everything):
        raise typer.BadParameter("name items, or give --reason, --site or --all")
    driftward = opened(home)
    wanted = chosen(driftward.quarantine, ids=items or (), reason=_reason(reason), site=site)
    by = driftward.whoever_runs_this()
    with progress_bar("trying again") as tell:
        report = driftward.quarantine_keeper.retry(wanted, by=by, tell=tell)
    document = {
        "tried": report.tried,
        "added": report.added,
        "known": report.known,
        "refused": dict(report.refused),
        "changed": list(report.changed),
        "not_kept": list(report.not_kept),
        "unopened": list(report.unopened),
    }
    stay = sum(report.refused.values())
    lines = [
        f"{report.tried} tried: {report.added} scans added, {report.known} known before, "
        f"{stay} refused again",
        *[f"  {count} × {code}" for code, count in sorted(report.refused.items())],
    ]
    if report.changed:
        lines.append(f"{len(report.changed)} of these for another reason than before")
    if report.not_kept:
        lines.append(f"{len(report.not_kept)} were too large to keep: send the originals again")
    if report.unopened:
        lines.append(
            f"{len(report.unopened)} were changed since, or belong to another key: "
            "send the originals again"
        )
    show(document, as_json=as_json, lines=lines)


@app.command("release")
def release(
    item: str, reason: ReasonOption, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Take ITEM in on your word that no text is burned into it; the ledger keeps your word."""
    driftward = opened(home)
    by = driftward.whoever_runs_this()
    fate = driftward.quarantine_keeper.release(item, statement=reason, by=by)
    document = {"item": item, "outcome": fate.outcome, "reason": fate.reason}
    if fate.reason is None:
        line = (
            f"{item}: taken as a scan" if fate.outcome == "added" else f"{item}: known before"
        )
        show(document, as_json=as_json, lines=[f"{line}, on the word of {by.name}"])
        return
    show(document, as_json=as_json, lines=[f"{item}: stays, as {fate.reason}: {fate.detail}"])
    raise typer.Exit(1)


@app.command("purge")
def purge(
    older_than: Annotated[
        int | None,
        typer.Option(
            "--older-than",
            metavar="DAYS",
            help="Days since the first refusal, 0 for everything; by default as "
            "DRIFTWARD_QUARANTINE_DAYS says.",
            min=0,
        ),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove for good what has been in quarantine for too long; a worker does so every day."""
    driftward = opened(home)
    days = driftward.settings.quarantine_days if older_than is None else older_than
    removed = driftward.quarantine_retention.purge(
        by=driftward.whoever_runs_this(), older_than=timedelta(days=days)
    )
    document = {"removed": removed, "older_than_days": days}
    which = f"items older than {days} days" if days else "items, all that were there,"
    show(document, as_json=as_json, lines=[f"{removed} {which} removed"])


def _reason(code: str | None) -> Reason | None:
    from monitor.intake.reasons import Reason

    if code is None:
        return None
    try:
        return Reason(code.replace(" ", "_"))
    except ValueError:
        raise typer.BadParameter(
            f"{code!r} is no reason: one of {', '.join(Reason)}", param_hint="--reason"
        ) from None


def _document(item: QuarantinedItem) -> dict[str, Any]:
    return {
        "item": item.id,
        "reason": item.reason,
        "detail": item.detail,
        "site": item.site,
        "bytes": item.size,
        "since": item.at,
        "kept": item.kept,
        "times": item.times,
        "last": item.last_at,
    }


def _count_lines(
    items: Sequence[QuarantinedItem], listing: Listing, driftward: Driftward, now: datetime
) -> list[str]:
    from monitor.intake.quarantine import counts_of

    if not items:
        lines = ["nothing is in quarantine"]
    else:
        size = sum(item.size for item in items)
        lines = [
            f"{len(items):,} items, {_bytes(size)}; the oldest for {_age(items[0].at, now)}, "
            f"kept for {driftward.settings.quarantine_days} days",
            *table(
                [
                    [count.reason, count.site, f"{count.items:,}", _bytes(count.size)]
                    for count in counts_of(items)
                ],
                header=["reason", "site", "items", "size"],
            ),
        ]
    if listing.foreign:
        lines.append(
            f"{listing.foreign} files in {driftward.home.quarantine} are no items: look at them "
            "there, and remove what does not belong"
        )
    return lines


def _size(item: QuarantinedItem) -> str:
    return _bytes(item.size) if item.kept else "not kept"


def _bytes(size: int) -> str:
    for unit, length in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= length:
            return f"{size / length:.1f} {unit}"
    return f"{size} B"


def _age(at: datetime, now: datetime) -> str:
    hours = int((now - at) / timedelta(hours=1))
    return f"{hours // 24} days" if hours >= 48 else f"{hours} hours"
