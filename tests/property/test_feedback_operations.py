"""Leases, acts and experiments whatever is done in whatever order; both stores alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedback_svc.operations.reactions import ReactionKinds, ServedLists
from feedback_svc.sessions import SessionSource
from feedback_svc.store.memory import MemoryStore
from feedback_svc.store.postgres import PostgresStore
from feedback_svc.store.postgres.database import Database
from feedback_svc.store.protocol import Store
from matchloop.acts import Act, ActKind
from matchloop.errors import Conflict, NotFound
from matchloop.experiments.experiment import Experiment
from playground.postgres import EmbeddedPostgres
from tests.feedback_worlds import (
    NOW,
    USE_CASE,
    database_url,
    event,
    facts,
    fresh_database,
    postgres,
    shown,
    use_cases,
)

__all__ = ["database_url", "postgres"]

SECOND = timedelta(seconds=1)
IN_A_DATABASE = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

times = st.integers(0, 60)
lease_steps = st.lists(
    st.tuples(
        st.sampled_from(["acquire", "acquire", "release"]),
        st.sampled_from("abc"),
        st.integers(0, 9),
        st.integers(1, 12),
    ),
    max_size=30,
)
"""What is done, by whom, so many seconds after the last, for how long."""


def do_leases(store: Store, steps: list[tuple[str, str, int, int]], name: str) -> Iterator[tuple[Any, Any]]:
    """Do the steps; give each one's time and what came of it."""
    now = NOW
    for what, holder, later, seconds in steps:
        now += later * SECOND
        if what == "acquire":
            yield now, store.acquire_lease(name, holder, duration=seconds * SECOND, now=now)
        else:
            yield now, store.release_lease(name, holder, now=now)


@given(lease_steps)
def test_a_lease_never_has_two_holders(steps: list[tuple[str, str, int, int]]) -> None:
    until = dict.fromkeys("abc", NOW)  # when each, as far as it was told, holds it no more
    for (what, holder, _, seconds), (now, came) in zip(
        steps, do_leases(MemoryStore(), steps, "job"), strict=True
    ):
        held = {each for each, end in until.items() if now < end}
        if what == "release":
            assert came is (holder in held)
            until[holder] = now
        elif came.acquired:
            assert held <= {holder}
            assert came.lease.holder == holder
            assert came.lease.expire_time >= max(until[holder], now + seconds * SECOND)
            until[holder] = came.lease.expire_time
        else:
            assert held == {came.lease.holder} != {holder}
            assert came.lease.expire_time == until[came.lease.holder]
        assert sum(now < end for end in until.values()) <= 1


@given(lease_steps)
def test_a_lease_that_nobody_holds_is_given_to_who_asks(steps: list[tuple[str, str, int, int]]) -> None:
    held_until = NOW
    for (what, *_), (now, came) in zip(steps, do_leases(MemoryStore(), steps, "job"), strict=True):
        if what == "acquire":
            assert came.acquired or now < held_until
            held_until = came.lease.expire_time
        elif came:
            held_until = now


@pytest.fixture(scope="module")
def kept(postgres: EmbeddedPostgres) -> Iterator[PostgresStore]:
    store = PostgresStore(Database(fresh_database(postgres), pool_size=1))
    yield store
    store.close()


def emptied(store: PostgresStore) -> PostgresStore:
    with store._database.engine.connect() as connection:
        connection.exec_driver_sql("TRUNCATE leases, acts, experiments, sessions, interactions, item_stats")
        connection.exec_driver_sql("TRUNCATE subject_counts, matches")
    return store


@pytest.mark.processes
@IN_A_DATABASE
@given(lease_steps)
def test_leases_of_both_stores_agree(kept: PostgresStore, steps: list[tuple[str, str, int, int]]) -> None:
    stores = (MemoryStore(), emptied(kept))
    memory, database = (list(do_leases(store, steps, "job")) for store in stores)
    assert memory == database


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(ActKind)), max_size=20), st.randoms())
def test_acts_sent_again_in_any_order_are_stored_once(sent: list[tuple[int, ActKind]], random: Any) -> None:
    acts = [
        Act(f"{id_}", USE_CASE, kind, False, "", "", (), NOW + number * SECOND)
        for number, (id_, kind) in enumerate(sent)
    ]
    store = MemoryStore()
    first = {act.act_id: act for act in reversed(acts)}
    assert sum(store.record_act(act) for act in acts) == len(first)
    assert not any(store.record_act(act) for act in random.sample(acts, len(acts)))
    listed = store.list_acts("", (), after=None, limit=99)
    assert {act.act_id: act for act in listed} == first
    assert listed == sorted(listed, key=lambda act: act.act_time, reverse=True)


