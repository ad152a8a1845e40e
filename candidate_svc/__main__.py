"""``python -m candidate_svc``: the one place where candidate_svc is put together."""

from __future__ import annotations

import gc
import os
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

from candidate_svc.client import FeedbackClient, connect
from candidate_svc.erasures import Erasures
from candidate_svc.kept import KeptMirror
from candidate_svc.methods import Content, methods_of
from candidate_svc.mirror import Mirror
from candidate_svc.popularity import LivePopularity
from candidate_svc.released import Models, ReleaseLoader, answers
from candidate_svc.retrieve import Retriever
from candidate_svc.servicer import SERVICE, CandidateServicer, service
from candidate_svc.settings import CandidateSettings
from candidate_svc.states import RememberedStates
from matchloop import heap
from matchloop.entities import Kind
from matchloop.errors import InvalidInput
from matchloop.features import load_embedder
from matchloop.observe import faults, tracing
from matchloop.observe.logs import configure_logging, get_logger
from matchloop.observe.metrics import Metrics
from matchloop.observe.release_counters import ReleaseCounters
from matchloop.release import CHALLENGER, CHAMPION, RegistryProcess, ReleaseSlot
from matchloop.release.slots import close_all, settle_all
from matchloop.release.watch import RegistryWatch
from matchloop.rpc import deadline, spans
from matchloop.rpc.server import Server
from matchloop.rpc.settings import read_settings
from matchloop.rpc.validation import utc_now
from matchloop.usecase import load_use_cases

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    import grpc

    from matchloop.release import RegistryReader
    from matchloop.release.slot import Loaded
    from matchloop.usecase import UseCase

    Clock = Callable[[], datetime]

YOUNG_OBJECTS = 10_000
"""Garbage is looked for when so many objects more than went have come: a list makes and drops thousands."""

_log = get_logger()


@dataclass(frozen=True, slots=True)
class Application:
    """Everything that runs, wired; nothing runs before `start`."""

    settings: CandidateSettings
    server: Server
    mirror: Mirror
    slots: Sequence[ReleaseSlot[Models]]
    channel: grpc.Channel
    restored: threading.Event

    def start(self) -> None:
        """Start polling; health says SERVING once the catalogue was listed and the registry was asked."""
        threading.Thread(target=self._become_ready, name="startup", daemon=True).start()

    def _become_ready(self) -> None:
        for slot in self.slots:
            slot.begin()
        try:
            self.mirror.restore()
        except ValueError as error:  # what broke off is gone: the next start lists everything
            _log.critical("stopping", fault=faults.said(error))
            os._exit(3)
        self.restored.set()
        self.mirror.start()
        waiting = settle_all(self.slots, wait_seconds=self.settings.release_wait_seconds)
        if waiting:
            _log.warning("serving before the registry answered", slots=waiting)
        while not self.mirror.wait_ready(timeout=60.0):
            _log.warning("the catalogue has not been read yet", stale=self.mirror.staleness())
        heap.settle()
        gc.set_threshold(YOUNG_OBJECTS)
        self.server.set_serving(SERVICE, True)

    def close(self) -> None:
        """Stop polling, close the channel."""
        self.mirror.close()
        close_all(self.slots, timeout=1.0)
        self.channel.close()


