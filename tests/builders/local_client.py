"""A home served without a socket, to the user who runs this process."""

from __future__ import annotations

from fastapi.testclient import TestClient
from starlette.types import Scope

from api.assembly import Driftward
from api.http.app import create_app


def everybody(_scope: Scope) -> bool:
    """Take every request for one of the user who runs this process: these have no sockets."""
    return True


def local_client(driftward: Driftward) -> TestClient:
    """Serve a home to its own user."""
    return TestClient(create_app(driftward, recognise=everybody), base_url="http://localhost")
