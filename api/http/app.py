"""The application: REST API, pages, metrics and health behind one door."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.middleware.trustedhost import TrustedHostMiddleware

from api import metrics as figures
from api.assembly import Driftward
from api.http import (
    deployments,
    description,
    dicomweb,
    episodes,
    health,
    jobs,
    label_requests,
    labels,
    ledger,
    metrics,
    models,
    monitors,
    pages,
    people,
    problems,
    quarantine,
    questions,
    runs,
    scans,
    sign_in,
    silence,
    streams,
)
from api.http.access import Recognise, declarations
from api.http.local_peer import nobody, same_user
from api.http.security import SecurityHeaders, allowed_hosts
from api.pages.ledger_page import VerificationDesk
from api.pages.rendering import STATIC, Pages, release

TAGS = [
    {"name": "models", "description": "Models, versions, lineage and what is in use."},
    {"name": "monitors", "description": "Monitors, verdicts, performance on labels."},
    {"name": "episodes", "description": "Shifts: cause, place, impact, decisions."},
    {"name": "runs", "description": "Training, gates and signatures."},
    {"name": "scans", "description": "De-identified scans and their history."},
    {"name": "labels", "description": "Ground truth: brought in, listed, disputed."},
    {"name": "quarantine", "description": "What was not taken in, and why."},
    {"name": "dicomweb", "description": "Storing instances (STOW-RS)."},
    {"name": "ledger", "description": "The append-only record, and its verification."},
    {"name": "audit", "description": "What read a study, how a model stood, who saw whom."},
    {"name": "jobs", "description": "The job table."},
    {"name": "people", "description": "Users, roles and tokens."},
    {"name": "health", "description": "For orchestrators and Prometheus."},
]


def create_app(
    driftward: Driftward, *, hosts: Sequence[str] = (), recognise: Recognise = same_user
) -> FastAPI:
    """Build the application of one installation.

    Parameters
    ----------
    hosts : names besides loopback's by which requests may call this server; "*" for any
    recognise : whether a request comes from the user who runs this process, and so needs no
        sign-in; behind a proxy, which may be that user's, it never does

    Raises
    ------
    TypeError
        If a route does not declare who may call it.
    """
    app = FastAPI(
        title="Driftward",
        summary="Watches the foundation models that read a hospital's scans.",
        description=(
            "A program shows a token (Authorization: Bearer, or Basic with it for a password); "
            "each route says which role it takes. Errors are RFC 9457 problem details. Times are "
            "UTC. No answer carries a patient's pseudonym."
        ),
        version=release(),
        openapi_tags=TAGS,
        # Their pages would load scripts from elsewhere, which an air-gapped hospital lacks.
        docs_url=None,
        # Ours declares who may read it.
        openapi_url=None,
        redoc_url=None,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    rendering = Pages()
    app.state.driftward = driftward
    app.state.pages = rendering
    app.state.recognise = recognise if driftward.settings.public_url is None else nobody
    #: of the forms of whoever is recognised
    app.state.form_secret = secrets.token_bytes(32)
    app.state.storing = dicomweb.StoringDesk()
    app.state.desk = VerificationDesk(driftward.database, driftward.clock)
    app.state.metrics = figures.registry(driftward, app.state.desk)
    for module in (
        models,
        deployments,
        monitors,
        silence,
        streams,
        episodes,
        runs,
        scans,
        label_requests,
        labels,
        quarantine,
        dicomweb,
        ledger,
        questions,
        jobs,
        people,
        description,
        health,
        metrics,
        sign_in,
        pages,
    ):
        app.include_router(module.router)
    app.mount(rendering.assets, StaticFiles(directory=STATIC), name="static")
    for _ in declarations(app):  # deny by default: none may lack one
        pass
    problems.add_handlers(app)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=allowed_hosts(hosts))
    # The last one added is the outermost: what the others answer has the headers, too.
    app.add_middleware(SecurityHeaders, assets=rendering.assets)
    return app
