"""``python -m matchloop.rpc.probe HOST:PORT [SERVICE]``: exit code 0 if the health there says SERVING.

For containers: Docker's health check, and Kubernetes' probes where TLS keeps the kubelet's own from asking.
Whom to trust and what to show comes from the environment, as for every client.
"""

from __future__ import annotations

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from matchloop.errors import MatchloopError
from matchloop.rpc.channel import open_channel

SECONDS = 5.0
USAGE = 2


def probe(address: str, service: str = "") -> str:
    """Return what the health of a service is, in one word; ``""`` is the server as a whole."""
    with open_channel(address) as channel:
        try:
            request = health_pb2.HealthCheckRequest(service=service)
            reply = health_pb2_grpc.HealthStub(channel).Check(request, timeout=SECONDS)
        except grpc.RpcError as error:
            return str(error.code().name)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))


def main(arguments: list[str]) -> int:
    """Print what was found; 0: SERVING, 1: not, 2: asked in a way that cannot be answered."""
    if not 1 <= len(arguments) <= 2:
        sys.stderr.write(f"{__doc__}\n")
        return USAGE
    try:
        found = probe(*arguments)
    except MatchloopError as error:
        sys.stderr.write(f"{error.message}\n")
        return USAGE
    sys.stdout.write(f"{found}\n")
    return 0 if found == "SERVING" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
