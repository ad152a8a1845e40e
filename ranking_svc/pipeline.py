"""`Recommend` and `Rank` from top to bottom: candidates, order, session, answer."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from matchloop.errors import DeadlinePassed, InvalidInput, MatchloopError, NotImplementedYet, Unavailable
from matchloop.experiments.arms import CHALLENGER_ARM
from matchloop.observe import tracing
from matchloop.observe.logs import get_logger, request_id
from matchloop.rerank.features import min_max
from matchloop.rpc import deadline
from matchloop.usecase import Tier
from ranking_svc.domain import Candidate, Candidates, Part, Recommendation, Session
from ranking_svc.experiments import arm_in
from ranking_svc.exploration import explored
from ranking_svc.served import Telling
from ranking_svc.session_log import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from matchloop.experiments.experiment import Experiment
    from matchloop.observe.metrics import Metrics
    from matchloop.usecase import Exploration
    from ranking_svc.domain import Clock, Rank, Recommend, SubjectGlimpse
    from ranking_svc.ordering import Ordered, Ordering
    from ranking_svc.popular import PopularLists
    from ranking_svc.served import Served
    from ranking_svc.session_log import SessionLog

CANDIDATES_PER_ITEM = 2

_log = get_logger()


class CandidateSource(Protocol):
    """candidate_svc. Both calls raise MatchloopError when they can't answer in time."""

    def find(self, ask: Recommend, count: int, *, challenger: bool) -> Candidates:
        """Return `count` candidates, or fewer when no more are left; the challenger's if wanted."""

    def describe(self, ask: Rank, *, challenger: bool) -> Candidates:
        """Return what is known of exactly the items of `ask`; unknown ones are left out."""


class SubjectSource(Protocol):
    """feedback_svc, asked only when candidate_svc can't be."""

    def glimpse(self, use_case: str, subject_id: str) -> SubjectGlimpse:
        """Return what the subject hides; raises MatchloopError when it can't."""