experiment_steps = st.lists(
    st.tuples(
        st.sampled_from(["start", "start", "stop"]),
        st.integers(0, 4),
        st.sampled_from([USE_CASE, "user_movie"]),
        st.sampled_from([0.25, 0.5]),
    ),
    max_size=25,
)


def do_experiments(store: Store, steps: list[tuple[str, int, str, float]]) -> Iterator[Any]:
    """Do the steps; give what came of each, and all experiments after it."""
    for number, (what, id_, use_case, share) in enumerate(steps):
        now = NOW + number * SECOND
        came: Any
        try:
            if what == "start":
                came = store.start_experiment(Experiment(f"{id_}", use_case, share, "r1", "r2", now))
            else:
                came = store.stop_experiment(f"{id_}", reason=f"{number}", now=now)
        except (Conflict, NotFound) as error:
            came = (error.reason, error.message)
        yield came, store.list_experiments("", after=None, limit=99)


@given(experiment_steps)
def test_a_use_case_never_runs_two_experiments(steps: list[tuple[str, int, str, float]]) -> None:
    before: list[Experiment] = []
    for _, after in do_experiments(MemoryStore(), steps):
        running = [each.use_case for each in after if each.runs]
        assert len(set(running)) == len(running)
        assert [each.runs for each in after] == sorted((each.runs for each in after), reverse=True)
        stopped = [each for each in before if not each.runs]
        assert all(each in after for each in stopped)  # what is stopped never changes
        assert {replace(e, stop_time=None, stop_reason="") for e in before} <= {
            replace(e, stop_time=None, stop_reason="") for e in after
        }
        before = after


@pytest.mark.processes
@IN_A_DATABASE
@given(experiment_steps)
def test_experiments_of_both_stores_agree(
    kept: PostgresStore, steps: list[tuple[str, int, str, float]]
) -> None:
    memory, database = (list(do_experiments(store, steps)) for store in (MemoryStore(), emptied(kept)))
    assert memory == database


lists = st.lists(
    st.builds(
        shown,
        st.integers(0, 9).map(str),
        st.lists(st.sampled_from("ijklm"), min_size=1, max_size=4, unique=True).map(tuple),
        st.sampled_from("st"),
        arm=st.sampled_from(["", "champion", "challenger"]),
        release=st.sampled_from(["r1", "r2"]),
        reranked=st.booleans(),
        source=st.sampled_from([SessionSource.RANKING] * 3 + [SessionSource.CLIENT]),
        serve_time=times.map(lambda second: NOW + second * SECOND),
        feature_names=st.sampled_from([("diversity", "x"), ("recency", "diversity"), ("x", "recency")]),
    ),
    max_size=10,
    unique_by=lambda session: session.session_id,
)
reactions = st.lists(
    st.builds(
        event,
        st.integers(0, 99).map(str),
        st.sampled_from("st"),
        st.sampled_from("ijklm"),
        st.sampled_from(["view", "click", "like", "apply", "dislike"]),
        session_id=st.integers(0, 11).map(str),
    ),
    max_size=30,
    unique_by=lambda interaction: interaction.interaction_id,
)


@pytest.mark.processes
@IN_A_DATABASE
@given(lists, reactions, times, times, st.sampled_from(["", "r1"]), st.integers(0, 30))
def test_reactions_of_both_stores_agree(
    kept: PostgresStore, lists: Any, reactions: Any, from_: int, to: int, release: str, early: int
) -> None:
    kinds = ReactionKinds.of(use_cases()[USE_CASE])
    which = ServedLists(USE_CASE, NOW + from_ * SECOND, NOW + to * SECOND, release)
    found = []
    for store in (MemoryStore(), emptied(kept)):
        for part in (reactions[:early], reactions[early:]):
            if part:
                store.record_interactions(part, facts(part), now=NOW)
            if lists:
                store.record_sessions(lists, now=NOW)
        found.append(store.sum_reactions(which, kinds))
    assert [replace(r, mean_diversity=0.0, mean_freshness=0.0) for r in found[0]] == [
        replace(r, mean_diversity=0.0, mean_freshness=0.0) for r in found[1]
    ]
    assert [(r.mean_diversity, r.mean_freshness) for r in found[0]] == [
        pytest.approx((r.mean_diversity, r.mean_freshness)) for r in found[1]
    ]
