"""The lists of a snapshot that a release's baseline is made of."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ibis
import numpy as np

from matchloop.snapshot import SessionSource
from training_jobs.datasets.shown import shown_items
from training_jobs.drift.lists import Lists

if TYPE_CHECKING:
    from matchloop.usecase import UseCase
    from training_jobs.config import TriggerConfig
    from training_jobs.datasets.tables import SnapshotTables, Table


def latest_lists(tables: SnapshotTables, use_case: UseCase, config: TriggerConfig) -> Lists:
    """Return a snapshot's latest lists that were ranked by features, with them.

    Those of `config.drift_days` before the last one, or the latest `drift_least_lists` where there are fewer;
    at most `drift_lists` of them, by the hash of their id. The latest, not all: a retraining then
    takes what has changed for what is usual, and drift is told from there.
    """
    own = tables.sessions.filter(
        tables.sessions.use_case == use_case.id,
        tables.sessions.source == SessionSource.RANKING.value,
        tables.sessions.feature_names.join(",") == ",".join(use_case.ranking.features),
    )
    age = ibis.row_number().over(ibis.window(order_by=[own.serve_time.desc(), own.session_id]))
    own = own.mutate(age=age, newest=own.serve_time.max().over(ibis.window()))
    within = own.serve_time >= own.newest - ibis.interval(seconds=int(config.drift_days * 86_400))
    chosen = own.filter(within | (own.age < config.drift_least_lists))
    chosen = chosen.order_by([chosen.session_id.hash(), chosen.session_id]).limit(config.drift_lists)
    shown = shown_items(replace(tables, sessions=chosen.select(*tables.sessions.columns)), use_case)
    return _lists(shown.filter(shown.has_features), use_case)


def _lists(shown: Table, use_case: UseCase) -> Lists:
    found = shown.order_by(["serve_time", "session_id", "rank"]).to_pyarrow()
    names = use_case.ranking.features
    flat = found["features"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    times = found["serve_time"].to_pylist()
    return Lists(
        names=names,
        features=flat.astype(np.float32).reshape(-1, len(names)),
        score=found["recommendation_score"].to_numpy().astype(np.float32),
        method=np.array(found["method"].to_pylist(), dtype=object),
        subject=_numbered(found["subject_id"]),
        session=_numbered(found["session_id"]),
        first=times[0] if times else None,
        last=times[-1] if times else None,
    ).ranked()


def _numbered(column: Any) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    codes = column.combine_chunks().dictionary_encode().indices.to_numpy()
    return np.asarray(codes, dtype=np.int64)
