"""Files to take in from folders: all of them, in a stable order, but none that is half there."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path

from registry.errors import BadInputError

#: What copying programs call a file until it is whole.
_UNFINISHED_SUFFIXES = (
    ".crdownload",
    ".download",
    ".filepart",
    ".part",
    ".partial",
    ".swp",
    ".temp",
    ".tmp",
    "~",
)


def files_in(paths: Iterable[Path], *, settled_for: timedelta = timedelta(0)) -> Iterator[Path]:
    """Yield the regular files in files and folders, each once, sorted within each folder.

    Left out are names with a leading dot or a suffix of unfinished copies,
    and links, below the folders given: a link may lead out of a folder or
    round in a circle. Archives are yielded like any file, so that their
    refusal shows.

    Parameters
    ----------
    settled_for : leave out what changed more recently than this

    Raises
    ------
    BadInputError
        If one of `paths` does not exist; nothing is yielded before.
    """
    roots = list(paths)
    for root in roots:
        if not root.exists():
            raise BadInputError(f"{root} does not exist: give a DICOM file or a folder of them")
    latest = time.time() - settled_for.total_seconds() if settled_for else None
    seen: set[Path] = set()
    for root in roots:
        for path in _files_below(root) if root.is_dir() else iter([root]):
            resolved = path.resolve()
            if resolved in seen or (latest is not None and path.stat().st_mtime > latest):
                continue
            seen.add(resolved)
            yield path


def _files_below(folder: Path) -> Iterator[Path]:
    """Walk with a stack: folders may be nested deeper than calls."""
    stack = [folder]
    while stack:
        current = stack.pop()
        with os.scandir(current) as entries:
            kept = sorted(
                (entry for entry in entries if not _is_unfinished(entry.name)),
                key=lambda entry: entry.name,
            )
        yield from (Path(entry.path) for entry in kept if entry.is_file(follow_symlinks=False))
        stack.extend(
            Path(entry.path) for entry in reversed(kept) if entry.is_dir(follow_symlinks=False)
        )


def _is_unfinished(name: str) -> bool:
    return name.startswith(".") or name.lower().endswith(_UNFINISHED_SUFFIXES)
