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
import os
import re
import secrets
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from monitor.intake.durable_files import (
    UNFINISHED_PREFIX,
    sync_folder,
    write_durably,
)
from monitor.intake.fingerprints import fingerprint
from monitor.intake.keys import SecretKey, load_key
from monitor.intake.reasons import Reason
from registry.canonical import canonical_bytes
from registry.errors import HomeError, IntegrityError, NotFoundError, StorageFullError

_SUFFIX = ".quarantined"
_ID = re.compile(r"[0-9a-f]{32}")
#: inode, size, and when it was last changed [ns]
_State: TypeAlias = tuple[int, int, int]
_NONCE_BYTES = 12
_LONGEST_RECORD = 4096
#: Further ahead of now, a time is no other clock's but a wrong one's.
_CLOCKS_DIFFER = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedItem:
    """What may be known of an item without its key."""

    id: str  #: the same instance and image from the same site are the same item
    reason: Reason
    detail: str  #: a sentence without patient data
    site: str
    at: datetime  #: when it was first refused, in UTC
    size: int  #: bytes of the original
    kept: bool  #: false where the original was too large to keep
    times: int = 1  #: that it came and was refused, by whatever road
    last_at: datetime | None = None  #: when it last came; None where it came once

    def __post_init__(self) -> None:
        if self.at.utcoffset() is None:
            raise ValueError("the time of an item must carry a time zone")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Everything in quarantine at one moment."""

    items: tuple[QuarantinedItem, ...]  #: oldest first
    #: files that are no items: damaged ones, and what somebody else put there
    foreign: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineCount:
    """The items of one site that were refused for one reason."""

    reason: Reason
    site: str
    items: int
    size: int  #: bytes of their originals
    oldest: datetime


class Quarantine:
    """A folder of mode 0700 with one encrypted file an item.

    Safe to use from several threads and processes at once.
    """

    def __init__(self, root: Path, *, key: SecretKey) -> None:
        self._root = root
        self._key = key
        self._cipher = AESGCM(key.secret)
        #: file name -> its state, and its item; None for what is none
        self._seen: dict[str, tuple[_State, QuarantinedItem | None]] = {}
        self._looking = threading.Lock()

    @classmethod
    def open(cls, root: Path, *, key: Path) -> Self:
        """Open the quarantine in the folder that `init` made.

        Raises
        ------
        HomeError
            If the key file cannot be used, or the folder is gone, another
            user's, or open to others.
        """
        secret = load_key(key)
        require_own_folder(root)
        return cls(root, key=secret)

    def put(
        self,
        content: bytes | None,
        *,
        reason: Reason,
        detail: str,
        site: str,
        at: datetime,
        came: bool = True,
    ) -> QuarantinedItem:
        """Keep what was refused, and return its item.

        What is refused again, by whatever road, stays the one item that it is,
        with the original that came first. Where it is refused for another
        reason, the newest original is the one that this is said of.

        Parameters
        ----------
        content : the original; None where it was not read, being too large
        at : now, with a time zone
        came : a sender sent it; False where what lies here was tried again

        Raises
        ------
        HomeError
            If the folder is gone, another user's, or open to others.
        StorageFullError
        """
        require_own_folder(self._root)
        now = at.astimezone(UTC)
        # What was not read cannot be recognised, and is a new item each time.
        ids = [secrets.token_hex(16)] if content is None else self.ids_of(content, site=site)
        item = QuarantinedItem(
            id=ids[0],
            reason=reason,
            detail=detail,
            site=site,
            at=now,
            size=len(content or b""),
            kept=content is not None,
        )
        found = (self._read_record(self._path(one)) for one in ids)
        before = next((one for one in found if one is not None), None)
        if before is not None:
            item = replace(item, at=before.at, times=before.times, last_at=before.last_at)
            if came:
                item = replace(item, times=before.times + 1, last_at=now)
            if (before.reason, before.detail) == (reason, detail):
                content = self._first_original(before, content)
                item = replace(item, size=len(content or b""))
                if item == before:
                    return before
        try:
            self._write(item, content)
        except StorageFullError:
            if before is None or (before.reason, before.detail) != (reason, detail):
                raise
            return before  # it is kept; only that it came again is not
        replaced = [one for one in ids[1:] if self._path(one).exists()]
        if replaced:
            self.remove_all(replaced)
        return item

    def _write(self, item: QuarantinedItem, content: bytes | None) -> None:
        record = _to_line(item)
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, content or b"", record)
        write_durably(self._path(item.id), record + nonce + sealed)

    def ids_of(self, content: bytes, *, site: str) -> tuple[str, str]:
        """Return the id that some content from a site has or would have, and its id of before.

        An id was once one of bytes, which differ by road.
        """
        return (
            self._keyed(b"fingerprint\0" + fingerprint(content), site),
            self._keyed(content, site),
        )

    def _keyed(self, content: bytes, site: str) -> str:
        # Keyed: a bare digest would tell who has the same file what it is.
        digest = hmac.new(self._key.secret, site.encode() + b"\0" + content, hashlib.sha256)
        return digest.hexdigest()[:32]

    def _first_original(self, before: QuarantinedItem, content: bytes | None) -> bytes | None:
        try:
            return self.read(before.id)
        except (IntegrityError, NotFoundError):
            return content  # changed, sealed by another key, or gone meanwhile

    def items(self) -> Sequence[QuarantinedItem]:
        """Return every item, oldest first; see `listing`."""
        return self.listing().items

    def listing(self) -> Listing:
        """Return every item, and how many files there are none.

        Only what was changed since the last look is read again.

        Raises
        ------
        HomeError
            If the folder is gone, another user's, or open to others.
        """
        require_own_folder(self._root)
        with self._looking:
            self._seen = dict(self._looked_at())
            items = [item for _, item in self._seen.values() if item is not None]
        foreign = len(self._seen) - len(items)
        items.sort(key=lambda item: (item.at, item.id))
        return Listing(items=tuple(items), foreign=foreign)

    def find(self, item_id: str) -> QuarantinedItem:
        """Return one item.

        Raises
        ------
        NotFoundError
            If there is no such item.
        """
        item = self._read_record(self._existing(item_id))
        if item is None:
            raise NotFoundError(
                f"quarantine file {item_id} is damaged, and no item any longer: look at it in "
                f"{self._root}, and remove it; its sender has the original"
            )
        return item

    def read(self, item_id: str) -> bytes:
        """Return the original of an item, to be tried again.

        Raises
        ------
        NotFoundError
            If there is no such item, or it was too large to be kept.
        IntegrityError
            If the item was changed, or another key sealed it.
        """
        record, _, rest = self._existing(item_id).read_bytes().partition(b"\n")
        try:
            content = self._cipher.decrypt(
                rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], record + b"\n"
            )
        except (InvalidTag, ValueError):
            raise IntegrityError(
                f"quarantine item {item_id} was changed since it was stored, or belongs to "
                "another key: it is not used"
            ) from None
        if not self.find(item_id).kept:
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
        self._existing(item_id)
        self.remove_all([item_id])

    def remove_all(self, item_ids: Iterable[str]) -> None:
        """Remove items, those that are gone already among them, for good."""
        for item_id in item_ids:
            if _ID.fullmatch(item_id):
                self._path(item_id).unlink(missing_ok=True)
        sync_folder(self._root)

    def expired(self, *, older_than: timedelta, now: datetime) -> list[QuarantinedItem]:
        """Return the items that were first refused before `now - older_than`."""
        return [item for item in self.items() if item.at < now - older_than]

    def bring_back(self, *, now: datetime) -> None:
        """Date what a clock stamped far ahead as of now: it would lie here until that day."""
        for item in self.items():
            if item.at <= now + _CLOCKS_DIFFER:
                continue
            try:
                content = self.read(item.id) if item.kept else None
            except (IntegrityError, NotFoundError):
                continue  # another key's, or removed meanwhile: a person sees to it
            # On a full disk, what expires must leave all the same: the next purge dates the rest.
            with suppress(StorageFullError):
                self._write(replace(item, at=now.astimezone(UTC), last_at=None), content)

    def _path(self, item_id: str) -> Path:
        return self._root / f"{item_id}{_SUFFIX}"

    def _existing(self, item_id: str) -> Path:
        if not _ID.fullmatch(item_id) or not self._path(item_id).is_file():
            raise NotFoundError(
                f"quarantine has no item {item_id!r}: `driftward scan quarantine` lists them"
            )
        return self._path(item_id)

    def _looked_at(self) -> Iterator[tuple[str, tuple[_State, QuarantinedItem | None]]]:
        with os.scandir(self._root) as entries:
            for entry in entries:
                if entry.name.startswith(UNFINISHED_PREFIX):
                    continue
                try:
                    state = _state(entry)
                except FileNotFoundError:
                    continue  # taken or removed since the folder was read
                known = self._seen.get(entry.name)
                if known is not None and known[0] == state:
                    yield entry.name, known
                    continue
                try:
                    item = _item_of(entry.name, _first_bytes(entry.path))
                except FileNotFoundError:
                    continue
                except OSError:
                    item = None  # a folder, a link in a circle, or another user's file
                yield entry.name, (state, item)

    def _read_record(self, path: Path) -> QuarantinedItem | None:
        """Return the item in a file; None where there is no file, or no item in it."""
        try:
            return _item_of(path.name, _first_bytes(str(path)))
        except OSError:
            return None


def require_own_folder(root: Path) -> None:
    """Refuse a quarantine that is lost, or that others can look into.

    Raises
    ------
    HomeError
        With the way out.
    """
    try:
        status = root.stat()
    except FileNotFoundError:
        raise HomeError(
            f"quarantine {root} is gone, and what was in it: mount or restore it, or begin "
            f"anew with `mkdir -m 700 {root}`"
        ) from None
    except OSError as error:
        raise HomeError(
            f"quarantine {root} cannot be looked into ({error.strerror}): give this user the "
            "folders above it"
        ) from None
    if not root.is_dir():
        raise HomeError(f"quarantine {root} is no folder: move what is there away")
    if status.st_uid != os.geteuid():
        raise HomeError(
            f"quarantine {root} belongs to user {status.st_uid}, and this is user "
            f"{os.geteuid()}: run as its owner, or `chown -R {os.geteuid()} {root}`"
        )
    mode = status.st_mode & 0o777
    if mode & 0o077:
        raise HomeError(
            f"quarantine {root} has mode {mode:04o}, open to other users: "
            f"run `chmod 700 {root}`"
        )
    if mode & 0o700 != 0o700:
        raise HomeError(
            f"quarantine {root} has mode {mode:04o}, closed to its owner: "
            f"run `chmod 700 {root}`"
        )


def counts_of(items: Iterable[QuarantinedItem]) -> list[QuarantineCount]:
    """Return counts by reason and site, the most frequent first."""
    found: dict[tuple[Reason, str], QuarantineCount] = {}
    for item in items:
        key = item.reason, item.site
        before = found.get(key)
        found[key] = QuarantineCount(
            reason=item.reason,
            site=item.site,
            items=1 + (before.items if before else 0),
            size=item.size + (before.size if before else 0),
            oldest=min(item.at, before.oldest) if before else item.at,
        )
    return sorted(found.values(), key=lambda count: (-count.items, count.reason, count.site))


def _state(entry: os.DirEntry[str]) -> _State:
    found = entry.stat(follow_symlinks=False)
    # Files are replaced whole, often within one tick of the clock that dates them.
    return found.st_ino, found.st_size, found.st_mtime_ns


def _first_bytes(path: str) -> bytes:
    # Much faster than a file object, of which there would be one an item.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _LONGEST_RECORD)
    finally:
        os.close(descriptor)


def _item_of(name: str, beginning: bytes) -> QuarantinedItem | None:
    """Return the item of a file that begins with these bytes, or None."""
    line, end, _ = beginning.partition(b"\n")
    try:
        facts = json.loads(line)
        item = QuarantinedItem(
            id=facts["id"],
            reason=Reason(facts["reason"]),
            detail=sys.intern(facts["detail"]),
            site=sys.intern(facts["site"]),
            at=datetime.fromisoformat(facts["at"]),
            size=facts["size"],
            kept=facts["kept"],
            times=facts.get("times", 1),
            last_at=datetime.fromisoformat(facts["last_at"]) if "last_at" in facts else None,
        )
    except (ValueError, KeyError, TypeError):
        return None
    return item if end and name == f"{item.id}{_SUFFIX}" and _ID.fullmatch(item.id) else None


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
                **({} if item.last_at is None else {"last_at": item.last_at.isoformat()}),
                **({} if item.times == 1 else {"times": item.times}),
            }
        )
        + b"\n"
    )
