"""Users: roles by site, passwords, tokens, sessions, failed sign-ins; how approvals were signed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.database import UtcDateTime

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table, column in (
        ("identities", sa.Column("full_name", sa.String())),
        (
            "identities",
            sa.Column("site_roles", sa.JSON(), nullable=False, server_default=sa.text("'{}'")),
        ),
        ("identities", sa.Column("password", sa.String())),
        ("identities", sa.Column("password_set_at", UtcDateTime())),
        (
            "identities",
            sa.Column(
                "initial_password", sa.Boolean(), nullable=False, server_default=sa.false()
            ),
        ),
        ("identities", sa.Column("disabled_at", UtcDateTime())),
        ("approvals", sa.Column("printed_name", sa.String())),
        ("approvals", sa.Column("proof", sa.String())),
        ("approvals", sa.Column("token", sa.String())),
        ("approvals", sa.Column("expires_at", UtcDateTime())),
        (
            "approvals",
            sa.Column("parts", sa.JSON(), nullable=False, server_default=sa.text("'{}'")),
        ),
    ):
        op.add_column(table, column)
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("identity", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.Column("revoked_at", UtcDateTime()),
        sa.ForeignKeyConstraint(
            ["identity"], ["identities.name"], name=op.f("fk_tokens_identity_identities")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
    )
    op.create_index(op.f("ix_tokens_identity"), "tokens", ["identity"])
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("identity", sa.String(), nullable=False),
        sa.Column("begun_at", UtcDateTime(), nullable=False),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime()),
        sa.ForeignKeyConstraint(
            ["identity"], ["identities.name"], name=op.f("fk_sessions_identity_identities")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
    )
    op.create_index(op.f("ix_sessions_identity"), "sessions", ["identity"])
    op.create_table(
        "failed_attempts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("bucket", sa.String(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_failed_attempts")),
    )
    op.create_index(op.f("ix_failed_attempts_bucket"), "failed_attempts", ["bucket"])
    op.create_index(op.f("ix_failed_attempts_at"), "failed_attempts", ["at"])


def downgrade() -> None:
    op.drop_index(op.f("ix_failed_attempts_at"), table_name="failed_attempts")
    op.drop_index(op.f("ix_failed_attempts_bucket"), table_name="failed_attempts")
    op.drop_table("failed_attempts")
    op.drop_index(op.f("ix_sessions_identity"), table_name="sessions")
    op.drop_table("sessions")
    op.drop_index(op.f("ix_tokens_identity"), table_name="tokens")
    op.drop_table("tokens")
    # In place: other tables refer to these, so that they cannot be made anew.
    for name in ("parts", "expires_at", "token", "proof", "printed_name"):
        op.drop_column("approvals", name)
    for name in (
        "disabled_at",
        "initial_password",
        "password_set_at",
        "password",
        "site_roles",
        "full_name",
    ):
        op.drop_column("identities", name)
