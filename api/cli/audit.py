"""`driftward audit …`: whether the record still stands, what was signed of it, and copies."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from api.cli import questions
from api.cli.options import (
    HomeOption,
    JsonOption,
    SinceOption,
    UntilOption,
    as_utc,
    opened,
    show,
)

if TYPE_CHECKING:
    from api.assembly import Driftward
    from registry.ledger import Verification
    from registry.ledger.checkpoint_keys import PublicKey
    from registry.ledger.checkpoints import Checkpoint

app = typer.Typer(name="audit", help="Prove what happened.")
questions.add_to(app)

CheckpointOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--checkpoint",
        metavar="PATH",
        help="Hold the ledger against this checkpoint, or all in this folder; may be repeated.",
    ),
]
PublicKeyOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--public-key",
        metavar="FILE",
        help="Key that checkpoints were signed with; by default this home's. May be repeated.",
    ),
]


class Format(StrEnum):
    """What an export is written as."""

    JSONL = "jsonl"
    OPENLINEAGE = "openlineage"
    FHIR = "fhir"


@app.callback()
def group() -> None:
    """Prove what happened."""


@app.command("verify")
def verify(
    checkpoint: CheckpointOption = None,
    public_key: PublicKeyOption = None,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export",
            metavar="FILE",
            help="Verify this JSON Lines export instead, without any database.",
        ),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify the ledger's chain, and every sealed row against it; 1 if something was changed.

    With checkpoints, a tail that was cut off and a chain that was rewritten show, too.
    """
    if export is not None:
        found = _verify_export(export, checkpoint or [], public_key or [])
    else:
        found = _verify_home(opened(home), checkpoint or [], public_key or [])
    fault = found.fault
    document = {
        "entries": found.entries,
        "valid": found.valid,
        "head": found.head,
        "checkpoints": found.checkpoints,
        "fault": None
        if fault is None
        else {"sequence": fault.sequence, "problem": fault.problem},
        "unguarded": list(found.unguarded),
        "clock_set_back": None
        if found.set_back is None
        else {
            "sequence": found.set_back.sequence,
            "seconds": found.set_back.by.total_seconds(),
        },
    }
    against = f", {found.checkpoints} checkpoints agree" if found.checkpoints else ""
    lines = [f"valid: {found.entries} entries, head {found.head}{against}"]
    if not found.valid:
        lines = (
            [] if fault is None else [f"NOT VALID at entry {fault.sequence}: {fault.problem}"]
        )
        if found.unguarded:
            lines.append(
                f"NOT GUARDED: triggers are missing or were changed: {', '.join(found.unguarded)}"
            )
    if found.set_back is not None:
        lines.append(f"note: {found.set_back.in_words()}")
    show(document, as_json=as_json, lines=lines)
    if not found.valid:
        raise typer.Exit(1)


def _verify_home(
    driftward: Driftward, places: list[Path], public_keys: list[Path]
) -> Verification:
    from registry import ledger
    from registry.errors import CheckpointError, CheckpointKeyError
    from registry.ledger.checkpointing import record_refusal, trusted_checkpoints

    held: list[Checkpoint] = []
    if places:
        try:
            own = _own_key(driftward, needed=not public_keys)
            keys = _public_keys(public_keys) or [key for key in [own] if key is not None]
            with driftward.database.reading() as session:
                held = trusted_checkpoints(
                    session, places, keys, own=own, now=driftward.clock.now()
                )
        except (CheckpointError, CheckpointKeyError) as error:
            record_refusal(
                driftward.database,
                error,
                action="verify",
                by=driftward.whoever_runs_this(),
                at=driftward.clock.now(),
            )
            raise
    with driftward.database.reading() as session:
        return ledger.verify(session, checkpoints=held)


