"""`driftward promote | rollback | suspend | restrict | lift`: what is in use."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from api.cli.options import HomeOption, JsonOption, ReasonOption, opened, show

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from registry.identities import Identity


def add_to(app: typer.Typer) -> None:
    """Add these commands to the root."""
    app.command("promote")(promote)
    app.command("rollback")(rollback)
    app.command("recall")(recall)
    app.command("suspend")(suspend)
    app.command("restrict")(restrict)
    app.command("lift")(lift)


def promote(
    version: Annotated[str, typer.Argument(metavar="NAME@VERSION")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a version the champion, if its run passed its gates and was approved.

    Where the plan has stages, at the sites of the next one; again for the one after it.
    """
    from registry.refusals import attempted
    from registry.versions import VersionRef, find
    from retrain import staging
    from retrain.history.provenance import run_of
    from retrain.promotion import promote_version
    from retrain.states import RunState

    driftward = opened(home)
    by, now = driftward.whoever_runs_this(), driftward.clock.now()
    wanted = VersionRef.parse(version)
    with driftward.database.reading() as session:
        find(session, wanted)
    with attempted(
        driftward.database, "promotion.refused", subject=str(wanted), by=by, at=now
    ) as session:
        run = run_of(session, promote_version(session, wanted, by=by, at=now))
        document: dict[str, Any] = {"champion": version, "state": None, "staging": None}
        lines = [f"{version} is the champion"]
        if run is not None:
            document["state"] = run.state
        if run is not None and run.state == RunState.PROMOTING:
            found = staging.staging_of(session, run, at=now)
            document["staging"] = found.to_dict()
            lines = [f"{version} {run.note}"]
            lines += [f"{found.next} waits: {reason}" for reason in found.waits_for]
    show(document, as_json=as_json, lines=lines)


