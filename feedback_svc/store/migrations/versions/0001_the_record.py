"""The record: catalogue, sessions, interactions, dislikes, and what is counted of them."""

from __future__ import annotations

from pathlib import Path

from alembic import op

from feedback_svc.store.migrations.steps import run

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

HERE = Path(__file__).parent
TABLES = (
    "retrainings",
    "weight_factors",
    "dislikes",
    "interactions",
    "sessions",
    "subject_counts",
    "item_stats",
    "entities",
    "change_clock",
)
FUNCTIONS = (
    "subject_state",
    "record_sessions",
    "record_interactions",
    "hold_sessions",
    "halved",
    "change_horizon",
    "change_now",
)


def upgrade() -> None:
    run(HERE / "0001_the_record.sql", HERE / "0001_functions.sql")


def downgrade() -> None:
    for name in FUNCTIONS:
        op.execute(f"DROP FUNCTION {name}")
    for name in TABLES:
        op.execute(f"DROP TABLE {name}")