def build(
    settings: CandidateSettings, registry: RegistryReader | None = None, *, clock: Clock = utc_now
) -> Application:
    """Wire candidate_svc.

    Parameters
    ----------
    registry
        In place of the one at `settings.registry_uri`.
    clock
        Time in UTC, for everything but timeouts.
    """
    metrics = Metrics()
    use_cases = load_use_cases(*settings.use_case_folders)
    own = RegistryProcess(settings.registry_uri) if registry is None and settings.registry_uri else None
    registry = registry or own
    watch = RegistryWatch(registry, settings.release_poll_seconds) if registry is not None else None
    channel = connect(settings.feedback_address)
    client = FeedbackClient(
        channel,
        metrics,
        lookup_seconds=settings.lookup_seconds,
        list_seconds=settings.list_seconds,
        entities_page=settings.entities_page,
        stats_page=settings.stats_page,
    )
    erasures = Erasures()
    mirror = Mirror(client, use_cases, clock=clock, metrics=metrics, poll_seconds=settings.poll_seconds)
    restored = threading.Event()
    contents = {
        use_case.id: Content(use_case, load_embedder(None, use_case.embedding_width))
        for use_case in use_cases.values()
    }
    slots: list[ReleaseSlot[Models]] = []
    retrievers = {
        use_case.id: _retriever(
            use_case,
            settings,
            mirror,
            contents[use_case.id],
            erasures,
            metrics,
            watch,
            slots,
            clock,
            restored,
        )
        for use_case in use_cases.values()
    }
    indexes = {name: contents[name].index for name in retrievers}
    mirror.keeper = KeptMirror(settings.cache_folder, use_cases, indexes)
    kinds = {use_case.id: Kind(use_case.subject) for use_case in use_cases.values()}
    states = RememberedStates(client, kinds, seconds=settings.state_seconds, most=settings.states_kept)
    mirror.subscribe_to_erasures(erasures)
    mirror.subscribe_to_erasures(states)
    servicer = CandidateServicer(use_cases, retrievers, states, ready=lambda: mirror.ready, clock=clock)
    server = Server(settings, [service(servicer)], metrics=metrics, serving=False)
    application = Application(settings, server, mirror, slots, channel, restored)
    server.on_flush("stop polling", application.close)
    if own is not None:
        server.on_flush("registry", own.close)
    return application


def _retriever(
    use_case: UseCase,
    settings: CandidateSettings,
    mirror: Mirror,
    content: Content,
    erasures: Erasures,
    metrics: Metrics,
    registry: RegistryWatch | None,
    slots: list[ReleaseSlot[Models]],
    clock: Clock,
    restored: threading.Event,
) -> Retriever:
    rows, counts = mirror.rows[use_case.item], mirror.counts[use_case.id]
    embedder = load_embedder(None, use_case.embedding_width)
    loader = ReleaseLoader(use_case, rows, embedder, rows_there=restored)
    mirror.subscribe(content)
    mirror.subscribe(loader)
    counters = ReleaseCounters(metrics, clock, [use_case.id])

    def follow(alias: str) -> Callable[[], Loaded[Models] | None]:
        if registry is None:
            return lambda: None
        slot = ReleaseSlot(
            use_case,
            registry,
            loader.load,
            settings.cache_folder,
            settings.release_poll_seconds,
            counters,
            answers=answers,
            alias=alias,
            keep_before=alias != CHALLENGER,
            clock=clock,
        )
        slots.append(slot)
        return slot.current

    return Retriever(
        use_case,
        rows,
        counts,
        methods_of(content, LivePopularity(counts)),
        content=content,
        release=follow(settings.release_alias),
        challenger=follow(CHALLENGER) if settings.release_alias == CHAMPION else lambda: None,
        clock=clock,
        metrics=metrics,
        remaining=deadline.remaining,
        erased=lambda subject: erasures.time(use_case.subject, subject),
    )


def main() -> int:
    """Serve until SIGTERM; returns the exit code."""
    try:
        heap.share_arenas()
        settings = read_settings(CandidateSettings)
        configure_logging(settings.log_level, service="candidate_svc")
        spans.begin("candidate_svc")
        # A request's matrices are small and requests run side by side: threads within one would only wait.
        threadpool_limits(limits=1, user_api="blas")
        application = build(settings)
        application.server.on_flush("traces", tracing.close)
    except InvalidInput as error:
        sys.stderr.write(f"{error.message}\n")
        return 2
    application.start()
    return application.server.run()


if __name__ == "__main__":
    sys.exit(main())
