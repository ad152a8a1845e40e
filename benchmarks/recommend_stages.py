"""Where a list's time goes: calls that do more and more of its work, for `benchmarks.recommend`."""

from __future__ import annotations

import time
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING, Any

from matchloop.candidate.v1.candidate_service_pb2 import GetCandidatesRequest
from matchloop.candidate.v1.candidate_service_pb2_grpc import CandidateServiceStub
from matchloop.feedback.v1.feedback_service_pb2 import LookupSubjectStateRequest
from matchloop.feedback.v1.feedback_service_pb2_grpc import FeedbackServiceStub
from matchloop.ranking.v1.ranking_service_pb2 import RecommendRequest
from matchloop.ranking.v1.ranking_service_pb2_grpc import RankingServiceStub
from matchloop.rpc.channel import open_channel
from ranking_svc.pipeline import CANDIDATES_PER_ITEM

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.progress import Progress

    from benchmarks.recommend_world import Serving

TIMEOUT = 10.0
IN_A_ROW = 100
"""Calls of one kind before the next kind's turn."""


def stages_ms(
    served: Serving, asked: Sequence[RecommendRequest], turns: int, progress: Progress
) -> dict[str, float]:
    """Return by stage the median milliseconds of a call, one client, kinds of calls taking turns.

    ``empty``: the no-op server. ``state``: what feedback_svc tells of the subject. ``candidates``: the same
    and retrieval, by candidate_svc. ``list``: the same in order, by ranking_svc. ``stored``: the whole, with
    its session in the store.
    """
    taken: dict[str, list[float]] = {}
    with ExitStack() as stack:
        calls = _calls(served, stack)
        for turn in progress.track(range(turns), description="stages"):
            for name, call in calls.items():
                for number in range(IN_A_ROW):
                    request = asked[(turn * IN_A_ROW + number) % len(asked)]
                    begin = time.perf_counter()
                    call(request)
                    taken.setdefault(name, []).append(time.perf_counter() - begin)
    return {name: round(median(seconds) * 1e3, 3) for name, seconds in taken.items()}


def _calls(served: Serving, stack: ExitStack) -> dict[str, Callable[[RecommendRequest], Any]]:
    empty, whole = (
        RankingServiceStub(stack.enter_context(open_channel(target)))
        for target in (served.noop, served.ranking)
    )
    candidates = CandidateServiceStub(stack.enter_context(open_channel(served.candidate)))
    feedback = FeedbackServiceStub(stack.enter_context(open_channel(served.feedback)))

    def state(asked: RecommendRequest) -> object:
        request = LookupSubjectStateRequest(use_case=asked.use_case, subject_id=asked.subject_id)
        return feedback.LookupSubjectState(request, timeout=TIMEOUT)

    def found(asked: RecommendRequest) -> object:
        request = GetCandidatesRequest(
            use_case=asked.use_case, subject_id=asked.subject_id, count=CANDIDATES_PER_ITEM * asked.count
        )
        return candidates.GetCandidates(request, timeout=TIMEOUT)

    def previewed(asked: RecommendRequest) -> object:
        request = RecommendRequest()
        request.CopyFrom(asked)
        request.preview = True
        return whole.Recommend(request, timeout=TIMEOUT)

    return {
        "empty": lambda asked: empty.Recommend(asked, timeout=TIMEOUT),
        "state": state,
        "candidates": found,
        "list": previewed,
        "stored": lambda asked: whole.Recommend(asked, timeout=TIMEOUT),
    }
