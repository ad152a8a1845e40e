"""A snapshot: what the feedback store held at one moment, as Parquet files and a manifest."""

from matchloop.snapshot.entities import entities_of, entity_tables
from matchloop.snapshot.manifest import FileEntry, SnapshotManifest
from matchloop.snapshot.reader import Snapshot, read_snapshot
from matchloop.snapshot.schemas import (
    DISLIKES,
    ENTITIES,
    FEATURES,
    INTERACTIONS,
    MATCHES,
    PARTED,
    SCHEMAS,
    SESSIONS,
    TOMBSTONES,
    MatchState,
    SessionSource,
    Source,
    TableName,
)
from matchloop.snapshot.writer import FileWriter, publish, write_snapshot

__all__ = [
    "DISLIKES",
    "ENTITIES",
    "FEATURES",
    "INTERACTIONS",
    "MATCHES",
    "PARTED",
    "SCHEMAS",
    "SESSIONS",
    "TOMBSTONES",
    "FileEntry",
    "FileWriter",
    "MatchState",
    "SessionSource",
    "Snapshot",
    "SnapshotManifest",
    "Source",
    "TableName",
    "entities_of",
    "entity_tables",
    "publish",
    "read_snapshot",
    "write_snapshot",
]
