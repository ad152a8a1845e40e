"""What keeps the record going: its clock, its history, what was erased, amended and let go."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from feedback_svc.store.postgres.tables.base import Base


class ChangeClock(Base):
    """One row: what is added to transaction ids to make change sequences (see the migration)."""

    __tablename__ = "change_clock"
    single: Mapped[bool] = mapped_column(primary_key=True)
    sequence_offset: Mapped[int]


class RecordHistoryRow(Base):
    """One row: which history of the record this is; a restored database is another one."""

    __tablename__ = "record_history"
    single: Mapped[bool] = mapped_column(primary_key=True)
    history: Mapped[UUID]


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
