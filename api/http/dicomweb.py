"""Storing instances over DICOMweb: STOW-RS (PS3.18 section 10.5), for sites that are allowed.

A body is read piece by piece, and instances are stored in groups; whatever
was stored before a request turned out to be malformed is stored, and known
when it comes again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any, TypeVar

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from api.assembly import Driftward
from api.http import problems
from api.http.access import BRING_IN
from api.http.dicomweb_answer import Failed, Identity, StoreAnswer, Warned, uid
from api.http.installation import Installation
from api.http.multipart import (
    MultipartError,
    MultipartParser,
    Part,
    TooManyPartsError,
    media_type,
)
from monitor.scans import Arrival, Outcome
from monitor.sources.catalogue import dicomweb_source
from monitor.sources.progress import RoadOutcome, add_counts
from monitor.sources.settings import DicomwebSource
from monitor.sources.taking import Group, outcomes
from registry.errors import DriftwardError, StorageFullError

router = APIRouter(prefix="/dicomweb/{site}", tags=["dicomweb"])
log = structlog.get_logger(__name__)

Result = TypeVar("Result")

DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
_ACCEPTABLE = frozenset(("*/*", "application/*", "application/json", DICOM_JSON))
#: Requests whose bodies are read at once: each may hold a part and a group.
_AT_ONCE = 4
#: How long a request waits until its body is read.
_TURN_SECONDS = 30.0
#: Of instances that are prepared or stored at once.
_THREADS = 2
RETRY_SECONDS = 30
#: Of a refused body, so much is read and thrown away: most senders hear an answer only when
#: they have sent everything.
_DRAINED_BYTES = 16 << 20
_DRAINED_SECONDS = 3.0

_DESCRIBED: dict[str, Any] = {
    "response_class": Response,
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                'multipart/related; type="application/dicom"': {
                    "schema": {"type": "string", "format": "binary"}
                }
            },
        }
    },
    "responses": {
        200: {"description": "All are stored.", "content": {DICOM_JSON: {}}},
        202: {
            "description": "Some are stored, or some are kept in quarantine (a warning).",
            "content": {DICOM_JSON: {}},
        },
        400: {"description": "The body is not what its Content-Type says."},
        404: {"description": "No source takes scans of this site."},
        408: {"description": "The body stopped coming."},
        409: {"description": "None is stored.", "content": {DICOM_JSON: {}}},
        413: {"description": "More than the source lets come at once."},
        415: {"description": "Something else than DICOM files, or compressed."},
        503: {"description": "Cannot be stored now: try again later."},
    },
}


class RefusedRequestError(Exception):
    """A request is not read on."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


class StoringDesk:
    """Lets so many requests in at once, and does their work in threads."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._threads = asyncio.Semaphore(_THREADS)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn.

        Raises
        ------
        RefusedRequestError
            If none came in time.
        """
        try:
            async with asyncio.timeout(_TURN_SECONDS):
                await self._turns.acquire()
        except TimeoutError:
            raise RefusedRequestError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{_AT_ONCE} requests are being stored already: send it again later",
            ) from None
        try:
            yield
        finally:
            self._turns.release()

    async def run(self, work: Callable[[], Result]) -> Result:
        """Do something that takes a while beside the other requests."""
        async with self._threads:
            return await run_in_threadpool(work)


@router.post(
    "/studies",
    summary="Store instances of a site (STOW-RS)",
    dependencies=[BRING_IN],
    **_DESCRIBED,
)
async def store_instances(site: str, request: Request, driftward: Installation) -> Response:
    """Take the instances in and de-identify them; what is no scan is kept in quarantine."""
    return await _answered(site, None, request, driftward)


@router.post(
    "/studies/{study}",
    summary="Store instances of one study of a site",
    dependencies=[BRING_IN],
    **_DESCRIBED,
)
async def store_instances_of_study(
    site: str, study: str, request: Request, driftward: Installation
) -> Response:
    """Take instances in as above; those of another study are refused."""
    return await _answered(site, study, request, driftward)


