"""Asking an Orthanc server: its feed of changes, its instances and their files.

What it answers is bounded before it is held, read as it is defined, and never
quoted: an answer may hold patient data, and Orthanc's identifiers are digests
of them.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, TypeAlias

import httpx
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from monitor.sources.settings import OrthancSource
from registry.errors import SourceError

#: Changes that one answer lists.
PAGE = 100
_LONGEST_PAGE = 4 << 20
#: Some 47 bytes an instance: eleven million of them.
_LONGEST_LIST = 512 << 20
_UNAUTHORIZED = (401, 403)
_GONE = 404
#: Says nothing of the one instance that was asked for.
_WHOLE_SERVER = (*_UNAUTHORIZED, 429, 502, 503, 504)

#: A resource's identifier: five groups of a SHA-1 digest.
OrthancId: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{8}){4}$")]


class Change(BaseModel):
    """One entry of the feed."""

    model_config = ConfigDict(frozen=True)

    kind: Annotated[str, Field(alias="ChangeType", max_length=64)]
    resource: Annotated[OrthancId, Field(alias="ID")]
    date: Annotated[str, Field(alias="Date", max_length=64)]
    sequence: Annotated[int, Field(alias="Seq", ge=0)]

    @property
    def is_instance(self) -> bool:
        return self.kind == "NewInstance"

    @property
    def is_stable(self) -> bool:
        return self.kind in {"StableSeries", "StableStudy"}

    @property
    def at(self) -> datetime | None:
        """When it was, by the server's clock; None where it does not say so as expected."""
        try:
            return datetime.strptime(self.date, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            return None


class Page(BaseModel):
    """Changes in the order of their sequence."""

    changes: Annotated[list[Change], Field(alias="Changes")]
    done: Annotated[bool, Field(alias="Done")]
    #: of the last change here; of the last there ever was where there is none here
    last: Annotated[int, Field(alias="Last", ge=0)]


class _Tags(BaseModel):
    study: Annotated[str, Field(alias="StudyInstanceUID", max_length=64)] = ""
    series: Annotated[str, Field(alias="SeriesInstanceUID", max_length=64)] = ""


class _Resource(BaseModel):
    """A series or a study as the server shows it."""

    tags: Annotated[_Tags, Field(alias="MainDicomTags")]
    stable: Annotated[bool, Field(alias="IsStable")]
    study: Annotated[OrthancId | None, Field(alias="ParentStudy")] = None


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The server has the instance and does not hand it over."""

    status: int


class TooLarge:
    """An instance that is larger than may be held."""


class Gone:
    """An instance that was deleted."""


Fetched: TypeAlias = bytes | Gone | TooLarge | Unavailable
_IDS: TypeAdapter[list[OrthancId]] = TypeAdapter(list[OrthancId])


class OrthancServer:
    """One server; to be closed."""

    def __init__(self, source: OrthancSource) -> None:
        password = source.password()
        self._source = source
        self._client = httpx.Client(
            base_url=source.url,
            auth=(
                None
                if source.username is None or password is None
                else httpx.BasicAuth(source.username, password)
            ),
            verify=source.verification() if source.encrypted else False,
            timeout=source.answer_seconds,
            # Neither a proxy nor credentials that the environment happens to name.
            trust_env=False,
            # A redirect would carry the credentials elsewhere.
            follow_redirects=False,
            # What is compressed could grow without bound.
            headers={"accept-encoding": "identity"},
        )

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def version(self) -> str:
        """Return the server's version; raises as `changes` does."""
        found = self._json("/system", {}, cap=_LONGEST_PAGE)
        version = found.get("Version") if isinstance(found, dict) else None
        if not isinstance(version, str):
            raise self._unexpected()
        return version[:32]

    def changes(self, *, since: int, limit: int = PAGE) -> Page:
        """Return changes after a sequence number.

        Raises
        ------
        SourceError
            If it cannot be reached, refuses, or answers something else.
        """
        return self._page({"since": str(since), "limit": str(limit)})

    def last_change(self) -> Page:
        """Return the newest change that the feed holds; raises as `changes` does."""
        return self._page({"last": ""})

    def instances(self) -> list[str]:
        """Return the identifiers of all instances, sorted; raises as `changes` does."""
        found = self._json("/instances", {}, cap=_LONGEST_LIST)
        try:
            return sorted(_IDS.validate_python(found))
        except ValidationError:
            raise self._unexpected() from None

    def file(self, instance: str, *, limit: int) -> Fetched:
        """Return an instance as a DICOM file, as far as it may be held.

        Raises
        ------
        SourceError
            If the server cannot be reached, or refuses altogether.
        """
        with self._answer(f"/instances/{instance}/file", {}) as answer:
            if answer.status_code == _GONE:
                return Gone()
            if answer.status_code in _WHOLE_SERVER:
                raise self._refused(answer.status_code)
            if answer.status_code != httpx.codes.OK:
                return Unavailable(answer.status_code)
            content = self._bounded(answer, limit)
        return TooLarge() if content is None else content

    def stable_uids(self, change: Change) -> tuple[str, str] | None:
        """Return the UIDs of the study and series of a change, if nothing came to it since.

        The UID of the series is "" where the change is of a study. None, too, where the server
        does not show it: what is read of it does not depend on that.

        Raises
        ------
        SourceError
            If the server cannot be reached.
        """
        if change.kind == "StableStudy":
            study = self._resource(f"/studies/{change.resource}")
            return (
                (study.tags.study, "") if study and study.stable and study.tags.study else None
            )
        series = self._resource(f"/series/{change.resource}")
        if series is None or not series.stable or series.study is None:
            return None
        study = self._resource(f"/studies/{series.study}")
        if study is None or not (study.tags.study and series.tags.series):
            return None
        return study.tags.study, series.tags.series

    def _resource(self, path: str) -> _Resource | None:
        with self._answer(path, {}) as answer:
            if answer.status_code != httpx.codes.OK:
                return None
            content = self._bounded(answer, _LONGEST_PAGE)
        try:
            return None if content is None else _Resource.model_validate_json(content)
        except ValidationError:
            return None

    def _page(self, parameters: dict[str, str]) -> Page:
        try:
            return Page.model_validate(self._json("/changes", parameters, cap=_LONGEST_PAGE))
        except ValidationError:
            raise self._unexpected() from None

    def _json(self, path: str, parameters: dict[str, str], *, cap: int) -> object:
        with self._answer(path, parameters) as answer:
            if answer.status_code != httpx.codes.OK:
                raise self._refused(answer.status_code)
            content = self._bounded(answer, cap)
        if content is None:
            raise self._unexpected()
        try:
            found: object = json.loads(content)
        except (ValueError, RecursionError):
            raise self._unexpected() from None
        return found

    @contextmanager
    def _answer(self, path: str, parameters: dict[str, str]) -> Iterator[httpx.Response]:
        try:
            answer = self._asked(self._client.build_request("GET", path, params=parameters))
            try:
                yield answer
            finally:
                answer.close()
        except httpx.TransportError as error:
            raise SourceError(f"{self._called}: {_why(error)}") from error
        except httpx.InvalidURL as error:
            raise SourceError(f"{self._called}: the address cannot be used") from error

    def _asked(self, request: httpx.Request) -> httpx.Response:
        try:
            return self._client.send(request, stream=True)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            # The connection was kept, and the server had just given it up. To ask twice changes
            # nothing there.
            return self._client.send(request, stream=True)

    def _bounded(self, answer: httpx.Response, cap: int) -> bytes | None:
        """Read a body, or return None as soon as it is larger than it may be."""
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise self._unexpected()
        pieces: list[bytes] = []
        size = 0
        for piece in answer.iter_raw():
            size += len(piece)
            if size > cap:
                return None
            pieces.append(piece)
        return b"".join(pieces)

    @property
    def _called(self) -> str:
        return f"source {self._source.name} at {self._source.url}"

    def _refused(self, status: int) -> SourceError:
        if status in _UNAUTHORIZED:
            return SourceError(
                f"{self._called} refuses the credentials ({status}): correct username and "
                "password_file, and let that user GET /changes and /instances"
            )
        return SourceError(f"{self._called} answered {status}: look at its log")

    def _unexpected(self) -> SourceError:
        return SourceError(
            f"{self._called} answers what Orthanc's REST API does not: is it that server?"
        )


def _why(error: httpx.TransportError) -> str:
    """Say what is wrong with a connection, and what to do."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"its certificate cannot be verified ({cause.verify_message}): name who signed "
                "it as `authority`"
            )
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.TimeoutException):
        return "no answer came in time; it is tried again"
    return f"it cannot be reached ({type(error).__name__}): does it run, and is the port open?"
