"""What a run asks of whatever trains its candidate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

#: What a training writes of its errors, in the run's folder.
ERRORS = "errors.log"
POLL_SECONDS = 0.2


class Executor(Protocol):
    """Trains what a run's folder asks for."""

    def train(self, folder: Path, *, tell: Callable[[], None]) -> None:
        """Train to the end, and leave the result in the folder.

        Stopped in the middle, it is called again with the same folder, and goes
        on from the newest checkpoint there.

        Parameters
        ----------
        folder : a workspace (`retrain.workspace`)
        tell : called now and then, once the folder's progress may have grown

        Raises
        ------
        TrainingFailedError
            If the training ended without success; it says why.
        """


def last_line(errors: Path) -> str:
    """Return the last line of what a training wrote of its errors."""
    lines = errors.read_text(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "it wrote no error"
