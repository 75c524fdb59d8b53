"""What a training tells while it goes on: the points of its curve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One point of a training's curve."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    selection_auc: float | None = None
    training_loss: float | None = None


Tell: TypeAlias = Callable[[Point], None]


def not_told(_point: Point) -> None:
    """Let a curve go where nobody looks at it."""
