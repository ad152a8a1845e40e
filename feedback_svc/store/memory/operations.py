"""Leases, acts, experiments and reactions in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from feedback_svc.operations.experiments import ExperimentPosition, missing, position_of, started, stopped
from feedback_svc.operations.leases import Grant, ask
from feedback_svc.operations.reactions import (
    DIVERSITY,
    FRESHNESS,
    FeatureSum,
    ListOutcome,
    ReactionKinds,
    ServedLists,
    sum_up,
)
from feedback_svc.sessions import RecordFilter, Session, SessionSource
from feedback_svc.store.memory.state import MemoryState, is_within
from matchloop.acts import Act, ActKind
from matchloop.experiments.experiment import Experiment
from matchloop.experiments.reactions import Reactions
from matchloop.leases import Lease


class MemoryOperations(MemoryState):
    """The part of the store for jobs and operators."""

    def __init__(self) -> None:
        super().__init__()
        self._leases: dict[str, Lease] = {}
        self._acts: dict[str, Act] = {}
        self._experiments: dict[str, Experiment] = {}

    def acquire_lease(self, name: str, holder: str, *, duration: timedelta, now: datetime) -> Grant:
        """See `Store`."""
        with self._lock:
            grant = ask(self._leases.get(name), name, holder, duration=duration, now=now)
            self._leases[name] = grant.lease
        return grant

    def release_lease(self, name: str, holder: str, *, now: datetime) -> bool:
        """See `Store`."""
        with self._lock:
            held = self._leases.get(name)
            if held is None or held.holder != holder or not held.holds(now):
                return False
            del self._leases[name]
        return True

    def record_act(self, act: Act) -> bool:
        """See `Store`."""
        with self._lock:
            new = act.act_id not in self._acts
            self._acts.setdefault(act.act_id, act)
        return new

    def list_acts(
        self, use_case: str, kinds: Collection[ActKind], *, after: tuple[datetime, str] | None, limit: int
    ) -> list[Act]:
        """See `Store`."""
        with self._lock:
            found = [
                act
                for act in self._acts.values()
                if use_case in ("", act.use_case)
                and (not kinds or act.kind in kinds)
                and (after is None or (act.act_time, act.act_id) < after)
            ]
        return sorted(found, key=lambda act: (act.act_time, act.act_id), reverse=True)[:limit]

    def start_experiment(self, experiment: Experiment) -> Experiment:
        """See `Store`."""
        with self._lock:
            running = (e for e in self._experiments.values() if e.use_case == experiment.use_case and e.runs)
            same_id = self._experiments.get(experiment.experiment_id)
            stored = started(experiment, same_id=same_id, running=next(running, None))
            self._experiments[stored.experiment_id] = stored
        return stored

    def stop_experiment(self, experiment_id: str, *, reason: str, now: datetime) -> Experiment:
        """See `Store`."""
        with self._lock:
            if experiment_id not in self._experiments:
                raise missing(experiment_id)
            stored = stopped(self._experiments[experiment_id], reason=reason, now=now)
            self._experiments[experiment_id] = stored
        return stored

    def list_experiments(
        self, use_case: str, *, after: ExperimentPosition | None, limit: int
    ) -> list[Experiment]:
        """See `Store`."""
        with self._lock:
            found = [
                experiment
                for experiment in self._experiments.values()
                if use_case in ("", experiment.use_case)
                and (after is None or position_of(experiment) < after)
            ]
        return sorted(found, key=position_of, reverse=True)[:limit]

    def sum_reactions(self, which: ServedLists, kinds: ReactionKinds) -> tuple[Reactions, ...]:
        """See `Store`."""
        with self._lock:
            return sum_up(self._outcomes(which, kinds))

    def _outcomes(self, which: ServedLists, kinds: ReactionKinds) -> Iterator[ListOutcome]:
        events: dict[str, dict[str, set[str]]] = {}
        for stored in self._interactions.values():
            if stored.tie is not None and stored.tie.rank:
                own = stored.interaction
                events.setdefault(own.session_id, {}).setdefault(own.item_id, set()).add(own.event_type)
        bounds = RecordFilter(
            which.use_case, release=which.release, from_time=which.from_time, to_time=which.to_time
        )
        for session in self._sessions.values():
            if session.source is SessionSource.RANKING and is_within(
                bounds, session.use_case, session.subject_id, session.release, session.serve_time
            ):
                found = _outcome(session, events.get(session.session_id, {}), kinds)
                arm, release = which.group_of(found.arm, found.release)
                yield replace(found, arm=arm, release=release)


def _outcome(session: Session, events: dict[str, set[str]], kinds: ReactionKinds) -> ListOutcome:
    def drew(types: frozenset[str]) -> int:
        return sum(not types.isdisjoint(own) for own in events.values())

    return ListOutcome(
        arm=session.arm,
        release=session.release,
        subject_id=session.subject_id,
        shown=len(session.item_ids),
        reranked=session.reranked,
        clicked=drew(kinds.clicks),
        strong=drew(kinds.strong_positives),
        disliked=drew(kinds.dislikes),
        diversity=_feature_sum(session, DIVERSITY),
        freshness=_feature_sum(session, FRESHNESS),
    )


def _feature_sum(session: Session, name: str) -> FeatureSum:
    if name not in session.feature_names or not session.feature_values:
        return FeatureSum()
    values = session.feature_values[session.feature_names.index(name) :: len(session.feature_names)]
    return FeatureSum(sum(values), len(values))
