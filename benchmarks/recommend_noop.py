"""A server that answers `Recommend` with nothing: what `benchmarks.recommend` holds the real one against.

``python -m benchmarks.recommend_noop``, its port in ``NOOP_PORT``. The server is the one every service
starts (threads, limits, interceptors); only the work is missing.
"""

from __future__ import annotations

import sys

from pydantic_settings import SettingsConfigDict

from matchloop.ranking.v1 import ranking_service_pb2 as pb
from matchloop.ranking.v1.ranking_service_pb2_grpc import (
    RankingServiceServicer,
    add_RankingServiceServicer_to_server,
)
from matchloop.rpc.server import Server, Service
from matchloop.rpc.settings import ServerSettings, read_settings


class NoopSettings(ServerSettings):
    """``NOOP_*``: those of every server."""

    model_config = SettingsConfigDict(env_prefix="NOOP_", env_ignore_empty=True, frozen=True)


class _Noop(RankingServiceServicer):
    def Recommend(self, request: object, context: object) -> pb.RecommendResponse:  # noqa: ARG002, N802
        return pb.RecommendResponse()


def main() -> int:
    """Serve until SIGTERM."""
    noop = _Noop()  # type: ignore[abstract]  # the generated base answers for what is not written
    service = Service("matchloop.ranking.v1.RankingService", add_RankingServiceServicer_to_server, noop)
    return Server(read_settings(NoopSettings), [service]).run()


if __name__ == "__main__":
    sys.exit(main())
