"""`driftward promote | rollback | suspend | restrict | lift`: what is in use."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from api.cli.options import HomeOption, JsonOption, ReasonOption, opened, show


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
    from registry.versions import VersionRef
    from retrain import staging
    from retrain.history.provenance import run_of
    from retrain.promotion import promote_version
    from retrain.signing import refusals_recorded
    from retrain.states import RunState

    driftward = opened(home)
    by, now = driftward.whoever_runs_this(), driftward.clock.now()
    wanted = VersionRef.parse(version)
    with (
        refusals_recorded(
            driftward.database, "promotion.refused", subject=str(wanted), by=by, at=now
        ),
        driftward.database.transaction() as session,
    ):
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
    """Point NAME's champion back at the version before it."""
    from registry.versions import ref
    from retrain.rolling_back import roll_back, undo_rollback

    driftward = opened(home)
    by, now = driftward.whoever_runs_this(), driftward.clock.now()
    if undo and site is not None:
        raise typer.BadParameter("a rollback at one site is not undone: leave out --site")
    with driftward.database.transaction() as session:
        if undo:
            replaced, restored = undo_rollback(session, name, reason=reason, by=by, at=now)
        else:
            replaced, restored = roll_back(
                session, name, reason=reason, by=by, at=now, site=site
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
    from registry.versions import find, ref

    driftward = opened(home)
    by = driftward.whoever_runs_this()
    change = recalls.withdraw if withdraw else recalls.recall
    with driftward.database.transaction() as session:
        row = find(session, version)
        change(session, row, reason=reason, by=by, at=driftward.clock.now())
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


def suspend(
    name: str, reason: ReasonOption, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Take a model out of use; its results are withheld from now on."""
    _withhold(name, None, reason, home, as_json=as_json)


def restrict(
    name: str,
    subgroup: Annotated[str, typer.Option(help="ATTRIBUTE=VALUE that it no longer reads.")],
    reason: ReasonOption,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a model out of use for a subgroup."""
    from monitor.subgroups import Subgroup

    _withhold(name, str(Subgroup.parse(subgroup)), reason, home, as_json=as_json)


def lift(
    name: str,
    reason: ReasonOption,
    subgroup: Annotated[
        str | None,
        typer.Option(
            help="ATTRIBUTE=VALUE whose restriction ends; without it, the suspension."
        ),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a model back into use, wholly or for a subgroup."""
    from monitor.subgroups import Subgroup
    from registry import serving
    from registry.errors import NotFoundError
    from registry.identities import Role
    from registry.serving import Withholding
    from registry.versions import require_model

    driftward = opened(home)
    by = driftward.whoever_runs_this()
    by.require(Role.OPERATOR, "take a model back into use")
    where = str(Subgroup.parse(subgroup)) if subgroup else None
    kind = Withholding.SUSPEND if where is None else Withholding.RESTRICT
    with driftward.database.transaction() as session:
        require_model(session, name)
        in_force = serving.restrictions(session, name)
        found = [row for row in in_force if (row.kind, row.subgroup) == (kind, where)]
        if not found:
            have = ", ".join(f"{row.kind} {row.subgroup or 'everywhere'}" for row in in_force)
            raise NotFoundError(
                f"{name} is not out of use for {where or 'all scans'}: "
                f"in force is {have or 'nothing'}"
            )
        for row in found:
            serving.lift(session, row, reason=reason, actor=by.name, at=driftward.clock.now())
    document = {"model": name, "kind": kind.value, "subgroup": where}
    words = f" for {where}" if where else ""
    show(document, as_json=as_json, lines=[f"{name} is in use again{words}: {reason}"])


def _withhold(
    name: str, subgroup: str | None, reason: str, home: HomeOption, *, as_json: bool
) -> None:
    from registry import serving
    from registry.identities import Role
    from registry.serving import Withholding
    from registry.versions import require_model

    driftward = opened(home)
    by = driftward.whoever_runs_this()
    by.require(Role.OPERATOR, "take a model out of use")
    kind = Withholding.SUSPEND if subgroup is None else Withholding.RESTRICT
    with driftward.database.transaction() as session:
        require_model(session, name)
        serving.withhold(
            session,
            model=name,
            kind=kind,
            subgroup=subgroup,
            reason=reason,
            actor=by.name,
            at=driftward.clock.now(),
        )
    document = {"model": name, "kind": kind.value, "subgroup": subgroup}
    where = f" for {subgroup}" if subgroup else ""
    show(document, as_json=as_json, lines=[f"{name} is out of use{where}: {reason}"])
