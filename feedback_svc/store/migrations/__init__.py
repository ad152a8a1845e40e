"""Alembic's scripts, run by `feedback_svc.migrate`."""
