"""Who asks, and whether they may.

Every route declares who may call it, as one of its dependencies; an application with a route
that declares nothing is not built. A caller is known by a token, by the session of a browser,
or on loopback as the very user who runs this process.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, TypeAlias, cast
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, Request
from fastapi.routing import APIRoute
from sqlalchemy.exc import SQLAlchemyError
from starlette.routing import BaseRoute, Mount
from starlette.types import Scope

from api.assembly import Driftward
from api.http.local_peer import on_this_machine
from registry.access import sessions, signing_in
from registry.errors import NotPermittedError, NotSignedInError
from registry.identities import Identity, IdentityRow, Role, identity_of
from registry.refusals import refusals_recorded

SESSION_COOKIE = "driftward_session"
#: Methods that change nothing.
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

#: Says whether a request comes from the user who runs this process.
Recognise: TypeAlias = Callable[[Scope], bool]


class Road(StrEnum):
    """By what a caller is known."""

    TOKEN = "token"  # noqa: S105 - a word
    SESSION = "session"
    #: as the user who runs this process
    LOCAL = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """One who asks."""

    identity: Identity
    road: Road
    #: what the forms of this caller's pages carry, so that no page of another site can send one
    form_key: str
    #: somebody else knows their password: they may do nothing but choose another
    must_choose: bool = False
    #: roles that the route asks for
    asked_for: frozenset[Role] = frozenset()

    @property
    def name(self) -> str:
        return self.identity.name

    @property
    def sites(self) -> frozenset[str] | None:
        """The sites for which this caller has a role that the route asks for; None for all."""
        return self.identity.sites(*self.asked_for)

    def require_site(self, site: str) -> None:
        """Refuse what concerns a site for which this caller has no role that the route asks for.

        Raises
        ------
        NotPermittedError
        """
        if self.sites is not None and site not in self.sites:
            raise NotPermittedError(
                f"{self.name} has no role for the site {site}: "
                f"{', '.join(self.identity.grants())}"
            )

    def may(self, *roles: Role) -> bool:
        """Return whether one of the roles is held, for whatever site."""
        return any(self.identity.holds(role) for role in roles)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may call a route; used as its dependency."""

    #: each opens it; none with `public` or `anybody_known`
    roles: frozenset[Role] = frozenset()
    #: without being known
    public: bool = False
    #: known, with whatever role or none
    anybody_known: bool = False
    #: parameter of path or query that names the one site that the call concerns; where it is
    #: left out, the role must be held for every site
    site: str | None = None
    #: a role for some sites is enough; the route shows those alone
    some_sites: bool = False
    #: as the setting `metrics` says
    as_set: bool = False

    def __call__(self, request: Request) -> None:
        """Let a request in, or refuse it.

        Raises
        ------
        NotSignedInError
            If it takes a caller, and nobody is known.
        NotPermittedError
            If the caller has no role for it.
        """
        if self.public or (self.as_set and _metrics_are_open(request)):
            request.state.caller = None
            return
        caller = who_asks(request)
        if caller is None:
            raise NotSignedInError(
                "sign in first: a browser at /sign-in, a program with a token "
                "(Authorization: Bearer …)"
            )
        request.state.caller = caller = replace(caller, asked_for=self.roles)
        _require_own_page(request, caller)
        if self.anybody_known:
            return
        site = None
        if self.site is not None:
            site = request.path_params.get(self.site) or request.query_params.get(self.site)
        if request.method in SAFE:
            self._require_role(caller, site)
            return
        driftward = cast("Driftward", request.app.state.driftward)
        with refusals_recorded(
            driftward.database,
            "access.refused",
            subject=_what(request, site),
            by=caller.identity,
            at=driftward.clock.now(),
            once_a_while=True,
        ):
            self._require_role(caller, site)

    def _require_role(self, caller: Caller, site: str | None) -> None:
        if caller.must_choose:
            raise NotPermittedError(
                f"{caller.name} has a first password, which somebody else knows: choose your own "
                "at /account, or by `driftward user password`"
            )
        identity = caller.identity
        if self.some_sites and site is None:
            held = any(identity.holds(role) for role in self.roles)
        else:
            held = any(identity.may(role, site=site) for role in self.roles)
        if held:
            return
        wanted = " or ".join(sorted(role.value for role in self.roles))
        where = ""
        if any(identity.holds(role) for role in self.roles):
            where = (
                f" for the site {site}"
                if site is not None
                else " for every site"
                + (f" (or name one of yours: ?{self.site}=…)" if self.site is not None else "")
            )
        raise NotPermittedError(
            f"{caller.name} may not do this: it takes the role {wanted}{where}; "
            f"{caller.name} has {', '.join(identity.grants()) or 'none'}"
        )


