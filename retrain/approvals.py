"""Approvals: signatures of people, each bound to the digest of what they saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.tables import DatasetRow
from registry import ledger
from registry.access.signing_in import Proof
from registry.access.tokens import TokenRow
from registry.canonical import Json, digest_of, to_json
from registry.errors import BadInputError, PlanRefusedError, SignatureRefusedError
from registry.identities import Identity, IdentityRow, identity_of
from registry.ledger import LedgerEntry
from registry.versions import VersionRow, ref
from retrain import plans, runs, sites
from retrain.change_plan import Authority
from retrain.gates.outcome import Outcome
from retrain.plans import AppliedPlan
from retrain.shadow.ending import waits_for
from retrain.states import RunState, has_ended
from retrain.tables import ApprovalRow, RunRow


class Meaning(StrEnum):
    """What a signature says."""

    APPROVED = "approved"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A signature, and why it does not count, where it does not."""

    signature: ApprovalRow
    why_not: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """How the approval of a run stands at a moment."""

    #: digest over everything that a signer sees of the run now
    seen: str
    #: oldest first
    standings: tuple[Standing, ...]
    #: how many approvals of what stands now are still missing
    missing: int


def seen_parts(session: Session, run: RunRow) -> dict[str, str]:
    """Return the digests of what a signer sees, part by part."""
    plan = plans.by_id(session, run.plan)
    datasets = {
        purpose: session.get_one(DatasetRow, number).digest
        for purpose, number in run.datasets.items()
    }
    shadow = [
        entry.digest
        for entry in ledger.entries(session, subject=f"run {run.id}")
        if entry.kind.startswith("shadow.")
    ]
    return {
        "candidate": digest_of(_version(session, run.candidate)),
        "champion": digest_of(_version(session, run.champion_before)),
        "gates": digest_of(_gates(session, run)),
        "shadow": digest_of(
            {"days": plan.plan.shadow_days, "record": to_json(shadow), **_least(plan)}
        ),
        "plan": plan.digest,
        "evidence": digest_of(
            {
                "datasets": to_json(datasets),
                "episode": run.episode,
                "base": _version(session, run.base),
                "strategy": run.strategy,
                "settings": to_json(run.settings),
                "seed": run.seed,
            }
        ),
    }


def approval_of(session: Session, run: RunRow, *, at: datetime) -> Approval:
    """Return how a run's approval stands.

    Of a run that has ended only what its signers saw is looked at: later nothing expires.
    """
    parts = seen_parts(session, run)
    found = tuple(
        Standing(signature=row, why_not=_why_not(session, run, row, parts, at=at))
        for row in signatures(session, run.id)
    )
    given = {
        one.signature.by
        for one in found
        if one.signature.meaning == Meaning.APPROVED and one.why_not is None
    }
    people = plans.by_id(session, run.plan).plan.approval.people
    return Approval(
        seen=_over(run, parts), standings=found, missing=max(0, people - len(given))
    )


def sign(
    session: Session,
    run: RunRow,
    meaning: Meaning,
    *,
    by: Identity,
    reason: str,
    at: datetime,
    proof: Proof = Proof.OPERATING_SYSTEM,
    token: str | None = None,
    seen: str | None = None,
    decided: Sequence[str] = (),
) -> ApprovalRow:
    """Sign a run that awaits approval (21 CFR 11.50: name, time and meaning).

    Parameters
    ----------
    proof : what the person showed at this signature; nothing but the operating system's user
        is enough where the plan asks for one person
    token : number of the token, where that was shown
    seen : digest of what the person looked at; by default what stands now
    decided : gates that are not evaluable, for which the person answers; an approval must
        name each

    Raises
    ------
    SignatureRefusedError
        With why: state, plan_changed, disabled_user, role, site, starter, unproven, changed,
        same_person.
    BadInputError
        If an approval names other gates than those that are left to people.
    """
    plan = plans.by_id(session, run.plan)
    row = session.get(IdentityRow, by.name)
    if row is not None:
        # As it stands in this transaction: a role may have been revoked since they were known.
        by = identity_of(row)
    _require_signable(session, run, plan, at=at)
    _require_signer(session, run, plan, by, row)
    _require_proof(run, plan, by, row, proof)
    parts = seen_parts(session, run)
    now = _over(run, parts)
    if seen is not None and seen != now:
        raise SignatureRefusedError(
            f"run {run.id} is no longer what you saw ({seen[:12]}, now {now[:12]}): look at it "
            "again, then sign",
            why="changed",
        )
    # Who approved may still reject: then the run ends.
    if meaning is Meaning.APPROVED and any(
        one.by == by.name and _why_not(session, run, one, parts, at=at) is None
        for one in signatures(session, run.id)
    ):
        raise SignatureRefusedError(
            f"{by.name} has signed run {run.id} already: another person must",
            why="same_person",
        )
    left = left_to_people(session, run)
    if meaning is Meaning.APPROVED and set(decided) != set(left):
        raise BadInputError(_misnamed(run, left, decided))
    signature = ApprovalRow(
        run=run.id,
        by=by.name,
        meaning=meaning.value,
        reason=reason,
        seen=now,
        signed_at=at,
        printed_name=(row.full_name if row else None) or by.name,
        proof=proof.value,
        token=token,
        expires_at=at + timedelta(days=plan.plan.approval.expires_days),
        parts=parts,
    )
    session.add(signature)
    session.flush()
    ledger.append(
        session,
        at=at,
        actor=by.name,
        kind=f"approval.{meaning.value}",
        subject=f"run {run.id}",
        facts={
            "seen": now,
            "parts": to_json(parts),
            "reason": reason,
            "decided": to_json(sorted(decided)),
            "printed_name": signature.printed_name,
            "proof": proof.value,
            "expires_at": to_json(signature.expires_at),
        },
        seals=[signature],
    )
    return signature


