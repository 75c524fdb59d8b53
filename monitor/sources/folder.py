"""Following a folder: every file that is whole, once, whatever stops in between.

Files that stay where they are (`keep`) are remembered by a keyed digest of
their path with their size and times. Others are first renamed into a hidden
folder of their own, so that only one follower has a file and no newer one of
that name is removed in its place; what a crash leaves there is taken up
again. A file leaves the folder only after its content is durable, as a scan
or in quarantine; one that cannot be read stays.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import itertools
import os
import secrets
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from monitor.intake.folder import files_in
from monitor.intake.intake import Rejected
from monitor.intake.keys import SecretKey
from monitor.intake.limits import DEFAULT_LIMITS
from monitor.intake.reading import read_bytes
from monitor.intake.reasons import Reason
from monitor.scans import Arrival, ScanIntake
from monitor.sources.progress import Hold, Step
from monitor.sources.settings import FolderSource
from monitor.sources.taking import Group, counted
from registry import crash_points
from registry.canonical import Json
from registry.errors import SourceError, UnreadableScanError

#: Where files are while they are taken; hidden, so that it is no part of what is read.
PICKED_UP = ".driftward"
#: Files whose records are asked for together.
_TOGETHER = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file as it was when it was looked at."""

    path: Path
    #: below the folder, as its sender named it
    name: Path
    size: int
    #: the newer of when it was written and when it was put here, in seconds
    changed: float
    #: what tells it from a changed one
    state: str

    @property
    def can_be_taken(self) -> bool:
        """Whether it can be read and is small enough: only what is kept is taken away."""
        return self.size <= DEFAULT_LIMITS.file_bytes and os.access(self.path, os.R_OK)


