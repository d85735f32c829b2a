"""What audits of protocols without disputes found, for the record alone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "findings",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("chain", sa.BigInteger(), nullable=False),
        sa.Column("protocol", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.LargeBinary(length=32), nullable=False),
        sa.Column("hop", sa.String(length=80), nullable=False),
        sa.Column("party", sa.String(length=160), nullable=False),
        sa.Column("ground", sa.String(length=40), nullable=False),
        sa.Column("said", sa.Text(), nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.Column("block_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("log_index", sa.BigInteger(), nullable=False),
        sa.Column("tx_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_findings")),
        sa.UniqueConstraint(
            "chain",
            "protocol",
            "kind",
            "subject",
            "block_hash",
            "log_index",
            name=op.f("uq_findings_chain_protocol_kind_subject_block_hash_log_index"),
        ),
    )
    op.create_index(op.f("ix_findings_subject"), "findings", ["subject"])


def downgrade() -> None:
    op.drop_index(op.f("ix_findings_subject"), table_name="findings")
    op.drop_table("findings")
