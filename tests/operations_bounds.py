"""The bounds of OperationsService: base requests, and its part of the table."""

from __future__ import annotations

import math
from typing import Any

from google.protobuf.message import Message

from matchloop.errors import Reason
from matchloop.operations.v1 import act_pb2, experiment_pb2
from matchloop.operations.v1 import operations_service_pb2 as operations
from tests.bounds import ANY, Bound, Past, enum, identifier, number, pages
from tests.feedback_rpc_world import at as when
from tests.feedback_worlds import NOW, USE_CASE


def operations_request(method: str, number: str) -> Message:
    """Return a request that is answered OK; `number` is one that no other has."""
    act = act_pb2.Act(
        act_id=number,
        use_case=USE_CASE,
        kind=act_pb2.ACT_KIND_PROMOTED,
        numbers=[act_pb2.ActNumber(name="n", value=0.5, threshold=0.25)],
    )
    experiment = experiment_pb2.Experiment(
        experiment_id=number,
        use_case=USE_CASE,
        challenger_share=0.5,
        champion_release="r1",
        challenger_release="r2",
    )
    requests: dict[str, Message] = {
        "AcquireLease": operations.AcquireLeaseRequest(name=number, holder="h", seconds=60),
        "ReleaseLease": operations.ReleaseLeaseRequest(name=number, holder="h"),
        "RecordAct": operations.RecordActRequest(act=act),
        "ListActs": operations.ListActsRequest(),
        "StartExperiment": operations.StartExperimentRequest(experiment=experiment),
        "StopExperiment": operations.StopExperimentRequest(experiment_id=number, reason="r"),
        "ListExperiments": operations.ListExperimentsRequest(),
        "GetReactions": operations.GetReactionsRequest(use_case=USE_CASE, from_time=when(NOW)),
    }
    return requests[method]


def operations_bounds(*, sent: Bound, listed: Bound, time: Bound) -> dict[str, dict[str, Bound]]:
    """Return the table, given the rules of a use case sent, of one asked about, and of a time."""
    of_any = Bound(("", *listed.at), tuple(fault for fault in listed.past if fault != ""))
    unread_time = Bound((None, when(NOW)))
    return {
        "AcquireLease": {
            "name": identifier(),
            "holder": identifier(),
            "seconds": Bound((1, 86_400), (0, -1, 86_401, 2**31 - 1)),
        },
        "ReleaseLease": {"name": identifier(), "holder": identifier()},
        "RecordAct": {
            "act": Bound((), (Past(None, ("act.act_id", "act.use_case", "act.kind")),)),
            "act.act_id": identifier(),
            "act.use_case": sent,
            "act.kind": enum(*range(1, 9), past=(0,)),
            "act.automatic": ANY,
            "act.release": identifier(required=False),
            "act.reason": Bound(("", "\U0001f600" * 2000, "a\nb\x01"), ("x" * 2001, "a\x00b")),
            "act.numbers": numbers(),
            "act.numbers.name": identifier(),
            "act.numbers.value": number(),
            "act.numbers.threshold": number(absent=True),
            "act.act_time": time,
        },
        "ListActs": {
            "use_case": of_any,
            "kinds": Bound(
                ([], list(range(1, 9)) * 2),
                (Past([1] * 17, ("kinds",)), Past([1, 0, 99], ("kinds[1]", "kinds[2]"))),
            ),
            **pages(500),
        },
        "StartExperiment": experiment_bounds(sent, time, unread_time),
        "StopExperiment": {
            "experiment_id": identifier(told=Reason.EXPERIMENT_NOT_FOUND),
            "reason": Bound(
                ("\U0001f600" * 2000, "a\nb\x01"),
                ("", "x" * 2001, "a\x00b"),
                Reason.EXPERIMENT_NOT_FOUND,
            ),
        },
        "ListExperiments": {"use_case": of_any, **pages(500)},
        "GetReactions": {
            "use_case": listed,
            "from_time": Bound(time.at[1:], (None, *time.past)),
            "to_time": Bound((None, when(NOW), time.at[-1]), (time.at[1], *time.past)),
            "release": identifier(required=False),
            "grouping": Bound((0, 1, 2), (3, -1)),
        },
    }


def numbers() -> Bound:
    def so_many(count: int) -> list[Any]:
        return [act_pb2.ActNumber(name=f"n{n}", value=float(n)) for n in range(count)]

    return Bound(([], so_many(64)), (Past(so_many(65), ("act.numbers",)),))


def experiment_bounds(sent: Bound, time: Bound, unread_time: Bound) -> dict[str, Bound]:
    required = ("challenger_share", "experiment_id", "use_case", "champion_release", "challenger_release")
    share = Bound((5e-324, math.nextafter(1.0, 0.0)), (0.0, 1.0, -0.5, 1.5, math.nan, math.inf, -math.inf))
    return {
        "experiment": Bound((), (Past(None, tuple(f"experiment.{field}" for field in required)),)),
        "experiment.experiment_id": identifier(),
        "experiment.use_case": sent,
        "experiment.challenger_share": share,
        "experiment.champion_release": identifier(),
        "experiment.challenger_release": identifier(),
        "experiment.start_time": time,
        "experiment.stop_time": unread_time,
        "experiment.stop_reason": Bound(("", "x" * 9999)),
    }
