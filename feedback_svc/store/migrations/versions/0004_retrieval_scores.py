"""Sessions remember what retrieval itself scored each item with."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

HERE = Path(__file__).parent


def upgrade() -> None:
    _run("retrieval_scores.sql")


def downgrade() -> None:
    _run("retrieval_scores.down.sql")


def _run(name: str) -> None:
    op.get_bind().exec_driver_sql((HERE / "0004" / name).read_text(encoding="utf-8"))
