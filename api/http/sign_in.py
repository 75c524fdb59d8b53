"""Signing in and out of the pages, and one's own account."""

from __future__ import annotations

import re
from http import HTTPStatus

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from api.assembly import Driftward
from api.http.access import (
    KNOWN,
    PUBLIC,
    SESSION_COOKIE,
    KnownCaller,
    Road,
    address_of,
    is_encrypted,
)
from api.http.forms import read_form, read_own_form
from api.http.installation import Installation, Renderer
from registry.access import sessions, signing_in, tokens
from registry.errors import BadInputError, NotSignedInError, TooManyAttemptsError
from registry.identities import require_row

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

#: A path of ours, and never another site: no scheme, no "//", no "\".
_OWN_PATH = re.compile(r"/(?![/\\])[^\x00-\x20\\]*")


@router.get("/sign-in", dependencies=[PUBLIC])
def show_sign_in(
    request: Request, driftward: Installation, pages: Renderer, to: str = "/"
) -> Response:
    """Ask for name and password."""
    return pages.render(
        request,
        "sign_in.html",
        now=driftward.clock.now(),
        section="",
        to=_own_path(to),
        name="",
        problem=None,
    )


@router.post("/sign-in", dependencies=[PUBLIC])
async def sign_in(request: Request, driftward: Installation, pages: Renderer) -> Response:
    """Begin a session; a failure is told in one way whatever its cause."""
    fields = await read_form(request)
    name, to = fields.get("name", "").strip(), _own_path(fields.get("to", "/"))
    now = driftward.clock.now()
    address = address_of(request)
    try:
        secret, proven = await run_in_threadpool(
            signing_in.sign_in,
            driftward.database,
            name,
            fields.get("password", ""),
            address=address,
            at=now,
        )
    except (NotSignedInError, TooManyAttemptsError) as error:
        status = HTTPStatus.UNAUTHORIZED
        if isinstance(error, TooManyAttemptsError):
            status = HTTPStatus.TOO_MANY_REQUESTS
        answer = pages.render(
            request,
            "sign_in.html",
            now=now,
            status=status,
            section="",
            to=to,
            name=name,
            problem=str(error),
        )
        if isinstance(error, TooManyAttemptsError):
            answer.headers["retry-after"] = str(error.seconds)
        return answer
    await run_in_threadpool(_end, driftward, request)
    # A first password is good for nothing but choosing another.
    response = RedirectResponse("/account" if proven.shared else to, HTTPStatus.SEE_OTHER)
    return _with_session(request, response, secret)


@router.post("/sign-out", dependencies=[KNOWN])
async def sign_out(request: Request, driftward: Installation) -> Response:
    """End the session."""
    await read_own_form(request)
    await run_in_threadpool(_end, driftward, request)
    response = RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)
    response.delete_cookie(SESSION_COOKIE, path="/")
    return response


@router.get("/account", dependencies=[KNOWN])
def show_account(
    request: Request, driftward: Installation, pages: Renderer, caller: KnownCaller
) -> Response:
    """Show who one is here, and what one may."""
    return _account(request, driftward, pages, caller, problem=None)


@router.post("/account/password", dependencies=[KNOWN])
async def change_password(
    request: Request, driftward: Installation, pages: Renderer, caller: KnownCaller
) -> Response:
    """Replace one's own password; whoever is signed in elsewhere under it is out."""
    fields = await read_own_form(request)
    now = driftward.clock.now()
    if fields.get("after", "") != fields.get("again", ""):
        problem = "the new password was typed in two ways: type it again"
        return await run_in_threadpool(
            _account, request, driftward, pages, caller, problem=problem
        )
    try:
        await run_in_threadpool(
            signing_in.change_password,
            driftward.database,
            caller.name,
            before=fields.get("before") or None,
            after=fields.get("after", ""),
            address=address_of(request),
            at=now,
        )
    except (BadInputError, NotSignedInError, TooManyAttemptsError) as error:
        return await run_in_threadpool(
            _account, request, driftward, pages, caller, problem=str(error)
        )
    response = RedirectResponse("/account", HTTPStatus.SEE_OTHER)
    if caller.road is not Road.SESSION:
        return response

    def begin() -> str:
        with driftward.database.transaction() as session:
            return sessions.begin(
                session,
                caller.name,
                address=address_of(request),
                at=now,
            )

    return _with_session(request, response, await run_in_threadpool(begin))


def _account(
    request: Request,
    driftward: Driftward,
    pages: Renderer,
    caller: KnownCaller,
    *,
    problem: str | None,
) -> Response:
    with driftward.database.reading() as session:
        row = require_row(session, caller.name)
        valid = [
            token
            for token in tokens.all_tokens(session, caller.name)
            if token.revoked_at is None and token.expires_at > driftward.clock.now()
        ]
    return pages.render(
        request,
        "account.html",
        now=driftward.clock.now(),
        status=HTTPStatus.OK if problem is None else HTTPStatus.UNPROCESSABLE_ENTITY,
        section="",
        row=row,
        grants=caller.identity.grants(),
        tokens=valid,
        problem=problem,
    )


def _end(driftward: Driftward, request: Request) -> None:
    secret = request.cookies.get(SESSION_COOKIE)
    if secret is not None:
        with driftward.database.transaction() as session:
            sessions.end(session, secret, at=driftward.clock.now())


def _with_session(request: Request, response: Response, secret: str) -> Response:
    """Hand a session to the browser: no script reads it, and no other site makes it be sent."""
    response.set_cookie(
        SESSION_COOKIE,
        secret,
        path="/",
        httponly=True,
        samesite="strict",
        secure=is_encrypted(request),
    )
    return response


def _own_path(path: str) -> str:
    return path if _OWN_PATH.fullmatch(path) else "/"
