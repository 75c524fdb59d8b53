"""Signing a run: the credential once more, the signature, and every refusal in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from registry import crash_points
from registry.access import signing_in, tokens
from registry.access.signing_in import Proof, Proven
from registry.database import Database
from registry.errors import (
    NotSignedInError,
    SignatureRefusedError,
)
from registry.identities import Identity
from registry.reasons import stated
from registry.refusals import refusals_recorded
from retrain import approvals, runs
from retrain.approvals import Meaning
from retrain.states import RunState
from retrain.tables import ApprovalRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """One who asks to sign, and what they show for it."""

    identity: Identity
    #: a password, or a token of their own; None where nothing was entered
    credential: str | None
    #: known as the operating system's user who runs this very process
    local: bool
    address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A signature, and how many more are needed."""

    signature: ApprovalRow
    missing: int


def sign_run(
    database: Database,
    run: int,
    meaning: Meaning,
    *,
    by: Signer,
    reason: str,
    at: datetime,
    seen: str | None = None,
    decided: Sequence[str] = (),
) -> Signed:
    """Sign a run; a rejection ends it. A refusal is in the ledger with its reason.

    Parameters
    ----------
    seen : digest of what the signer looked at

    Raises
    ------
    NotFoundError
    SignatureRefusedError
        As `approvals.sign` does; and with why: wrong_password, unknown_token, revoked_token,
        expired_token, disabled_user, another_person, shared_credential.
    TooManyAttemptsError
    BadInputError
        If the reason is none (`registry.reasons`), or other gates are named than those that are
        left to people.
    """
    with database.reading() as session:
        runs.require_run(session, run)
    with refusals_recorded(
        database, "approval.refused", subject=f"run {run}", by=by.identity, at=at
    ):
        reason = stated(reason)
        proven = _proven(database, by, run, at=at)
        with database.transaction() as session:
            row = runs.require_run(session, run)
            signature = approvals.sign(
                session,
                row,
                meaning,
                by=proven.identity,
                reason=reason,
                at=at,
                proof=proven.proof,
                token=proven.token,
                seen=seen,
                decided=decided,
            )
            if meaning is Meaning.REJECTED:
                name = by.identity.name
                runs.advance(session, row, RunState.REJECTED, note=reason, actor=name, at=at)
            missing = approvals.approval_of(session, row, at=at).missing
            crash_points.reach("approve: before the commit")
        crash_points.reach("approve: committed")
        return Signed(signature=signature, missing=missing)


def _proven(database: Database, by: Signer, run: int, *, at: datetime) -> Proven:
    """Return who the signer is shown to be, by what they entered for this signature."""
    if by.credential is None:
        if by.local:
            return Proven(identity=by.identity, proof=Proof.OPERATING_SYSTEM)
        raise SignatureRefusedError(
            f"to sign run {run}, {by.identity.name} enters their password, or a token of their "
            "own, once more",
            why="unproven",
        )
    try:
        if tokens.is_token(by.credential):
            proven = signing_in.by_token(database, by.credential, at=at)
        else:
            proven = signing_in.by_password(
                database,
                by.identity.name,
                by.credential,
                address=by.address,
                purpose="signature",
                at=at,
            )
    except NotSignedInError as error:
        raise SignatureRefusedError(
            f"run {run} was not signed: {error}", why=error.why
        ) from error
    if proven.identity.name != by.identity.name:
        raise SignatureRefusedError(
            f"run {run} was not signed: the token is of another than {by.identity.name}",
            why="another_person",
        )
    if proven.shared:
        raise SignatureRefusedError(
            f"run {run} was not signed: what {by.identity.name} entered is known to whoever made "
            "it; sign with a password or a token that is your own",
            why="shared_credential",
        )
    return proven
