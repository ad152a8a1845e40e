"""What does security cost a call? ``python -m benchmarks.security --out FILE.json``.

One server for each way of securing it, client and server in this process, one call at a time for the smallest
reply there is: the whole of what both sides add. The ways take turns, so a busy machine slows them alike.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.report import Better, Out, Target, about, targets_table, write_report
from matchloop.catalog.v1 import catalog_service_pb2 as pb
from matchloop.catalog.v1 import catalog_service_pb2_grpc as pb_grpc
from matchloop.rpc.channel import open_channel
from matchloop.rpc.server import Server, Service
from matchloop.rpc.settings import ServerSettings
from playground.local_security import LocalSecurity

if TYPE_CHECKING:
    from collections.abc import Callable

SERVICE = "matchloop.catalog.v1.CatalogService"
WAYS: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "TLS": ("TLS_CERT_FILE", "TLS_KEY_FILE"),
    "TLS of both sides": ("TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_CLIENT_CA_FILE"),
    "and tokens": ("TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_CLIENT_CA_FILE", "TOKENS_FILE"),
    "and a rate": ("TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_CLIENT_CA_FILE", "TOKENS_FILE"),
}
RATE = 1e6
BOUND_MICROS = 150.0

console = Console()


class _Echo(pb_grpc.CatalogServiceServicer):
    def GetEntity(self, request: pb.GetEntityRequest, context: object) -> pb.GetEntityResponse:  # noqa: ARG002, N802
        return pb.GetEntityResponse()


def main(
    out: Out = None,
    rounds: Annotated[int, typer.Option(min=3)] = 20,
    calls: Annotated[int, typer.Option(min=10, help="Of each way in each round.")] = 500,
) -> None:
    """Time calls in each way, print and write what each way adds to the one before."""
    told = about()
    with ExitStack() as running, tempfile.TemporaryDirectory() as folder:
        security = LocalSecurity(Path(folder))
        security.make()
        ways = {way: _caller(running, security, way) for way in WAYS}
        found: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds + 1):  # the first warms up
            for way, ask in ways.items():
                found[way].append(_median_micros(ask, calls))
    micros = {way: each[1:] for way, each in found.items()}
    added = [all_ - none for all_, none in zip(micros["and a rate"], micros["nothing"], strict=True)]
    target = Target("added_micros", median(added), BOUND_MICROS, Better.LOWER, min(added), max(added))
    table = Table(
        "secured by", "median of a call, µs", "least", "most", title=f"{rounds} rounds of {calls} calls"
    )
    for way, each in micros.items():
        table.add_row(way, *(f"{value:.0f}" for value in (median(each), min(each), max(each))))
    console.print(table)
    console.print(targets_table("everything on, against nothing", [target]))
    write_report(out, told, {"median_micros": {way: median(each) for way, each in micros.items()}}, [target])


def _caller(running: ExitStack, security: LocalSecurity, way: str) -> Callable[[], object]:
    serving = security.serving("feedback_svc")
    settings: dict[str, Any] = {name.lower(): serving[name] for name in WAYS[way]}
    if way == "and a rate":
        settings["rate_per_client"] = RATE
    add = pb_grpc.add_CatalogServiceServicer_to_server
    echo = _Echo()  # type: ignore[abstract]  # at run time the generated base answers for what is not written
    server = Server(ServerSettings.model_validate(settings), [Service(SERVICE, add, echo)])
    running.enter_context(server)
    credentials = security.credentials() if settings else None
    channel = running.enter_context(
        open_channel(server.address, own_connection=True, credentials=credentials)
    )
    get, request = pb_grpc.CatalogServiceStub(channel).GetEntity, pb.GetEntityRequest()
    return lambda: get(request, timeout=10.0)


def _median_micros(ask: Callable[[], object], calls: int) -> float:
    taken = []
    for _ in range(calls):
        begun = time.perf_counter()
        ask()
        taken.append(time.perf_counter() - begun)
    return median(taken) * 1e6


if __name__ == "__main__":
    typer.run(main)
