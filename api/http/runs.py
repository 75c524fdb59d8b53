"""Runs: how far they are, what their gates said, who signed."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api.http.access import READ, SIGN, Caller, KnownCaller, Road, address_of
from api.http.forms import read_body
from api.http.installation import Installation
from api.http.numbers import Number
from api.http.reasons import StatedReason
from monitor.tables import DatasetRow
from registry.errors import BadInputError
from registry.versions import VersionRow, ref
from retrain import approvals, plans, runs, signing, staging
from retrain.approvals import Meaning
from retrain.shadow.ending import shadow_record, waits_for
from retrain.signing import Signer
from retrain.states import RunState
from retrain.tables import ApprovalRow, RunRow
from retrain.training import progress_of

router = APIRouter(prefix="/api/v1/runs", tags=["runs"])


class Run(BaseModel):
    """One training execution."""

    id: int
    model: str
    episode: int | None
    #: number of the plan under which it was made
    plan: int
    state: str
    note: str
    strategy: str
    base: str
    champion_before: str | None
    candidate: str | None
    seed: int
    created_at: AwareDatetime
    changed_at: AwareDatetime


class Gate(BaseModel):
    """What one gate said."""

    name: str
    #: passed, failed, not_evaluable
    outcome: str
    sentence: str
    detail: dict[str, Any]
    decided_at: AwareDatetime


class Signature(BaseModel):
    """One signature, bound to the digest of what was seen."""

    by: str
    #: as it stands under the signature
    printed_name: str
    #: approved or rejected
    meaning: str
    reason: str
    #: digest of what was seen
    seen: str
    signed_at: AwareDatetime
    #: null for signatures from before they were kept
    expires_at: AwareDatetime | None
    #: what the signer showed: password, token, operating system
    proof: str | None
    #: why it does not count; null where it does
    void: str | None


class SignatureRequest(BaseModel):
    """What somebody signs, and what they show for it."""

    model_config = ConfigDict(extra="forbid")

    meaning: Meaning
    reason: StatedReason
    #: `seen` of the run as it was looked at
    seen: str = Field(pattern="^[0-9a-f]{64}$")
    #: the caller's password, or a token of their own
    credential: SecretStr | None = None
    #: gates that are not evaluable, for which the signer answers
    decided: list[str] = []


#: Its description stands alone, since the body is read by hand, in bounded memory.
_SIGNATURE_REQUEST = {
    name: value
    for name, value in SignatureRequest.model_json_schema().items()
    if name != "$defs"
}
_SIGNATURE_REQUEST["properties"]["meaning"] = {"enum": [*Meaning]}


class Signed(BaseModel):
    """A signature, and how many more are needed."""

    signature: Signature
    missing: int


class Dataset(BaseModel):
    """A frozen set of scans that a run read."""

    purpose: str
    digest: str
    description: str
    scans: int
    patients: int


class Progress(BaseModel):
    """How far training has come."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float | None
    selection_auc: float | None


class Share(BaseModel):
    """A share of scans, with its 95 % interval by patient."""

    estimate: float
    low: float
    high: float
    #: scans of which it holds
    count: float
    #: scans of which it could hold
    scans: int


class Rates(BaseModel):
    """How one version reads labelled scans; null where no scan has the class."""

    sensitivity: Share | None
    specificity: Share | None


class Disagreement(BaseModel):
    """How candidate and champion differ on the scans that both read."""

    patients: int
    different: Share
    #: positive by the candidate alone
    newly_positive: Share
    #: positive by the champion alone
    newly_negative: Share
    #: mean absolute difference of the probabilities
    mean_difference: float


class Shadow(BaseModel):
    """The candidate beside its champion, on scans that arrived in [since, until)."""

    since: AwareDatetime
    until: AwareDatetime
    by_champion: int
    by_both: int
    disagreement: Disagreement | None
    #: scans read by both whose label no AI influenced
    labelled: int
    #: labels left out, since an AI influenced them
    ai_influenced: int
    champion: Rates
    candidate: Rates


class Stage(BaseModel):
    """One stage of a promotion."""

    #: empty for everywhere, the last one
    sites: list[str]
    #: when it was entered; null while it is ahead
    since: AwareDatetime | None


class Promotion(BaseModel):
    """How far a run's promotion is."""

    stages: list[Stage]
    #: why the next stage is not entered now; empty where it may be, or none is under way
    waits_for: list[str]


class RunInFull(Run):
    """A run with everything that an approver sees."""

    #: digest that a signature now is bound to
    seen: str
    progress: Progress | None
    gates: list[Gate]
    signatures: list[Signature]
    #: approvals of what stands now that are still missing
    missing_approvals: int
    datasets: list[Dataset]
    #: how its promotion goes from site to site; null before there is a candidate
    staging: Promotion | None
    #: null where the candidate never read beside the champion
    shadow: Shadow | None
    #: what the end of its shadow waits for; empty where it is due, over, or there is none
    shadow_waits_for: list[str]


