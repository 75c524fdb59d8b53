"""An auditor's questions, `driftward audit …`: what read a study, how a model stood."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from api.cli.options import HomeOption, JsonOption, opened, show, table

if TYPE_CHECKING:
    from api.assembly import Driftward

AtOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="TIME",
        help="As of then, with a time zone: 2026-03-04T10:00Z. Now, if it is left out.",
    ),
]
SiteOfStudy: TypeAlias = Annotated[
    str | None, typer.Option("--site", help="The site that sent the study.")
]


def add_to(group: typer.Typer) -> None:
    """Add these commands to `audit`."""
    group.command("as-of")(as_of)
    group.command("standing")(standing)
    group.command("champions")(champions)
    group.command("trained-on")(trained_on)
    group.command("saw-patient")(saw_patient)


def as_of(
    study: Annotated[
        str | None,
        typer.Argument(metavar="STUDY", help="Study Instance UID; asked for if not given."),
    ] = None,
    site: SiteOfStudy = None,
    scan: Annotated[
        int | None,
        typer.Option("--scan", help="A scan by its number, instead of a study.", min=1),
    ] = None,
    at: AtOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """What read STUDY, as of then: version, result as delivered, threshold, drift, plan, approvers.

    The UID is looked up by its pseudonym, and not kept. Left out, it is asked for, so that none
    stands in a shell's history.
    """
    from monitor.tables import ScanRow
    from registry.errors import BadInputError, NotFoundError
    from retrain.history import studies

    driftward = opened(home)
    moment = _moment(driftward, at)
    if scan is not None and (study is not None or site is not None):
        raise BadInputError("a scan's number and a study were given: give one of them")
    if scan is None and site is None:
        raise BadInputError("a study is looked up at its site: give --site, or --scan NUMBER")
    if scan is None and study is None:
        study = typer.prompt("Study Instance UID", err=True)
    with driftward.database.reading() as session:
        if scan is not None:
            row = session.get(ScanRow, scan)
            if row is None:
                raise NotFoundError(f"there is no scan {scan}: see `driftward scan list`")
            scans = [row]
        else:
            from monitor.intake.pseudonyms import study_pseudonym

            pseudonym = study_pseudonym(
                str(study), site=str(site), key=driftward.pseudonym_keys.current()
            )
            scans = studies.scans_of_study(session, pseudonym, site=str(site))
        document: dict[str, Any] = studies.as_of(session, scans, moment)
    show(document, as_json=as_json, lines=list(_study_lines(document)))


def standing(
    model: str,
    at: AtOption = None,
    site: Annotated[
        str | None, typer.Option("--site", help="As it stood there; else everywhere.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """How MODEL stood: its champion and who approved it, plan, restrictions, open episodes."""
    from registry.versions import require_model
    from retrain.history.standing import standing_at

    driftward = opened(home)
    moment = _moment(driftward, at)
    with driftward.database.reading() as session:
        require_model(session, model)
        document: dict[str, Any] = standing_at(session, model, moment, site=site)
    where = f" at {site}" if site else ""
    lines = [f"{model}{where}, {moment.isoformat()}", *_standing_lines(document)]
    show(document, as_json=as_json, lines=lines)


def champions(model: str, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Every champion that MODEL has had, from when to when, and why it came."""
    from registry.versions import require_model
    from retrain.history.standing import reigns_of

    driftward = opened(home)
    with driftward.database.reading() as session:
        require_model(session, model)
        documents: list[dict[str, Any]] = reigns_of(session, model)
    rows = [
        [one["version"], one["deployment"], one["since"], one["until"] or "now", one["reason"]]
        for one in documents
    ]
    header = ["version", "deployment", "since", "until", "by"]
    show(documents, as_json=as_json, lines=table(rows, header=header))


