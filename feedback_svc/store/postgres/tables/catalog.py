"""The catalogue, and what is counted of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from feedback_svc.store.postgres.tables.base import Base


class EntityRow(Base):
    """One entity; `features` as `feedback_svc.store.features` writes them, `derived` likewise.

    `derived` holds vectors made of the texts in `features`; it goes when `features` changes.
    """

    __tablename__ = "entities"
    kind: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    features: Mapped[dict[str, Any]]
    active: Mapped[bool]
    create_time: Mapped[datetime]
    update_time: Mapped[datetime]
    change_sequence: Mapped[int]
    derived: Mapped[dict[str, Any] | None]
    __table_args__ = (Index("entities_by_change", "change_sequence", "kind", "id"),)


class ItemStatsRow(Base):
    """Counts of one item in one use case; `half_life_seconds` is what `decayed_weight` was decayed with."""

    __tablename__ = "item_stats"
    use_case: Mapped[str] = mapped_column(primary_key=True)
    item_id: Mapped[str] = mapped_column(primary_key=True)
    views: Mapped[int]
    interactions: Mapped[int]
    decayed_weight: Mapped[float]
    decay_time: Mapped[datetime]
    half_life_seconds: Mapped[float]
    change_sequence: Mapped[int]
    __table_args__ = (
        Index("item_stats_by_change", "use_case", "change_sequence", "item_id"),
        {"postgresql_with": {"fillfactor": "80"}},
    )


class SubjectCountRow(Base):
    """How many interactions a subject has in a use case: its tier, without counting."""

    __tablename__ = "subject_counts"
    use_case: Mapped[str] = mapped_column(primary_key=True)
    subject_id: Mapped[str] = mapped_column(primary_key=True)
    interactions: Mapped[int]
    __table_args__ = ({"postgresql_with": {"fillfactor": "80"}},)