def rollback(
    name: str,
    reason: ReasonOption,
    seen: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="NAME@VERSION",
            help="The champion that you want replaced: if another serves, nothing is changed.",
        ),
    ] = None,
    undo: Annotated[
        bool,
        typer.Option("--undo", help="Undo the newest rollback, if it was a mistake."),
    ] = False,
    site: Annotated[
        str | None,
        typer.Option(help="At this site alone; without it, wherever the promotion has come."),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Point NAME's champion back at the version before it.

    In a terminal it asks first, unless --from says from where. A rollback that is repeated goes
    no further back, unless --from names the champion that it brought.
    """
    from registry.refusals import attempted
    from registry.versions import find, ref, require_model
    from retrain.rolling_back import roll_back, undo_rollback

    driftward = opened(home)
    by, now = driftward.whoever_runs_this(), driftward.clock.now()
    if undo and site is not None:
        raise typer.BadParameter("a rollback at one site is not undone: leave out --site")
    with driftward.database.reading() as session:
        require_model(session, name)
        if seen is not None:
            find(session, seen)
        elif not undo and _in_a_terminal():
            seen = _confirmed(session, name, site)
    with attempted(
        driftward.database, "rollback.refused", subject=name, by=by, at=now
    ) as session:
        expected = None if seen is None else find(session, seen)
        if undo:
            replaced, restored = undo_rollback(
                session, name, reason=reason, by=by, at=now, seen=expected
            )
        else:
            replaced, restored = roll_back(
                session, name, reason=reason, by=by, at=now, site=site, seen=expected
            )
        document = {"before": str(ref(replaced)), "after": str(ref(restored)), "site": site}
    where = f" at {site}" if site else ""
    lines = [f"{name}: champion{where} {document['before']} -> {document['after']}"]
    show(document, as_json=as_json, lines=lines)


def recall(
    version: Annotated[str, typer.Argument(metavar="NAME@VERSION")],
    reason: ReasonOption,
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="End a recall that was a mistake.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Recall a version, and all that is derived from it: nothing promotes or trains from these."""
    from registry import lineage, recalls, serving
    from registry.refusals import attempted
    from registry.versions import find, ref

    driftward = opened(home)
    by, now = driftward.whoever_runs_this(), driftward.clock.now()
    change = recalls.withdraw if withdraw else recalls.recall
    with driftward.database.reading() as session:
        name = str(ref(find(session, version)))
    with attempted(
        driftward.database, "recall.refused", subject=name, by=by, at=now
    ) as session:
        row = find(session, version)
        change(session, row, reason=reason, by=by, at=now)
        concerned = [row, *lineage.descendants(session, row)]
        flags = recalls.flagged(session, concerned)
        champions = {one.id for one in serving.champions(session)}
        document = {
            "version": version,
            "recalled": [str(ref(flag.version)) for flag in flags],
            "serving": [
                str(ref(flag.version)) for flag in flags if flag.version.id in champions
            ],
        }
    names = ", ".join(document["recalled"])
    lines = [f"recalled: {names}" if names else f"{version} is recalled no longer"]
    lines += [
        f"{name} SERVES: `driftward rollback {name.rpartition('@')[0]}`, or suspend it"
        for name in document["serving"]
    ]
    show(document, as_json=as_json, lines=lines)


#: The one site that a suspension is about.
OneSiteOption: TypeAlias = Annotated[
    str | None, typer.Option("--site", help="For scans of this site alone.")
]


def suspend(
    name: str,
    reason: ReasonOption,
    site: OneSiteOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a model out of use, everywhere or at one site; its results are withheld from now on."""
    from retrain import withholding

    with _use_changed(home, name, "suspension.refused") as change:
        row = withholding.suspend(
            change.session, name, site=site, reason=reason, by=change.by, at=change.at
        )
        subgroup = row.subgroup
    where = f" at {site}" if site else ""
    show(
        {"model": name, "kind": "suspend", "subgroup": subgroup, "site": site},
        as_json=as_json,
        lines=[f"{name} is out of use{where}: {reason}"],
    )


def restrict(
    name: str,
    subgroup: Annotated[str, typer.Option(help="ATTRIBUTE=VALUE that it no longer reads.")],
    reason: ReasonOption,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a model out of use for a subgroup."""
    from monitor.subgroups import Subgroup
    from retrain import withholding

    wanted = Subgroup.parse(subgroup)
    with _use_changed(home, name, "restriction.refused") as change:
        withholding.restrict(
            change.session, name, subgroup=wanted, reason=reason, by=change.by, at=change.at
        )
    show(
        {"model": name, "kind": "restrict", "subgroup": str(wanted)},
        as_json=as_json,
        lines=[f"{name} is out of use for {wanted}: {reason}"],
    )


def lift(
    name: str,
    reason: ReasonOption,
    subgroup: Annotated[
        str | None,
        typer.Option(
            help="ATTRIBUTE=VALUE whose restriction ends; without it, the suspension."
        ),
    ] = None,
    site: OneSiteOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a model back into use, wholly, at one site, or for a subgroup."""
    from monitor.subgroups import Subgroup
    from retrain import withholding

    if subgroup is not None and site is not None:
        raise typer.BadParameter("a site is a subgroup of its own: give --site or --subgroup")
    wanted = Subgroup.parse(subgroup) if subgroup is not None else None
    with _use_changed(home, name, "lift.refused") as change:
        withholding.lift(
            change.session,
            name,
            site=site,
            subgroup=wanted,
            reason=reason,
            by=change.by,
            at=change.at,
        )
    words = f" at {site}" if site else f" for {wanted}" if wanted else ""
    show(
        {
            "model": name,
            "kind": "restrict" if wanted else "suspend",
            "subgroup": str(wanted) if wanted else withholding.of_site(site) if site else None,
            "site": site,
        },
        as_json=as_json,
        lines=[f"{name} is in use again{words}: {reason}"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """A transaction in which somebody changes what is in use."""

    session: Session
    by: Identity
    at: datetime


@contextmanager
def _use_changed(home: Path | None, model: str, refusal: str) -> Iterator[_Change]:
    """Open a transaction that changes what of a model is in use; a refusal is recorded."""
    from registry.refusals import attempted
    from registry.versions import require_model

    driftward = opened(home)
    by, now = driftward.whoever_runs_this(), driftward.clock.now()
    with driftward.database.reading() as session:
        require_model(session, model)
    with attempted(driftward.database, refusal, subject=model, by=by, at=now) as session:
        yield _Change(session=session, by=by, at=now)


def _in_a_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _confirmed(session: Session, model: str, site: str | None) -> str | None:
    """Ask a person whether they mean the champion of now, and return it by name."""
    from registry.errors import NotFoundError
    from registry.versions import ref
    from retrain.rolling_back import aimed_at

    try:
        current, before = aimed_at(session, model, site=site)
    except NotFoundError:
        return None  # the rollback itself says so, and is recorded
    where = f" at {site}" if site else ""
    typer.confirm(
        f"the champion of {model}{where} is {ref(current)}: roll back to {ref(before)}?",
        abort=True,
        err=True,
    )
    return str(ref(current))
