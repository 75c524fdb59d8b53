"""Where a run trains: one folder, held by one worker at a time.

The folder's name carries the fencing token of the claim that holds it, so a
worker that takes the run over renames it: it finds the checkpoints, and
whatever the worker before it (stopped, and perhaps continued) or that one's
training still writes finds its path gone.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from registry.errors import LeaseLostError

_NAME = re.compile(r"run-(?P<run>\d+)(?:\.(?P<token>\d+))?")


def newest(work: Path, run: int) -> Path | None:
    """Return the folder of the newest claim on a run, if it has one."""
    found = _folders(work, run)
    return found[max(found)] if found else None


def take_over(work: Path, run: int, *, token: int) -> Path:
    """Return the folder of a claim, with what claims before it left there.

    Raises
    ------
    LeaseLostError
        If a later claim took the run over already.
    """
    own = work / f"run-{run}.{token}"
    found = _folders(work, run)
    if found and max(found) > token:
        raise LeaseLostError(
            f"run {run}: its folder was taken over; nothing of this attempt is kept"
        )
    if found and max(found) != token:
        found.pop(max(found)).rename(own)
    for older, folder in found.items():
        if older != token:
            shutil.rmtree(folder, ignore_errors=True)
    own.mkdir(parents=True, exist_ok=True)
    return own


def remove(work: Path, run: int, *, until: int) -> None:
    """Remove the folders of every claim up to this one."""
    for token, folder in _folders(work, run).items():
        if token <= until:
            shutil.rmtree(folder, ignore_errors=True)


def _folders(work: Path, run: int) -> dict[int, Path]:
    """Return a run's folders by their claims' tokens."""
    return {
        int(match["token"] or 0): path
        for path in work.glob(f"run-{run}*")
        if (match := _NAME.fullmatch(path.name)) is not None and int(match["run"]) == run
    }
