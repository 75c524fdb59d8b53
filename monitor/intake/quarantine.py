"""Quarantine: what could not be taken, as it came, encrypted, and for a limited time.

The only place that may hold patient data. Each item is one file: a line of
JSON that anyone who may list the folder can read (id, reason, sentence, site,
time, size: nothing of the patient), then the original under AES-256-GCM
(NIST SP 800-38D). The line is authenticated with the content, so that a
changed reason or time shows.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from monitor.intake.durable_files import (
    UNFINISHED_PREFIX,
    remove_unfinished,
    sync_folder,
    write_durably,
)
from monitor.intake.keys import SecretKey, load_key
from monitor.intake.reasons import Reason
from registry.canonical import canonical_bytes
from registry.errors import HomeError, IntegrityError, NotFoundError

_SUFFIX = ".quarantined"
_ID = re.compile(r"[0-9a-f]{32}")
_NONCE_BYTES = 12
_LONGEST_RECORD = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedItem:
    """What may be known of an item without its key."""

    id: str  #: the same content from the same site is the same item
    reason: Reason
    detail: str  #: a sentence without patient data
    site: str
    at: datetime  #: when it was first refused, in UTC
    size: int  #: bytes of the original
    kept: bool  #: false where the original was too large to keep

    def __post_init__(self) -> None:
        if self.at.utcoffset() is None:
            raise ValueError("the time of an item must carry a time zone")


class Quarantine:
    """A folder of mode 0700 with one encrypted file an item."""

    def __init__(self, root: Path, *, key: SecretKey) -> None:
        self._root = root
        self._key = key
        self._cipher = AESGCM(key.secret)

    @classmethod
    def open(cls, root: Path, *, key: Path) -> Self:
        """Open the quarantine in a folder, made where it does not exist.

        Raises
        ------
        HomeError
            If the key file cannot be used, or others can enter the folder.
        """
        secret = load_key(key)
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = root.stat().st_mode & 0o777
        if mode & 0o077:
            raise HomeError(
                f"quarantine {root} has mode {mode:04o}, open to other users: "
                f"run `chmod 700 {root}`"
            )
        return cls(root, key=secret)

    def put(
        self, content: bytes | None, *, reason: Reason, detail: str, site: str, at: datetime
    ) -> QuarantinedItem:
        """Keep what was refused, and return its item.

        What is refused again, by whatever road, stays the one item that it is.

        Parameters
        ----------
        content : the original; None where it was not read, being too large
        at : now, with a time zone

        Raises
        ------
        StorageFullError
        """
        # Keyed: a bare digest would tell who has the same file what it is.
        # What was not read cannot be recognised, and is a new item each time.
        fingerprint = secrets.token_bytes(32) if content is None else content
        item = QuarantinedItem(
            id=hmac.new(
                self._key.secret, site.encode() + b"\0" + fingerprint, hashlib.sha256
            ).hexdigest()[:32],
            reason=reason,
            detail=detail,
            site=site,
            at=at.astimezone(UTC),
            size=len(content or b""),
            kept=content is not None,
        )
        path = self._path(item.id)
        if path.exists():
            return self._record(path)
        record = _to_line(item)
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, content or b"", record)
        write_durably(path, record + nonce + sealed)
        return item

    def items(self) -> list[QuarantinedItem]:
        """Return every item, oldest first.

        Raises
        ------
        IntegrityError
            If a file there is no item.
        """
        paths = self._root.glob(f"*{_SUFFIX}")
        found = [
            self._record(path) for path in paths if not path.name.startswith(UNFINISHED_PREFIX)
        ]
        return sorted(found, key=lambda item: (item.at, item.id))

    def read(self, item_id: str) -> bytes:
        """Return the original of an item, to be tried again.

        Raises
        ------
        NotFoundError
            If there is no such item, or it was too large to be kept.
        IntegrityError
            If the item was changed, or another key sealed it.
        """
        path = self._existing(item_id)
        record, _, rest = path.read_bytes().partition(b"\n")
        try:
            content = self._cipher.decrypt(
                rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], record + b"\n"
            )
        except (InvalidTag, ValueError):
            raise IntegrityError(
                f"quarantine item {item_id} was changed since it was stored, or belongs to "
                "another key: it is not used"
            ) from None
        if not self._record(path).kept:
            raise NotFoundError(
                f"quarantine item {item_id} was too large to keep: send the original again"
            )
        return content

    def remove(self, item_id: str) -> None:
        """Remove an item: it was taken after all, or is not wanted.

        Raises
        ------
        NotFoundError
        """
        self._existing(item_id).unlink()
        sync_folder(self._root)

    def purge(self, *, older_than: timedelta, now: datetime) -> int:
        """Remove items first refused before `now - older_than`, and return how many."""
        expired = [item for item in self.items() if item.at < now - older_than]
        for item in expired:
            self.remove(item.id)
        return len(expired)

    def remove_unfinished(self) -> int:
        """Remove what a crash left half-written; to be called at a start."""
        return remove_unfinished(self._root)

    def _path(self, item_id: str) -> Path:
        return self._root / f"{item_id}{_SUFFIX}"

    def _existing(self, item_id: str) -> Path:
        if not _ID.fullmatch(item_id) or not self._path(item_id).is_file():
            raise NotFoundError(
                f"quarantine has no item {item_id!r}: `driftward scan quarantine` lists them"
            )
        return self._path(item_id)

    def _record(self, path: Path) -> QuarantinedItem:
        with path.open("rb") as file:
            line = file.readline(_LONGEST_RECORD)
        try:
            facts = json.loads(line)
            return QuarantinedItem(
                id=facts["id"],
                reason=Reason(facts["reason"]),
                detail=facts["detail"],
                site=facts["site"],
                at=datetime.fromisoformat(facts["at"]),
                size=facts["size"],
                kept=facts["kept"],
            )
        except (ValueError, KeyError, TypeError):
            raise IntegrityError(f"quarantine file {path} is no item: remove it") from None


def _to_line(item: QuarantinedItem) -> bytes:
    return (
        canonical_bytes(
            {
                "id": item.id,
                "reason": item.reason.value,
                "detail": item.detail,
                "site": item.site,
                "at": item.at.isoformat(),
                "size": item.size,
                "kept": item.kept,
            }
        )
        + b"\n"
    )