def starter(session: Session, run: RunRow) -> str:
    """Return who started a run: an identity's name, or the system's."""
    return session.scalars(
        select(LedgerEntry.actor).where(
            LedgerEntry.subject == f"run {run.id}", LedgerEntry.kind == "run.planned"
        )
    ).one()


def _require_signable(
    session: Session, run: RunRow, plan: AppliedPlan, *, at: datetime
) -> None:
    if run.state == RunState.SHADOW:
        left = "; ".join(waits_for(session, run, at=at)) or "its comparison is due"
        raise SignatureRefusedError(
            f"run {run.id} is in shadow, and signed when that is over: {left}", why="state"
        )
    if run.state != RunState.AWAITING_APPROVAL:
        raise SignatureRefusedError(
            f"run {run.id} is {run.state}: only one awaiting approval is signed", why="state"
        )
    current = plans.require_plan(session, run.model)
    if current.id != plan.id:
        raise SignatureRefusedError(
            f"run {run.id} was made under plan {plan.number}, and plan {current.number} is in "
            "force now: start a new run",
            why="plan_changed",
        )


def _require_signer(
    session: Session, run: RunRow, plan: AppliedPlan, by: Identity, row: IdentityRow | None
) -> None:
    if row is not None and row.disabled_at is not None:
        raise SignatureRefusedError(f"{by.name} was disabled", why="disabled_user")
    lacking = _lacking(session, run, plan, by)
    if lacking is not None:
        why, text = lacking
        raise SignatureRefusedError(text, why=why)
    if starter(session, run) == by.name and plan.plan.authority is not Authority.RESEARCH:
        raise SignatureRefusedError(
            f"{by.name} started run {run.id}: somebody else must sign it; only under the "
            "authority research may one person do both",
            why="starter",
        )


def _lacking(
    session: Session, run: RunRow, plan: AppliedPlan, by: Identity
) -> tuple[str, str] | None:
    """Return what an identity lacks to sign a run, as a code and in words; None for nothing."""
    role = plan.plan.approval.role
    if not by.holds(role):
        return "role", (
            f"{by.name} may not sign run {run.id}: it takes the role {role.value}; {by.name} has "
            f"{', '.join(by.grants()) or 'none'}"
        )
    held = by.sites(role)
    if held is None:
        return None
    concerned = sites.that_send(session)
    lacking = [site for site in concerned if site not in held]
    if concerned and not lacking:
        return None
    return "site", (
        f"{by.name} may not sign run {run.id}: its promotion takes effect at "
        f"{', '.join(lacking) or 'every site'}, and {by.name} is {role.value} for "
        f"{', '.join(sorted(held))} alone"
    )


def _require_proof(
    run: RunRow, plan: AppliedPlan, by: Identity, row: IdentityRow | None, proof: Proof
) -> None:
    """Refuse a signature for which nothing was shown, where something must be (21 CFR 11.200)."""
    if proof is not Proof.OPERATING_SYSTEM:
        return
    has_password = row is not None and row.password is not None
    people = plan.plan.approval.people
    if people > 1 and not has_password:
        raise SignatureRefusedError(
            f"run {run.id} takes {people} people, and who signs with others shows a password: "
            f"{by.name} has none; choose one by `driftward user password`",
            why="unproven",
        )
    if has_password:
        raise SignatureRefusedError(
            f"to sign run {run.id}, {by.name} enters their password, or a token of their own, "
            "once more",
            why="unproven",
        )


def _least(plan: AppliedPlan) -> dict[str, Json]:
    """Return what a shadow must have read; nothing for plans that say nothing of it."""
    return {"scans": plan.plan.shadow_scans} if plan.plan.shadow_scans else {}


def _version(session: Session, number: int | None) -> Json:
    row = session.get(VersionRow, number) if number is not None else None
    return {"version": str(ref(row)), "bundle": row.bundle_digest} if row else None


def _gates(session: Session, run: RunRow) -> Json:
    return [
        {"name": gate.name, "outcome": gate.outcome, "detail": to_json(gate.detail)}
        for gate in runs.gate_outcomes(session, run.id)
    ]


