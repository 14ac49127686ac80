"""Run by Alembic: migrates on the connection that `database.migrations.apply` hands over, in its transaction."""

from __future__ import annotations

from alembic import context

from database.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
