"""Files that are there whole, or not at all, whatever happens to the machine."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from pathlib import Path

from registry.errors import StorageFullError

#: What a file is called until it is whole, where the file system knows no files without names.
UNFINISHED_PREFIX = ".unfinished-"

# A journalling file system commits waiting fsyncs together: with eight at a
# time a file costs 0.5 ms where one after the other costs 12.
_AT_A_TIME = 8
# A file system or a kernel without O_TMPFILE.
_NO_UNNAMED_FILES = frozenset((errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL))
_NO_SPACE = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


def write_durably(path: Path, content: bytes, *, overwrite: bool = True) -> None:
    """Write one file of mode 0600 so that it survives a power cut; see `write_all_durably`.

    Raises
    ------
    FileExistsError
        If it exists and is not to be overwritten.
    StorageFullError
    """
    with _full_disk_named(path.parent):
        unfinished = _written(path.parent, content)
        try:
            unfinished.place(path, overwrite=overwrite)
        finally:
            unfinished.discard()
    sync_folder(path.parent)


def syncing_threads() -> ThreadPoolExecutor:
    """Return threads for `write_all_durably`, which wait most of the time."""
    return ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="sync")


def write_all_durably(contents: Mapping[Path, bytes], pool: Executor) -> None:
    """Write files of mode 0600: each is there whole, or not at all.

    When this returns, all of them survive a power cut. Folders must exist.

    Raises
    ------
    StorageFullError
        If the disk or the quota is full; some files may then be there.
    OSError
        If the folder is gone or the disk fails.
    """
    if not contents:
        return
    with _full_disk_named(next(iter(contents)).parent):
        writing = {
            path: pool.submit(_written, path.parent, content)
            for path, content in contents.items()
        }
        wait(writing.values())
        try:
            whole = {path: future.result() for path, future in writing.items()}
            for path, unfinished in whole.items():
                unfinished.place(path, overwrite=True)
        finally:
            for future in writing.values():
                if future.exception() is None:
                    future.result().discard()
    for _ in pool.map(sync_folder, {path.parent for path in contents}):
        pass


def make_folders(paths: Iterable[Path]) -> None:
    """Make folders of mode 0700, in folders that exist, so that they survive a power cut."""
    parents = set()
    for path in paths:
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            continue
        parents.add(path.parent)
    for parent in parents:
        sync_folder(parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Unfinished:
    """A file that is written and synced, and has no name of its own yet.

    Where the file system can, it has no name at all (O_TMPFILE, open(2)), and
    vanishes with a process that is killed; elsewhere it has one that nobody reads.
    """

    def __init__(self, descriptor: int, name: Path | None) -> None:
        self._descriptor = descriptor
        self._name = name

    def place(self, path: Path, *, overwrite: bool) -> None:
        """Give it its name; raises FileExistsError where that is taken, unless it may be."""
        try:
            self._link(path)
        except FileExistsError:
            if not overwrite:
                raise
            beside = _unfinished_name(path.parent)
            self._link(beside)
            beside.replace(path)

    def discard(self) -> None:
        """Close it, and take away what is not the name that it was given."""
        os.close(self._descriptor)
        if self._name is not None:
            self._name.unlink(missing_ok=True)

    def _link(self, path: Path) -> None:
        if self._name is not None:
            os.link(self._name, path)
        else:
            # Only with a descriptor of a folder does Python follow the link in /proc.
            os.link(f"/proc/self/fd/{self._descriptor}", path, src_dir_fd=self._descriptor)


def _unfinished_name(folder: Path) -> Path:
    return folder / (UNFINISHED_PREFIX + secrets.token_hex(16))


def _written(folder: Path, content: bytes) -> _Unfinished:
    flags = os.O_WRONLY | os.O_CLOEXEC
    name: Path | None = None
    try:
        descriptor = os.open(folder, flags | os.O_TMPFILE, 0o600)
    except OSError as error:
        if error.errno not in _NO_UNNAMED_FILES:
            raise
        name = _unfinished_name(folder)
        descriptor = os.open(name, flags | os.O_CREAT | os.O_EXCL, 0o600)
    unfinished = _Unfinished(descriptor, name)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    except BaseException:
        unfinished.discard()
        raise
    return unfinished


@contextlib.contextmanager
def _full_disk_named(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise StorageFullError(
                f"no space is left to write into {folder}: free some, then try again; "
                "nothing half-written was kept"
            ) from error
        raise
