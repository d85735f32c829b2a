"""When a fence's lease runs out, in milliseconds of the database's clock; 0: it may be taken."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("fences") as fences:
        fences.add_column(sa.Column("expires", sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    with op.batch_alter_table("fences") as fences:
        fences.drop_column("expires")