def _over(run: RunRow, parts: dict[str, str]) -> str:
    return digest_of({"run": run.id, "parts": to_json(parts)})


def _as_signed_before_parts(session: Session, run: RunRow) -> str:
    """Return the digest to which signatures were bound that name no parts."""
    candidate = session.get(VersionRow, run.candidate) if run.candidate else None
    return digest_of(
        {
            "run": run.id,
            "candidate": candidate.bundle_digest if candidate else None,
            "champion_before": run.champion_before,
            "plan": plans.by_id(session, run.plan).digest,
            "gates": _gates(session, run),
        }
    )


def left_to_people(session: Session, run: RunRow) -> list[str]:
    """Return the gates that are not evaluable, and that the plan leaves to who signs."""
    rules = plans.by_id(session, run.plan).plan.gates
    return [
        gate.name
        for gate in runs.gate_outcomes(session, run.id)
        if rules.leaves_to_people(gate.name, Outcome(gate.outcome))
    ]


def _misnamed(run: RunRow, left: Sequence[str], decided: Sequence[str]) -> str:
    if not left:
        return f"run {run.id} leaves no gate to people: approve it without --decide"
    named = f", not {', '.join(decided)}" if decided else ""
    options = " ".join(f"--decide {name}" for name in left)
    return (
        f"run {run.id} leaves to who signs: {', '.join(left)}{named}. Read what is known of them "
        f"(`driftward run show {run.id}`), say in the reason why they do not stand in the way, "
        f"and approve with {options}"
    )


def signatures(session: Session, run: int) -> list[ApprovalRow]:
    """Return a run's signatures, oldest first."""
    return list(
        session.scalars(
            select(ApprovalRow).where(ApprovalRow.run == run).order_by(ApprovalRow.id)
        )
    )


def require_approved(session: Session, run: RunRow, *, at: datetime) -> None:
    """Refuse a promotion that lacks approvals of what stands now.

    Raises
    ------
    PlanRefusedError
        Naming the signatures that do not count, and why.
    """
    found = approval_of(session, run, at=at)
    if not found.missing:
        return
    void = [
        f"that of {one.signature.by} {one.why_not}"
        for one in found.standings
        if one.why_not is not None and one.signature.meaning == Meaning.APPROVED
    ]
    why = f" ({'; '.join(void)})" if void else ""
    raise PlanRefusedError(
        f"run {run.id} lacks {found.missing} approval(s) of its candidate, gates and plan as they "
        f"stand now{why}: `driftward approve {run.id}`"
    )


def _changed_since(
    session: Session, run: RunRow, signature: ApprovalRow, parts: dict[str, str]
) -> list[str]:
    """Return the parts of what was seen that are others now; none where all stands."""
    if not signature.parts:
        before = _as_signed_before_parts(session, run)
        return [] if signature.seen == before else ["candidate, gates or plan"]
    return [name for name, digest in parts.items() if signature.parts.get(name) != digest]


def _why_not(
    session: Session,
    run: RunRow,
    signature: ApprovalRow,
    parts: dict[str, str],
    *,
    at: datetime,
) -> str | None:
    """Return why a signature does not count, where `parts` is what a signer sees now."""
    entry = ledger.vouching_entry(
        session, signature, kind=f"approval.{signature.meaning}", subject=f"run {run.id}"
    )
    if entry is None:
        return "is not as the ledger sealed it: `driftward audit verify`"
    changed = _changed_since(session, run, signature, parts)
    if changed:
        return f"saw other {', '.join(changed)}"
    if has_ended(RunState(run.state)) or run.state == RunState.PROMOTING:
        return None  # it was promoted by them
    plan = plans.by_id(session, run.plan)
    expires = signature.expires_at or signature.signed_at + timedelta(
        days=plan.plan.approval.expires_days
    )
    # A clock that was set back makes nothing young again.
    latest = max(at, ledger.newest_time_since(session, entry) or at)
    if latest >= expires:
        return f"expired at {expires:%Y-%m-%d %H:%M}"
    return _why_signer_not(session, run, plan, signature)


def _why_signer_not(
    session: Session, run: RunRow, plan: AppliedPlan, signature: ApprovalRow
) -> str | None:
    """Return why the signer, or what they showed, is no longer what it was."""
    row = session.get(IdentityRow, signature.by)
    if row is not None and row.disabled_at is not None:
        return "is of a user who was disabled since"
    token = session.get(TokenRow, signature.token) if signature.token else None
    if token is not None and token.revoked_at is not None:
        return "was given with a token that was revoked since"
    lacking = _lacking(session, run, plan, identity_of(row)) if row is not None else None
    if lacking is None:
        return None
    return {
        "role": f"is of one who is no {plan.plan.approval.role.value} any more",
        "site": "is of one who may not sign for every site that sends by now",
    }[lacking[0]]
