"""The tasks of a provider that took few, found without reading those of all others."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_tasks_provider_block", "tasks", ["provider", "block"])


def downgrade() -> None:
    op.drop_index("ix_tasks_provider_block", "tasks")
