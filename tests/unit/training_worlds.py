"""Snapshots of small worlds, for tests of the training jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from matchloop.entities import Entity, EntityId, EntityKey, Kind, Multi
from matchloop.rerank.scorer import RuleScorer
from matchloop.snapshot import (
    DISLIKES,
    INTERACTIONS,
    SESSIONS,
    Snapshot,
    TableName,
    entity_tables,
    write_snapshot,
)
from matchloop.testing.worlds import Checkerboard
from matchloop.usecase import UseCase, load_use_cases

START = datetime(2026, 1, 1, tzinfo=UTC)
TAKEN = START + timedelta(days=30)
INVESTORS: UseCase = load_use_cases()["investor_startup"]


def interaction(number: int, subject: str, item: str, event: str, **more: Any) -> dict[str, Any]:
    return {
        "sequence": number,
        "interaction_id": f"i{number}",
        "use_case": INVESTORS.id,
        "subject_id": subject,
        "item_id": item,
        "event_type": event,
        "event_time": START + timedelta(minutes=number),
        "receive_time": START + timedelta(minutes=number),
        "source": "recommendation" if "session_id" in more else "organic",
        **more,
    }


def session(
    id_: str,
    subject: str,
    items: Sequence[str],
    scores: Sequence[float],
    features: np.ndarray[Any, Any],
    **more: Any,
) -> dict[str, Any]:
    return {
        "sequence": 0,
        "session_id": id_,
        "use_case": INVESTORS.id,
        "subject_id": subject,
        "reranked": False,
        "source": "ranking",
        "serve_time": START,
        "item_ids": list(items),
        "scores": list(scores),
        "methods": ["content"] * len(items),
        "feature_names": list(INVESTORS.ranking.features),
        "feature_values": features.astype(np.float32).reshape(-1).tolist(),
        **more,
    }


def rule_scores(use_case: UseCase, features: np.ndarray[Any, Any]) -> list[float]:
    """What a release without a ranker scores items of these features, (n, F), with."""
    rows = features.astype(np.float32)
    rule = RuleScorer(use_case)
    diversity = rows[:, use_case.ranking.features.index("diversity")]
    scores: list[float] = rule.final(rule.by_diversity(rows)(diversity)).tolist()
    return scores


def snapshot_of(
    folder: Path,
    entities: Iterable[Entity],
    interactions: Sequence[Mapping[str, Any]] = (),
    sessions: Sequence[Mapping[str, Any]] = (),
    dislikes: Sequence[Mapping[str, Any]] = (),
    *,
    watermark: int | None = None,
) -> Snapshot:
    tables = {
        **entity_tables(entities),
        TableName.INTERACTIONS: pa.Table.from_pylist(list(interactions), INTERACTIONS),
        TableName.SESSIONS: pa.Table.from_pylist(list(sessions), SESSIONS),
        TableName.DISLIKES: pa.Table.from_pylist(list(dislikes), DISLIKES),
    }
    mark = len(interactions) if watermark is None else watermark
    return write_snapshot(folder, tables, watermark=mark, created=TAKEN)


def named(kind: str, ids: Iterable[str], values: Mapping[str, Any] | None = None) -> list[Entity]:
    return [Entity(EntityKey(Kind(kind), EntityId(id_)), values or {}, START, START) for id_ in ids]


def of_checkerboard(folder: Path, world: Checkerboard) -> Snapshot:
    return snapshot_of(
        folder,
        [*world.subjects, *world.items],
        [interaction(n, e.subject, e.item, e.event_type) for n, e in enumerate(world.events)],
    )


def ranked_world(
    folder: Path, *, lists: int = 300, size: int = 5, seed: int = 0, upside_down: bool = False
) -> Snapshot:
    """Lists whose hidden truth is the feature `recency`, while the teacher's score is noise.

    Subjects like what has a high recency; `upside_down` what has a low one. There are as many organic
    interactions again, within colours.
    """
    rng = np.random.default_rng(seed)
    names = INVESTORS.ranking.features
    colours = ("red", "blue")
    investors = [
        e for n in range(30) for e in named("investor", [f"a{n}"], {"tags": Multi((colours[n % 2],))})
    ]
    startups = [e for n in range(40) for e in named("startup", [f"s{n}"], {"tags": Multi((colours[n % 2],))})]
    sessions, reactions = [], []
    for number in range(lists):
        features = rng.random((size, len(names)))
        shown_to = int(rng.integers(30))
        items = [f"s{2 * i + shown_to % 2}" for i in rng.choice(20, size, replace=False)]
        wanted = features[:, names.index("recency")]
        best = int(np.argmin(wanted) if upside_down else np.argmax(wanted))
        serve = START + timedelta(minutes=2 * number)
        subject = f"a{shown_to}"
        sessions.append(
            session(
                f"l{number}",
                subject,
                items,
                sorted(rng.random(size), reverse=True),
                features,
                serve_time=serve,
            )
        )
        reactions.append(
            interaction(2 * number, subject, items[best], "like", session_id=f"l{number}", rank=best + 1)
        )
        a = int(rng.integers(30))
        liked = int(rng.integers(20)) * 2 + a % 2
        reactions.append(interaction(2 * number + 1, f"a{a}", f"s{liked}", "interest"))
    return snapshot_of(folder, [*investors, *startups], reactions, sessions)
