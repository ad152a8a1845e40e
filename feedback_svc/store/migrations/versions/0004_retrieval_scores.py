"""Sessions remember what retrieval itself scored each item with."""

from __future__ import annotations

from pathlib import Path

from feedback_svc.store.migrations.steps import run

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

HERE = Path(__file__).parent
BEFORE = HERE / "0002"


def upgrade() -> None:
    run(HERE / "0004" / "retrieval_scores.sql")


def downgrade() -> None:
    run(HERE / "0004" / "retrieval_scores.down.sql", BEFORE / "record_sessions.sql", BEFORE / "take_out.sql")
