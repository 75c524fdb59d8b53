"""Issuing a pack: its files, whole or not at all, and their digests in the ledger."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from api.evidence.gathering import gather
from api.evidence.rendering import as_html, as_pdf
from registry import ledger
from registry.canonical import sha256
from registry.database import Database
from registry.errors import BadInputError
from registry.identities import Identity, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """The files of a pack, with their digests."""

    files: dict[Path, str]


def issue(
    database: Database, run: int, folder: Path, *, pdf: bool, by: Identity, at: datetime
) -> Issued:
    """Write a run's evidence pack into a folder, and enter its digests into the ledger.

    Raises
    ------
    NotPermittedError
        If the identity may not even look.
    NotFoundError
        If there is no such run.
    BadInputError
        If the folder cannot be written to.
    SetupError
        If a PDF is asked for and cannot be made here.
    """
    by.require(Role.VIEWER, "read an evidence pack")
    with database.reading() as session:
        evidence = gather(session, run, at=at)
        html = as_html(evidence)
    contents = {f"evidence-run-{run}.html": html.encode()}
    if pdf:
        contents[f"evidence-run-{run}.pdf"] = as_pdf(html)
    files = {folder / name: sha256(content) for name, content in contents.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in files:
            _write(path, contents[path.name])
    except OSError as error:
        raise BadInputError(
            f"{folder} cannot be written to ({error.strerror}): name another with --out"
        ) from error
    with database.transaction() as session:
        ledger.append(
            session,
            at=at,
            actor=by.name,
            kind="evidence.issued",
            subject=f"run {run}",
            facts={path.name: digest for path, digest in files.items()},
        )
    return Issued(files=files)


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
