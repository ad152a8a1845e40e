"""ranking_svc over candidate_svc over a fake feedback service, wired as in production, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from candidate_svc import __main__ as candidate_main
from candidate_svc.settings import CandidateSettings
from matchloop.candidate.v1.candidate_service_pb2_grpc import CandidateServiceStub
from matchloop.entities import Entity, Multi
from matchloop.errors import MatchloopError
from matchloop.ranking.v1.ranking_service_pb2_grpc import RankingServiceStub
from matchloop.release import Registry
from matchloop.rpc.channel import call, open_channel
from ranking_svc import __main__ as ranking_main
from ranking_svc.settings import RankingSettings
from tests.candidate_world import FakeStore, developer, event, startups, state, stats
from tests.fake_feedback import fake_feedback


class ServingWorld:
    """Two services and their clients; `store` is what feedback_svc says."""

    def __init__(
        self, folder: Path, registry: Registry | None = None, *, items: Sequence[Entity] | None = None
    ) -> None:
        self.store = FakeStore(page=500)
        self.store.upsert(
            *(startups(40) if items is None else items), developer("d2", categories=Multi(("games",)))
        )
        if items is None:
            self.store.count(*(stats(f"s{n}", views=n, weight=float(n)) for n in range(10)))
        self.store.states["d1"] = state(developer("d1", categories=Multi(("games",))), [event("s2")])
        self._feedback, _ = fake_feedback(self.store)
        self._feedback.start()
        self._candidates = candidate_main.build(
            CandidateSettings(
                feedback_address=self._feedback.address,
                poll_seconds=0.05,
                release_poll_seconds=0.05,
                cache_folder=folder / "candidate",
                grace_seconds=0.0,
            ),
            registry,
        )
        self._candidates.start()
        self._candidates.server.start()
        assert self._candidates.mirror.wait_ready(10.0)
        self._ranking = ranking_main.build(
            RankingSettings(
                candidate_address=self._candidates.server.address,
                feedback_address=self._feedback.address,
                state_folder=folder / "ranking",
                grace_seconds=0.0,
            ),
            registry,
        ).start()
        self._channels = [open_channel(self._candidates.server.address), open_channel(self._ranking.address)]
        self._stubs: tuple[Any, Any] = (
            CandidateServiceStub(self._channels[0]),
            RankingServiceStub(self._channels[1]),
        )

    def call(self, method: str, request: Message) -> Any:
        stub = next(stub for stub in self._stubs if hasattr(stub, method))
        return call(getattr(stub, method), request, upstream="the service", most=20.0)

    def error(self, method: str, request: Message) -> MatchloopError | None:
        """Return what a call is refused with; None when it is answered."""
        try:
            self.call(method, request)
        except MatchloopError as error:
            return error
        return None

    def value(self, name: str, **labels: str) -> float:
        return self._candidates.server.metrics.value(f"matchloop_{name}", **labels)

    def __enter__(self) -> ServingWorld:
        return self

    def __exit__(self, *_: object) -> None:
        for channel in self._channels:
            channel.close()
        self._ranking.stop()
        self._candidates.server.stop()
        self._feedback.stop()
