"""Plots of what was measured, as SVG: the same figures give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from worlds import SHIFTS


def plot(figures: Mapping[str, Any], folder: Path) -> None:
    """Draw false alarms by cell, and power by world, as SVG."""
    import matplotlib as mpl

    mpl.use("svg")
    # The same figures give the same bytes.
    mpl.rcParams["svg.hashsalt"] = "driftward"
    from matplotlib import pyplot as plt

    cells = figures["type_one"]
    if cells:
        figure, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
        rates = [cell["rate"] for cell in cells]
        axes.errorbar(
            range(len(cells)), rates, yerr=[2 * cell["error"] for cell in cells],
            fmt="o", ms=3, lw=0.8, color="#1f5a7a",
        )  # fmt: skip
        axes.axhline(0.05, color="0.5", lw=0.8)
        axes.axhline(0.065, color="#b3261e", lw=0.8, ls="--")
        axes.set(ylim=(0, 0.1), ylabel="rejected at .05", xlabel="cells, in the table's order")
        axes.set_title("False alarms, ± 2 standard errors; dashed: the limit", fontsize=9)
        figure.savefig(folder / "type_one.svg", metadata={"Date": None})
        plt.close(figure)
    for world, facts in figures["power"].items():
        figure, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
        positions = np.arange(len(SHIFTS))
        peers = {name: p for name, p in facts["peers"].items() if name != "clusters"}
        axes.bar(
            positions - 0.2, [facts["portfolio"][shift][0] for shift in SHIFTS],
            width=0.38, label="portfolio", color="#1f5a7a",
        )  # fmt: skip
        axes.bar(
            positions + 0.2, [max(p[shift] for p in peers.values()) for shift in SHIFTS],
            width=0.38, label="best peer on this shift alone", color="#c9a227",
        )  # fmt: skip
        axes.set_xticks(positions, SHIFTS)
        axes.set(ylim=(0, 1), ylabel="found at .05")
        axes.set_title(f"World {world}: reference 2,000, window 200", fontsize=9)
        axes.legend(frameon=False, fontsize=8)
        figure.savefig(folder / f"power-{world}.svg", metadata={"Date": None})
        plt.close(figure)
