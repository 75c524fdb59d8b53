"""`driftward run …`, `approve` and `reject`: training, and the people who sign."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from api.cli.options import (
    HomeOption,
    JsonOption,
    NumberArgument,
    ReasonOption,
    SinceOption,
    UntilOption,
    as_utc,
    opened,
    show,
    table,
    text_of,
)

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from retrain.approvals import Meaning
    from retrain.signing import Signed
    from retrain.tables import ApprovalRow, RunRow

app = typer.Typer(name="run", help="Train candidates, and see how far they are.")


def add_to(root: typer.Typer) -> None:
    """Add the signatures to the root."""
    root.command("approve")(approve)
    root.command("reject")(reject)
    root.command("evidence")(evidence)


@app.command("start")
def start(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.yaml")],
    since: SinceOption = None,
    until: UntilOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
) -> None:
    """Start the run that makes a model's first version, as RECIPE.yaml says."""
    from retrain.recipes import parse_recipe
    from retrain.starting import require_fitting_base, start_first_run

    driftward = opened(home)
    wanted = parse_recipe(text_of(recipe), source=recipe.name)
    require_fitting_base(driftward.database, driftward.bundles, wanted)
    run = start_first_run(
        driftward.database,
        wanted,
        since=as_utc(since),
        until=as_utc(until),
        seed=seed,
        by=driftward.whoever_runs_this(),
        clock=driftward.clock,
    )
    show(
        {"run": run.id, "state": run.state},
        as_json=as_json,
        lines=[f"run {run.id} is {run.state}: a worker (`driftward up`, or `work`) takes it"],
    )


