"""Starts ranking_svc: the one place where its parts are wired."""

from __future__ import annotations

import random
import sys
import uuid
from itertools import product
from typing import TYPE_CHECKING

from matchloop import heap
from matchloop.errors import MatchloopError
from matchloop.observe import logs, tracing
from matchloop.observe.metrics import Metrics
from matchloop.observe.release_counters import ReleaseCounters
from matchloop.release.registry import CHALLENGER, CHAMPION, RegistryReader
from matchloop.release.registry_process import RegistryProcess
from matchloop.release.slot import ReleaseSlot
from matchloop.release.slots import close_all, start_all
from matchloop.release.watch import RegistryWatch
from matchloop.rpc import spans
from matchloop.rpc.channel import open_channel
from matchloop.rpc.server import Server
from matchloop.rpc.settings import read_settings
from matchloop.rpc.validation import utc_now
from matchloop.usecase import load_use_cases
from ranking_svc.archive import Archive
from ranking_svc.domain import Part
from ranking_svc.experiments import Experiments
from ranking_svc.exploration import policies
from ranking_svc.ordering import Ordering
from ranking_svc.pipeline import Pipeline
from ranking_svc.popular import PopularLists
from ranking_svc.releases import RankingPart, Releases, answers, loader
from ranking_svc.results import ExperimentResults
from ranking_svc.served import Served
from ranking_svc.servicer import RankingServicer, service
from ranking_svc.session_log import SessionLog
from ranking_svc.settings import RankingSettings
from ranking_svc.spool import Spool
from ranking_svc.tracing import Tracer
from ranking_svc.upstream import (
    CANDIDATE_CALLS,
    FEEDBACK_CALLS,
    CandidateClient,
    FeedbackClient,
    OperationsClient,
)

if TYPE_CHECKING:
    from matchloop.usecase import UseCases
    from ranking_svc.domain import Clock

POPULAR_FOLDER = "popular"
RELEASES_FOLDER = "releases"
EXPERIMENTS_FOLDER = "experiments"
CLOSE_SECONDS = 1.0
"""Longest wait for a thread that may be in the middle of a call, at shutdown."""


def build(settings: RankingSettings, registry: RegistryReader | None, *, clock: Clock = utc_now) -> Server:
    """Wire a server; its background threads are started, it does not listen yet.

    Parameters
    ----------
    registry
        None: no release is served.
    clock
        Time in UTC, for everything but timeouts.
    """
    use_cases = load_use_cases(*settings.use_case_folders)
    exploration = policies(use_cases, shares=settings.exploration_shares, reach=settings.exploration_reach)
    metrics = Metrics()
    for use_case, part in product(use_cases, Part):
        metrics.degraded.labels(use_case, part.value)
    to_candidates = open_channel(settings.candidate_address, idempotent=CANDIDATE_CALLS)
    to_feedback = open_channel(settings.feedback_address, idempotent=FEEDBACK_CALLS)
    candidates = CandidateClient(
        to_candidates,
        metrics,
        timeout_seconds=settings.candidate_timeout_seconds,
        reserve_seconds=settings.session_reserve_seconds,
    )
    feedback = FeedbackClient(to_feedback, metrics, session_seconds=settings.session_timeout_seconds)
    spool = Spool(settings.spool, max_records=settings.spool_max_sessions, max_bytes=settings.spool_max_bytes)
    session_log = SessionLog(feedback, spool, metrics, rng=random.Random())  # noqa: S311 - spreads pauses
    popular = PopularLists(
        use_cases,
        candidates,
        feedback,
        settings.cache / POPULAR_FOLDER,
        refresh_seconds=settings.popular_refresh_seconds,
    )
    slots, challengers = _slots(settings, registry, use_cases, metrics, clock)
    releases = Releases(slots, challengers)
    operations = OperationsClient(to_feedback, metrics)
    experiments = Experiments(
        tuple(use_cases),
        operations,
        settings.cache / EXPERIMENTS_FOLDER,
        poll_seconds=settings.experiment_poll_seconds,
        after_poll=lambda: results.show(),
    )
    results = ExperimentResults(
        operations,
        metrics,
        tuple(use_cases),
        experiments.running,
        gauge_seconds=settings.experiment_gauge_seconds,
    )
    pipeline = Pipeline(
        candidates=candidates,
        subjects=feedback,
        popular=popular,
        ordering=Ordering(use_cases, releases),
        session_log=session_log,
        metrics=metrics,
        clock=clock,
        new_id=lambda: str(uuid.uuid4()),
        experiments=experiments,
        served=Served(metrics),
        exploration=exploration,
    )
    tracer = Tracer(feedback, releases, Archive(registry) if registry is not None else None, metrics)
    servicer = RankingServicer(pipeline, tracer, results, use_cases, clock)
    server = Server(settings, [service(servicer)], metrics=metrics)
    session_log.start()
    server.on_flush("session_log", session_log.close)
    popular.start()
    server.on_flush("popular_lists", lambda: popular.close(CLOSE_SECONDS))
    experiments.start()
    server.on_flush("experiments", lambda: experiments.close(CLOSE_SECONDS))
    every_slot = (*slots.values(), *challengers.values())
    start_all(every_slot, wait_seconds=settings.release_wait_seconds)
    server.on_flush("release_slots", lambda: close_all(every_slot, timeout=CLOSE_SECONDS))
    for channel in (to_candidates, to_feedback):
        server.on_flush("channel", channel.close)
    return server


def _slots(
    settings: RankingSettings,
    registry: RegistryReader | None,
    use_cases: UseCases,
    metrics: Metrics,
    clock: Clock,
) -> tuple[dict[str, ReleaseSlot[RankingPart]], dict[str, ReleaseSlot[RankingPart]]]:
    """Return the slots that serve and, where those follow the champion, the challengers'."""
    if registry is None:
        return {}, {}
    slot_metrics = ReleaseCounters(metrics, clock, use_cases)
    watch = RegistryWatch(registry, settings.release_poll_seconds)

    def follow(alias: str) -> dict[str, ReleaseSlot[RankingPart]]:
        return {
            use_case.id: ReleaseSlot(
                use_case,
                watch,
                loader(use_case),
                settings.cache / RELEASES_FOLDER,
                settings.release_poll_seconds,
                slot_metrics,
                answers=answers,
                alias=alias,
                keep_before=alias != CHALLENGER,
                clock=clock,
            )
            for use_case in use_cases.values()
        }

    return follow(settings.release_alias), follow(CHALLENGER) if settings.release_alias == CHAMPION else {}


def main() -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code, 2 for settings that can't be used."""
    try:
        heap.share_arenas()
        settings = read_settings(RankingSettings)
        logs.configure_logging(settings.log_level, service="ranking_svc")
        spans.begin("ranking_svc")
        registry = RegistryProcess(settings.registry_uri) if settings.registry_uri else None
        server = build(settings, registry)
        if registry is not None:
            server.on_flush("registry", registry.close)
        server.on_flush("traces", tracing.close)
    except (MatchloopError, OSError) as error:
        sys.stderr.write(f"ranking_svc: {error}\n")
        return 2
    return server.run()


if __name__ == "__main__":
    sys.exit(main())