def _verify_export(export: Path, places: list[Path], public_keys: list[Path]) -> Verification:
    from registry.errors import BadInputError
    from registry.ledger.checkpointing import notes_in
    from registry.ledger.checkpoints import read_checkpoint
    from registry.ledger.exports.jsonl import verify_export

    if places and not public_keys:
        raise BadInputError("an export is held against checkpoints with --public-key FILE")
    keys = _public_keys(public_keys)
    held = [
        read_checkpoint(note, keys, source=str(path))
        for place in places
        for path, note in notes_in(place)
    ]
    return verify_export(export, checkpoints=held)


def _own_key(driftward: Driftward, *, needed: bool) -> PublicKey | None:
    from registry.errors import CheckpointKeyError

    try:
        return driftward.checkpoint_key().public
    except CheckpointKeyError:
        if needed:
            raise
        return None


def _public_keys(paths: list[Path]) -> list[PublicKey]:
    from registry.ledger.checkpoint_keys import load_public_key

    return [load_public_key(path) for path in paths]


@app.command("checkpoint")
def checkpoint(
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Write it here; by default into DRIFTWARD_CHECKPOINT_FOLDER, or on stdout.",
        ),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign the ledger as it stands now; kept elsewhere, that shows whether it was changed."""
    driftward = opened(home)
    signed = driftward.checkpointer.sign(by=driftward.whoever_runs_this(), out=out)
    document = {
        "origin": signed.checkpoint.origin,
        "size": signed.checkpoint.size,
        "root": signed.checkpoint.root.hex(),
        "at": signed.checkpoint.at.isoformat(),
        "key": signed.key.fingerprint,
        "file": None if signed.path is None else str(signed.path),
        "note": signed.note.decode(),
    }
    if signed.path is None:
        lines = [signed.note.decode().removesuffix("\n")]
    else:
        lines = [
            f"{signed.checkpoint.size} entries are signed with key {signed.key.fingerprint}: "
            f"{signed.path}",
            "keep it where nobody who can write the database can write",
        ]
    show(document, as_json=as_json, lines=lines)


@app.command("export")
def export_(
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            help="jsonl can be verified again; openlineage and fhir are for other systems.",
        ),
    ] = Format.JSONL,
    since: SinceOption = None,
    until: UntilOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write it here, instead of on stdout."),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the ledger, or a part of it, as lines of JSON."""
    from registry.errors import BadInputError
    from registry.ledger.exports import fhir, jsonl, openlineage
    from registry.ledger.exports.part import part_of

    if as_json and out is None:
        raise BadInputError("--json needs --out FILE: both would be written to stdout")
    driftward = opened(home)
    writers = {
        Format.JSONL: jsonl.lines,
        Format.OPENLINEAGE: openlineage.lines,
        Format.FHIR: fhir.lines,
    }
    written = 0
    with driftward.database.reading() as session:
        part = part_of(session, since=as_utc(since), until=as_utc(until))
        with _writing(out) as file:
            for line in writers[form](session, part, at=driftward.clock.now()):
                file.write(line + b"\n")
                written += 1
    document: dict[str, Any] = {
        "format": form.value,
        "file": None if out is None else str(out),
        "first": part.first,
        "last": part.last,
        "entries": part.entries,
        "lines": written,
    }
    if as_json or out is not None:
        lines = [f"entries {part.first} to {part.last}, {written} lines: {out}"]
        show(document, as_json=as_json, lines=lines)


@contextmanager
def _writing(out: Path | None) -> Iterator[BinaryIO]:
    """Open stdout, or a new file, which is whole or not there."""
    from registry.errors import BadInputError

    if out is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    unfinished = out.with_name(f".unfinished-{out.name}")
    try:
        if out.exists():
            raise BadInputError(f"{out} exists: an export never replaces a file")
        with unfinished.open("wb") as file:
            yield file
        unfinished.rename(out)
    except OSError as error:
        raise BadInputError(f"{out} cannot be written ({error.strerror})") from error
    finally:
        unfinished.unlink(missing_ok=True)
