"""All that serves, with a large catalogue and a release, for `benchmarks.recommend`."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.recommend_load import Load
from benchmarks.retrieval import index_of, registered
from benchmarks.retrieval_world import EVENTS, USE_CASE, clustered, films, ids, subject, use_case, viewers
from feedback_svc.migrate import migrate
from feedback_svc.store.postgres.database import Database
from matchloop.errors import Unavailable
from matchloop.features import HashingEmbedder
from matchloop.feedback.v1.interaction_pb2 import Interaction
from matchloop.ranking.v1.ranking_service_pb2 import RecommendRequest
from matchloop.rpc.convert import timestamp
from playground.clients import Addresses, Clients
from playground.load import load_entities, record_in_batches
from playground.postgres import EmbeddedPostgres
from playground.processes import ServiceProcess, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from rich.progress import Progress

    from benchmarks.process_usage import Pids
    from matchloop.entities import Entity

SUBJECTS = 500
"""Made-up subjects of each tier."""
STRANGERS = 0.1
"""Share of requests for subjects nobody knows."""
COUNT = 10
START_SECONDS = 300.0
PAGE = 5000
"""Films made at a time."""
AGE_DAYS = 90


@dataclass(frozen=True, slots=True)
class Serving:
    """What runs: gRPC targets of the services and of the empty server, process ids by name."""

    ranking: str
    candidate: str
    feedback: str
    noop: str
    pids: Pids


def requests(rng: np.random.Generator) -> list[RecommendRequest]:
    """Return requests for subjects of every tier, and for strangers, in an order by chance."""
    names: list[str] = [subject(tier, number) for tier in EVENTS for number in range(SUBJECTS)]
    strangers = round(len(names) * STRANGERS / (1.0 - STRANGERS))
    names += [f"stranger-{number}" for number in range(strangers)]
    rng.shuffle(names)
    return [RecommendRequest(use_case=USE_CASE, subject_id=name, count=COUNT) for name in names]


def prepare(folder: Path, items: int, progress: Progress) -> str:
    """Fill the store and the registry in `folder`, unless they are; return the registry's address.

    A filling that was broken off goes on: what is stored already is stored once.
    """
    filled = folder / f"filled-{items}"
    with ExitStack() as stack:
        postgres = stack.enter_context(EmbeddedPostgres(folder / "postgres"))
        migrate(postgres.url())  # what was filled before may be of an earlier schema
        if not filled.is_file():
            (feedback,) = _start(stack, "feedback_svc", folder, [{"DATABASE_URL": postgres.url()}])
            addresses = Addresses(*[feedback.address] * 3)
            _fill(stack.enter_context(Clients(addresses)), items, progress)
            _age(postgres.url())
            filled.touch()
    index, _ = index_of(items, folder)
    recall = index.recall(clustered(200, np.random.default_rng(9)), COUNT)
    return registered(index, recall, items, folder)


def _fill(clients: Clients, items: int, progress: Progress) -> None:
    embedder = HashingEmbedder(use_case().embedding_width)
    task = progress.add_task("films", total=items)
    for first in range(0, items, PAGE):
        load_entities(clients, films(first, min(first + PAGE, items), embedder))
        progress.update(task, completed=min(first + PAGE, items))
    rng, now = np.random.default_rng(21), datetime.now(UTC)
    everyone = _subjects(rng)
    load_entities(clients, everyone)
    task = progress.add_task("reactions")
    record_in_batches(
        clients, _reactions(everyone, ids(items), now, rng), lambda count: progress.advance(task, count)
    )


def _age(url: str) -> None:
    """Let the catalogue be older than the release: what changed shortly before one is embedded anew."""
    database = Database(url, pool_size=1, statement_timeout=START_SECONDS)
    aged = f"UPDATE entities SET update_time = update_time - interval '{AGE_DAYS} days'"  # noqa: S608
    try:
        database.run(lambda connection: connection.exec_driver_sql(aged) and None)
    finally:
        database.close()


def _subjects(rng: np.random.Generator) -> list[Entity]:
    return [
        replace(viewer, key=replace(viewer.key, id=subject(tier, number)))
        for tier in EVENTS
        for number, viewer in enumerate(viewers(SUBJECTS, rng))
    ]


def _reactions(
    everyone: Sequence[Entity], films: Sequence[str], now: datetime, rng: np.random.Generator
) -> Iterator[Interaction]:
    """Give the reactions of subjects, as many as their tier has; films early in the list have most."""
    types = ("view", "view", "click", "like")
    tiers = [tier for tier in EVENTS for _ in range(SUBJECTS)]
    for tier, each in zip(tiers, everyone, strict=True):
        least, most = EVENTS[tier]
        size = int(rng.integers(least, most + 1))
        drawn = dict.fromkeys((rng.random(size) ** 2 * len(films)).astype(int).tolist())
        for at, film in enumerate(drawn):
            yield Interaction(
                interaction_id=f"{each.key.id}-{at}",
                use_case=USE_CASE,
                subject_id=each.key.id,
                item_id=films[film],
                event_type=types[film % len(types)],
                event_time=timestamp(now - timedelta(hours=at)),
            )


@contextmanager
def serving(folder: Path, registry: str, processes: int = 1) -> Iterator[Serving]:
    """Run PostgreSQL, so many processes of each service and the empty server; they serve the release.

    Calls go round the processes of a service, those between services too.
    """
    with ExitStack() as stack:
        postgres = stack.enter_context(EmbeddedPostgres(folder / "postgres"))
        assert postgres.pid is not None
        pids: dict[str, list[int]] = {"postgres": [postgres.pid]}

        def start(name: str, settings: Mapping[str, str], keeps: str = "") -> str:
            own = [{keeps: str(folder / f"{name}-{n}")} if keeps else {} for n in range(processes)]
            started = _start(stack, name, folder, [{**settings, **each} for each in own])
            pids[name.rpartition(".")[2]] = [service.pid for service in started]
            return _target(started)

        noop = start("benchmarks.recommend_noop", {})
        feedback = start("feedback_svc", {"DATABASE_URL": postgres.url()})
        following = {
            "FEEDBACK_ADDRESS": feedback,
            "REGISTRY_URI": registry,
            "RELEASE_WAIT_SECONDS": str(START_SECONDS),
        }
        candidate = start("candidate_svc", following, "CACHE_FOLDER")
        ranking = start("ranking_svc", {**following, "CANDIDATE_ADDRESS": candidate}, "STATE_FOLDER")
        _wait_for_release(ranking, processes)
        yield Serving(ranking, candidate, feedback, noop, pids)


def _start(
    stack: ExitStack, name: str, folder: Path, settings: Sequence[Mapping[str, str]]
) -> list[ServiceProcess]:
    """Start a process for each of `settings`; return them when they serve."""
    prefix = name.rpartition(".")[2].removesuffix("_svc").removeprefix("recommend_").upper()
    started = []
    for number, own in enumerate(settings):
        port = free_port()
        environment = {f"{prefix}_{key}": value for key, value in {**own, "PORT": str(port)}.items()}
        service = ServiceProcess(name, port, environment, folder / f"{name}-{number}.log")
        service.start()
        stack.callback(service.stop)
        started.append(service)
    for service in started:
        service.wait_serving(START_SECONDS)
    return started


def _target(services: Sequence[ServiceProcess]) -> str:
    return "ipv4:" + ",".join(service.address for service in services)


def _wait_for_release(ranking: str, processes: int) -> None:
    """Wait until lists of known subjects come ranked, and of the release's retrieval, from every process."""
    load = Load(ranking, [each for each in requests(np.random.default_rng(4)) if "hot" in each.subject_id])
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up:
        run = load.closed(1, requests=10 * processes)
        if run.requests and not run.seen["unranked"] and run.seen["two_tower"] == run.requests:
            return
        time.sleep(0.2)
    raise Unavailable(f"no release was served in {START_SECONDS:g} s")
