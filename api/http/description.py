"""The API's own description, for those who may read."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse

from api.http.access import READ

router = APIRouter(include_in_schema=False)


@router.get("/openapi.json", dependencies=[READ], response_class=JSONResponse)
def show_description(request: Request) -> dict[str, Any]:
    """Return the description of the API (OpenAPI 3.1)."""
    app: FastAPI = request.app
    return app.openapi()
