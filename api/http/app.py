"""The application: REST API, pages, metrics and health behind one door."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.middleware.trustedhost import TrustedHostMiddleware

from api import metrics as figures
from api.assembly import Driftward
from api.http import (
    dicomweb,
    episodes,
    health,
    jobs,
    labels,
    ledger,
    metrics,
    models,
    monitors,
    pages,
    problems,
    quarantine,
    questions,
    runs,
    scans,
    silence,
    streams,
)
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
    {"name": "health", "description": "For orchestrators and Prometheus."},
]


def create_app(driftward: Driftward, *, hosts: Sequence[str] = ()) -> FastAPI:
    """Build the application of one installation.

    Parameters
    ----------
    hosts : names besides loopback's by which requests may call this server
    """
    app = FastAPI(
        title="Driftward",
        summary="Watches the foundation models that read a hospital's scans.",
        description=(
            "Reads only, but for instances, which senders store over DICOMweb, and labels: what "
            "changes a model is done on the command line, under an identity. Errors are RFC 9457 "
            "problem "
            "details. Times are UTC. No answer carries a patient's pseudonym."
        ),
        version=release(),
        openapi_tags=TAGS,
        # Their pages would load scripts from elsewhere, which an air-gapped hospital lacks.
        docs_url=None,
        redoc_url=None,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    rendering = Pages()
    app.state.driftward = driftward
    app.state.pages = rendering
    app.state.storing = dicomweb.StoringDesk()
    app.state.desk = VerificationDesk(driftward.database, driftward.clock)
    app.state.metrics = figures.registry(driftward, app.state.desk)
    for module in (
        models,
        monitors,
        silence,
        streams,
        episodes,
        runs,
        scans,
        labels,
        quarantine,
        dicomweb,
        ledger,
        questions,
        jobs,
        health,
        metrics,
        pages,
    ):
        app.include_router(module.router)
    app.mount(rendering.assets, StaticFiles(directory=STATIC), name="static")
    problems.add_handlers(app)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=allowed_hosts(hosts))
    # The last one added is the outermost: what the others answer has the headers, too.
    app.add_middleware(SecurityHeaders, assets=rendering.assets)
    return app