_EVERY_ROLE = frozenset(Role)
#: Nobody need be known.
PUBLIC = Depends(Access(public=True))
#: Whoever is known, whatever they may: their own account.
KNOWN = Depends(Access(anybody_known=True))
METRICS = Depends(Access(as_set=True, roles=_EVERY_ROLE, some_sites=True))
#: What is said of the whole installation, in figures: whoever has a role.
READ = Depends(Access(roles=_EVERY_ROLE, some_sites=True))
#: What sites sent, of one site or of all: whoever has a role there.
READ_SITE = Depends(Access(roles=_EVERY_ROLE, site="site"))
#: What sites sent, where the route itself shows no more than the caller's sites.
READ_OWN_SITES = Depends(Access(roles=_EVERY_ROLE, site="site", some_sites=True))
#: The record of who did what.
READ_RECORD = Depends(
    Access(roles=_EVERY_ROLE - {Role.VIEWER}, some_sites=True),
)
#: Verification reads all of the record.
VERIFY = Depends(Access(roles=frozenset({Role.OPERATOR, Role.AUDITOR, Role.ADMIN})))
#: Who may do what.
READ_PEOPLE = Depends(Access(roles=frozenset({Role.AUDITOR, Role.ADMIN})))
#: Bringing in what belongs to a site.
BRING_IN = Depends(Access(roles=frozenset({Role.OPERATOR}), site="site"))
#: Signing: the plan says which role and the run which sites, so both are looked at there.
SIGN = Depends(Access(roles=_EVERY_ROLE, some_sites=True))


def _caller(request: Request) -> Caller:
    return cast("Caller", request.state.caller)


#: The caller of a route that takes one.
KnownCaller: TypeAlias = Annotated[Caller, Depends(_caller)]


def caller_of(request: Request) -> Caller | None:
    """Return the caller, where there is one: not on a public route, nor where none was found."""
    return cast("Caller | None", getattr(request.state, "caller", None))


def address_of(request: Request) -> str | None:
    """Return the address that a request comes from, where it comes by the network."""
    return request.client.host if request.client else None


def who_asks(request: Request) -> Caller | None:
    """Return who makes a request, or None for somebody unknown.

    Raises
    ------
    NotSignedInError
        If a token is shown that may not be used.
    """
    driftward = cast("Driftward", request.app.state.driftward)
    shown = request.headers.get("authorization")
    if shown is not None:
        proven = signing_in.by_token(
            driftward.database, _token_of(shown), at=driftward.clock.now()
        )
        return Caller(identity=proven.identity, road=Road.TOKEN, form_key="")
    secret = request.cookies.get(SESSION_COOKIE)
    owner = _session_owner(driftward, secret) if secret else None
    if owner is not None and secret is not None:
        return Caller(
            identity=identity_of(owner),
            road=Road.SESSION,
            form_key=_form_key(secret.encode(), "session"),
            must_choose=owner.initial_password,
        )
    if request.app.state.recognise(request.scope):
        with suppress(NotPermittedError):
            identity = driftward.local_user()
            key = _form_key(request.app.state.form_secret, f"local {identity.name}")
            return Caller(identity=identity, road=Road.LOCAL, form_key=key)
    return None


