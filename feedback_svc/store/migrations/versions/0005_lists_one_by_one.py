"""Lists are stored one by one: most come alone."""

from __future__ import annotations

from pathlib import Path

from feedback_svc.store.migrations.steps import run

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

HERE = Path(__file__).parent


def upgrade() -> None:
    run(HERE / "0005" / "hold_sessions.sql", HERE / "0005" / "record_sessions.sql")


def downgrade() -> None:
    run(HERE / "0002" / "hold_sessions.sql", HERE / "0004" / "record_sessions.sql")
