"""What a release has served since, asked of feedback_svc."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from matchloop.feedback.v1 import feedback_service_pb2, feedback_service_pb2_grpc, session_pb2
from matchloop.rpc.channel import call, open_channel
from matchloop.rpc.convert import read_time, timestamp
from training_jobs.drift.lists import Lists

if TYPE_CHECKING:
    from datetime import datetime

    from matchloop.usecase import UseCase
    from training_jobs.config import TriggerConfig

FEEDBACK_SVC = "feedback_svc"
CALLS = ("matchloop.feedback.v1.FeedbackService/ListSessions",)
PAGE = 100
"""Lists asked for at once: of 200 items with 64 features they fit into a message."""
SLICES = 84
"""Parts of the time looked at, when it holds more lists than are wanted: a week's are two hours each."""


def served_lists(
    address: str,
    use_case: UseCase,
    release: str,
    config: TriggerConfig,
    *,
    now: datetime,
    reranked: bool,
    timeout: float = 10.0,
) -> Lists:
    """Return lists that `release` served in the last `config.drift_days`, at most `drift_lists` of them.

    The latest, if that is all of them; else as many from each of `SLICES` equal parts of the time, so that a
    busy hour does not stand for a week.

    Parameters
    ----------
    reranked
        Only lists that a trained model ordered: where the release has a ranker, a fallback's scores are not
        its own.
    timeout
        Seconds for one page.

    Raises
    ------
    MatchloopError
        When feedback_svc cannot be reached, or what it said.
    """
    begin = now - timedelta(days=config.drift_days)
    with open_channel(address, idempotent=CALLS) as channel:
        stub = feedback_service_pb2_grpc.FeedbackServiceStub(channel)
        pages = _Pages(stub, use_case, release, reranked=reranked, timeout=timeout)
        found, more = pages.latest(begin, now, config.drift_lists)
        if more:
            width = (now - begin) / SLICES
            each = -(-config.drift_lists // SLICES)
            parts = [(begin + width * at, begin + width * (at + 1)) for at in range(SLICES)]
            found = [session for part in reversed(parts) for session in pages.latest(*part, each)[0]]
    return lists_of(found, use_case.ranking.features).ranked()


class _Pages:
    """ListSessions, page by page."""

    def __init__(
        self,
        stub: feedback_service_pb2_grpc.FeedbackServiceStub,
        use_case: UseCase,
        release: str,
        *,
        reranked: bool,
        timeout: float,
    ) -> None:
        self._stub, self._use_case, self._release = stub, use_case, release
        self._reranked, self._timeout = reranked, timeout

    def latest(self, begin: datetime, end: datetime, most: int) -> tuple[list[session_pb2.Session], bool]:
        """Look at the `most` latest lists from `begin` on and before `end`.

        Returns
        -------
        Those among them that count, latest first, and whether there are lists that were not looked at.
        """
        found: list[session_pb2.Session] = []
        token, left = "", most
        while left > 0:
            request = feedback_service_pb2.ListSessionsRequest(
                use_case=self._use_case.id,
                release=self._release,
                from_time=timestamp(begin),
                to_time=timestamp(end),
                page_size=min(PAGE, left),
                page_token=token,
            )
            reply = call(self._stub.ListSessions, request, upstream=FEEDBACK_SVC, most=self._timeout)
            found += [session for session in reply.sessions if self._counts(session)]
            left -= len(reply.sessions)
            token = reply.next_page_token
            if not token:
                return found, False
        return found, True

    def _counts(self, session: session_pb2.Session) -> bool:
        ours = session.source == session_pb2.SESSION_SOURCE_RANKING
        known = tuple(session.feature_names) == self._use_case.ranking.features
        return ours and known and (session.reranked or not self._reranked)


def lists_of(sessions: list[session_pb2.Session], names: tuple[str, ...]) -> Lists:
    """Return sessions, latest first, that logged just these features."""
    subjects: dict[str, int] = {}
    items = [item for session in sessions for item in session.items]
    lengths = [len(session.items) for session in sessions]
    owners = [subjects.setdefault(session.subject_id, len(subjects)) for session in sessions]
    values = [value for item in items for value in item.features]
    times = [read_time(session.serve_time) for session in sessions]
    return Lists(
        names=names,
        features=np.array(values, dtype=np.float32).reshape(len(items), len(names)),
        score=np.array([item.score for item in items], dtype=np.float32),
        method=np.array([METHODS.get(item.method, "") for item in items], dtype=object),
        subject=np.repeat(np.array(owners, dtype=np.int64), lengths),
        session=np.repeat(np.arange(len(sessions), dtype=np.int64), lengths),
        first=min(times, default=None),
        last=max(times, default=None),
    )


METHODS = {
    number: name.removeprefix("METHOD_").lower() for name, number in session_pb2.Method.items() if number
}
"""Names of methods by their number."""
