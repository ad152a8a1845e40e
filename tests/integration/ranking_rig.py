"""ranking_svc as it is wired, its neighbours, and a client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matchloop.candidate.v1 import candidate_pb2
from matchloop.ranking.v1 import ranking_service_pb2 as pb
from matchloop.ranking.v1 import ranking_service_pb2_grpc
from matchloop.release.registry import Registry
from matchloop.rpc.channel import call, open_channel
from matchloop.testing.registries import FolderRegistry
from ranking_svc.__main__ import build
from ranking_svc.settings import RankingSettings
from tests.integration.ranking_neighbours import (
    make_candidates,
    make_feedback,
    make_operations,
    serve_candidates,
    serve_feedback,
)
from tests.ranking_world import MOVIE


class Rig:
    """The service, its neighbours and a client; `served_from` is a registry in place of its own."""

    def __init__(self, folder: Path, *, served_from: Registry | None = None, **changes: Any) -> None:
        self.candidates, self.feedback = make_candidates(), make_feedback()
        self.operations = make_operations()
        self.neighbours = [
            serve_candidates(self.candidates),
            serve_feedback(self.feedback, operations=self.operations),
        ]
        self.popular = folder / "cache" / "popular" / f"{MOVIE.id}.json"
        self.registry = FolderRegistry(folder / "registry")
        options = {
            "candidate_address": self.neighbours[0].address,
            "feedback_address": self.neighbours[1].address,
            "state_folder": folder,
            "candidate_timeout_seconds": 1.0,
            "session_timeout_seconds": 0.3,
            "release_poll_seconds": 0.02,
            "popular_refresh_seconds": 0.05,
            "experiment_poll_seconds": 0.02,
            "experiment_gauge_seconds": 0.02,
            "grace_seconds": 0.0,
            **changes,
        }
        self.server = build(RankingSettings(**options), served_from or self.registry).start()
        self.channel = open_channel(self.server.address)
        self.stub = ranking_service_pb2_grpc.RankingServiceStub(self.channel)

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, *_: object) -> None:
        self.candidates.gate.set()
        self.feedback.gate.set()
        self.channel.close()
        self.server.stop()
        for neighbour in self.neighbours:
            neighbour.stop()

    def recommend(self, most: float = 5.0, **fields: Any) -> pb.RecommendResponse:
        request = pb.RecommendRequest(**{"use_case": MOVIE.id, "subject_id": "u1", **fields})
        return call(self.stub.Recommend, request, upstream="ranking_svc", most=most)

    def rank(self, *items: str, **fields: Any) -> pb.RankResponse:
        request = pb.RankRequest(use_case=MOVIE.id, subject_id="u1", **fields)
        request.items.extend(pb.RankItem(item_id=item) for item in items)
        return call(self.stub.Rank, request, upstream="ranking_svc")

    def trace(self, session_id: str) -> pb.TraceResponse:
        request = pb.TraceRequest(session_id=session_id)
        return call(self.stub.Trace, request, upstream="ranking_svc")

    def value(self, name: str, **labels: str) -> float:
        return self.server.metrics.value(f"matchloop_{name}", **labels)


def filter_of(feature: str = "genres", **test: Any) -> candidate_pb2.FeatureFilter:
    return candidate_pb2.FeatureFilter(feature=feature, **test)


def one_of(*values: str) -> candidate_pb2.FeatureFilter:
    message = candidate_pb2.FeatureFilter(feature="genres")
    getattr(message, "in").values.extend(values)
    getattr(message, "in").SetInParent()
    return message
