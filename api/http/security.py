"""What every answer carries for safety, and which names a request may call us by."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Names of this machine to itself.
LOOPBACK = ("localhost", "127.0.0.1", "::1")

#: No inline script or style, nothing from elsewhere, never inside another page.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "font-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
KEPT_FOR_GOOD = "public, max-age=31536000, immutable"


class SecurityHeaders:
    """Adds the headers to every answer, and keeps pages and data out of caches."""

    def __init__(self, app: ASGIApp, *, assets: str) -> None:
        self._app = app
        self._assets = assets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_asset = str(scope["path"]).startswith(f"{self._assets}/")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                found = message["status"] < 400
                headers["cache-control"] = KEPT_FOR_GOOD if is_asset and found else "no-store"
            await send(message)

        await self._app(scope, receive, send_with_headers)


def allowed_hosts(bound: Sequence[str]) -> list[str]:
    """Return the host names that a request may carry: loopback's, and what we are bound to.

    "*" lets any name in: for an address that others reach, where everybody signs in, and a
    cookie belongs to the name that it was set under.

    A page of another site that has its name resolve to this machine (DNS
    rebinding) still sends its own name, and is turned away.
    """
    if "*" in bound:
        return ["*"]
    names = dict.fromkeys((*LOOPBACK, *bound))
    return [f"[{name}]" if ":" in name else name for name in names]
