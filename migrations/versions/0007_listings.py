"""Indexes by which pages of a large record are found without reading the rest."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_INDEXES = {
    "ix_commitments_committed_at": ("commitments", ["committed_at"]),
    "ix_commitments_provider_block": ("commitments", ["provider", "block"]),
    "ix_commitments_model_block": ("commitments", ["model", "block"]),
    "ix_tasks_block": ("tasks", ["block"]),
    "ix_verdicts_kind_id": ("verdicts", ["kind", "id"]),
    "ix_verdicts_time": ("verdicts", ["time"]),
    "ix_journal_subject": ("journal", ["subject"]),
    "ix_journal_time": ("journal", ["time"]),
}
_PARTIAL = {
    "ix_commitments_status": ("commitments", ["status", "block"], "status IN ('fraud', 'void')"),
    "ix_work_confirmation": ("work", ["confirmation"], "confirmation IS NOT NULL"),
    "ix_journal_kind": (
        "journal",
        ["kind", "seq"],
        "kind NOT IN ('observed', 'skipped', 'finalised', 'chain-job-closed')",
    ),
}


def upgrade() -> None:
    for name, (table, columns) in _INDEXES.items():
        op.create_index(name, table, columns)
    for name, (table, columns, where) in _PARTIAL.items():
        op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
    op.drop_index("ix_commitments_provider", "commitments")


def downgrade() -> None:
    op.create_index("ix_commitments_provider", "commitments", ["provider"])
    for name, (table, *_) in _PARTIAL.items():
        op.drop_index(name, table)
    for name, (table, _) in _INDEXES.items():
        op.drop_index(name, table)
