"""The record in full: a folder of parts, ``NAME.sql`` up and ``NAME.down.sql`` down."""

from __future__ import annotations

from pathlib import Path

from feedback_svc.store.migrations.steps import run

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

HERE = Path(__file__).parent
PARTS: tuple[str, ...] = (
    "amendments",
    "matches",
    "retention",
    "embeddings",
    "erasure",
    "insight",
)
"""In this order up, in reverse order down."""
FUNCTIONS = tuple(
    HERE / "0002" / f"{name}.sql" for name in ("hold_sessions", "functions", "record_sessions", "take_out")
)
"""They come last, for they use what the parts make. What a later version replaces is in a file of its own."""


def upgrade() -> None:
    run(*(HERE / "0002" / f"{part}.sql" for part in PARTS), *FUNCTIONS)


def downgrade() -> None:
    run(HERE / "0001_functions.sql", *(HERE / "0002" / f"{part}.down.sql" for part in reversed(PARTS)))
