"""How long it takes to sum up what came of a week's lists, and what the index for that costs.

``python -m benchmarks.list_reactions --out FILE.json [--lists 1000000]``

Embedded PostgreSQL with the settings it ships with, and the store as feedback_svc has it. The lists (10
items, 5 features, spread evenly over a week, two arms) and their reactions (1.2 a list on average) are made
in SQL; half as many lists again come after the week. The sums are asked for over the week, a day, an hour.

The cost: batches of 500 reactions, all of them to lists, go in turn into two databases of which one has no
index from a list to its reactions.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from benchmarks.report import Out, about, write_report
from feedback_svc.interactions import EventFacts, Interaction, facts_of
from feedback_svc.migrate import migrate
from feedback_svc.operations.reactions import ReactionKinds, ServedLists
from feedback_svc.sessions import Session, SessionSource
from feedback_svc.store.postgres import PostgresStore
from feedback_svc.store.postgres.database import Database
from matchloop.usecase import Method, Tier, load_use_cases
from playground.postgres import EmbeddedPostgres

USE_CASE = "investor_startup"
START = datetime(2026, 1, 5, tzinfo=UTC)
SPANS = {"week": timedelta(days=7), "day": timedelta(days=1), "hour": timedelta(hours=1)}
REPEATS, BATCHES, WARM_UP, LISTS = 5, 120, 40, 5000
FILL_SECONDS = 3600.0

# What is not read here would take most of the time of filling.
UNREAD = "DROP INDEX sessions_by_item, sessions_by_subject, interactions_by_item, interactions_hiding"
FILL_LISTS = """
INSERT INTO sessions (session_id, use_case, subject_id, release, arm, tier, reranked, source, serve_time,
    receive_time, sequence, feature_names, item_ids, scores, methods, feature_values)
SELECT gen_random_uuid()::text, 'investor_startup', 's' || floor(random() ^ 2 * %(lists)s / 7)::int,
    CASE WHEN n %% 10 < 7 THEN 'r1' ELSE 'r2' END,
    CASE WHEN n %% 10 < 7 THEN 'champion' ELSE 'challenger' END, 'warm', true, 'ranking', at.time, at.time,
    (n + 1000)::bigint << 9, '{model_score,recency,popularity,diversity,original_score}',
    ARRAY(SELECT 'startup-' || ((n::bigint * 7919 + k * 104729) %% 20000) FROM generate_series(1, 10) AS k),
    ARRAY(SELECT 1.0 / k FROM generate_series(1, 10) AS k), array_fill('als'::text, ARRAY[10]),
    ARRAY(SELECT random()::real FROM generate_series(1, 50) AS k WHERE n > 0)
FROM generate_series(1, %(lists)s * 3 / 2) AS n
CROSS JOIN LATERAL (SELECT %(start)s + n * interval '7 days' / %(lists)s AS time) AS at
"""
FILL_REACTIONS = """
INSERT INTO interactions (sequence, interaction_id, use_case, subject_id, item_id, event_type, event_time,
    receive_time, hides, session_id, rank, score, method, release)
SELECT ((row_number() OVER ()) + 10000000)::bigint << 9, gen_random_uuid()::text, s.use_case, s.subject_id,
    s.item_ids[r.rank],
    (ARRAY['view', 'view', 'click', 'click', 'like', 'dislike'])[1 + floor(random() * 6)::int],
    s.serve_time, s.serve_time, false, s.session_id, r.rank, 0.5, 'als', s.release
