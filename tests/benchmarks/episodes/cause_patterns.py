"""Patterns of simulated windows as a table, and what happened to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from monitor.statistics.attribution.first_level import FirstLevel

Floats = npt.NDArray[np.float64]
Texts = npt.NDArray[np.str_]
Flags = npt.NDArray[np.bool_]

#: the level at which a window counts as shifted
LEVEL = 0.05


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """Patterns of windows, and what happened to them."""

    names: tuple[tuple[str, str], ...]
    #: [W, F]
    values: Floats
    #: [W] each
    truth: Texts
    what: Texts
    variant: Texts
    reference: Texts
    roles: Texts
    scans: npt.NDArray[np.int64]
    p_value: Floats
    peer: Texts

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def kind(self) -> Texts:
        """What a window is learnt as: mixed ones by what is mixed."""
        return np.where(self.truth == "mixed", self.what, self.truth)

    @property
    def detected(self) -> Flags:
        return np.asarray(self.p_value <= LEVEL)

    def where(self, chosen: Flags) -> Table:
        """Return some of the windows."""
        kept = {name: getattr(self, name)[chosen] for name in self.__slots__ if name != "names"}
        return Table(names=self.names, **kept)


def table(part: str, cache: Path) -> Table:
    """Read a part's patterns."""
    columns: dict[str, list[npt.NDArray[np.generic]]] = {}
    names: tuple[tuple[str, str], ...] = ()
    for path in sorted((cache / "patterns").glob(f"{part}-*.npz")):
        _, reference, scans, _ = path.stem.split("-")
        with np.load(path, allow_pickle=False) as kept:
            names = tuple(tuple(one.split("|", 1)) for one in kept["names"].tolist())
            size = len(kept["truth"])
            own = {
                name: kept[name]
                for name in ("values", "truth", "what", "variant", "roles", "p_value")
            }
            own |= {
                "peer": kept["peer"],
                "reference": np.full(size, reference),
                "scans": np.full(size, int(scans)),
            }
        for name, column in own.items():
            columns.setdefault(name, []).append(column)
    return Table(names=names, **{name: np.concatenate(many) for name, many in columns.items()})


def cause_of(kind: str) -> FirstLevel:
    """Return the cause of a kind: what is mixed is named by what it is mixed of."""
    return FirstLevel.MIXED if " and " in kind else FirstLevel(kind)


def joined(tables: Sequence[Table]) -> Table:
    """Return the windows of several tables."""
    columns = [name for name in Table.__slots__ if name != "names"]
    return Table(
        names=tables[0].names,
        **{name: np.concatenate([getattr(one, name) for one in tables]) for name in columns},
    )


def of_cause(windows: Table, cause: str | None) -> Flags:
    """Return which windows are of a cause, alone or mixed; none without a cause, [W]."""
    if cause is None:
        return np.zeros(len(windows), dtype=bool)
    return np.asarray(np.char.find(windows.kind, cause) >= 0)


def evenly(windows: Table) -> Floats:
    """Return weights by which causes count alike, and so do the kinds of a cause."""
    weights = np.ones(len(windows))
    for cause in np.unique(windows.truth):
        own = windows.truth == cause
        kinds = np.unique(windows.kind[own])
        for kind in kinds:
            both = own & (windows.kind == kind)
            weights[both] = 1.0 / (len(kinds) * both.sum())
    return weights / weights.mean()


def shown(windows: Table, without: str | None) -> Table:
    """Return detected windows of shifts, but for a cause that is left out, mixed or alone."""
    return windows.where(
        windows.detected & (windows.truth != "none") & ~of_cause(windows, without)
    )


def only(windows: Table, cause: str) -> Table:
    """Return detected windows of one cause alone."""
    return windows.where(windows.detected & (windows.truth == cause))


def halved(windows: Table) -> Table:
    """Return every second pair of windows: a pair is one window as two encoders see it."""
    return windows.where(np.arange(len(windows)) // 2 % 2 == 0)
