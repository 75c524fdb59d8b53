"""Sparklines: a model's drift in the space of a table cell, as SVG coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from api.pages.judged import JudgedWindow

WIDTH, HEIGHT = 132, 30
MARGIN = 3
#: Windows that are drawn.
WINDOWS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparkline:
    """Coordinates of a drawing of `WIDTH` × `HEIGHT`."""

    #: of the champion, one polyline a version
    champion: tuple[str, ...]
    #: of the monitoring encoder's trend
    trend: str
    #: top of the band in which a shift is too small for a window to show
    band_top: float
    #: centre of the newest window's point
    newest: tuple[float, float]
    #: what it shows, for those who do not see it
    label: str


def sparkline(windows: Sequence[JudgedWindow]) -> Sparkline | None:
    """Draw the newest windows, or return None while there are none."""
    shown = [item for item in windows if item.verdicts][-WINDOWS:]
    if not shown:
        return None
    newest = shown[-1]
    highest = max(
        [row.effect for item in shown for row in item.verdicts]
        + [newest.leading.smallest_effect * 1.5]
    )

    def x(index: int) -> float:
        steps = max(1, len(shown) - 1)
        return round(MARGIN + index * (WIDTH - 2 * MARGIN) / steps, 1)

    def y(effect: float) -> float:
        return round(HEIGHT - MARGIN - effect / highest * (HEIGHT - 2 * MARGIN), 1)

    versions = groupby(
        [(index, item) for index, item in enumerate(shown) if item.champion is not None],
        key=lambda pair: pair[1].champion_version,
    )
    last = newest.champion or newest.leading
    return Sparkline(
        champion=tuple(
            " ".join(
                f"{x(index)},{y(item.champion.effect)}" for index, item in part if item.champion
            )
            for _, part in versions
        ),
        trend=" ".join(
            f"{x(index)},{y(item.trend.effect)}"
            for index, item in enumerate(shown)
            if item.trend is not None
        ),
        band_top=y(newest.leading.smallest_effect),
        newest=(x(len(shown) - 1), y(last.effect)),
        label=(
            f"Effect in the newest of {len(shown)} windows {last.effect:.2f}; "
            f"from {last.smallest_effect:.2f} on a window shows it"
        ),
    )
