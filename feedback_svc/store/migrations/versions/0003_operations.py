"""Leases, acts and experiments, and a way from a list to what came of it."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

HERE = Path(__file__).parent


def upgrade() -> None:
    _run("operations.sql")


def downgrade() -> None:
    _run("operations.down.sql")


def _run(name: str) -> None:
    op.get_bind().exec_driver_sql((HERE / "0003" / name).read_text(encoding="utf-8"))
