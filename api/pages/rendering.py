"""Rendering: the templates with what every page needs, and the assets beside them."""

from __future__ import annotations

import hashlib
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup

from api.pages import wording
from registry.identities import Role

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
#: The pages that the bar at the top leads to.
NAVIGATION = (
    ("fleet", "Fleet", "/"),
    ("monitors", "Monitors", "/monitors"),
    ("runs", "Runs", "/runs"),
    ("models", "Models", "/models"),
    ("scans", "Scans", "/scans"),
    ("ledger", "Ledger", "/ledger"),
)


class Pages:
    """Renders templates."""

    def __init__(self) -> None:
        # Part of every asset's address, so that a browser may keep assets for good
        # and still sees a new version at once.
        self.assets = f"/static/{_digest(STATIC)}"
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals.update(
            assets=self.assets,
            navigation=NAVIGATION,
            readers_of_the_record=tuple(role for role in Role if role is not Role.VIEWER),
            release=release(),
        )
        self._environment.filters.update(
            count=wording.count,
            counted=wording.counted,
            fraction=wording.fraction,
            moment=wording.moment,
            day=wording.day,
            ago=wording.ago,
            sentence=wording.sentence,
            short=_short,
        )

    def render(
        self,
        request: Request,
        template: str,
        *,
        now: datetime,
        status: int = 200,
        **values: Any,
    ) -> HTMLResponse:
        """Render a template as a response."""
        text = self._environment.get_template(template).render(
            request_path=request.url.path,
            caller=getattr(request.state, "caller", None),
            now=now,
            **values,
        )
        return HTMLResponse(text, status_code=status)


def _short(digest: str | None) -> Markup:
    """Return a digest's beginning; the whole of it shows on pointing at it."""
    if not digest:
        return Markup("–")
    return Markup('<code title="{}">{}</code>').format(digest, digest[:12])


def _digest(folder: Path) -> str:
    hashed = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            hashed.update(path.relative_to(folder).as_posix().encode())
            hashed.update(path.read_bytes())
    return hashed.hexdigest()[:16]


def release() -> str:
    """Return the version of Driftward that is installed."""
    try:
        return version("driftward")
    except PackageNotFoundError:
        return "from source"
