"""The record: catalogue, sessions, interactions, dislikes, and what is counted of them."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

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
    for name in ("0001_the_record.sql", "0001_functions.sql"):
        op.get_bind().exec_driver_sql(Path(__file__).with_name(name).read_text(encoding="utf-8"))


def downgrade() -> None:
    for name in FUNCTIONS:
        op.execute(f"DROP FUNCTION {name}")
    for name in TABLES:
        op.execute(f"DROP TABLE {name}")
