"""Files that are there whole, or not at all, whatever happens to the machine."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from registry.errors import StorageFullError

#: What a file is called until it is whole; found at the start, it is left from a crash.
UNFINISHED_PREFIX = ".unfinished-"

# A journalling file system commits waiting fsyncs together: with eight at a
# time a file costs 0.5 ms where one after the other costs 12.
_AT_A_TIME = 8
_NO_SPACE = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


def write_durably(path: Path, content: bytes, *, overwrite: bool = True) -> None:
    """Write one file of mode 0600 so that it survives a power cut; see `write_all_durably`.

    Raises
    ------
    FileExistsError
        If it exists and is not to be overwritten.
    StorageFullError
    """
    with _unfinished({path: content}) as temporary:
        _write(temporary[path], content)
        if overwrite:
            temporary[path].replace(path)
        else:
            # A link, unlike a rename, fails where the name is taken.
            os.link(temporary[path], path)
    sync_folder(path.parent)


def write_all_durably(contents: Mapping[Path, bytes]) -> None:
    """Write files of mode 0600: each is there whole, or not at all.

    When this returns, all of them survive a power cut. Folders must exist.

    Raises
    ------
    StorageFullError
        If the disk or the quota is full; some files may then be there.
    OSError
        If the folder is gone or the disk fails.
    """
    with _unfinished(contents) as temporary, ThreadPoolExecutor(_AT_A_TIME) as pool:
        for _ in pool.map(lambda path: _write(temporary[path], contents[path]), contents):
            pass
        for path, unfinished in temporary.items():
            unfinished.replace(path)
        for _ in pool.map(sync_folder, {path.parent for path in contents}):
            pass


def make_folder(path: Path) -> None:
    """Make a folder of mode 0700 that survives a power cut, where it does not exist."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_unfinished(folder: Path) -> int:
    """Remove what a crash left half-written below a folder; return how many.

    To be called when nothing writes there.
    """
    left = list(folder.rglob(f"{UNFINISHED_PREFIX}*"))
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


@contextlib.contextmanager
def _unfinished(contents: Mapping[Path, bytes]) -> Iterator[dict[Path, Path]]:
    """Give each file its temporary name in the same folder; remove what remains of them."""
    temporary = {
        path: path.with_name(UNFINISHED_PREFIX + secrets.token_hex(16)) for path in contents
    }
    try:
        yield temporary
    except OSError as error:
        if error.errno in _NO_SPACE:
            folder = next(iter(contents)).parent
            raise StorageFullError(
                f"no space is left to write into {folder}: free some, then try again; "
                "nothing half-written was kept"
            ) from error
        raise
    finally:
        for unfinished in temporary.values():
            unfinished.unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123 - a descriptor, not a path
        left = memoryview(content)
        while left:
            left = left[file.write(left) :]
        os.fsync(descriptor)
