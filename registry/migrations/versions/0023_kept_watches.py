"""Decisions are never changed; watches, and what was declared of runtimes, are never deleted."""

from __future__ import annotations

from alembic import op

from registry.ledger import append_only
from registry.ledger.append_only import Guard

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

KEPT = ("runtimes", "watches")


def upgrade() -> None:
    append_only.guard(op.get_bind(), ["decisions"])
    append_only.guard(op.get_bind(), KEPT, Guard.KEPT)


def downgrade() -> None:
    append_only.unguard(op.get_bind(), [*KEPT, "decisions"])
