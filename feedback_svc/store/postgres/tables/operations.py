"""What jobs and operators keep: leases, acts, experiments. None holds an id of a subject or an item."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from feedback_svc.store.postgres.tables.base import DOUBLES, Base


class LeaseRow(Base):
    """Who has the right to do something alone; one that has expired is nobody's."""

    __tablename__ = "leases"
    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    acquire_time: Mapped[datetime]
    expire_time: Mapped[datetime]
    __table_args__ = ({"postgresql_with": {"fillfactor": "50"}},)


class ActRow(Base):
    """Something done; the arrays run in step, and null stands for no threshold."""

    __tablename__ = "acts"
    act_id: Mapped[str] = mapped_column(primary_key=True)
    use_case: Mapped[str]
    kind: Mapped[str]
    automatic: Mapped[bool]
    release: Mapped[str]
    reason: Mapped[str]
    number_names: Mapped[list[str]]
    number_values: Mapped[list[float]]
    thresholds: Mapped[list[float | None]] = mapped_column(DOUBLES)
    act_time: Mapped[datetime]
    __table_args__ = (
        Index("acts_by_time", "act_time", "act_id"),
        Index("acts_by_use_case", "use_case", "act_time", "act_id"),
    )


class ExperimentRow(Base):
    """A comparison of two releases; it runs while `stop_time` is null, at most one in a use case."""

    __tablename__ = "experiments"
    experiment_id: Mapped[str] = mapped_column(primary_key=True)
    use_case: Mapped[str]
    challenger_share: Mapped[float]
    champion_release: Mapped[str]
    challenger_release: Mapped[str]
    start_time: Mapped[datetime]
    stop_time: Mapped[datetime | None]
    stop_reason: Mapped[str]
    __table_args__ = (
        Index("experiments_running", "use_case", unique=True, postgresql_where=text("stop_time IS NULL")),
        Index("experiments_by_start", "use_case", text("(stop_time IS NULL)"), "start_time", "experiment_id"),
    )
