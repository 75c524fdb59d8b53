"""What a route gets handed: the installation that it serves."""

from __future__ import annotations

from typing import Annotated, TypeAlias, cast

from fastapi import Depends, Request

from api.assembly import Driftward
from api.pages.ledger_page import VerificationDesk
from api.pages.rendering import Pages
from retrain.scheduling import Schedule


def _installation(request: Request) -> Driftward:
    return cast("Driftward", request.app.state.driftward)


def _desk(request: Request) -> VerificationDesk:
    return cast("VerificationDesk", request.app.state.desk)


def _schedule(request: Request) -> Schedule | None:
    return cast("Schedule | None", getattr(request.app.state, "schedule", None))


def _pages(request: Request) -> Pages:
    return cast("Pages", request.app.state.pages)


Installation: TypeAlias = Annotated[Driftward, Depends(_installation)]
Desk: TypeAlias = Annotated[VerificationDesk, Depends(_desk)]
Renderer: TypeAlias = Annotated[Pages, Depends(_pages)]
#: None where another process ticks.
Ticking: TypeAlias = Annotated[Schedule | None, Depends(_schedule)]
