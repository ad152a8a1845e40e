"""The record in full: a folder of parts, ``NAME.sql`` up and ``NAME.down.sql`` down."""

from __future__ import annotations

from pathlib import Path

from alembic import op

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
"""In this order up, in reverse order down. The hot functions come last: they use what the parts make."""


def upgrade() -> None:
    for part in PARTS:
        _run(HERE / "0002" / f"{part}.sql")
    _run(HERE / "0002" / "functions.sql")


def downgrade() -> None:
    _run(HERE / "0001_functions.sql")
    for part in reversed(PARTS):
        _run(HERE / "0002" / f"{part}.down.sql")


def _run(file: Path) -> None:
    op.get_bind().exec_driver_sql(file.read_text(encoding="utf-8"))
