"""Runs a migration on the connection that ``challenger.store.migrate`` hands over, inside its transaction.

No engine, no logging set-up and no URL of its own: the caller owns all three.
"""

from __future__ import annotations

from alembic import context

from challenger.store.schema import metadata


def run() -> None:
    connection = context.config.attributes.get("connection")
    if connection is None:
        raise RuntimeError("run migrations by `challenger db upgrade`: no connection was handed over")
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True, compare_type=True)
    context.run_migrations()


run()
