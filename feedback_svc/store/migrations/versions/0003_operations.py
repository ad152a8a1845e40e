"""Leases, acts and experiments, and a way from a list to what came of it."""

from __future__ import annotations

from pathlib import Path

from feedback_svc.store.migrations.steps import run

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

HERE = Path(__file__).parent / "0003"


def upgrade() -> None:
    run(HERE / "operations.sql")


def downgrade() -> None:
    run(HERE / "operations.down.sql")