FROM (SELECT * FROM sessions ORDER BY serve_time) AS s
CROSS JOIN LATERAL (
    SELECT 1 + floor(random() * 10)::int AS rank
    FROM generate_series(1, round(random() * 2.4 + 0 * length(s.session_id))::int)
) AS r
"""
console = Console()


def opened(server: EmbeddedPostgres, name: str) -> PostgresStore:
    """Return a store over a new database."""
    url = server.create_database(name)
    migrate(url)
    return PostgresStore(Database(url, pool_size=1, statement_timeout=FILL_SECONDS))


def run(store: PostgresStore, statement: str, parameters: dict[str, object] | None = None) -> None:
    """Run a statement of our own."""
    store._database.run(lambda c: c.exec_driver_sql(statement, parameters or {}) and None)


def seconds_by_span(store: PostgresStore, lists: int) -> dict[str, list[float]]:
    """Return how long the sums took, each repeat, by span."""
    run(store, UNREAD)
    run(store, FILL_LISTS, {"lists": lists, "start": START})
    run(store, FILL_REACTIONS)
    run(store, "VACUUM (ANALYZE)")
    kinds = ReactionKinds.of(load_use_cases()[USE_CASE])
    found: dict[str, list[float]] = {}
    for name, span in SPANS.items():
        which = ServedLists(USE_CASE, START, START + span)
        found[name] = [_seconds(store, which, kinds) for _ in range(REPEATS)]
    return found


def _seconds(store: PostgresStore, which: ServedLists, kinds: ReactionKinds) -> float:
    begin = time.perf_counter()
    store.sum_reactions(which, kinds)
    return round(time.perf_counter() - begin, 3)


def milliseconds_a_batch(stores: dict[str, PostgresStore]) -> dict[str, float]:
    """Return the median time of a batch by store."""
    random, facts = np.random.default_rng(7), facts_of(load_use_cases()[USE_CASE])["click"]
    items = tuple(f"i{n}" for n in range(10))
    ids = [str(uuid.UUID(bytes=random.bytes(16))) for _ in range(LISTS)]
    for store in stores.values():
        for first in range(0, LISTS, 100):
            store.record_sessions([_shown(id_, items) for id_ in ids[first : first + 100]], now=START)
    taken: dict[str, list[float]] = {name: [] for name in stores}
    for turn in range(BATCHES + WARM_UP):
        batch = [
            Interaction(
                str(uuid.UUID(bytes=random.bytes(16))),
                USE_CASE,
                "s",
                items[int(random.integers(10))],
                "click",
                START,
                ids[at],
            )
            for at in random.integers(LISTS, size=500)
        ]
        for name in list(stores)[:: 1 if turn % 2 else -1]:
            taken[name].append(_seconds_to_record(stores[name], batch, facts))
    return {name: round(1e3 * float(np.median(each[WARM_UP:])), 2) for name, each in taken.items()}


def _seconds_to_record(store: PostgresStore, batch: list[Interaction], facts: EventFacts) -> float:
    begin = time.perf_counter()
    store.record_interactions(batch, [facts] * len(batch), now=START)
    return time.perf_counter() - begin


def _shown(id_: str, items: tuple[str, ...]) -> Session:
    return Session(
        session_id=id_,
        use_case=USE_CASE,
        subject_id="s",
        release="r1",
        arm="",
        tier=Tier.WARM,
        reranked=True,
        source=SessionSource.RANKING,
        serve_time=START,
        feature_names=(),
        item_ids=items,
        scores=(0.5,) * len(items),
        methods=(Method.ALS,) * len(items),
        propensities=(0.0,) * len(items),
        feature_values=(),
    )


def main(
    out: Out = None,
    lists: Annotated[int, typer.Option(min=1000, help="Lists in the week.")] = 1_000_000,
) -> None:
    """Measure, and write the figures."""
    told = about()
    with tempfile.TemporaryDirectory(prefix="reactions-") as folder:
        Path(folder).chmod(0o755)
        with EmbeddedPostgres(Path(folder) / "data") as server:
            stores = {name: opened(server, name) for name in ("indexed", "bare", "filled")}
            filled = stores.pop("filled")
            run(stores["bare"], "DROP INDEX interactions_by_session")
            figures = {
                "lists": lists,
                "batch_of_500_ms": milliseconds_a_batch(stores),
                "seconds": seconds_by_span(filled, lists),
            }
            for store in (filled, *stores.values()):
                store.close()
            server.stop()
    write_report(out, told, figures)
    console.print(figures)


if __name__ == "__main__":
    typer.run(main)
