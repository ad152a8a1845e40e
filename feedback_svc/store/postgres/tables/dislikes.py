"""Dislikes, and how training uses them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from feedback_svc.store.postgres.tables.base import Base


class DislikeRow(Base):
    """One explicit rejection, what it did to weights when it arrived, and its training example."""

    __tablename__ = "dislikes"
    dislike_id: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int]
    use_case: Mapped[str]
    subject_id: Mapped[str]
    item_id: Mapped[str]
    reason: Mapped[str]
    comment: Mapped[str]
    session_id: Mapped[str | None]
    predicted_score: Mapped[float | None]
    error: Mapped[float | None]
    example_weight: Mapped[float]
    event_time: Mapped[datetime]
    receive_time: Mapped[datetime]
    cut: Mapped[float]
    change_features: Mapped[list[str]]
    change_values: Mapped[list[str]]
    factors_before: Mapped[list[float]]
    factors_after: Mapped[list[float]]
    used_by_release: Mapped[str | None]
    __table_args__ = (
        Index("dislikes_by_sequence", "use_case", "sequence", unique=True),
        Index("dislikes_by_subject", "use_case", "subject_id", "sequence"),
        Index("dislikes_by_item", "use_case", "item_id"),
        Index(
            "dislikes_unused",
            "use_case",
            "sequence",
            postgresql_include=["error"],
            postgresql_where=text("used_by_release IS NULL"),
        ),
        # Counting dislikes reads these two alone.
        Index(
            "dislikes_by_time",
            "use_case",
            "event_time",
            "dislike_id",
            postgresql_include=["reason", "error"],
        ),
        Index(
            "dislikes_by_subject_time",
            "use_case",
            "subject_id",
            "event_time",
            "dislike_id",
            postgresql_include=["reason", "error"],
        ),
        Index(
            "dislikes_by_session",
            "session_id",
            "item_id",
            postgresql_where=text("session_id IS NOT NULL"),
        ),
        Index(
            "dislikes_waiting",
            "session_id",
            postgresql_where=text("predicted_score IS NULL AND session_id IS NOT NULL"),
        ),
    )


class WeightFactorRow(Base):
    """A feature value's factor for one subject, as of a time: the fold of its dislikes' cuts."""

    __tablename__ = "weight_factors"
    use_case: Mapped[str] = mapped_column(primary_key=True)
    subject_id: Mapped[str] = mapped_column(primary_key=True)
    feature: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str] = mapped_column(primary_key=True)
    factor: Mapped[float]
    as_of: Mapped[datetime]


class RetrainingRow(Base):
    """The impact record: which release was trained with the negatives up to a sequence, and how many."""

    __tablename__ = "retrainings"
    use_case: Mapped[str] = mapped_column(primary_key=True)
    release: Mapped[str] = mapped_column(primary_key=True)
    to_sequence: Mapped[int]
    marked: Mapped[int]
    mark_time: Mapped[datetime]
    __table_args__ = (Index("retrainings_by_time", "use_case", "mark_time"),)