class RunningExperiments(Protocol):
    """Who knows which experiments run."""

    def running(self, use_case: str) -> Experiment | None:
        """Return the experiment that runs in a use case."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Makes lists.

    Parameters
    ----------
    clock
        Time in UTC; the session's serve time.
    new_id
        Makes session ids, unique for ever.
    experiments
        Deal the subjects; with none that runs there are no arms.
    served
        Counts lists by arm and release.
    exploration
        By use case, how chance varies its lists; in a use case that is not named, it does not.
    """

    candidates: CandidateSource
    subjects: SubjectSource
    popular: PopularLists
    ordering: Ordering
    session_log: SessionLog
    metrics: Metrics
    clock: Clock
    new_id: Callable[[], str]
    experiments: RunningExperiments
    served: Served
    exploration: Mapping[str, Exploration] = field(default_factory=dict)

    def recommend(self, ask: Recommend) -> Recommendation:
        """Make a list for a subject and remember it.

        Raises
        ------
        InvalidInput
            If candidate_svc says so of what only it can judge.
        Unavailable
            If candidate_svc is down and there is nothing to answer with in its place.
        """
        with self._told(ask) as telling:
            with self._timed("candidates"):
                found = self._candidates(ask, telling.arm)
            now = self.clock()
            with self._timed("order"):
                ordered = self.ordering.order(
                    ask.use_case, found, now=now, limit=ask.count, explain=ask.explain
                )
            return telling.made(self._remember(ask, telling.arm, found, ordered, now))

    def rank(self, ask: Rank) -> Recommendation:
        """Reorder the client's list and remember it.

        The client's scores are the retrieval scores that the ranker starts from. While candidate_svc is down
        the list keeps the client's order.
        """
        with self._told(ask) as telling:
            with self._timed("candidates"):
                found = self._described(ask, telling.arm)
            now = self.clock()
            with self._timed("order"):
                ordered = self.ordering.order(ask.use_case, found, now=now, limit=None, explain=ask.explain)
            known = {candidate.item_id for candidate in found.items}
            unknown = tuple(item for item in ask.items if item not in known)
            answer = self._remember(ask, telling.arm, found, ordered, now)
            return telling.made(replace(answer, unknown=unknown))

    def _told(self, ask: Recommend | Rank) -> Telling:
        """Deal the subject, and count and time the list under its arm and release."""
        use_case = ask.use_case.id
        arm = arm_in(self.experiments.running(use_case), ask.subject_id)
        return Telling(self.served, use_case, arm, lambda: self.ordering.expected(use_case, arm))

    def _remember(
        self, ask: Recommend | Rank, arm: str, found: Candidates, ordered: Ordered, now: datetime
    ) -> Recommendation:
        """Store the session, count what happened, make the answer."""
        use_case = ask.use_case.id
        degraded, session_id = [*found.degraded, *ordered.degraded], ""
        if ordered.items and not ask.preview:
            new_id = self.new_id()
            ordered = self._explored(ask, found, ordered, request_id.get() or new_id)
            session = Session(
                session_id=new_id,
                use_case=use_case,
                subject_id=ask.subject_id,
                release=ordered.release,
                arm=arm,
                tier=found.tier,
                reranked=ordered.reranked,
                serve_time=now,
                feature_names=ordered.feature_names,
                items=ordered.items,
            )
            with self._timed("session"):
                outcome = self.session_log.store(session)
            session_id = "" if outcome is Outcome.LOST else session.session_id
            if outcome is not Outcome.STORED:
                degraded.append(Part.SESSION_STORE.value)
        answer = Recommendation(
            session_id=session_id,
            items=ordered.items,
            tier=found.tier,
            release=ordered.release,
            arm=arm,
            reranked=ordered.reranked,
            degraded=tuple(dict.fromkeys(degraded)),
            skipped=found.skipped,
        )
        self._count(use_case, answer, ordered)
        return answer

    def _explored(self, ask: Recommend | Rank, found: Candidates, ordered: Ordered, seed: str) -> Ordered:
        """Let chance vary the list where the use case is explored; what stands in stays as it is."""
        use_case = ask.use_case.id
        policy = self.exploration.get(use_case)
        if policy is None or not policy.share:
            return ordered
        items = explored(
            ordered.items,
            policy,
            use_case=use_case,
            subject_id=ask.subject_id,
            request_id=seed,
            fixed=found.stand_in,
        )
        changed = any(now.item_id != was.item_id for now, was in zip(items, ordered.items, strict=True))
        self.metrics.explored_lists.labels(use_case, "changed" if changed else "kept").inc()
        return replace(ordered, items=items)

    def _candidates(self, ask: Recommend, arm: str) -> Candidates:
        try:
            return self.candidates.find(
                ask, CANDIDATES_PER_ITEM * ask.count, challenger=arm == CHALLENGER_ARM
            )
        except (InvalidInput, NotImplementedYet):
            raise
        except MatchloopError as error:
            return self._last_popular(ask, error)

    def _last_popular(self, ask: Recommend, error: MatchloopError) -> Candidates:
        """Answer with the last popular list, less what the request excludes and the subject hides."""
        items = self.popular.last(ask.use_case.id)
        if items is None or ask.filters:
            if isinstance(error, DeadlinePassed) and not deadline.is_enough():
                raise error  # the caller's own time is up: that is not the neighbour's fault
            left = "what is left can't be filtered" if items else "no popular list was kept"
            raise Unavailable(f"{error.message}; {left}", reason=error.reason) from error
        _log.warning("candidates_failed", use_case=ask.use_case.id, reason=error.reason.value)
        degraded = [Part.CANDIDATES.value]
        tier, hidden = Tier.COLD, frozenset[str]()
        try:
            glimpse = self.subjects.glimpse(ask.use_case.id, ask.subject_id)
            tier, hidden = ask.use_case.tiers.of(glimpse.interactions), glimpse.hidden
        except MatchloopError:
            degraded.append(Part.FEEDBACK.value)
        left_out = hidden.union(ask.exclude)
        kept = tuple(item for item in items if item.item_id not in left_out)
        return Candidates(kept[: ask.count], tier=tier, degraded=tuple(degraded), stand_in=True)

    def _described(self, ask: Rank, arm: str) -> Candidates:
        """Return the client's items with its scores, and what candidate_svc knows of them."""
        own = dict(zip(ask.items, _client_scores(ask), strict=True))
        try:
            found = self.candidates.describe(ask, challenger=arm == CHALLENGER_ARM)
        except (InvalidInput, NotImplementedYet):
            raise
        except MatchloopError as error:
            _log.warning("candidates_failed", use_case=ask.use_case.id, reason=error.reason.value)
            items = _by_score([Candidate(item, None, score) for item, score in own.items()])
            return Candidates(items, degraded=(Part.CANDIDATES.value,), stand_in=True)
        known = {candidate.item_id: candidate for candidate in found.items}
        described = [
            replace(known[item], method=None, score=score) for item, score in own.items() if item in known
        ]
        return replace(found, items=_by_score(described), skipped=())

    def _count(self, use_case: str, answer: Recommendation, ordered: Ordered) -> None:
        self.metrics.recommendations.labels(use_case, answer.tier or "unknown").inc()
        for part in answer.degraded:
            self.metrics.degraded.labels(use_case, part).inc()
        if not ordered.reranked:
            self.metrics.unranked.labels(use_case, ordered.why_not).inc()

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            with tracing.span(stage):
                yield
        finally:
            self.metrics.stage_latency.labels(stage).observe(time.perf_counter() - began)


def _client_scores(ask: Rank) -> list[float]:
    """Return the client's scores moved to [0, 1] over its list; from its order if it sent none."""
    scores = np.array(ask.scores or range(len(ask.items), 0, -1), dtype=np.float64)
    largest = float(np.abs(scores).max())  # divided out first: a difference of finite numbers can overflow
    return [float(score) for score in min_max(scores / largest if largest else scores)]


def _by_score(items: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Return the items best first; equal ones as they were."""
    return tuple(sorted(items, key=lambda item: -item.score))
