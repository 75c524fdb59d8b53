"""What says who may do what, and what was in use, is never deleted."""

from __future__ import annotations

from alembic import op

from registry.ledger import append_only
from registry.ledger.append_only import Guard

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

TABLES = (
    "champions",
    "identities",
    "models",
    "recalls",
    "reigns",
    "restrictions",
    "runs",
    "sessions",
    "tokens",
    "versions",
)


def upgrade() -> None:
    append_only.guard(op.get_bind(), TABLES, Guard.KEPT)


def downgrade() -> None:
    append_only.unguard(op.get_bind(), TABLES)
