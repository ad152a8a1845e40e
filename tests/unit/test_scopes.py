"""Every method of the contract says what its caller needs; nobody may call one that does not."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from matchloop.errors import ScopeMissing
from matchloop.observe.metrics import Metrics
from matchloop.rpc.guard import Guard, scopes_of
from matchloop.rpc.tokens import Holder, Scope, hash_of

PROTOS = Path(__file__).parents[2] / "protos"
ADMIN = {
    "EraseEntity",
    "MarkNegativesUsed",
    "AcquireLease",
    "ReleaseLease",
    "RecordAct",
    "StartExperiment",
    "StopExperiment",
}
WRITES = {
    "RecordSessions": Scope.FEEDBACK,
    "RecordInteractions": Scope.FEEDBACK,
    "RecordDislike": Scope.FEEDBACK,
    "UpsertEntities": Scope.CATALOGUE,
    "DeactivateEntities": Scope.CATALOGUE,
} | dict.fromkeys(ADMIN, Scope.ADMIN)


def services() -> list[str]:
    """Return every service that protos/ defines."""
    found: list[str] = []
    for file in sorted(PROTOS.rglob("*_service.proto")):
        module = file.relative_to(PROTOS).with_suffix("").as_posix().replace("/", ".") + "_pb2"
        found += [
            each.full_name for each in importlib.import_module(module).DESCRIPTOR.services_by_name.values()
        ]
    return found


def test_every_method_asks_for_the_scope_that_fits_it() -> None:
    needed = scopes_of(services())
    assert len(services()) == 5
    assert len(needed) > 30
    for method, scope in needed.items():
        name = method.rpartition("/")[2]
        reads = name.startswith(("Get", "List", "Lookup", "Recommend", "Rank", "Trace"))
        assert scope is (Scope.READ if reads else WRITES[name]), method


def test_nobody_may_call_a_method_that_asks_for_no_scope() -> None:
    file = descriptor_pb2.FileDescriptorProto(name="forgotten.proto", package="forgotten", syntax="proto3")
    file.message_type.add(name="Empty")
    service = file.service.add(name="Forgotten")
    service.method.add(name="Call", input_type=".forgotten.Empty", output_type=".forgotten.Empty")
    descriptor_pool.Default().Add(file)
    needed = scopes_of(["forgotten.Forgotten"])
    assert needed == {"/forgotten.Forgotten/Call": None}
    everything = Holder("everything", frozenset(Scope))
    guard = Guard(needed, lambda: {hash_of("t"): everything}, rate=0.0, burst=0, metrics=Metrics())
    with pytest.raises(ScopeMissing, match="no token allows"):
        guard.admit("/forgotten.Forgotten/Call", [("authorization", "Bearer t")])
