"""`driftward monitor silence`: which sources of scans are silent, or send too much."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.options import HomeOption, JsonOption, opened, require_reason, show, table

if TYPE_CHECKING:
    from monitor.silence.standing import SilenceStanding

CloseOption = Annotated[
    int | None,
    typer.Option(
        "--close",
        metavar="ALARM",
        help="Close this alarm: what it found is ordinary, and learnt anew from then.",
        show_default=False,
    ),
]
WhyOption = Annotated[
    str | None,
    typer.Option("--reason", help="Why it is closed, for the ledger.", show_default=False),
]


def silence(
    name: str,
    home: HomeOption = None,
    as_json: JsonOption = False,
    close: CloseOption = None,
    reason: WhyOption = None,
) -> None:
    """Show missing and surplus scans by source, against what is expected of them."""
    from monitor.monitors import require_monitor
    from monitor.silence.standing import silence_standing

    if (close is None) != (reason is None or not reason.strip()):
        raise typer.BadParameter("--close takes a --reason, and the other way about")
    driftward = opened(home)
    if close is not None and reason is not None:
        _accept(driftward, name, close, require_reason(reason))
    now = driftward.clock.now()
    with driftward.database.reading() as session:
        monitor = require_monitor(session, name)
        standing = silence_standing(session, monitor, now=now)
    show(document_of(name, standing), as_json=as_json, lines=lines_of(standing))


def document_of(name: str, standing: SilenceStanding) -> dict[str, Any]:
    """Return all that is known, as JSON."""
    from monitor.silence.standing import describe_alarm

    return {
        "monitor": name,
        "watching": standing.watching.value,
        "looked_at": standing.looked_at,
        "false_alarms_per_quarter": standing.budget,
        "alarms_last_quarter": standing.opened_last_quarter,
        "open": [describe_alarm(row) for row in standing.open],
        "closed": [describe_alarm(row) for row in standing.closed],
        "holidays": [{"date": day, "sites": sites} for day, sites in standing.holidays],
        **{key: standing.document[key] for key in _KEPT if key in standing.document},
    }


#: What of a look's document is printed.
_KEPT = ("learnt_days", "needed_days", "sources", "new", "gone", "hours", "notes")


def lines_of(standing: SilenceStanding) -> Iterator[str]:
    """Yield what a person reads."""
    yield from alarm_lines(standing)
    yield ""
    yield from _source_lines(standing)
    for note in standing.notes:
        yield f"note    {note}"
    for row in standing.closed:
        yield (
            f"alarm {row.id} of {row.opened_at:%Y-%m-%d %H:%M} UTC ({row.kind}, "
            f"{_name(row.subgroup)}) closed {row.closed_at:%Y-%m-%d %H:%M} UTC: "
            f"{row.closed_reason}"
        )


def alarm_lines(standing: SilenceStanding) -> Iterator[str]:
    """Yield how silence stands, and every open alarm with what to check first."""
    from monitor.silence.standing import Watching, describe_alarm

    for row in standing.open:
        alarm = describe_alarm(row)
        yield f"ALARM {row.id}  {alarm['says']}"
        yield f"  p = {row.p_value:.2g}, alarm at {row.alpha:.2g}; {alarm['beside_it']}"
        for check in alarm["check_first"]:
            yield f"  - {check}"
    match standing.watching:
        case Watching.OFF:
            yield "silence is not watched: the monitor's file says `silence: null`"
        case Watching.NOT_LOOKED_YET:
            yield (
                "nobody looked yet: looks are made while `driftward up`, or `serve` and "
                "`work`, run"
            )
        case Watching.LEARNING:
            yield (
                f"learning what is ordinary: {standing.document['learnt_days']} of "
                f"{standing.document['needed_days']} days"
            )
        case Watching.WATCHING:
            state = "" if standing.open else "no source is silent, none sends too much; "
            yield (
                f"{state}{standing.opened_last_quarter} alarms in the last quarter, of which "
                f"{standing.budget:g} may be false; looked {standing.looked_at:%Y-%m-%d %H:%M} "
                "UTC"
            )
    if standing.holiday_line:
        yield standing.holiday_line


def _source_lines(standing: SilenceStanding) -> Iterator[str]:
    if not standing.sources:
        return
    rows = [
        [
            "  " * source["level"] + _name(source["subgroup"]),
            "silent" if source["silent"] else "",
            _minute(source["last_scan_at"]),
            source["received"],
            f"{source['expected']:g}",
            _noticed_by(source),
        ]
        for source in standing.sources
    ]
    header = ["source", "", "last scan", "last 24 h", "expected", "a stop shows by (UTC)"]
    yield from table(rows, header=header)
    for word, key in (("new", "new"), ("gone", "gone")):
        for source in standing.document.get(key, []):
            yield f"{word:<7} {_name(source['subgroup'])}, {_minute(source['at'])} UTC"


def _name(subgroup: str) -> str:
    from monitor.silence.words import source_name

    return source_name(subgroup)


def _noticed_by(source: dict[str, Any]) -> str:
    if source["silent"]:
        return "-"
    return _minute(source["noticed_by"]) if source["noticed_by"] else "in over ten days"


def _minute(moment: str) -> str:
    return f"{datetime.fromisoformat(moment):%Y-%m-%d %H:%M}"


def _accept(driftward: Any, name: str, alarm: int, reason: str) -> None:
    from monitor.silence.alarms import accept_alarm, require_alarm
    from registry.identities import Role

    by = driftward.whoever_runs_this()
    by.require(Role.OPERATOR, "close a silence alarm")
    with driftward.database.transaction() as session:
        row = require_alarm(session, name, alarm)
        accept_alarm(session, row, reason=reason, actor=by.name, at=driftward.clock.now())
