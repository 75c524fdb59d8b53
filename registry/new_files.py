"""New files that are there whole, or not at all, and never in place of another."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

_NO_LINKS = frozenset((errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK))


def write_new(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write a file that was not there, so that it survives a power cut.

    Works on mounted folders that know no links, too.

    Raises
    ------
    FileExistsError
        If it exists.
    OSError
    """
    unfinished = path.with_name(f".unfinished-{secrets.token_hex(8)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _place(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _place(unfinished: Path, path: Path) -> None:
    try:
        os.link(unfinished, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        unfinished.rename(path)
