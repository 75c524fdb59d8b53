"""Errors as RFC 9457 problem details: the one place where the error tree meets HTTP."""

from __future__ import annotations

import re
from http import HTTPStatus
from urllib.parse import urlencode

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.exceptions import HTTPException

from api.assembly import Driftward
from api.http.access import SAFE
from api.http.security import HEADERS
from api.pages.rendering import Pages
from registry.errors import (
    BadInputError,
    ConflictError,
    DriftwardError,
    InsufficientDataError,
    IntegrityError,
    NotFoundError,
    NotSignedInError,
    RefusedError,
    SetupError,
    TooManyAttemptsError,
    TrainingFailedError,
)

#: Status of each branch of the tree; what stands below a branch has its status.
STATUS: dict[type[DriftwardError], HTTPStatus] = {
    BadInputError: HTTPStatus.UNPROCESSABLE_ENTITY,
    InsufficientDataError: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotFoundError: HTTPStatus.NOT_FOUND,
    NotSignedInError: HTTPStatus.UNAUTHORIZED,
    TooManyAttemptsError: HTTPStatus.TOO_MANY_REQUESTS,
    ConflictError: HTTPStatus.CONFLICT,
    RefusedError: HTTPStatus.FORBIDDEN,
    IntegrityError: HTTPStatus.INTERNAL_SERVER_ERROR,
    TrainingFailedError: HTTPStatus.INTERNAL_SERVER_ERROR,
    SetupError: HTTPStatus.SERVICE_UNAVAILABLE,
    DriftwardError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
MEDIA_TYPE = "application/problem+json"
#: Paths that machines ask for; every other path is a page's.
MACHINE_PATHS = (
    "/api/",
    "/dicomweb/",
    "/openapi.json",
    "/healthz",
    "/readyz",
    "/metrics",
    "/static/",
)

log = structlog.get_logger(__name__)


def status_of(error: DriftwardError) -> HTTPStatus:
    """Return the status of an error: that of its nearest branch."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def type_of(error: DriftwardError) -> str:
    """Return the problem's type, a name that stays the same.

    >>> type_of(NotFoundError("there is no run 7"))
    'urn:driftward:problem:not-found'
    """
    name = type(error).__name__.removesuffix("Error")
    return "urn:driftward:problem:" + re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


def add_handlers(app: FastAPI) -> None:
    """Answer every error with a problem, or with a page where a person asked."""

    def of_validation(request: Request, error: Exception) -> Response:
        if not isinstance(error, RequestValidationError):
            raise TypeError(f"{type(error).__name__} is no validation error")
        detail = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors()
        )
        status = HTTPStatus.UNPROCESSABLE_ENTITY
        return answer(request, status, "Something handed in cannot be used", detail)

    def of_http(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise TypeError(f"{type(error).__name__} is no HTTP error")
        status = HTTPStatus(error.status_code)
        found = answer(request, status, status.phrase, status.description)
        found.headers.update(error.headers or {})
        return found

    def of_anything(request: Request, error: Exception) -> Response:
        # The text of a foreign error may quote its input, so only its type is kept.
        log.error("request failed", path=request.url.path, error=type(error).__name__)
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        detail = "Driftward's own fault; the log on the server names the error."
        found = answer(request, status, status.phrase, detail)
        # Starlette answers this one outside of every middleware.
        found.headers.update(HEADERS)
        return found

    app.add_exception_handler(DriftwardError, _of_driftward)
    app.add_exception_handler(NotSignedInError, _of_nobody)
    app.add_exception_handler(TooManyAttemptsError, _of_too_many)
    app.add_exception_handler(RequestValidationError, of_validation)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(Exception, of_anything)


def _of_driftward(request: Request, error: Exception) -> Response:
    if not isinstance(error, DriftwardError):
        raise TypeError(f"{type(error).__name__} is none of ours")
    # The first line of a class's docstring is what it means.
    title = (type(error).__doc__ or "").split("\n")[0].rstrip(".")
    return answer(request, status_of(error), title, str(error), type_of(error))


def _of_nobody(request: Request, error: Exception) -> Response:
    if not _asked_by_machine(request):
        return _to_sign_in(request)
    found = _of_driftward(request, error)
    found.headers["www-authenticate"] = 'Bearer realm="Driftward"'
    return found


def _of_too_many(request: Request, error: Exception) -> Response:
    found = _of_driftward(request, error)
    found.headers["retry-after"] = str(getattr(error, "seconds", 60))
    return found


def _asked_by_machine(request: Request) -> bool:
    return (
        request.url.path.startswith(MACHINE_PATHS)
        or "authorization" in request.headers
        or request.method not in SAFE
    )


def _to_sign_in(request: Request) -> Response:
    """Send a person to the sign-in, and from there back to what they asked for."""
    if "hx-request" in request.headers:
        # A part of a page: the whole of it must go.
        return Response(
            status_code=HTTPStatus.UNAUTHORIZED, headers={"hx-redirect": "/sign-in"}
        )
    to = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    query = f"?{urlencode({'to': to})}" if to != "/" else ""
    return RedirectResponse(f"/sign-in{query}", HTTPStatus.SEE_OTHER)


def answer(
    request: Request, status: HTTPStatus, title: str, detail: str, kind: str = "about:blank"
) -> Response:
    """Return a problem where a machine asked, and a page where a person did."""
    if request.url.path.startswith(MACHINE_PATHS):
        return JSONResponse(
            {
                "type": kind,
                "title": title,
                "status": status.value,
                "detail": detail,
                "instance": request.url.path,
            },
            status_code=status,
            media_type=MEDIA_TYPE,
        )
    pages: Pages = request.app.state.pages
    driftward: Driftward = request.app.state.driftward
    return pages.render(
        request,
        "error.html",
        now=driftward.clock.now(),
        status=status,
        section="",
        title=title,
        detail=detail,
        code=status.value,
    )