@router.get("", summary="List runs", dependencies=[READ])
def list_runs(
    driftward: Installation,
    model: Annotated[str | None, Query(description="Only this model's.")] = None,
    state: Annotated[str | None, Query(description="Only in this state.")] = None,
) -> list[Run]:
    """Return runs, newest first."""
    with driftward.database.reading() as session:
        return [
            Run(**_facts(session, row))
            for row in runs.all_runs(session, model)
            if state is None or row.state == state
        ]


@router.get("/{number}", summary="Show a run", dependencies=[READ])
def show_run(number: Number, driftward: Installation) -> RunInFull:
    """Return one run: state, progress, gates, signatures and data."""
    progress, now = progress_of(driftward.home.work, number), driftward.clock.now()
    with driftward.database.reading() as session:
        row = runs.require_run(session, number)
        shadow = shadow_record(session, row, at=now)
        approval = approvals.approval_of(session, row, at=now)
        return RunInFull(
            **_facts(session, row),
            progress=Progress.model_validate(progress, from_attributes=True)
            if progress
            else None,
            gates=[
                Gate(
                    name=gate.name,
                    outcome=gate.outcome,
                    sentence=gate.sentence,
                    detail=gate.detail,
                    decided_at=gate.decided_at,
                )
                for gate in runs.gate_outcomes(session, number)
            ],
            seen=approval.seen,
            signatures=[
                _signature(one.signature, void=one.why_not) for one in approval.standings
            ],
            missing_approvals=approval.missing,
            datasets=[_dataset(session, *item) for item in row.datasets.items()],
            staging=None
            if row.candidate is None
            else Promotion.model_validate(
                staging.staging_of(session, row, at=now), from_attributes=True
            ),
            shadow=Shadow.model_validate(shadow) if shadow else None,
            shadow_waits_for=waits_for(session, row, at=now)
            if row.state == RunState.SHADOW
            else [],
        )


@router.post(
    "/{number}/signatures",
    summary="Sign a run",
    dependencies=[SIGN],
    response_model=Signed,
    status_code=HTTPStatus.CREATED,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _SIGNATURE_REQUEST}},
        }
    },
    responses={
        403: {"description": "Not by this person, or not so; the ledger has why."},
        422: {"description": "The request cannot be used."},
        429: {"description": "Too many credentials were wrong."},
    },
)
async def sign_run(
    number: Number, request: Request, driftward: Installation, caller: KnownCaller
) -> Signed:
    """Approve or reject what `seen` names, by showing the credential once more."""
    asked = _request_of(
        request.headers.get("content-type", ""), await read_body(request, largest=16 << 10)
    )
    signed = await run_in_threadpool(
        signing.sign_run,
        driftward.database,
        number,
        asked.meaning,
        by=signer(
            request, caller, asked.credential.get_secret_value() if asked.credential else None
        ),
        reason=asked.reason,
        at=driftward.clock.now(),
        seen=asked.seen,
        decided=asked.decided,
    )
    return Signed(signature=_signature(signed.signature, void=None), missing=signed.missing)


def signer(request: Request, caller: Caller, credential: str | None) -> Signer:
    """Return who asks to sign, and what they show for it."""
    return Signer(
        identity=caller.identity,
        credential=credential,
        local=caller.road is Road.LOCAL,
        address=address_of(request),
    )


def meaning_of(word: str) -> Meaning:
    """Return what a signature is to say.

    Raises
    ------
    BadInputError
    """
    try:
        return Meaning(word)
    except ValueError as error:
        raise BadInputError("say whether you approve or reject") from error


def _request_of(content_type: str, body: bytes) -> SignatureRequest:
    # No page of another site can send this type by itself.
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise BadInputError("a signature is sent as application/json")
    try:
        return SignatureRequest.model_validate_json(body)
    except ValidationError as error:
        # What was sent may be a password, and is not said.
        problems = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}"
            for one in error.errors(include_input=False, include_url=False)
        )
    raise BadInputError(f"the signature cannot be read: {problems}")


def _signature(row: ApprovalRow, *, void: str | None) -> Signature:
    return Signature(
        by=row.by,
        printed_name=row.printed_name or row.by,
        meaning=row.meaning,
        reason=row.reason,
        seen=row.seen,
        signed_at=row.signed_at,
        expires_at=row.expires_at,
        proof=row.proof,
        void=void,
    )


def _facts(session: Session, row: RunRow) -> dict[str, Any]:
    def name(version: int | None) -> str | None:
        return str(ref(session.get_one(VersionRow, version))) if version is not None else None

    return {
        "id": row.id,
        "model": row.model,
        "episode": row.episode,
        "plan": plans.by_id(session, row.plan).number,
        "state": row.state,
        "note": row.note,
        "strategy": row.strategy,
        "base": name(row.base),
        "champion_before": name(row.champion_before),
        "candidate": name(row.candidate),
        "seed": row.seed,
        "created_at": row.created_at,
        "changed_at": row.changed_at,
    }


def _dataset(session: Session, purpose: str, number: int) -> Dataset:
    row = session.get_one(DatasetRow, number)
    return Dataset(
        purpose=purpose,
        digest=row.digest,
        description=row.description,
        scans=row.scans,
        patients=row.patients,
    )
