"""The tables. Migrations make them; a test holds the two together."""

from feedback_svc.store.postgres.tables.base import Base
from feedback_svc.store.postgres.tables.catalog import EntityRow, ItemStatsRow, SubjectCountRow
from feedback_svc.store.postgres.tables.dislikes import DislikeRow, RetrainingRow, WeightFactorRow
from feedback_svc.store.postgres.tables.operations import ActRow, ExperimentRow, LeaseRow
from feedback_svc.store.postgres.tables.record import InteractionRow, MatchRow, SessionRow
from feedback_svc.store.postgres.tables.upkeep import (
    AmendmentRow,
    ChangeClock,
    ChangeMarkRow,
    RecordHistoryRow,
    RetentionProgressRow,
    TombstoneRow,
    UseCaseKindsRow,
)

__all__ = [
    "ActRow",
    "AmendmentRow",
    "Base",
    "ChangeClock",
    "ChangeMarkRow",
    "DislikeRow",
    "EntityRow",
    "ExperimentRow",
    "InteractionRow",
    "ItemStatsRow",
    "LeaseRow",
    "MatchRow",
    "RecordHistoryRow",
    "RetentionProgressRow",
    "RetrainingRow",
    "SessionRow",
    "SubjectCountRow",
    "TombstoneRow",
    "UseCaseKindsRow",
    "WeightFactorRow",
]
