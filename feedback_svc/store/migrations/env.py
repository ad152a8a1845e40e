"""Run by Alembic: migrate over the connection that `feedback_svc.migrate` hands in."""

from __future__ import annotations

from alembic import context

from feedback_svc.store.postgres.tables import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
