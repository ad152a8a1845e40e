"""Sessions remember what retrieval itself scored each item with."""

from __future__ import annotations

from pathlib import Path

from feedback_svc.store.migrations.steps import run

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

HERE = Path(__file__).parent / "0004"
BEFORE = Path(__file__).parent / "0002"
FUNCTIONS = ("record_sessions.sql", "take_out.sql")


def upgrade() -> None:
    run(HERE / "retrieval_scores.sql", *(HERE / each for each in FUNCTIONS))


def downgrade() -> None:
    run(HERE / "retrieval_scores.down.sql", *(BEFORE / each for each in FUNCTIONS))
