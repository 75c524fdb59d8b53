"""The pages' routes: each reads one snapshot, and renders one view of it."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from api.assembly import Driftward
from api.http import problems
from api.http.access import (
    READ,
    READ_OWN_SITES,
    READ_RECORD,
    SIGN,
    VERIFY,
    Caller,
    KnownCaller,
    Road,
)
from api.http.forms import read_own_form
from api.http.installation import Desk, Installation, Renderer
from api.http.numbers import LARGEST_NUMBER, Number
from api.http.runs import meaning_of, signer
from api.pages.fleet import fleet
from api.pages.ledger_page import entry_count, ledger_page
from api.pages.lineage_graph import lineage_graph
from api.pages.model_page import model_page
from api.pages.monitor_page import monitor_page
from api.pages.quarantine_page import quarantine_counts, quarantine_mark, quarantine_page
from api.pages.rendering import Pages
from api.pages.run_page import run_course, run_lines, run_page
from api.pages.scan_pages import scan_page, scans_page
from monitor.episodes import episodes
from monitor.intake.reasons import Reason
from registry.errors import BadInputError, RefusedError
from registry.identities import IdentityRow
from retrain import signing

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

Chosen = Annotated[int | None, Query(ge=1, le=LARGEST_NUMBER)]


@router.get("/", dependencies=[READ])
def show_fleet(
    request: Request, driftward: Installation, pages: Renderer, desk: Desk
) -> Response:
    now = driftward.clock.now()
    with driftward.database.reading() as session:
        view = fleet(session, now=now)
        entries = entry_count(session)
    return pages.render(
        request,
        "fleet.html",
        now=now,
        section="fleet",
        fleet=view,
        quarantine=quarantine_mark(lambda: driftward.quarantine),
        entries=entries,
        verified=desk.newest,
    )


@router.get("/monitors", dependencies=[READ])
def show_monitors(request: Request, driftward: Installation, pages: Renderer) -> Response:
    now = driftward.clock.now()
    with driftward.database.reading() as session:
        view = fleet(session, now=now)
    rows = [row for row in view.rows if row.standing.monitor is not None]
    return pages.render(request, "monitors.html", now=now, section="monitors", rows=rows)


@router.get("/monitors/{name}", dependencies=[READ])
def show_monitor(
    request: Request,
    name: str,
    driftward: Installation,
    pages: Renderer,
    episode: Chosen = None,
) -> Response:
    now = driftward.clock.now()
    with driftward.database.reading() as session:
        view = monitor_page(session, driftward.profiles, name, episode=episode, now=now)
    return pages.render(request, "monitor.html", now=now, section="monitors", page=view)


@router.get("/episodes/{number}", dependencies=[READ])
def show_episode(number: Number, driftward: Installation) -> Response:
    with driftward.database.reading() as session:
        row = episodes.require_episode(session, number)
    return RedirectResponse(f"/monitors/{row.monitor}?episode={row.id}")


@router.get("/runs", dependencies=[READ])
def show_runs(request: Request, driftward: Installation, pages: Renderer) -> Response:
    with driftward.database.reading() as session:
        lines = run_lines(session)
    return pages.render(
        request, "runs.html", now=driftward.clock.now(), section="runs", runs=lines
    )


@router.get("/runs/{number}", dependencies=[READ])
def show_run(
    request: Request,
    number: Number,
    driftward: Installation,
    pages: Renderer,
    caller: KnownCaller,
) -> Response:
    return _run(request, number, driftward, pages, caller)


@router.post("/runs/{number}/signatures", dependencies=[SIGN])
async def sign_run_on_its_page(
    request: Request,
    number: Number,
    driftward: Installation,
    pages: Renderer,
    caller: KnownCaller,
) -> Response:
    """Sign what the page showed; say on the page why not, where it is refused."""
    fields = await read_own_form(request)
    decided = [name.removeprefix("decide.") for name in fields if name.startswith("decide.")]
    try:
        await run_in_threadpool(
            signing.sign_run,
            driftward.database,
            number,
            meaning_of(fields.get("meaning", "")),
            by=signer(request, caller, fields.get("credential") or None),
            reason=fields.get("reason", ""),
            at=driftward.clock.now(),
            seen=fields.get("seen", ""),
            decided=decided,
        )
    except (RefusedError, BadInputError) as error:
        return await run_in_threadpool(
            _run,
            request,
            number,
            driftward,
            pages,
            caller,
            problem=str(error),
            reason=fields.get("reason"),
            status=problems.status_of(error),
        )
    return RedirectResponse(f"/runs/{number}#sign", HTTPStatus.SEE_OTHER)


def _run(
    request: Request,
    number: int,
    driftward: Driftward,
    pages: Pages,
    caller: Caller,
    *,
    problem: str | None = None,
    reason: str | None = None,
    status: int = HTTPStatus.OK,
) -> Response:
    now = driftward.clock.now()
    with driftward.database.reading() as session:
        view = run_page(session, driftward.home.work, number, now=now)
        signs_by = session.get(IdentityRow, caller.name)
    asks = caller.road is not Road.LOCAL or bool(signs_by and signs_by.password)
    return pages.render(
        request,
        "run.html",
        now=now,
        status=status,
        section="runs",
        page=view,
        problem=problem,
        reason=reason,
        asks_credential=asks,
    )


@router.get("/runs/{number}/progress", dependencies=[READ])
def show_progress(
    request: Request, number: Number, driftward: Installation, pages: Renderer
) -> Response:
    """Return the part of a run's page that moves; ask for the whole page once it stopped."""
    with driftward.database.reading() as session:
        course = run_course(session, driftward.home.work, number)
    response = pages.render(
        request, "partials/progress.html", now=driftward.clock.now(), course=course
    )
    if not course.moving:
        response.headers["HX-Refresh"] = "true"
    return response