def trained_on(
    version: Annotated[str, typer.Argument(metavar="NAME@VERSION")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """What a version, and each one behind it, was trained and chosen on."""
    from registry.versions import find
    from retrain.history.provenance import trained_on as data_of

    driftward = opened(home)
    with driftward.database.reading() as session:
        documents: list[dict[str, Any]] = data_of(session, find(session, version))
    show(
        documents,
        as_json=as_json,
        lines=[line for one in documents for line in _data_lines(one)],
    )


def saw_patient(
    site: Annotated[str, typer.Option("--site", help="The site that knows the patient.")],
    patient: Annotated[
        str | None, typer.Option(help="Patient ID; asked for if not given.")
    ] = None,
    issuer: Annotated[
        str, typer.Option(help="Issuer of Patient ID, where instances state one.")
    ] = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Which versions saw a patient, how, and what erasing the patient would do to each.

    The identifier is looked up by its pseudonym, and not kept.
    """
    from monitor.assembling.stating import person_of
    from retrain.history.patients import versions_that_saw

    driftward = opened(home)
    wanted = patient or typer.prompt("Patient ID", err=True)
    keys = driftward.pseudonym_keys.current()
    with driftward.database.reading() as session:
        person = person_of(session, wanted, site=site, issuer=issuer, key=keys)
        document: dict[str, Any] = versions_that_saw(session, person)
    lines = [f"{document['scans']} scans of the patient"]
    for one in document["versions"]:
        serves = ", serves" if one["serves"] else ""
        lines.append(f"{one['version']}{serves}: {'; '.join(one['saw'])}")
        lines += [f"    on erasure: {what}" for what in one["on_erasure"]]
    if not document["versions"]:
        lines.append("no version saw the patient")
    show(document, as_json=as_json, lines=lines)


def _moment(driftward: Driftward, at: str | None) -> datetime:
    from registry.errors import BadInputError
    from retrain.history.standing import require_past

    now = driftward.clock.now()
    if at is None:
        return now
    try:
        moment = datetime.fromisoformat(at)
    except ValueError as error:
        raise BadInputError(f"{at!r} is not a time: write it as 2026-03-04T10:00Z") from error
    return require_past(moment, now=now)


def _said_words(one: dict[str, Any]) -> str:
    """Return a result's probabilities and its threshold, in words."""
    if one["probability"] is None:
        shares = ", ".join(f"{name} {share:.3f}" for name, share in one["classes"].items())
    else:
        shares = f"probability {one['probability']:.3f}"
    threshold = "none" if one["threshold"] is None else f"{one['threshold']:g}"
    return f"{shares}, threshold {threshold}"


def _study_lines(document: dict[str, Any]) -> Iterator[str]:
    for scan in document["scans"]:
        scanner = f"{scan['scanner_model'] or '?'} {scan['software_version'] or ''}".rstrip()
        yield f"scan {scan['scan']}, {scan['site']}, {scanner}, came {scan['arrived_at']}"
        for one in scan["readings"]:
            yield (
                f"  {one['version']} read {one['task']} at {one['at']}: {_said_words(one)}, "
                f"{one['delivery']}"
            )
            yield f"    bundle {one['bundle'][:12]}, encoder and preprocessing {one['space'][:12]}"
            for line in _standing_lines(one["standing"]):
                yield f"    {line}"
        for one in scan["refused"]:
            yield f"  {one['model']} refused it at {one['at']}: {one['reason']}"
        if not scan["readings"] and not scan["refused"]:
            yield "  nothing had read it"
    yield f"as recorded by {document['at']}; nothing was computed anew"


def _standing_lines(document: dict[str, Any]) -> Iterator[str]:
    champion, plan = document["champion"], document["plan"]
    if champion is None:
        yield "champion: none"
    else:
        yield f"champion: {champion['version']} since {champion['since']}"
        for one in champion["approved_by"]:
            yield f"  {one['meaning']} by {one['by']} at {one['signed_at']}: {one['reason']}"
    for site, version in document.get("sites", {}).items():
        yield f"  at {site}: {version}"
    said = document["runtime"]
    if said is not None:
        runs = said["version"] or f"{said['digest'][:12]}, no version of it"
        yield f"runtime of {said['deployment']}: attested {runs} at {said['attested_at']}"
    yield (
        "plan: none, the model was locked"
        if plan is None
        else f"plan: {plan['number']} ({plan['digest'][:12]}), applied by {plan['applied_by']}"
    )
    for one in document["out_of_use"]:
        where = one["subgroup"] or "everywhere"
        yield f"out of use: {one['kind']} {where} since {one['since']}: {one['reason']}"
    for one in document["watches"]:
        yield (
            f"watch: {one['version']} {one['deployment']} since {one['since']}, {one['state']}, "
            f"{one['labelled']} labelled patients"
        )
    for monitor in document["drift"]:
        for episode in monitor["episodes"]:
            yield (
                f"drift: episode {episode['episode']} open, {episode['cause']} at "
                f"{episode['subgroup'] or 'all scans'}, impact {episode['impact']}"
            )
        if not monitor["episodes"]:
            yield f"drift: no episode of {monitor['monitor']} was open"


def _data_lines(document: dict[str, Any]) -> Iterator[str]:
    made = document["made_by"]
    how = (
        f"run {made['run']}, {made['strategy']}, plan {made['plan']}"
        if "run" in made
        else f"imported by {made['by']}"
    )
    yield f"{document['version']}  {how}, {made['at']}"
    for data in document["data"]:
        digest = (data["digest"] or "not at hand")[:12]
        yield f"   {digest}  {data['scans']} scans, {data['description']}"
        if data["stored_here"]:
            sites = ", ".join(f"{name} {count}" for name, count in data["sites"].items())
            labels = ", ".join(
                f"{name} {count}" for name, count in data["labels"]["by_provenance"].items()
            )
            yield (
                f"      {data['patients']} patients; sites: {sites}; labels: {labels}, "
                f"{data['labels']['ai_influenced']} AI-influenced"
            )
