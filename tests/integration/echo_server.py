"""A tiny service on the real scaffold: GetEntity does what the kind of its key says.

``python -m tests.integration.echo_server`` runs it as a process, configured by ``ECHO_*``.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import grpc
from pydantic_settings import SettingsConfigDict

from matchloop.catalog.v1 import catalog_service_pb2 as pb
from matchloop.catalog.v1 import catalog_service_pb2_grpc as pb_grpc
from matchloop.errors import InvalidInput, Overloaded, Unavailable, Violation
from matchloop.observe import logs
from matchloop.rpc import deadline
from matchloop.rpc.server import Server, Service
from matchloop.rpc.settings import ServerSettings, read_settings

NAME = "matchloop.catalog.v1.CatalogService"


class EchoSettings(ServerSettings):
    model_config = SettingsConfigDict(env_prefix="ECHO_")


class Echo(pb_grpc.CatalogServiceServicer):
    """Answers with the key, after what `key.kind` asks for."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.seen: dict[str, Any] = {}
        self.calls = 0
        self.away = 0

    def GetEntity(self, request: pb.GetEntityRequest, context: grpc.ServicerContext) -> pb.GetEntityResponse:
        self.calls += 1
        self.seen = {"request_id": logs.request_id.get(), "left": deadline.remaining()}
        match request.key.kind:
            case "work":
                threading.Event().wait(float(request.key.id))
            case "wait":
                self.entered.release()
                self.gate.wait(30)
            case "invalid":
                raise InvalidInput.of(
                    [Violation(f"interactions[{i}].item_id", "is required") for i in range(30)]
                )
            case "away" if self.away > 0:
                self.away -= 1
                raise Unavailable("away")
            case "full":
                raise Overloaded("too much")
            case "bug":
                secret = request.key.id
                raise ValueError(f"about {secret}")
            case "abort":
                context.abort(grpc.StatusCode.DATA_LOSS, "by hand")
        response = pb.GetEntityResponse()
        response.entity.key.CopyFrom(request.key)
        return response


def make_echo() -> Echo:
    return Echo()  # type: ignore[abstract]  # at run time the generated base answers for what is not written


def service(servicer: Echo) -> Service:
    return Service(NAME, pb_grpc.add_CatalogServiceServicer_to_server, servicer)


def tell() -> None:
    sys.stdout.write("flushed\n")
    sys.stdout.flush()


def main() -> int:
    settings = read_settings(EchoSettings)
    logs.configure_logging(settings.log_level, service="echo")
    server = Server(settings, [service(make_echo())])
    server.on_flush("tell", tell)
    return server.run()


if __name__ == "__main__":
    sys.exit(main())
