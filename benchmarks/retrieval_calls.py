"""GetCandidates for a mix of subjects, beside empty calls of the same server; for `benchmarks.retrieval`."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.retrieval_world import RELEASE, USE_CASE, VIEWERS, subject
from matchloop.candidate.v1 import candidate_service_pb2 as calls
from matchloop.candidate.v1.candidate_service_pb2_grpc import CandidateServiceStub
from matchloop.feedback.v1 import session_pb2
from matchloop.rpc.channel import open_channel
from matchloop.usecase import Tier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.progress import Progress

    from matchloop.entities import EntityId


class Calls:
    """GetCandidates one at a time, beside empty calls of the same server."""

    def __init__(self, channel: grpc.Channel, count: int) -> None:
        self._count = count
        self._get = CandidateServiceStub(channel).GetCandidates
        self._check = health_pb2_grpc.HealthStub(channel).Check
        self._empty = health_pb2.HealthCheckRequest()

    def get(self, who: EntityId, methods: Sequence[session_pb2.Method.ValueType] = ()) -> tuple[float, Any]:
        """Return the seconds of a call, and the reply."""
        request = calls.GetCandidatesRequest(
            use_case=USE_CASE, subject_id=who, count=self._count, methods=methods
        )
        begin = time.perf_counter()
        reply = self._get(request, timeout=10.0)
        return time.perf_counter() - begin, reply

    def empty(self) -> float:
        """Return the seconds of an empty call."""
        begin = time.perf_counter()
        self._check(self._empty, timeout=10.0)
        return time.perf_counter() - begin


def call_rounds(
    address: str, count: int, rounds: int, figures: dict[str, Any], progress: Progress
) -> list[float]:
    """Return each round's median of GetCandidates for `count` items over an empty call; add figures."""
    everyone = [(tier, subject(tier, number)) for tier in Tier for number in range(VIEWERS)]
    rng = np.random.default_rng(12)
    taken: dict[str, list[float]] = {tier.value: [] for tier in Tier}
    methods: dict[str, Counter[str]] = {tier.value: Counter() for tier in Tier}
    noops: list[float] = []
    ratios = []
    with open_channel(address) as channel:
        asked = Calls(channel, count)
        for _, who in everyone:
            asked.get(who)
            asked.empty()
        task = progress.add_task("calls", total=rounds)
        for _ in range(rounds):
            own, other = [], []
            for at in rng.permutation(len(everyone)).tolist():
                tier, who = everyone[at]
                other.append(asked.empty())
                seconds, reply = asked.get(who)
                own.append(seconds)
                taken[tier.value].append(seconds)
                assert len(reply.candidates) == count
                assert reply.release == RELEASE, "the release is not served"
                methods[tier.value].update(session_pb2.Method.Name(each.method) for each in reply.candidates)
            noops += other
            ratios.append(float(np.median(own) / np.median(other)))
            progress.advance(task)
        figures["methods"] = {tier: dict(found) for tier, found in methods.items()}
        figures["noop_ms"] = _ms(noops)
        figures["get_candidates_ms"] = _ms([each for own in taken.values() for each in own])
        figures["by_tier_ms"] = {tier: _ms(own) for tier, own in taken.items()}
        figures["by_tier_p95_ms"] = {tier: _ms(own, 0.95) for tier, own in taken.items()}
        figures["by_method_ms"] = {
            name.removeprefix("METHOD_").lower(): _by_tier(asked, [method])
            for name, method in session_pb2.Method.items()
            if method
        }
        figures["with_ensemble_vs_noop_p50"] = _with_ensemble(asked, everyone)
    return ratios


def _ms(seconds: Sequence[float], quantile: float = 0.5) -> float:
    return round(1e3 * float(np.quantile(seconds, quantile)), 3)


def _by_tier(asked: Calls, methods: Sequence[session_pb2.Method.ValueType]) -> dict[str, float | str]:
    """Return the milliseconds of a method by tier, or the code it fails with."""
    found: dict[str, float | str] = {}
    for tier in Tier:
        try:
            found[tier.value] = _ms([asked.get(subject(tier, at), methods)[0] for at in range(VIEWERS)])
        except grpc.RpcError as error:
            found[tier.value] = str(error.code())
    return found


def _with_ensemble(asked: Calls, everyone: Sequence[tuple[Tier, EntityId]]) -> float:
    """Return the median over an empty call's when the ensemble answers all but cold subjects."""
    first = [session_pb2.METHOD_ENSEMBLE]
    pairs = [
        (asked.empty(), asked.get(who, [] if tier is Tier.COLD else first)[0])
        for _ in range(2)
        for tier, who in everyone
    ]
    other, own = np.median(np.asarray(pairs), axis=0)
    return round(float(own / other), 2)
