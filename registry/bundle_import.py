"""Importing a bundle as a version: stored in MLflow, registered in the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from registry import outbox
from registry.bundles.assembly import measure_parity
from registry.bundles.bundle import read_bundle
from registry.bundles.embedding_probe import require_own_embeddings
from registry.database import Database
from registry.errors import DriftwardError, TrackingError
from registry.identities import Identity, Role
from registry.tracking import Tracking
from registry.versions import Origin, VersionRef, VersionRow, find, register


def import_bundle(
    database: Database,
    tracking: Tracking,
    directory: Path,
    *,
    model: str,
    base: VersionRef | None,
    by: Identity,
    at: datetime,
) -> VersionRow:
    """Import a bundle's directory as the next version of `model`.

    Raises
    ------
    BundleError
        If the directory is not a whole and harmless bundle, or its encoder tells no scans
        apart or embeds one by others of its batch.
    ConflictError
        If it is a version of that model already.
    """
    by.require(Role.OPERATOR, "import a version")
    bundle = read_bundle(directory)
    # What a foreign directory says of its own parity is not believed.
    measure_parity(bundle)
    require_own_embeddings(bundle)
    if base is not None:
        with database.reading() as session:
            find(session, base)
    mlflow_run = tracking.start_run(
        f"import of {model}", params={}, tags={"driftward.bundle": bundle.digest}
    )
    uri = tracking.store_bundle(mlflow_run, bundle.root)
    tracking.end_run(mlflow_run)
    with _no_run_left(tracking, mlflow_run), database.transaction() as session:
        version = register(
            session,
            bundle,
            model=model,
            base=find(session, base) if base else None,
            origin=Origin.IMPORT,
            artifact_uri=uri,
            mlflow_run=mlflow_run,
            actor=by.name,
            at=at,
        )
        outbox.put_version(session, version, at=at)
    return version


@contextmanager
def _no_run_left(tracking: Tracking, run: str) -> Iterator[None]:
    """Put a run out of sight whose version is refused: it would stand in MLflow for nothing."""
    try:
        yield
    except DriftwardError:
        with suppress(TrackingError):  # the refusal is what is to be said
            tracking.delete_run(run)
        raise
