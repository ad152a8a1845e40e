"""The tables. Migrations make them; a test holds the two together.

Ids compare bytewise (collation "C"), as Python compares strings: pages and lock orders do not depend on a
database's locale. Times are UTC.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Double, FetchedValue, Index, SmallInteger, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, REAL
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

BYTEWISE = Text(collation="C")
TIME = DateTime(timezone=True)
TEXTS = ARRAY(Text(collation="C"))
DOUBLES = ARRAY(Double)


class Base(DeclarativeBase):
    """Of every table."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        str: BYTEWISE,
        datetime: TIME,
        int: BigInteger,
        float: Double,
        list[str]: TEXTS,
        list[float]: DOUBLES,
        dict[str, Any]: JSONB,
    }


class ChangeClock(Base):
    """One row: what is added to transaction ids to make change sequences (see the migration)."""

    __tablename__ = "change_clock"
    single: Mapped[bool] = mapped_column(primary_key=True)
    sequence_offset: Mapped[int]


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


class SessionRow(Base):
    """One list; arrays in rank order. `method` '' stands for none; `feature_values` is items x names."""

    __tablename__ = "sessions"
    session_id: Mapped[str] = mapped_column(primary_key=True)
    use_case: Mapped[str]
    subject_id: Mapped[str]
    release: Mapped[str]
    arm: Mapped[str]
    tier: Mapped[str]
    reranked: Mapped[bool]
    source: Mapped[str]
    serve_time: Mapped[datetime]
    receive_time: Mapped[datetime]
    sequence: Mapped[int]
    feature_names: Mapped[list[str]]
    item_ids: Mapped[list[str]]
    scores: Mapped[list[float]]
    methods: Mapped[list[str]]
    propensities: Mapped[list[float] | None]
    feature_values: Mapped[list[float]] = mapped_column(ARRAY(REAL))
    __table_args__ = (
        Index("sessions_by_subject", "use_case", "subject_id", "serve_time", "session_id"),
        Index("sessions_by_time", "use_case", "serve_time", "session_id"),
        Index("sessions_by_sequence", "sequence"),
        Index("sessions_by_item", "item_ids", postgresql_using="gin"),
    )


class InteractionRow(Base):
    """One reaction.

    `sequence` is the writing transaction's change sequence times 512, plus the place in its batch. `rank`
    is null until the interaction is tied to a session, 0 when the item was not on that list. `hides`:
    a strong positive or a dislike.
    """

    __tablename__ = "interactions"
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    interaction_id: Mapped[str]
    use_case: Mapped[str]
    subject_id: Mapped[str]
    item_id: Mapped[str]
    event_type: Mapped[str]
    event_time: Mapped[datetime]
    receive_time: Mapped[datetime]
    hides: Mapped[bool]
    session_id: Mapped[str | None]
    rank: Mapped[int | None] = mapped_column(SmallInteger)
    score: Mapped[float | None]
    method: Mapped[str | None]
    release: Mapped[str | None]
    __table_args__ = (
        Index("interactions_by_id", "interaction_id", unique=True),
        # These two cover LookupSubjectState: no visit to the table itself once it is vacuumed.
        Index(
            "interactions_by_subject",
            "use_case",
            "subject_id",
            "event_time",
            "sequence",
            postgresql_include=["item_id", "event_type"],
        ),
        Index(
            "interactions_hiding",
            "use_case",
            "subject_id",
            "event_time",
            "sequence",
            postgresql_include=["item_id"],
            postgresql_where=text("hides"),
        ),
        Index("interactions_by_item", "use_case", "item_id", "sequence"),
        Index(
            "interactions_waiting",
            "session_id",
            postgresql_where=text("rank IS NULL AND session_id IS NOT NULL"),
        ),
    )


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


class TombstoneRow(Base):
    """What remains of an erased entity; see `feedback_svc.erasure`."""

    __tablename__ = "tombstones"
    kind: Mapped[str] = mapped_column(primary_key=True)
    id_hash: Mapped[str] = mapped_column(primary_key=True)
    erase_time: Mapped[datetime]
    change_sequence: Mapped[int]
    __table_args__ = (
        Index("tombstones_by_change", "change_sequence", "kind", "id_hash"),
        Index("tombstones_by_time", "erase_time"),
    )


class UseCaseKindsRow(Base):
    """The kinds of a use case, by which late data about erased entities is recognised."""

    __tablename__ = "use_case_kinds"
    use_case: Mapped[str] = mapped_column(primary_key=True)
    subject_kind: Mapped[str]
    item_kind: Mapped[str]


class AmendmentRow(Base):
    """A stored row of a large exported table that was changed or deleted after it was stored."""

    __tablename__ = "amendments"
    table_name: Mapped[str] = mapped_column(primary_key=True)
    change_sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class WeightFactorRow(Base):
    """A feature value's factor for one subject, as of a time: the fold of its dislikes' cuts."""

    __tablename__ = "weight_factors"
    use_case: Mapped[str] = mapped_column(primary_key=True)
    subject_id: Mapped[str] = mapped_column(primary_key=True)
    feature: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str] = mapped_column(primary_key=True)
    factor: Mapped[float]
    as_of: Mapped[datetime]


class MatchRow(Base):
    """What the two sides of a match said of each other; `close_time` and `state` follow from the times."""

    __tablename__ = "matches"
    use_case: Mapped[str] = mapped_column(primary_key=True)
    subject_id: Mapped[str] = mapped_column(primary_key=True)
    item_id: Mapped[str] = mapped_column(primary_key=True)
    subject_first: Mapped[datetime | None]
    subject_last: Mapped[datetime | None]
    subject_rejected: Mapped[datetime | None]
    item_first: Mapped[datetime | None]
    item_last: Mapped[datetime | None]
    item_rejected: Mapped[datetime | None]
    close_time: Mapped[datetime | None] = mapped_column(FetchedValue())
    state: Mapped[str] = mapped_column(FetchedValue())
    change_time: Mapped[datetime]
    sequence: Mapped[int]
    __table_args__ = (
        Index("matches_by_item", "use_case", "item_id", "sequence"),
        Index("matches_by_state", "use_case", "state", "sequence"),
        {"postgresql_with": {"fillfactor": "80"}},
    )


class RetrainingRow(Base):
    """The impact record: which release was trained with the negatives up to a sequence, and how many."""

    __tablename__ = "retrainings"
    use_case: Mapped[str] = mapped_column(primary_key=True)
    release: Mapped[str] = mapped_column(primary_key=True)
    to_sequence: Mapped[int]
    marked: Mapped[int]
    mark_time: Mapped[datetime]
    __table_args__ = (Index("retrainings_by_time", "use_case", "mark_time"),)


class RecordHistoryRow(Base):
    """One row: which history of the record this is; a restored database is another one."""

    __tablename__ = "record_history"
    single: Mapped[bool] = mapped_column(primary_key=True)
    history: Mapped[UUID]


class RetentionProgressRow(Base):
    """How far a rule of retention has come: up to `to_sequence` there is nothing left to do."""

    __tablename__ = "retention_progress"
    rule: Mapped[str] = mapped_column(primary_key=True)
    definition: Mapped[str]
    to_sequence: Mapped[int]


class ChangeMarkRow(Base):
    """Changes below `change_sequence` had ended at `mark_time`."""

    __tablename__ = "change_marks"
    mark_time: Mapped[datetime] = mapped_column(primary_key=True)
    change_sequence: Mapped[int]
