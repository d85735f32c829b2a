"""Verdicts on past commitments, for the record alone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audits",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("commitment", sa.LargeBinary(length=32), nullable=False),
        sa.Column("source", sa.String(length=40), nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.Column("block_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("provider", sa.String(length=42), nullable=False),
        sa.Column("committed_output", sa.LargeBinary(length=32), nullable=False),
        sa.Column("committed_state", sa.LargeBinary(length=32), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("backend", sa.String(length=40), nullable=False),
        sa.Column("output_root", sa.LargeBinary(length=32), nullable=True),
        sa.Column("state_root", sa.LargeBinary(length=32), nullable=True),
        sa.Column("confirmed", sa.String(length=40), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("microseconds", sa.BigInteger(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audits")),
    )
    op.create_index(op.f("ix_audits_commitment"), "audits", ["commitment"])


def downgrade() -> None:
    op.drop_index(op.f("ix_audits_commitment"), table_name="audits")
    op.drop_table("audits")
