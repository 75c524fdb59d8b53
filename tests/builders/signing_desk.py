"""A run that two people must sign, and the people."""

from __future__ import annotations

from dataclasses import dataclass

from people import ADMIN, PASSWORD, add_user
from retraining_rows import PLAN, Retraining

from registry import ledger
from registry.identities import Identity, Role, identity_of, require_row
from registry.refusals import refusals_recorded
from retrain import approvals, runs
from retrain.approvals import Meaning
from retrain.promotion import promote
from retrain.signing import Signed, Signer, sign_run

TWO = PLAN.replace("people: 1", "people: 2").replace(
    "authority: research", "authority: in-house"
)


@dataclass
class Desk:
    """A run that two people must sign, and the people."""

    retraining: Retraining
    run: int

    @property
    def database(self):
        return self.retraining.database

    @property
    def now(self):
        return self.retraining.now

    def person(self, name: str) -> Identity:
        with self.database.reading() as session:
            return identity_of(require_row(session, name))

    def sign(
        self,
        name: str,
        credential: str | None = PASSWORD,
        *,
        meaning: Meaning = Meaning.APPROVED,
        local: bool = False,
        seen: str | None = None,
        reason: str = "gates and data read",
    ) -> Signed:
        return sign_run(
            self.database,
            self.run,
            meaning,
            by=Signer(identity=self.person(name), credential=credential, local=local),
            reason=reason,
            at=self.now,
            seen=seen,
        )

    def seen(self) -> str:
        with self.database.reading() as session:
            row = runs.require_run(session, self.run)
            return approvals.approval_of(session, row, at=self.now).seen

    def promote(self) -> None:
        with (
            refusals_recorded(
                self.database,
                "promotion.refused",
                subject=f"run {self.run}",
                by=ADMIN,
                at=self.now,
            ),
            self.database.transaction() as session,
        ):
            promote(session, runs.require_run(session, self.run), by=ADMIN, at=self.now)

    def refusals(self, kind: str = "approval.refused") -> list[tuple[str, str]]:
        with self.database.reading() as session:
            return [
                (entry.actor, entry.facts["why"])
                for entry in ledger.entries(session, kind=kind, subject=f"run {self.run}")
            ]


def two_people_sign(retraining: Retraining) -> Desk:
    """Return a run that awaits the approvals of two, under a plan for use in house."""
    retraining.apply_plan(TWO)
    add_user(retraining.database, "admin", Role.ADMIN, at=retraining.now, password=None)
    for name in ("mei", "ana", "olu"):
        add_user(retraining.database, name, Role.APPROVER, at=retraining.now)
    return Desk(retraining, retraining.run_awaiting_approval())
