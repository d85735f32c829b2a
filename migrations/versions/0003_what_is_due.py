"""Indexes by which nothing is read that is not due, and a far next try for what only waits for its window to pass."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

#: ``domain.NEVER``: nothing more is to be done.
_NEVER = 2**62


def upgrade() -> None:
    op.drop_index("ix_work_state", "work")
    op.create_index("ix_work_state_next_try", "work", ["state", "next_try"])
    op.create_index("ix_commitments_closes", "commitments", ["closes"])
    op.create_index("ix_commitments_closed_block", "commitments", ["closed_block"])
    op.create_index("ix_disputes_challenger", "disputes", ["challenger"])
    op.create_index("ix_demands_demander", "demands", ["demander"])
    # a replay without a finding
    op.execute(f"UPDATE work SET next_try = {_NEVER} WHERE state = 'replayed' AND detail = ''")  # noqa: S608


def downgrade() -> None:
    op.execute(f"UPDATE work SET next_try = 0 WHERE next_try = {_NEVER}")  # noqa: S608
    op.drop_index("ix_demands_demander", "demands")
    op.drop_index("ix_disputes_challenger", "disputes")
    op.drop_index("ix_commitments_closed_block", "commitments")
    op.drop_index("ix_commitments_closes", "commitments")
    op.drop_index("ix_work_state_next_try", "work")
    op.create_index("ix_work_state", "work", ["state"])