async def _answered(
    site: str, study: str | None, request: Request, driftward: Driftward
) -> Response:
    """Store what a request brings; refuse it in one place."""
    desk: StoringDesk = request.app.state.storing
    body = _Body(request)
    try:
        source = await desk.run(lambda: _source_of(driftward, site))
        reader = _reader_of(request, source, study)
        async with desk.turn():
            storing = _Storing(driftward, desk, source, site=site, study=study)
            answer = await storing.store(body, reader)
        return JSONResponse(answer.document(), answer.status, media_type=DICOM_JSON)
    except RefusedRequestError as refused:
        status, detail, kind = refused.status, refused.detail, "about:blank"
    except DriftwardError as error:
        status, detail, kind = problems.status_of(error), str(error), problems.type_of(error)
    except (SQLAlchemyError, OSError) as error:
        # Its text may quote a row, so only its type is said.
        log.warning("not stored, the sender is told to try again", why=type(error).__name__)
        status, kind = HTTPStatus.SERVICE_UNAVAILABLE, "about:blank"
        detail = "nothing more can be stored now: send everything again later"
    await body.drain()
    problem = problems.answer(request, status, status.phrase, detail, kind)
    # What is left of the body is not waited for.
    problem.headers["connection"] = "close"
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        problem.headers["retry-after"] = str(RETRY_SECONDS)
    if status is HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
        problem.headers["accept-encoding"] = "identity"
    return problem


def _source_of(driftward: Driftward, site: str) -> DicomwebSource:
    with driftward.database.reading() as session:
        return dicomweb_source(session, site)


def _reader_of(request: Request, source: DicomwebSource, study: str | None) -> MultipartParser:
    """Return what reads the body, or refuse it by its path and headers alone."""
    if study is not None and not uid(study):
        raise RefusedRequestError(
            HTTPStatus.BAD_REQUEST, "the path names no Study Instance UID (PS3.5 section 9.1)"
        )
    headers = request.headers
    accepted = {
        one.partition(";")[0].strip().lower() for one in headers.get("accept", "*/*").split(",")
    }
    if not accepted & _ACCEPTABLE:
        raise RefusedRequestError(
            HTTPStatus.NOT_ACCEPTABLE, f"the answer is {DICOM_JSON}: accept that"
        )
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise RefusedRequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "a compressed body is not read: send it without Content-Encoding",
        )
    said = media_type(headers.get("content-type", ""))
    kind = said.parameters.get("type", DICOM).lower()
    if said.name != "multipart/related" or kind != DICOM:
        raise RefusedRequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f'DICOM files are taken: send multipart/related; type="{DICOM}"',
        )
    length = headers.get("content-length", "0")
    # A number of more digits than any length has is not even read.
    if len(length) > 18 or (length.isdigit() and int(length) > source.largest_request_bytes):
        raise _too_long(source)
    try:
        return MultipartParser(
            said.parameters.get("boundary", ""),
            largest_part=source.largest_part_bytes,
            most_parts=source.most_parts,
        )
    except MultipartError as error:
        raise RefusedRequestError(HTTPStatus.BAD_REQUEST, str(error)) from error


def _too_long(source: DicomwebSource) -> RefusedRequestError:
    return RefusedRequestError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"a request may have {source.largest_request_bytes:,} bytes: send fewer instances at "
        f"once, or raise largest_request_bytes of source {source.name}",
    )


