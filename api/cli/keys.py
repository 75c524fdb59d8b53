"""`driftward key …`: keys of pseudonyms, and the key that checkpoints are signed with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.cli.options import HomeOption, JsonOption, ReasonOption, opened, show, table

app = typer.Typer(name="key", help="Keys: of pseudonyms, and of the ledger's checkpoints.")


@app.command("list")
def list_(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the keys, and how many patients each alone can recognise; never a key itself."""
    driftward = opened(home)
    standings = driftward.pseudonym_keys.standings()
    documents = [
        {
            "key": standing.number,
            "made_at": standing.made_at,
            "state": "dropped"
            if standing.dropped_at
            else "newest"
            if standing.newest
            else "held",
            "patients": standing.patients,
            "dropped_at": standing.dropped_at,
        }
        for standing in standings
    ]
    rows = [
        [
            document["key"],
            document["state"],
            f"{document['made_at']:%Y-%m-%d %H:%M}" if document["made_at"] else "at init",
            f"{document['patients']:,}",
        ]
        for document in documents
    ]
    header = ["key", "state", "made", "patients"]
    show(documents, as_json=as_json, lines=table(rows, header=header))


@app.command("rotate")
def rotate(reason: ReasonOption, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Make a new key; whoever was known stays who they were, in every row and file."""
    driftward = opened(home)
    number = driftward.pseudonym_keys.rotate(
        reason=reason, by=driftward.whoever_runs_this(), clock=driftward.clock
    )
    lines = [
        f"key {number} is in force; the older ones are held to recognise whom they met",
        "back the folder of the keys up now; `driftward key list` shows when one can go",
    ]
    show({"key": number}, as_json=as_json, lines=lines)


@app.command("drop")
def drop(
    number: Annotated[int, typer.Argument(metavar="KEY")],
    reason: ReasonOption,
    orphan: Annotated[
        bool,
        typer.Option(
            "--orphan", help="Even if patients would be strangers when they come again."
        ),
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Destroy the older KEY; without it nobody can tell whose its surrogates are."""
    from registry.errors import RefusedError

    driftward = opened(home)
    keys = driftward.pseudonym_keys
    patients = keys.orphans(number)
    if patients and not orphan:
        raise RefusedError(
            f"{patients:,} patients are recognised by key {number} alone: without it they would be "
            "strangers when they come again; --orphan drops it nevertheless"
        )
    orphaned = keys.drop(
        number, reason=reason, by=driftward.whoever_runs_this(), clock=driftward.clock
    )
    line = f"key {number} is destroyed; {orphaned:,} patients are recognised no more"
    show({"key": number, "orphaned_patients": orphaned}, as_json=as_json, lines=[line])


@app.command("reidentify")
def reidentify(
    pseudonym: Annotated[str, typer.Argument(metavar="PSEUDONYM")],
    private_key: Annotated[
        Path, typer.Option("--private-key", metavar="FILE", help="X25519 private key in PEM.")
    ],
    reason: ReasonOption,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what the PSEUDONYM of a patient, study, series or instance stands for."""
    from monitor.intake.reidentifying import reidentify as originals_of

    driftward = opened(home)
    originals = originals_of(
        driftward.database,
        pseudonym,
        private_key=private_key,
        reason=reason,
        by=driftward.whoever_runs_this(),
        clock=driftward.clock,
    )
    lines = [f"{keyword}: {value or '–'}" for keyword, value in originals.items()]
    show(dict(originals), as_json=as_json, lines=lines)


@app.command("checkpoint-new")
def checkpoint_new(
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Make it here, for DRIFTWARD_CHECKPOINT_KEY; by default in the home.",
        ),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the key that the ledger's checkpoints are signed with; no file is overwritten."""
    from registry.identities import Role
    from registry.ledger.checkpoint_keys import create_signing_key
    from registry.ledger.checkpointing import record_new_key

    driftward = opened(home)
    by = driftward.whoever_runs_this()
    by.require(Role.ADMIN, "make a key of checkpoints")
    path = out or driftward.home.checkpoint_key
    public = create_signing_key(path).public
    record_new_key(driftward.database, public, by=by, at=driftward.clock.now())
    lines = [
        f"key {public.fingerprint} is in {path}, which is its owner's alone",
        "give its public half to whoever verifies: `driftward key checkpoint-public`",
    ]
    show({"key": public.fingerprint, "file": str(path)}, as_json=as_json, lines=lines)


@app.command("checkpoint-public")
def checkpoint_public(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Print the public half of the key that checkpoints are signed with, in PEM."""
    from registry.ledger.checkpoints import ledger_origin

    driftward = opened(home)
    public = driftward.checkpoint_key().public
    with driftward.database.reading() as session:
        origin = ledger_origin(session)
    document = {
        "key": public.fingerprint,
        "pem": public.pem.decode(),
        # What tools of transparency logs take.
        "verifier": None if origin is None else public.verifier(origin),
    }
    show(document, as_json=as_json, lines=[public.pem.decode().removesuffix("\n")])
