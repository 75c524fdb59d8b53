"""Setting the demo up: a home of its own, a replayed clock, and the story."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from api.assembly import Driftward
from api.demo.narration import Narrator
from api.demo.outcome import document
from api.demo.story import HISTORY_WEEKS, WEEKS, Story, StorySettings
from api.initialising import initialise
from api.logs import configure_logs
from api.settings import Home, Settings
from registry.clock import ReplayClock
from registry.errors import HomeError

#: Marks a home that a demo made, and that a later demo may move aside.
MARKER = "demo.txt"
MARKER_TEXT = "This home was made by `driftward demo`; a later demo moves it aside.\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A demo that has been played, and what came of it."""

    driftward: Driftward
    document: dict[str, Any]


def play(settings: Settings, *, seed: int, shift: bool, port: int | None) -> Played:
    """Play the demo in a home of its own.

    Raises
    ------
    HomeError
        If the home exists and no demo made it.
    PortInUseError
        If the pages could not be served afterwards; said before the story begins.
    """
    configure_logs()
    if port is not None:
        from api.http.serving import listen

        listen("127.0.0.1", port).close()
    narrator = Narrator()
    moved = _clear(settings.home)
    if moved is not None:
        narrator.line(f"the demo that was in {settings.home} is now in {moved}")
    anchor = _first_monday()
    clock = ReplayClock(anchor - timedelta(weeks=HISTORY_WEEKS))
    operator = initialise(
        settings, name="demo-operator", clock=clock, key_seed=f"driftward demo {seed}"
    )
    (settings.home / MARKER).write_text(MARKER_TEXT, encoding="utf-8")
    driftward = Driftward.open(settings, clock=clock)
    story = Story(
        driftward,
        clock,
        operator,
        narrator,
        StorySettings(seed=seed, shift=shift),
        anchor=anchor,
    )
    story.play()
    narrator.limits()
    found = document(driftward, weeks=WEEKS, seconds=story.seconds)
    narrator.chapter(
        f"ledger: {found['ledger']['entries']} entries, "
        f"{'valid' if found['ledger']['valid'] else 'NOT VALID'}; {found['seconds']} s"
    )
    return Played(driftward=Driftward.open(settings), document=found)


def _first_monday() -> datetime:
    """Return the Monday from which the demo's weeks end before now."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=today.weekday(), weeks=WEEKS)


def _clear(root: Path) -> Path | None:
    """Move an earlier demo's home aside, and return where it is now."""
    if not root.exists() or not any(root.iterdir()):
        return None
    if not (root / MARKER).exists() and not Home(root=root).database.exists():
        raise HomeError(f"{root} holds other files: name an empty or a new folder with --home")
    if not (root / MARKER).exists():
        raise HomeError(
            f"{root} is the home of a real installation: name another one with --home"
        )
    number = 1
    while (aside := root.with_name(f"{root.name}-{number}")).exists():
        number += 1
    root.rename(aside)
    return aside