class _Body:
    """A request's body, as it comes."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._ended = False

    async def pieces(self, source: DicomwebSource) -> AsyncGenerator[bytes, None]:
        """Yield the body while it comes and is not too long."""
        size = 0
        while not self._ended:
            try:
                async with asyncio.timeout(source.idle_seconds):
                    piece = await self._next()
            except TimeoutError:
                raise RefusedRequestError(
                    HTTPStatus.REQUEST_TIMEOUT,
                    f"nothing of the body came for {source.idle_seconds:g} seconds",
                ) from None
            size += len(piece)
            if size > source.largest_request_bytes:
                raise _too_long(source)
            yield piece

    async def drain(self) -> None:
        """Read a refused body for a while, so that its sender hears why."""
        left = _DRAINED_BYTES
        with suppress(TimeoutError, RefusedRequestError):
            async with asyncio.timeout(_DRAINED_SECONDS):
                while not self._ended and left > 0:
                    left -= len(await self._next())

    async def _next(self) -> bytes:
        message = await self._request.receive()
        if message["type"] != "http.request":
            self._ended = True
            raise RefusedRequestError(HTTPStatus.BAD_REQUEST, "the sender has gone")
        self._ended = not message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        return piece


class _Storing:
    """One request."""

    def __init__(
        self,
        driftward: Driftward,
        desk: StoringDesk,
        source: DicomwebSource,
        *,
        site: str,
        study: str | None,
    ) -> None:
        self._driftward = driftward
        self._desk = desk
        self._source = source
        self._site = site
        self._study = study
        self._seconds: list[float] = []
        self._group = Group(driftward.intake, took=self._seconds.append)
        self._waiting: list[Identity] = []
        self._counts: Counter[RoadOutcome] = Counter()
        self._answer = StoreAnswer()

    async def store(self, body: _Body, reader: MultipartParser) -> StoreAnswer:
        """Store every part of the body.

        Raises
        ------
        RefusedRequestError
            If the body cannot be read to its end.
        StorageFullError
            If the disk is full.
        """
        try:
            async with aclosing(body.pieces(self._source)) as pieces:
                async for piece in pieces:
                    for part in reader.feed(piece):
                        await self._add(part)
            reader.close()
            await self._take()
        except TooManyPartsError as error:
            raise RefusedRequestError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{error}{self._before()}"
            ) from error
        except MultipartError as error:
            raise RefusedRequestError(
                HTTPStatus.BAD_REQUEST, f"{error}{self._before()}"
            ) from error
        except StorageFullError as error:
            raise StorageFullError(f"{error}{self._before()}") from error
        finally:
            await self._count()
        return self._answer

    async def _add(self, part: Part) -> None:
        self._require_dicom(part)
        identity = await self._desk.run(lambda: Identity.of(part.content))
        if part.too_large:
            self._fail(identity, Failed.CANNOT_UNDERSTAND)
            return
        if self._study is not None and identity.study not in {self._study, ""}:
            self._fail(identity, Failed.OTHER_STUDY)
            return
        arrival: Arrival = await self._desk.run(
            lambda: self._driftward.intake.prepare(part.content, site=self._site)
        )
        self._group.add(arrival, len(part.content))
        self._waiting.append(identity)
        if self._group.full:
            await self._take()

    def _fail(self, identity: Identity, why: Failed) -> None:
        self._answer.fail(identity, why)
        self._counts[RoadOutcome.REFUSED] += 1

    async def _take(self) -> None:
        fates = await self._desk.run(self._group.take)
        self._counts.update(outcomes(fates))
        for identity, fate in zip(self._waiting, fates, strict=True):
            if fate.outcome is Outcome.QUARANTINED:
                self._answer.warn(identity, Warned.NO_MATCH)
            else:
                self._answer.stored(identity)
        self._waiting = []

    async def _count(self) -> None:
        counts, now = self._counts, self._driftward.clock.now()
        if not counts:
            return

        def add() -> None:
            with self._driftward.database.transaction() as session:
                add_counts(session, self._source.name, counts, seconds=self._seconds, at=now)

        # What is stored is stored, whether it is counted or not.
        with suppress(SQLAlchemyError, DriftwardError):
            await self._desk.run(add)

    def _require_dicom(self, part: Part) -> None:
        kind = media_type(part.headers.get("content-type", DICOM)).name
        encoding = part.headers.get("content-encoding", "identity").lower()
        transfer = part.headers.get("content-transfer-encoding", "binary").lower()
        if kind != DICOM or encoding != "identity" or transfer not in {"binary", "8bit"}:
            raise RefusedRequestError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                f"part {part.number} is no {DICOM} as it is{self._before()}",
            )
        if not part.content:
            raise MultipartError(f"part {part.number} is empty")

    def _before(self) -> str:
        """Say what of the request is stored already, where that is something."""
        stored = sum(self._counts[one] for one in RoadOutcome if one is not RoadOutcome.REFUSED)
        if not stored:
            return "; nothing of the request was kept"
        return f"; {stored} instances before it are stored, and are known when they come again"
