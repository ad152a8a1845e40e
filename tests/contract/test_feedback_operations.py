"""Leases, acts, experiments and reactions of every store."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest

from feedback_svc.dislikes import Dislike
from feedback_svc.erasure import roles_of
from feedback_svc.interactions import Interaction, facts_of
from feedback_svc.operations.experiments import position_of
from feedback_svc.operations.leases import Grant
from feedback_svc.operations.reactions import Grouping, ReactionKinds, ServedLists
from feedback_svc.sessions import Session, SessionSource
from feedback_svc.store.protocol import Store
from matchloop.acts import Act, ActKind, ActNumber
from matchloop.errors import Conflict, NotFound, Reason
from matchloop.experiments.experiment import Experiment
from matchloop.experiments.reactions import Moments, Reactions
from matchloop.leases import Lease
from tests.feedback_worlds import NOW, USE_CASE, event, facts, key, shown, use_cases

SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
KINDS = ReactionKinds.of(use_cases()[USE_CASE])
EVERYTHING = ServedLists(USE_CASE, NOW - 30 * 24 * HOUR)
STRANGE = 'r/"\\{},%s ünï'


def take(store: Store, holder: str, at: float = 0.0, seconds: float = 10.0, name: str = "job") -> Grant:
    return store.acquire_lease(name, holder, duration=seconds * SECOND, now=NOW + at * SECOND)


def test_a_lease_is_one_holders_until_it_expires(store: Store) -> None:
    first = take(store, "a")
    assert first == Grant(True, Lease("job", "a", NOW, NOW + 10 * SECOND))
    assert take(store, "b", at=9.999999) == replace(first, acquired=False)
    assert take(store, "b", name="another").acquired
    then = NOW + 10 * SECOND
    assert take(store, "b", at=10) == Grant(True, Lease("job", "b", then, then + 10 * SECOND))
    assert take(store, "a", at=11).lease.holder == "b"


def test_its_holder_prolongs_it_and_never_shortens_it(store: Store) -> None:
    take(store, "a")
    assert take(store, "a", at=6) == Grant(True, Lease("job", "a", NOW, NOW + 16 * SECOND))
    assert take(store, "a", at=7, seconds=1) == Grant(True, Lease("job", "a", NOW, NOW + 16 * SECOND))
    assert not take(store, "b", at=15).acquired
    later = NOW + 20 * SECOND
    assert take(store, "a", at=20).lease == Lease("job", "a", later, later + 10 * SECOND)


def test_only_its_holder_gives_it_back(store: Store) -> None:
    take(store, STRANGE, name=STRANGE)
    assert not store.release_lease(STRANGE, "b", now=NOW)
    assert not store.release_lease("another", STRANGE, now=NOW)
    assert not take(store, "b", name=STRANGE).acquired
    assert store.release_lease(STRANGE, STRANGE, now=NOW)
    assert not store.release_lease(STRANGE, STRANGE, now=NOW)
    assert take(store, "b", name=STRANGE).acquired


def test_one_that_has_expired_is_nobodys_to_give_back(store: Store) -> None:
    take(store, "a")
    assert not store.release_lease("job", "a", now=NOW + 10 * SECOND)
    assert take(store, "b", at=10).acquired
    assert not store.release_lease("job", "a", now=NOW + 11 * SECOND)
    assert not take(store, "a", at=12).acquired


def at_once(works: list[Callable[[], Any]]) -> list[Any]:
    """Do everything at the same moment; return what came of each."""
    barrier = Barrier(len(works))

    def one(work: Callable[[], Any]) -> Any:
        barrier.wait(timeout=30)
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(one, works))


def test_of_two_at_once_one_has_the_lease(store: Store) -> None:
    for turn in range(20):
        grants = at_once([lambda h=holder, t=turn: take(store, h, at=100 * t) for holder in "ab"])  # type: ignore[misc]
        assert sum(grant.acquired for grant in grants) == 1
        assert grants[0].lease == grants[1].lease


def act(id_: str = "1", hours: float = 0.0, **given: Any) -> Act:
    own: dict[str, Any] = {
        "act_id": id_,
        "use_case": USE_CASE,
        "kind": ActKind.PROMOTED,
        "automatic": False,
        "release": "r1",
        "reason": "",
        "numbers": (),
        "act_time": NOW + hours * HOUR,
    }
    return Act(**(own | given))


def acts(store: Store, use_case: str = "", *kinds: ActKind) -> list[Act]:
    """List all, read in pages of 2."""
    found: list[Act] = []
    after = None
    while page := store.list_acts(use_case, kinds, after=after, limit=2):
        found += page
        after = (page[-1].act_time, page[-1].act_id)
    return found


def test_an_act_is_stored_once_and_never_changed(store: Store) -> None:
    numbers = (ActNumber(STRANGE, -0.1, 1e-300), ActNumber("n", 5.0), ActNumber("n", 1.7e308, 0.0))
    first = act(kind=ActKind.ROLLED_BACK, automatic=True, release=STRANGE, reason="a\nb ünï", numbers=numbers)
    assert store.record_act(first)
    assert not store.record_act(first)
    assert not store.record_act(act(reason="another", use_case="user_movie"))
    assert acts(store) == [first]


def test_acts_are_listed_latest_first_within_every_filter(store: Store) -> None:
    sent = [
        act(f"{number}", hours=number // 3, kind=kind, use_case=use_case)
        for number, (kind, use_case) in enumerate(
            (kind, use_case) for kind in ActKind for use_case in (USE_CASE, "user_movie")
        )
    ]
    for each in random.Random(4).sample(sent, len(sent)):
        store.record_act(each)
    latest = sorted(sent, key=lambda each: (each.act_time, each.act_id), reverse=True)
    assert acts(store) == latest
    assert acts(store, USE_CASE) == [each for each in latest if each.use_case == USE_CASE]
    kinds = (ActKind.REFUSED, ActKind.DRIFTED)
    assert acts(store, "", *kinds) == [each for each in latest if each.kind in kinds]
    assert acts(store, "user_movie", ActKind.DRIFTED) == [
        each for each in latest if each.kind is ActKind.DRIFTED and each.use_case == "user_movie"
    ]
    assert acts(store, "startup_investor") == []


def test_of_one_act_sent_at_once_one_is_stored(store: Store) -> None:
    for turn in range(10):
        stored = at_once([lambda t=turn: store.record_act(act(f"{t}"))] * 2)  # type: ignore[misc]
        assert sorted(stored) == [False, True]


def experiment(id_: str = "e", hours: float = 0.0, **given: Any) -> Experiment:
    own: dict[str, Any] = {
        "experiment_id": id_,
        "use_case": USE_CASE,
        "challenger_share": 0.3,
        "champion_release": "r1",
        "challenger_release": STRANGE,
        "start_time": NOW + hours * HOUR,
    }
    return Experiment(**(own | given))


def experiments(store: Store, use_case: str = "") -> list[Experiment]:
    """List all, read in pages of 2."""
    found: list[Experiment] = []
    after = None
    while page := store.list_experiments(use_case, after=after, limit=2):
        found += page
        after = position_of(page[-1])
    return found


def test_an_experiment_runs_until_it_is_stopped_which_is_once(store: Store) -> None:
    assert store.start_experiment(experiment()) == experiment()
    assert experiments(store) == [experiment()]
    done = store.stop_experiment("e", reason=STRANGE, now=NOW + HOUR)
    assert done == experiment(stop_time=NOW + HOUR, stop_reason=STRANGE)
    assert store.stop_experiment("e", reason="again", now=NOW + 2 * HOUR) == done
    assert experiments(store) == [done]


def test_one_that_starts_later_than_it_is_stopped_never_ran(store: Store) -> None:
    store.start_experiment(experiment(hours=2))
    stopped = store.stop_experiment("e", reason="r", now=NOW)
    assert stopped.stop_time == stopped.start_time


def test_the_same_start_again_is_a_replay_also_when_it_is_stopped(store: Store) -> None:
    store.start_experiment(experiment())
    assert store.start_experiment(experiment(hours=1)) == experiment()
    done = store.stop_experiment("e", reason="r", now=NOW + HOUR)
    assert store.start_experiment(experiment(hours=2)) == done


@pytest.mark.parametrize(
    "other",
    [
        {"use_case": "user_movie"},
        {"challenger_share": 0.5},
        {"champion_release": "r9"},
        {"challenger_release": "r9"},
    ],
)
def test_an_id_names_one_experiment_for_ever(store: Store, other: dict[str, Any]) -> None:
    store.start_experiment(experiment())
    for _ in range(2):
        with pytest.raises(Conflict, match="`e` is the id of another experiment"):
            store.start_experiment(experiment(**other))
        store.stop_experiment("e", reason="r", now=NOW)
    assert len(experiments(store)) == 1


def test_a_use_case_runs_one_at_a_time(store: Store) -> None:
    store.start_experiment(experiment())
    with pytest.raises(Conflict, match=f"`e` runs in `{USE_CASE}`"):
        store.start_experiment(experiment("f"))
    assert store.start_experiment(experiment("f", use_case="user_movie")).runs
    store.stop_experiment("e", reason="r", now=NOW)
    assert store.start_experiment(experiment("g")).runs


def test_one_never_started_cannot_be_stopped(store: Store) -> None:
    with pytest.raises(NotFound) as raised:
        store.stop_experiment("e", reason="r", now=NOW)
    assert raised.value.reason is Reason.EXPERIMENT_NOT_FOUND


def test_of_two_started_at_once_one_runs(store: Store) -> None:
    def start(id_: str) -> bool:
        try:
            return store.start_experiment(experiment(id_)).runs
        except Conflict:
            return False

    for turn in range(20):
        ran = at_once([lambda i=id_, t=turn: start(f"{i}{t}") for id_ in "ab"])  # type: ignore[misc]
        assert sum(ran) == 1
        running = [each for each in experiments(store) if each.runs]
        assert len(running) == 1
        store.stop_experiment(running[0].experiment_id, reason="r", now=NOW)


def test_what_runs_is_listed_first_then_by_falling_start(store: Store) -> None:
    for number in range(4):
        store.start_experiment(experiment(f"e{number}", hours=5 - number % 3))
        store.stop_experiment(f"e{number}", reason="r", now=NOW + 9 * HOUR)
    store.start_experiment(experiment("e9", hours=-5))
    store.start_experiment(experiment("f", use_case="user_movie"))
    assert [e.experiment_id for e in experiments(store, USE_CASE)] == ["e9", "e3", "e0", "e1", "e2"]
    assert [e.experiment_id for e in experiments(store)] == ["f", "e9", "e3", "e0", "e1", "e2"]
    assert experiments(store, "startup_investor") == []


def tell(store: Store, *reactions: Interaction) -> None:
    store.record_interactions(reactions, facts(list(reactions)), now=NOW)


def show(store: Store, *sessions: Session) -> None:
    store.record_sessions(sessions, now=NOW)


def summed(store: Store, which: ServedLists = EVERYTHING) -> list[Reactions]:
    return [
        replace(
            each, mean_diversity=round(each.mean_diversity, 6), mean_freshness=round(each.mean_freshness, 6)
        )
        for each in store.sum_reactions(which, KINDS)
    ]


def only(store: Store) -> Reactions:
    (found,) = summed(store)
    return found


def test_without_lists_there_is_nothing(store: Store) -> None:
    tell(store, event("1"), event("2", session_id="never"))
    assert summed(store) == []


def test_a_subject_of_two_groups_counts_once_in_what_holds_both(store: Store) -> None:
    show(
        store,
        shown("x", ("i", "j"), arm="challenger", release="r1"),
        shown("y", ("i", "j"), arm="challenger", release="r2"),
        shown("z", ("i", "j"), arm="", release="r2"),
    )
    tell(store, event("1", session_id="x"), event("2", session_id="y"), event("3", session_id="z"))

    def groups(grouping: Grouping) -> dict[tuple[str, str], tuple[int, int, float]]:
        found = store.sum_reactions(replace(EVERYTHING, grouping=grouping), KINDS)
        return {(each.arm, each.release): (each.subjects, each.shown, each.clicks.squares) for each in found}

    assert groups(Grouping.ARM) == {("", ""): (1, 2, 1.0), ("challenger", ""): (1, 4, 4.0)}
    assert groups(Grouping.RELEASE) == {("", "r1"): (1, 2, 1.0), ("", "r2"): (1, 4, 4.0)}
    assert len(groups(Grouping.ARM_AND_RELEASE)) == 3


def test_an_item_of_a_list_counts_once_per_kind(store: Store) -> None:
    show(store, shown("x", ("i", "j", "k")), shown("y", ("i", "k")), shown("z", ("i", "m"), subject="t"))
    tell(
        store,
        event("1", session_id="x"),
        event("2", session_id="x"),
        event("3", type_="like", session_id="x"),
        event("4", type_="apply", session_id="x"),
        event("5", type_="view", item="j", session_id="x"),
        event("6", session_id="y"),
        event("7", type_="dislike", item="k", session_id="y"),
        event("8", type_="dislike", item="k", session_id="y"),
        event("9", type_="like", subject="t", item="m", session_id="z"),
    )
    assert only(store) == Reactions(
        arm="",
        release="r1",
        subjects=2,
        sessions=3,
        shown=7,
        shown_squares=5.0**2 + 2.0**2,
        clicks=Moments(3, 2.0**2 + 1.0, 2.0 * 5 + 1.0 * 2),
        strong_positives=Moments(2, 1.0 + 1.0, 1.0 * 5 + 1.0 * 2),
        dislikes=Moments(1, 1.0, 5.0),
        reranked_sessions=3,
        mean_diversity=0.0,
        mean_freshness=round((2.25 + 1.0 + 1.0) / 7, 6),
    )


def test_only_what_is_tied_to_an_item_of_the_list_counts(store: Store) -> None:
    show(store, shown("x", ("i", "j")), shown("u", ("i",), use_case="user_movie"))
    tell(
        store,
        event("1"),
        event("2", session_id="never"),
        event("3", item="q", session_id="x"),
        event("4", subject="t", session_id="x"),
        Interaction("5", "user_movie", "s", "i", "favorite", NOW, "x"),
        Interaction("6", "user_movie", "s", "i", "favorite", NOW, "u"),
    )
    assert only(store).clicks == Moments()
    tell(store, event("7", item="j", session_id="x"))
    assert only(store).clicks == Moments(1, 1.0, 2.0)


def test_reactions_that_came_before_their_list_or_long_after_count(store: Store) -> None:
    tell(store, event("1", session_id="x", days=-1))
    show(store, shown("x"))
    tell(store, event("2", item="j", type_="like", session_id="x", days=100))
    assert only(store).clicks == Moments(2, 4.0, 4.0)
    assert only(store).strong_positives == Moments(1, 1.0, 2.0)


def test_a_recorded_dislike_counts_as_one(store: Store) -> None:
    show(store, shown("x"))
    use_case = use_cases()[USE_CASE]
    for id_, item in (("1", "i"), ("2", "i"), ("3", "j"), ("4", "q")):
        store.record_dislike(
            Dislike(id_, USE_CASE, "s", item, "other", "", "x", None, NOW),
            reason=use_case.dislikes["other"],
            facts=facts_of(use_case)["dislike"],
            item_kind="startup",
            now=NOW,
        )
    assert (only(store).dislikes, only(store).clicks) == (Moments(2, 4.0, 4.0), Moments())


def test_lists_are_those_ranking_svc_served_in_the_span(store: Store) -> None:
    show(
        store,
        shown("own", source=SessionSource.CLIENT),
        shown("movie", use_case="user_movie"),
        *(shown(f"{h}", serve_time=NOW + h * HOUR, release=f"r{h % 2}") for h in range(-3, 3)),
    )

    def sessions(from_: float, to: float | None = None, release: str = "") -> dict[str, int]:
        to_time = None if to is None else NOW + to * HOUR
        which = ServedLists(USE_CASE, NOW + from_ * HOUR, to_time, release)
        return {each.release: each.sessions for each in store.sum_reactions(which, KINDS)}

    assert sessions(-9) == {"r0": 3, "r1": 3}
    assert sessions(-2, 1) == {"r0": 2, "r1": 1}
    assert sessions(-2, 1, "r0") == {"r0": 2}
    assert sessions(0) == {"r0": 2, "r1": 1}
    assert sessions(0, 0) == sessions(9) == sessions(-9, None, "r") == {}


def test_arms_and_releases_are_summed_apart(store: Store) -> None:
    show(
        store,
        shown("a", arm="challenger", release="r2", reranked=False),
        shown("b", arm="challenger", release=""),
        shown("c", arm="champion", release="r1"),
        shown("d", arm="champion", release="r1", subject="t"),
        shown("e", arm="", release=STRANGE),
    )
    tell(store, event("1", session_id="a"), event("2", subject="t", session_id="d"))
    found = summed(store)
    assert [(each.arm, each.release) for each in found] == [
        ("", STRANGE),
        ("challenger", ""),
        ("challenger", "r2"),
        ("champion", "r1"),
    ]
    assert [(each.subjects, each.sessions, each.clicks.total) for each in found] == [
        (1, 1, 0),
        (1, 1, 0),
        (1, 1, 1),
        (2, 2, 1),
    ]
    assert [each.reranked_sessions for each in found] == [1, 1, 0, 2]


def test_means_are_over_the_items_whose_features_were_logged(store: Store) -> None:
    show(
        store,
        shown("x", feature_names=("diversity", "other"), feature_values=(0.5, 9.0, 1.0, 9.0)),
        shown("y", feature_names=(), feature_values=()),
        shown("z", ("i",), feature_names=("recency", "diversity"), feature_values=(0.25, 0.0)),
        shown("w", feature_names=("recency", "diversity"), feature_values=()),
    )
    assert (only(store).mean_diversity, only(store).mean_freshness) == (0.5, 0.25)


def test_who_is_erased_counts_no_more(store: Store) -> None:
    show(store, shown("x", ("i", "j")), shown("y", ("i", "j"), subject="t"))
    tell(store, event("1", session_id="x"), event("2", subject="t", item="j", session_id="y"))
    store.start_experiment(experiment())
    store.record_act(act())
    roles = roles_of(use_cases())
    store.erase_entity(key("investor", "s"), roles=roles, now=NOW + HOUR)
    assert (only(store).subjects, only(store).shown, only(store).clicks.total) == (1, 2, 1)
    store.erase_entity(key("startup", "j"), roles=roles, now=NOW + HOUR)
    assert (only(store).subjects, only(store).shown, only(store).clicks.total) == (1, 1, 0)
    assert (acts(store), experiments(store)) == ([act()], [experiment()])
