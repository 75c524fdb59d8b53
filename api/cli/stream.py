"""`driftward monitor stream`: how near an alarm each stream of a monitor is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from api.cli.options import HomeOption, JsonOption, opened, show, table

if TYPE_CHECKING:
    from monitor.following.standing import Following


def stream(name: str, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show how scans are followed one by one: evidence, burn-in, budget, open alarms."""
    from monitor.following.standing import following
    from monitor.monitors import require_monitor

    driftward = opened(home)
    with driftward.database.reading() as session:
        found = following(session, require_monitor(session, name))
    document = {"monitor": name, **found.to_dict()}
    show(document, as_json=as_json, lines=[found.budget, *stream_lines(found)])


def stream_lines(found: Following) -> Iterator[str]:
    """Yield what a person reads of a monitor's streams."""
    from monitor.following.words import seen_in_words

    if found.lacking is not None:
        yield f"no stream runs: {found.lacking}"
    if not found.streams:
        return
    rows = [
        [
            one.encoder,
            one.state,
            f"{one.scans:,}",
            f"{one.burn_in_left:,}" if one.burn_in_left else "-",
            "-" if one.shifted or one.burn_in_left else f"{one.evidence:.0%}",
            f"{one.looked_at:%Y-%m-%d %H:%M}",
        ]
        for one in found.streams
    ]
    header = ["stream", "", "scans", "burn-in left", "of an alarm's evidence", "looked (UTC)"]
    yield from table(rows, header=header)
    for one in found.streams:
        for episode, entry in one.seen:
            yield f"ALARM   episode {episode}: {seen_in_words(entry)}"
        for note in one.notes:
            yield f"note    {one.encoder}: {note}"