def declarations(app: FastAPI) -> Iterator[tuple[APIRoute, Access]]:
    """Yield every route with what it declares.

    Raises
    ------
    TypeError
        Naming a route that declares nothing, or is of a kind that cannot.
    """
    for route in _leaves(app.routes):
        if isinstance(route, Mount) and route.path == app.state.pages.assets:
            continue  # style, scripts, font: the same for everybody
        if not isinstance(route, APIRoute):
            raise TypeError(f"{route} cannot declare who may call it: make it an API route")
        found = [
            dependency.call
            for dependency in route.dependant.dependencies
            if isinstance(dependency.call, Access)
        ]
        if len(found) != 1:
            raise TypeError(
                f"{route.path} declares {len(found)} times who may call it: name one of "
                "api.http.access among its dependencies"
            )
        yield route, found[0]


def _leaves(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is None:
            yield route
        else:
            yield from _leaves(inner.routes)


def _token_of(header: str) -> str:
    """Return the token of an Authorization header: Bearer, or Basic with it for a password.

    Raises
    ------
    NotSignedInError
        If it is neither.
    """
    scheme, _, value = header.strip().partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        # Of many programs that send scans or scrape figures, all that can be set.
        with suppress(binascii.Error, UnicodeDecodeError):
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
    raise NotSignedInError(
        "Authorization takes Bearer with a token, or Basic with a token for the password",
        why="unknown_token",
    )


def _session_owner(driftward: Driftward, secret: str) -> IdentityRow | None:
    now = driftward.clock.now()
    with driftward.database.reading() as session:
        found = sessions.resume(session, secret, at=now)
    if found is None:
        return None
    owner, due = found
    if due:
        # A session that cannot be kept alive ends sooner, and nothing else.
        with suppress(SQLAlchemyError), driftward.database.transaction() as session:
            sessions.touch(session, secret, at=now)
    return owner


def _require_own_page(request: Request, caller: Caller) -> None:
    """Refuse a change that a page of another site had a browser send.

    A browser adds a cookie, and on loopback the right of its user, to whatever any page sends.
    """
    if request.method in SAFE or caller.road is Road.TOKEN:
        return
    require_own_origin(request)


def require_own_origin(request: Request) -> None:
    """Refuse a request that a browser says another site's page sent.

    Raises
    ------
    NotPermittedError
    """
    headers = request.headers
    own = {headers.get("host", "")}
    public = request.app.state.driftward.settings.public_url
    if public is not None:
        own.add(urlsplit(public).netloc)
    origin = headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc not in own
    if foreign or headers.get("sec-fetch-site") in {"cross-site", "same-site"}:
        raise NotPermittedError("a page of another site sent this: nothing was changed")


def is_encrypted(request: Request) -> bool:
    """Return whether a browser reaches us over TLS, ours or that of the proxy that was named."""
    public = request.app.state.driftward.settings.public_url
    return request.url.scheme == "https" or (
        public is not None and request.headers.get("host") == urlsplit(public).netloc
    )


def _form_key(secret: bytes, purpose: str) -> str:
    return hmac.new(secret, purpose.encode(), hashlib.sha256).hexdigest()


def _what(request: Request, site: str | None) -> str:
    """Return what a request would change: its route, by which model or run, and at which site."""
    path = getattr(request.scope.get("route"), "path", request.url.path)
    # Other parameters may name what a hospital keeps to itself.
    for name in ("name", "number"):
        path = path.replace(f"{{{name}}}", str(request.path_params.get(name)))
    if site is not None:
        path = path.replace("{site}", site)
    return f"{request.method} {path}"


def _metrics_are_open(request: Request) -> bool:
    setting = request.app.state.driftward.settings.metrics
    if setting == "loopback":
        return on_this_machine(request.scope)
    return bool(setting == "open")
