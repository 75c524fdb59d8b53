"""The vault: de-identified files under the digest of their content."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.intake.durable_files import (
    make_folders,
    sync_folder,
    syncing_threads,
    write_all_durably,
)
from registry.canonical import sha256
from registry.errors import IntegrityError, NotFoundError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_DIGEST = re.compile(r"[0-9a-f]{64}")


class Vault:
    """A folder of files that are never changed, each named by its SHA-256.

    The same content is one file, however often it is put in. Names are the
    vault's own: nothing from a scan ever becomes part of a path.

    Raises
    ------
    StorageFullError
        From whatever writes, when the disk is full; nothing half-written stays.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._has_folders = False
        self._pool = syncing_threads()

    def put(self, content: bytes) -> str:
        """Store a file, and return its digest once it would survive a power cut."""
        return self.put_all([content])[0]

    def put_all(self, contents: Iterable[bytes]) -> list[str]:
        """Store files together, and return their digests in the same order.

        Much faster than one by one: a disk makes many files durable in the
        time of one.
        """
        by_digest: dict[str, bytes] = {}
        digests = []
        for content in contents:
            digest = sha256(content)
            by_digest[digest] = content
            digests.append(digest)
        self._make_folders()
        missing = {
            self.path(digest): content
            for digest, content in by_digest.items()
            if not _holds(self.path(digest), content)
        }
        for path in {self.path(digest).parent for digest in by_digest} - {
            path.parent for path in missing
        }:
            # Whoever wrote what is there already may have been killed before this.
            sync_folder(path)
        write_all_durably(missing, self._pool)
        return digests

    def _make_folders(self) -> None:
        # All at once: one by one as they are needed, each would cost a sync.
        if not self._has_folders:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            make_folders(self._root / f"{number:02x}" for number in range(256))
            self._has_folders = True

    def get(self, digest: str) -> bytes:
        """Return a file's content.

        Raises
        ------
        NotFoundError
            If there is none of that digest.
        IntegrityError
            If it is no longer what was put in.
        """
        path = self.path(digest)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise NotFoundError(
                f"the vault has no file {digest[:12]}: it was removed by retention, or restore "
                "it from a backup"
            ) from None
        if sha256(content) != digest:
            raise IntegrityError(
                f"vault file {path} is not what was stored under its digest: it is not used; "
                "restore it from a backup"
            )
        return content

    def dataset(self, digest: str) -> Dataset:
        """Return a stored scan as a data set; raises as `get`."""
        from pydicom import dcmread

        return dcmread(io.BytesIO(self.get(digest)))

    def path(self, digest: str) -> Path:
        """Return where a file of a digest is, or would be.

        Raises
        ------
        ValueError
            If it is no SHA-256 in small hexadecimal digits.
        """
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"{digest!r} is no SHA-256 in small hexadecimal digits")
        return self._root / digest[:2] / f"{digest}.dcm"


def _holds(path: Path, content: bytes) -> bool:
    # Reading what is there, rather than trusting its name, mends a damaged
    # file when its scan is sent again.
    try:
        return path.read_bytes() == content
    except FileNotFoundError:
        return False
