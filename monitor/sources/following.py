"""Following sources: look, keep, wait, and look again; a source that fails is tried again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import structlog

from monitor.intake.keys import SecretKey
from monitor.scans import ScanIntake
from monitor.sources.catalogue import AppliedSource, all_sources, require_source
from monitor.sources.folder import FolderRoad
from monitor.sources.orthanc import OrthancRoad
from monitor.sources.progress import LEASE, Hold, Step, take_hold
from monitor.sources.settings import DicomwebSource, FolderSource, OrthancSource
from registry.canonical import Json
from registry.clock import Clock
from registry.database import Database
from registry.errors import (
    BadInputError,
    ConflictError,
    DriftwardError,
    LeaseLostError,
    NotFoundError,
)

log = structlog.get_logger(__name__)

_FIRST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 60.0
#: Between two looks for sources that came or went, or that another process follows.
_SOURCES_SECONDS = 5.0
#: What a step in progress is given to end when following is to stop.
_GRACE_SECONDS = 10.0

#: A source that is followed.
Followed: TypeAlias = OrthancSource | FolderSource


class Road(Protocol):
    """Where scans come from, as a follower sees it."""

    def look(self, position: dict[str, Json]) -> Iterator[Step]:
        """Yield what is there and was not read, each step when it is durable."""

    def close(self) -> None:
        """Let go of what it holds open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Followers:
    """Follows sources, each in a thread of its own, and each by one follower at a time."""

    database: Database
    clock: Clock
    #: opens what instances are stored with
    intake: Callable[[], ScanIntake]
    #: of the digests of paths
    key: SecretKey

    def follow_once(self, names: Sequence[str] = (), *, stop: threading.Event) -> None:
        """Read each source to its end, and return.

        Raises
        ------
        NotFoundError
            If there is no source of a name.
        ConflictError
            If another process follows one.
        SourceError
            If one cannot be read; the others are.
        """
        problems: list[DriftwardError] = []
        for name in [source.name for source in self._chosen(names)]:
            try:
                hold = take_hold(self.database, self.clock, name)
                if hold is None:
                    raise ConflictError(f"source {name} is followed by another process already")
                with _held(hold):
                    self._look_once(hold, stop)
            except DriftwardError as error:
                problems.append(error)
        if len(problems) == 1:
            raise problems[0]
        if problems:
            raise DriftwardError("\n".join(str(problem) for problem in problems))

    def run_until(self, stop: threading.Event, names: Sequence[str] = ()) -> None:
        """Follow until `stop` is set; sources that are applied or removed meanwhile count.

        Raises
        ------
        NotFoundError
            If there is no source of a name.
        """
        self._chosen(names)
        threads: dict[str, threading.Thread] = {}
        while not stop.is_set():
            # Neither a database that is down nor a name that went may end the others.
            with suppress(Exception):
                for source in self._in_force(names):
                    thread = threads.get(source.name)
                    if thread is None or not thread.is_alive():
                        threads[source.name] = threading.Thread(
                            target=self._follow,
                            args=(source.name, stop),
                            name=f"source {source.name}",
                            daemon=True,
                        )
                        threads[source.name].start()
            stop.wait(_SOURCES_SECONDS)
        for thread in threads.values():
            thread.join(_GRACE_SECONDS)

    def _chosen(self, names: Sequence[str]) -> list[AppliedSource]:
        with self.database.reading() as session:
            for name in names:
                if isinstance(require_source(session, name).specification, DicomwebSource):
                    raise BadInputError(
                        f"source {name} is of the kind dicomweb: its senders come by "
                        "themselves, to `driftward serve` or `driftward up`"
                    )
        return self._in_force(names)

    def _in_force(self, names: Sequence[str]) -> list[AppliedSource]:
        with self.database.reading() as session:
            return [
                source
                for source in all_sources(session)
                if not isinstance(source.specification, DicomwebSource)
                and (not names or source.name in names)
            ]

    def _follow(self, name: str, stop: threading.Event) -> None:
        """Follow a source until it is removed, or `stop` is set."""
        while not stop.is_set():
            try:
                hold = take_hold(self.database, self.clock, name)
                if hold is not None:
                    with _held(hold):
                        self._look_again_and_again(hold, stop)
            except NotFoundError:
                return
            except Exception as error:  # noqa: BLE001 - a database that is down comes back
                log.warning("source not followed", source=name, why=type(error).__name__)
            stop.wait(_SOURCES_SECONDS)

    def _look_again_and_again(self, hold: Hold, stop: threading.Event) -> None:
        wait = _FIRST_WAIT_SECONDS
        failing = False
        with _closing() as opened:
            while not stop.is_set():
                source = self._specification(hold.source)
                try:
                    opened.road = opened.road or self._road(source, hold)
                    self._look(opened.road, hold, stop)
                except LeaseLostError:
                    return  # changed, removed, or another's: asked for anew
                except Exception as error:  # noqa: BLE001 - whatever fails is tried again
                    opened.close()
                    message = _told(hold.source, error)
                    hold.failed(message)
                    if not failing:
                        log.warning("source fails; it is tried again", error=message)
                    failing = True
                    stop.wait(wait)
                    wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
                    continue
                if failing:
                    log.warning("source answers again", source=hold.source)
                failing, wait = False, _FIRST_WAIT_SECONDS
                stop.wait(source.every_seconds)

    def _look_once(self, hold: Hold, stop: threading.Event) -> None:
        with _closing() as opened:
            try:
                opened.road = self._road(self._specification(hold.source), hold)
                self._look(opened.road, hold, stop)
            except LeaseLostError:
                raise
            except DriftwardError as error:
                hold.failed(_told(hold.source, error))
                raise

    @staticmethod
    def _look(road: Road, hold: Hold, stop: threading.Event) -> None:
        for step in road.look(hold.position()):
            hold.keep(step)
            if stop.is_set():
                return

    def _specification(self, name: str) -> Followed:
        with self.database.reading() as session:
            found = require_source(session, name).specification
        if isinstance(found, DicomwebSource):
            raise NotFoundError(f"source {name} is not one to follow")
        return found

    def _road(self, source: Followed, hold: Hold) -> Road:
        if isinstance(source, OrthancSource):
            return OrthancRoad(source, self.intake(), hold=hold)
        return FolderRoad(source, self.intake(), key=self.key, hold=hold)


class _Opened:
    """A road that is open, or None."""

    road: Road | None = None

    def close(self) -> None:
        if self.road is not None:
            self.road.close()
        self.road = None


@contextmanager
def _closing() -> Iterator[_Opened]:
    opened = _Opened()
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def _held(hold: Hold) -> Iterator[None]:
    """Renew a hold while its source is followed, and release it."""
    done = threading.Event()

    def renew() -> None:
        while not done.wait(LEASE.total_seconds() / 3):
            try:
                hold.renew()
            except LeaseLostError:
                return  # the next step that is kept says so
            except Exception as error:  # noqa: BLE001 - a database that is down comes back
                log.warning("source's lease not renewed", why=type(error).__name__)

    thread = threading.Thread(target=renew, name=f"lease of {hold.source}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        with suppress(Exception):  # it runs out by itself
            hold.release()


def _told(source: str, error: Exception) -> str:
    """Return an error as it may be stored: the text of a foreign one may quote its input."""
    if isinstance(error, DriftwardError):
        return str(error)
    return f"source {source}: {type(error).__name__}; it is tried again"
