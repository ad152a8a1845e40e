"""Lists shown, reactions, and the match ledger."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import FetchedValue, Index, SmallInteger, text
from sqlalchemy.dialects.postgresql import ARRAY, REAL
from sqlalchemy.orm import Mapped, mapped_column

from feedback_svc.store.postgres.tables.base import DOUBLES, Base


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
    retrieval_scores: Mapped[list[float | None] | None] = mapped_column(DOUBLES)
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
        Index("interactions_by_session", "session_id", postgresql_where=text("rank > 0")),
    )


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