@app.command("list")
def list_(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List runs, newest first."""
    from retrain import runs

    driftward = opened(home)
    with driftward.database.reading() as session:
        now = driftward.clock.now()
        documents = [_describe(session, row, at=now) for row in runs.all_runs(session)]
    rows = [
        [
            document["run"],
            document["model"],
            document["state"],
            document["strategy"],
            document["candidate"] or "–",
            document["note"],
        ]
        for document in documents
    ]
    header = ["run", "model", "state", "strategy", "candidate", "note"]
    show(documents, as_json=as_json, lines=table(rows, header=header))


@app.command("show")
def show_(run: NumberArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show one run: its state, its gates, its shadow, its signatures."""
    from api.gate_words import gate_lines
    from retrain import runs, staging
    from retrain.shadow.ending import shadow_record, waits_for
    from retrain.states import RunState
    from retrain.training import progress_of

    driftward = opened(home)
    with driftward.database.reading() as session:
        now = driftward.clock.now()
        row = runs.require_run(session, run)
        document = _describe(session, row, at=now)
        document["gates"] = [gate.detail for gate in runs.gate_outcomes(session, run)]
        document["shadow"] = shadow_record(session, row, at=now)
        document["shadow_waits_for"] = (
            waits_for(session, row, at=now) if row.state == RunState.SHADOW else []
        )
        document["staging"] = None
        if row.candidate is not None:
            document["staging"] = staging.staging_of(session, row, at=now).to_dict()
    progress = progress_of(driftward.home.work, run)
    document["progress"] = asdict(progress) if progress is not None else None
    lines = [
        f"run {document['run']} of {document['model']}: {document['state']}, {document['note']}",
        f"strategy   {document['strategy']} from {document['base']}",
        f"candidate  {document['candidate'] or 'none yet'}",
    ]
    if progress is not None:
        lines.append(
            f"training   attempt {progress.attempt + 1} of {progress.attempts} "
            f"({progress.strategy}), epoch {progress.current_epoch} of {progress.epochs}, "
            f"{progress.share:.0%} done"
        )
    lines += _attempt_lines(document)
    lines += [f"  {line}" for line in gate_lines(document["gates"])]
    if document["left_to_people"]:
        lines.append(f"  left to who signs: {', '.join(document['left_to_people'])}")
    if document["shadow"]:
        lines += _shadow_lines(document["shadow"])
    lines += [f"  waits: {reason}" for reason in document["shadow_waits_for"]]
    if document["staging"] and len(document["staging"]["stages"]) > 1:
        lines += _stage_lines(document["staging"])
    lines += [
        f"  {signature['meaning']} by {signature['printed_name']}: {signature['reason']}"
        + (f" (does not count: {signature['void']})" if signature["void"] else "")
        for signature in document["signatures"]
    ]
    if document["state"] == "awaiting approval":
        lines.append(f"to sign    {document['seen']}")
    show(document, as_json=as_json, lines=lines)


def _attempt_lines(document: dict[str, Any]) -> Iterator[str]:
    """Yield what a run tried, where it tried several things."""
    if len(document["attempts"]) < 2:
        return
    for number, attempt in enumerate(document["attempts"]):
        if "refused" in attempt:
            found = f"does not fit: {attempt['refused']}"
        else:
            found = (
                f"selection loss {attempt['selection_loss']:.3f}, AUC "
                f"{attempt['selection_auc']:.3f}, {attempt['seconds']:.0f} s"
            )
        mark = "chosen" if number == document["chosen"] else "tried"
        yield f"  {mark:<8}{attempt['strategy']}: {found}"


def _shadow_lines(shadow: dict[str, Any]) -> Iterator[str]:
    """Yield how the candidate read beside the champion."""
    yield (
        f"shadow     {_minute(shadow['since'])} to {_minute(shadow['until'])} UTC: both read "
        f"{shadow['by_both']} of the champion's {shadow['by_champion']} scans"
    )
    found = shadow["disagreement"]
    if found:
        yield f"  called otherwise  {_share(found['different'])}"
        yield f"  newly positive    {_share(found['newly_positive'])}"
        yield f"  newly negative    {_share(found['newly_negative'])}"
        yield f"  probabilities     differ by {found['mean_difference']:.3f} on average"
    for measure in ("sensitivity", "specificity"):
        for who in ("champion", "candidate"):
            if shadow[who][measure]:
                yield f"  {measure} of {who:<10}{_share(shadow[who][measure])}"
    if shadow["ai_influenced"]:
        yield f"  {shadow['ai_influenced']} labels that an AI influenced are left out"


def _stage_lines(staging: dict[str, Any]) -> Iterator[str]:
    """Yield where the candidate serves already, and what the next stage waits for."""
    for stage in staging["stages"]:
        since = f"since {_minute(stage['since'])} UTC" if stage["since"] else "to come"
        yield f"stage      {' and '.join(stage['sites']) or 'everywhere'}: {since}"
    yield from (f"  waits: {reason}" for reason in staging["waits_for"])


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")


def _share(share: dict[str, Any]) -> str:
    return (
        f"{share['estimate']:.1%} ({share['low']:.1%} to {share['high']:.1%}), "
        f"{share['count']:g} of {share['scans']}"
    )


@app.command("cancel")
def cancel(
    run: NumberArgument,
    reason: ReasonOption,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a run that has not ended."""
    from registry.refusals import attempted
    from retrain import runs

    driftward = opened(home)
    by, now = driftward.whoever_runs_this(), driftward.clock.now()
    with driftward.database.reading() as session:
        runs.require_run(session, run)
    with attempted(
        driftward.database, "run.refused", subject=f"run {run}", by=by, at=now
    ) as session:
        runs.cancel(session, runs.require_run(session, run), reason=reason, by=by, at=now)
    show({"run": run, "state": "superseded"}, as_json=as_json, lines=[f"run {run} is ended"])


SeenOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--seen", help="Digest that `run show` printed: sign that and nothing else."),
]


def approve(
    run: NumberArgument,
    reason: ReasonOption,
    decide: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GATE",
            help="A gate that is not evaluable, and that the plan leaves to you; once each.",
        ),
    ] = None,
    seen: SeenOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign RUN: you have seen its candidate, its gates and its plan, and approve."""
    from retrain.approvals import Meaning

    signed = _sign(run, Meaning.APPROVED, reason, home, seen=seen, decided=decide or [])
    signature = signed.signature
    left = f"{signed.missing} more must sign" if signed.missing else "it can be promoted"
    show(
        {**_describe_signature(signature), "run": run, "missing": signed.missing},
        as_json=as_json,
        lines=[f"run {run} is approved by {signature.printed_name}; {left}"],
    )


def reject(
    run: NumberArgument,
    reason: ReasonOption,
    seen: SeenOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Reject RUN under your signature: its candidate will not be promoted."""
    from retrain.approvals import Meaning

    signed = _sign(run, Meaning.REJECTED, reason, home, seen=seen, decided=[])
    show(
        {**_describe_signature(signed.signature), "run": run, "state": "rejected"},
        as_json=as_json,
        lines=[f"run {run} is rejected by {signed.signature.printed_name}"],
    )


def _sign(
    run: int,
    meaning: Meaning,
    reason: str,
    home: Path | None,
    *,
    seen: str | None,
    decided: list[str],
) -> Signed:
    from api.cli.secrets import shown_secret
    from registry.identities import require_row
    from retrain import runs
    from retrain.signing import Signer, sign_run

    driftward = opened(home)
    by = driftward.whoever_runs_this()
    local = driftward.settings.shown_token() is None
    with driftward.database.reading() as session:
        runs.require_run(session, run)
        asked = not local or require_row(session, by.name).password is not None
    credential = (
        shown_secret(driftward.settings, f"password of {by.name}, or a token")
        if asked
        else None
    )
    return sign_run(
        driftward.database,
        run,
        meaning,
        by=Signer(identity=by, credential=credential, local=local),
        reason=reason,
        at=driftward.clock.now(),
        seen=seen,
        decided=decided,
    )


def evidence(
    run: NumberArgument,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for the files.")
    ] = Path(),
    html_only: Annotated[bool, typer.Option("--html-only", help="Make no PDF.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write RUN's evidence pack, as HTML and PDF: what changed, why, on what evidence, who signed.

    The files' digests enter the ledger.
    """
    from api.evidence.issuing import issue

    driftward = opened(home)
    issued = issue(
        driftward.database,
        run,
        out,
        pdf=not html_only,
        by=driftward.whoever_runs_this(),
        at=driftward.clock.now(),
    )
    show(
        {"run": run, "files": {str(path): digest for path, digest in issued.files.items()}},
        as_json=as_json,
        lines=[f"{path}  {digest[:12]}" for path, digest in issued.files.items()],
    )


def _describe_signature(signature: ApprovalRow) -> dict[str, Any]:
    return {
        "by": signature.by,
        "printed_name": signature.printed_name or signature.by,
        "meaning": signature.meaning,
        "reason": signature.reason,
        "at": signature.signed_at,
        "expires_at": signature.expires_at,
        "proof": signature.proof,
        "seen": signature.seen,
    }


def _describe(session: Session, row: RunRow, *, at: datetime) -> dict[str, Any]:
    from registry.versions import VersionRow, ref
    from retrain import approvals, runs

    candidate = session.get(VersionRow, row.candidate) if row.candidate else None
    approval = approvals.approval_of(session, row, at=at)
    return {
        "run": row.id,
        "model": row.model,
        "episode": row.episode,
        "state": row.state,
        "note": row.note,
        "strategy": row.strategy,
        "attempts": row.settings.get("attempts", []),
        "chosen": row.settings.get("chosen"),
        "base": str(ref(session.get_one(VersionRow, row.base))),
        "candidate": str(ref(candidate)) if candidate else None,
        "gates": [
            {"name": gate.name, "outcome": gate.outcome, "sentence": gate.sentence}
            for gate in runs.gate_outcomes(session, row.id)
        ],
        "left_to_people": approvals.left_to_people(session, row),
        "seen": approval.seen,
        "missing_approvals": approval.missing,
        "signatures": [
            {**_describe_signature(one.signature), "void": one.why_not}
            for one in approval.standings
        ],
    }