@router.get("/models", dependencies=[READ])
def show_models(request: Request, driftward: Installation, pages: Renderer) -> Response:
    with driftward.database.reading() as session:
        graph = lineage_graph(session)
    return pages.render(
        request, "models.html", now=driftward.clock.now(), section="models", graph=graph
    )


@router.get("/models/{name}", dependencies=[READ])
def show_model(
    request: Request,
    name: str,
    driftward: Installation,
    pages: Renderer,
    version: Chosen = None,
) -> Response:
    now = driftward.clock.now()
    with driftward.database.reading() as session:
        view = model_page(session, name, number=version, now=now)
    return pages.render(request, "model.html", now=now, section="models", page=view)


@router.get("/scans", dependencies=[READ_OWN_SITES])
def show_scans(
    request: Request,
    driftward: Installation,
    pages: Renderer,
    caller: KnownCaller,
    before: Chosen = None,
    refused: bool = False,
) -> Response:
    quarantined = quarantine_counts(lambda: driftward.quarantine, sites=caller.sites)
    with driftward.database.reading() as session:
        view = scans_page(
            session, quarantined, before=before, refused_only=refused, sites=caller.sites
        )
    return pages.render(
        request, "scans.html", now=driftward.clock.now(), section="scans", page=view
    )


@router.get("/quarantine", dependencies=[READ_OWN_SITES])
def show_quarantine(
    request: Request,
    driftward: Installation,
    pages: Renderer,
    caller: KnownCaller,
    reason: Reason | None = None,
    site: str | None = None,
    before: str | None = None,
) -> Response:
    now = driftward.clock.now()
    view = quarantine_page(
        lambda: driftward.quarantine,
        keep_for=timedelta(days=driftward.settings.quarantine_days),
        now=now,
        reason=reason,
        site=site,
        before=before,
        sites=caller.sites,
    )
    return pages.render(request, "quarantine.html", now=now, section="scans", page=view)


@router.get("/scans/{number}", dependencies=[READ_OWN_SITES])
def show_scan(
    request: Request,
    number: Number,
    driftward: Installation,
    pages: Renderer,
    caller: KnownCaller,
) -> Response:
    with driftward.database.reading() as session:
        view = scan_page(session, number)
    caller.require_site(view.site)
    return pages.render(
        request, "scan.html", now=driftward.clock.now(), section="scans", page=view
    )


@router.get("/ledger", dependencies=[READ_RECORD])
def show_ledger(
    request: Request,
    driftward: Installation,
    pages: Renderer,
    desk: Desk,
    kind: str | None = None,
    subject: str | None = None,
    before: Chosen = None,
) -> Response:
    with driftward.database.reading() as session:
        view = ledger_page(session, kind=kind or None, subject=subject or None, before=before)
    return pages.render(
        request,
        "ledger.html",
        now=driftward.clock.now(),
        section="ledger",
        page=view,
        verified=desk.newest,
    )


@router.get("/ledger/verification", dependencies=[VERIFY])
def show_verification(
    request: Request, driftward: Installation, pages: Renderer, desk: Desk
) -> Response:
    """Verify now; return the finding as part of a page, or where no script runs, the page."""
    verified = desk.verify()
    if "hx-request" not in request.headers:
        return RedirectResponse("/ledger", status_code=HTTPStatus.SEE_OTHER)
    return pages.render(
        request, "partials/verification.html", now=driftward.clock.now(), verified=verified
    )