class FolderRoad:
    """Reads one folder.

    Parameters
    ----------
    key : of the digests of paths
    hold : knows which files were taken
    """

    def __init__(
        self, source: FolderSource, intake: ScanIntake, *, key: SecretKey, hold: Hold
    ) -> None:
        self._source = source
        self._intake = intake
        self._secret = key.secret
        self._hold = hold
        #: by folder, files that are not settled: their state, and since when they have had it
        self._unsettled: dict[Path, dict[Path, tuple[str, float]]] = {}

    def close(self) -> None:
        """Nothing is open between two looks."""

    def look(self, _position: dict[str, Json]) -> Iterator[Step]:
        """Yield what the folder has that was not taken, each step when it is durable.

        Raises
        ------
        SourceError
            If the folder cannot be read, or files cannot be taken from it.
        """
        try:
            if self._source.afterwards == "keep":
                yield from self._kept()
            else:
                yield from self._taken_away()
        except OSError as error:
            # Its text would name the file, and a file's name may be a patient's.
            raise SourceError(
                f"source {self._source.name}: files of {self._source.path} cannot be "
                f"{'read' if self._source.afterwards == 'keep' else 'read and moved'} "
                f"({error.strerror or type(error).__name__}): give this user the right to"
            ) from error

    def _kept(self) -> Iterator[Step]:
        files = self._settled(self._source.path)
        yield from self._take(self._unknown(files))
        self._hold.forget_files_beside({self._digest(one) for one in files})
        yield Step(backlog=0)

    def _taken_away(self) -> Iterator[Step]:
        hidden = self._source.path / PICKED_UP
        left_behind = self._settled(hidden) if hidden.is_dir() else []
        yield from self._take(self._unknown(left_behind), away=True)
        files = self._settled(self._source.path)
        readable = [one for one in files if one.can_be_taken]
        stuck = [one for one in files if not one.can_be_taken]
        yield from self._take(self._unknown(stuck))
        look = hidden / secrets.token_hex(8)
        yield from self._take(readable, into=look, away=True)
        still_there = {self._digest(one) for one in (*left_behind, *stuck)}
        self._hold.forget_files_beside(still_there)
        _remove_empty_folders(hidden)
        yield Step(backlog=0)

    def _settled(self, folder: Path) -> list[Found]:
        """Return the files that are whole, those first that have lain there longest."""
        wanted = self._source.settle_seconds
        before = self._unsettled.get(folder, {})
        waiting: dict[Path, tuple[str, float]] = {}
        settled: list[Found] = []
        for path in self._files(folder):
            found = self._found(path)
            if found is None:
                continue
            since = before.get(path, ("", 0.0))
            if since[0] != found.state:
                since = (found.state, time.monotonic())
            # A time of change in the future, by another machine's clock, must not hold it
            # up for ever; so it is enough to have seen no change for so long.
            if time.time() - found.changed >= wanted or time.monotonic() - since[1] >= wanted:
                settled.append(found)
            else:
                waiting[path] = since
        self._unsettled[folder] = waiting
        return sorted(settled, key=lambda one: (one.changed, one.name))

    def _files(self, folder: Path) -> Iterator[Path]:
        if not self._source.path.is_dir():
            raise SourceError(
                f"source {self._source.name}: there is no folder {self._source.path}: make it, "
                "or mount what it is on"
            )
        # A folder that goes while it is walked ends the walk: the rest is found next time.
        with suppress(FileNotFoundError):
            yield from files_in([folder])

    def _found(self, path: Path) -> Found | None:
        """Look at a file; None where it has gone, or is none."""
        try:
            now = path.lstat()
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(now.st_mode):
            return None
        return Found(
            path=path,
            name=path.relative_to(self._source.path),
            size=now.st_size,
            changed=max(now.st_mtime, now.st_ctime),
            state=f"{now.st_size}:{now.st_mtime_ns}",
        )

    def _unknown(self, files: Sequence[Found]) -> list[Found]:
        """Return the files that were not taken or set aside as they are now."""
        unknown: list[Found] = []
        for start in range(0, len(files), _TOGETHER):
            some = {self._digest(one): one for one in files[start : start + _TOGETHER]}
            known = self._hold.known_files(list(some))
            unknown += [one for file, one in some.items() if known.get(file) != one.state]
        return unknown

    def _take(
        self, files: Sequence[Found], *, into: Path | None = None, away: bool = False
    ) -> Iterator[Step]:
        """Take files in groups.

        Parameters
        ----------
        into : a folder into which each is renamed first
        away : whether what is durable is put away; what is not stays, and is remembered
        """
        group = Group(self._intake, took=self._hold.took, fence=self._hold.require)
        batch: list[tuple[Found, bool]] = []
        for number, one in enumerate(files, start=1):
            found = one if into is None else self._picked_up(one, into)
            prepared = None if found is None else self._prepared(found)
            if found is not None and prepared is not None:
                arrival, whole = prepared
                group.add(arrival, found.size)
                batch.append((found, whole))
            if batch and (group.full or number == len(files)):
                counts = counted(group.take())
                left = files[number:]
                yield Step(
                    counts=counts,
                    backlog=len(left),
                    oldest_unread_at=(
                        datetime.fromtimestamp(left[0].changed, UTC) if left else None
                    ),
                    files=list(self._put_away(batch, away=away)),
                )
                batch = []

    def _picked_up(self, found: Found, into: Path) -> Found | None:
        """Rename a file into the hidden folder; None where another was faster, or it changes."""
        to = into / found.name
        to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            found.path.rename(to)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            raise SourceError(
                f"source {self._source.name}: a folder below {self._source.path} is on another "
                "file system: make it a source of its own"
            ) from error
        crash_points.reach("folder: picked up")
        now = self._found(to)
        # Whoever still writes into it does so there; it is taken up when that has ended.
        return now if now is not None and now.state == found.state else None

    def _prepared(self, found: Found) -> tuple[Arrival, bool] | None:
        """Read a file, and say whether its whole content is on its way; None where it has gone."""
        try:
            content = read_bytes(found.path, DEFAULT_LIMITS)
        except UnreadableScanError as error:
            if self._found(found.path) is None:
                return None
            rejected = Rejected(
                site=self._source.site,
                reason=Reason(error.reason),
                detail=error.detail,
                content=None,
            )
            return Arrival(prepared=rejected, original=lambda: None), False
        crash_points.reach("source: fetched")
        return self._intake.prepare(content, site=self._source.site), True

    def _put_away(
        self, batch: Sequence[tuple[Found, bool]], *, away: bool
    ) -> Iterator[tuple[str, str]]:
        """Remove or move what is durable; yield what stays, to be remembered."""
        for found, whole in batch:
            now = self._found(found.path)
            if now is None or now.state != found.state:
                continue  # it changed since it was read: the next look reads it again
            if not (away and whole):
                yield self._digest(found), found.state
            elif self._source.destination is None:
                found.path.unlink(missing_ok=True)
            else:
                self._move(found, self._source.destination)

    def _move(self, found: Found, destination: Path) -> None:
        parts = found.name.parts
        # Without the hidden folder and that of the look, it is named as its sender did.
        name = Path(*parts[2:]) if parts[0] == PICKED_UP else found.name
        folder = destination / name.parent
        folder.mkdir(parents=True, exist_ok=True)
        for attempt in itertools.count():
            to = folder / (f"{name.stem}-{attempt}{name.suffix}" if attempt else name.name)
            try:
                # Held by an empty file, so that nothing that lies there is replaced.
                os.close(os.open(to, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            except FileExistsError:
                continue
            try:
                found.path.replace(to)
            except OSError as error:
                to.unlink()
                if isinstance(error, FileNotFoundError):
                    return
                if error.errno != errno.EXDEV:
                    raise
                raise SourceError(
                    f"source {self._source.name}: {destination} is on another file system than "
                    f"{self._source.path}: files are moved within one"
                ) from error
            return

    def _digest(self, found: Found) -> str:
        # Keyed: a bare digest would tell who guesses a name that it is there.
        text = f"{self._source.name}\0{found.name}".encode("utf-8", "surrogateescape")
        return hmac.new(self._secret, b"source file\0" + text, hashlib.sha256).hexdigest()


def _remove_empty_folders(hidden: Path) -> None:
    for folder, _, _ in os.walk(hidden, topdown=False):
        with suppress(OSError):
            Path(folder).rmdir()
