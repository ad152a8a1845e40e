"""The mirror follows the store's lists: late changes, outages, another store."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from candidate_svc.feed import Feed, ListReplaced, Page
from candidate_svc.mirror import Mirror
from candidate_svc.rows import ItemRows
from matchloop.entities import Categorical, Embedding, Entity, Kind, Numeric
from matchloop.errors import Unavailable
from matchloop.observe.metrics import Metrics
from tests.candidate_world import NOW, USE_CASE, USE_CASES, FakeStore, World, startup, startups, stats, world


def active(made: World) -> set[str]:
    return set(made.mirror.rows["startup"].active_ids())


def is_ready(mirror: Mirror) -> bool:
    return mirror.ready


class Recorder:
    def __init__(self) -> None:
        self.changed: list[str] = []

    def items_changed(self, kind: Kind, changed: list[Entity]) -> None:
        self.changed += [entity.key.id for entity in changed]


def recording() -> tuple[FakeStore, Mirror, Recorder]:
    store = FakeStore()
    mirror = Mirror(store, USE_CASES, clock=lambda: NOW, metrics=Metrics(), verify_every=3)
    recorder = Recorder()
    mirror.subscribe(recorder)  # type: ignore[arg-type]
    return store, mirror, recorder


def test_every_page_is_read_and_then_only_what_changed() -> None:
    store, mirror, recorder = recording()
    store.upsert(*startups(20))
    assert mirror.poll_once()
    assert recorder.changed == [f"s{i}" for i in range(20)]
    recorder.changed.clear()
    store.upsert(startup("s3", category=Categorical("games")), startup("new"))
    assert mirror.poll_once()
    assert recorder.changed == ["s3", "new"]
    assert mirror.poll_once()
    assert recorder.changed == ["s3", "new"]


def test_a_pass_that_verifies_reindexes_nothing() -> None:
    store, mirror, recorder = recording()
    store.upsert(*startups(5))
    mirror.poll_once()
    for _ in range(4):  # every third verifies
        mirror.poll_once()
    assert len(recorder.changed) == 5


def test_a_change_while_pages_are_read_is_not_lost() -> None:
    store, mirror, _ = recording()
    store.upsert(*startups(20))
    late: list[list[Entity]] = [[], [startup("late"), startup("s1", country=Categorical("jp"))]]

    def change() -> None:
        store.upsert(*(late.pop(0) if late else []))

    store.before_page = change
    mirror.poll_once()
    mirror.poll_once()
    rows = mirror.rows["startup"]
    found = rows.find("s1")
    assert rows.row("late") is not None
    assert found is not None
    assert found.features["country"] == Categorical("jp")


def test_deactivated_items_may_not_be_shown_until_they_come_again() -> None:
    made = world(startups(4))
    made.store.deactivate("s2")
    made.mirror.poll_once()
    assert active(made) == {"s0", "s1", "s3"}
    made.store.upsert(startups(4)[2])
    made.mirror.poll_once()
    assert active(made) == {"s0", "s1", "s2", "s3"}
    assert made.metrics.value("matchloop_mirror_entities", kind="startup") == 4


def test_it_serves_what_it_has_while_the_store_is_down_and_says_how_old_that_is() -> None:
    store, _, _ = recording()
    now = [NOW]
    metrics = Metrics()
    mirror = Mirror(store, USE_CASES, clock=lambda: now[0], metrics=metrics)
    store.upsert(*startups(3))
    store.up = False
    assert not mirror.poll_once()
    assert not is_ready(mirror)
    store.up = True
    assert mirror.poll_once()
    assert is_ready(mirror)
    store.up = False
    now[0] = NOW.replace(minute=2)
    assert not mirror.poll_once()
    assert is_ready(mirror)
    assert len(mirror.rows["startup"].active_ids()) == 3
    assert metrics.value("matchloop_mirror_lag_seconds") == 120.0
    reason = {"upstream": "feedback_svc", "reason": "UPSTREAM_UNAVAILABLE"}
    assert metrics.value("matchloop_upstream_failures_total", **reason) == 2


def test_a_listing_cut_short_is_gone_on_with() -> None:
    store, mirror, recorder = recording()
    store.upsert(*startups(20))
    cut = iter([False, False, True])

    def break_once() -> None:
        if next(cut, False):
            raise Unavailable("lost")

    store.before_page = break_once
    assert not mirror.poll_once()
    assert not is_ready(mirror)
    assert mirror.poll_once()
    assert is_ready(mirror)
    assert sorted(recorder.changed) == sorted(f"s{i}" for i in range(20))


@pytest.mark.parametrize("later_changes", [0, 100])
def test_a_store_restored_to_an_earlier_state_is_listed_again(later_changes: int) -> None:
    made = world(startups(20), [stats("s1", views=5), stats("s2", views=7)])
    counts = made.mirror.counts[USE_CASE]
    assert counts.maximum == 7.0
    restored = FakeStore()
    restored.upsert(*startups(6), startup("other"))
    restored.count(stats("s1", views=1))
    for _ in range(later_changes):  # its sequence has passed that of the store before
        restored.upsert(startup("busy", founded_year=Numeric(float(restored.sequence))))
    made.store.up = False
    made.mirror.poll_once()
    vars(made.store).update(vars(restored))
    made.mirror.poll_once()
    expected = {f"s{i}" for i in range(6)} | {"other"} | ({"busy"} if later_changes else set())
    assert active(made) == expected
    assert counts.maximum == 1.0


def test_an_outage_in_the_middle_of_a_reload_does_not_leave_what_is_gone() -> None:
    made = world(startups(20))
    made.store.up = False
    made.mirror.poll_once()
    restored = FakeStore()
    restored.upsert(*startups(10))
    vars(made.store).update(vars(restored))
    pages = iter([None, None, None, "down"])  # verifying: one page; listing again: the second page fails

    def maybe_fail() -> None:
        if next(pages, None) == "down":
            raise Unavailable("lost")

    made.store.before_page = maybe_fail
    made.mirror.poll_once()
    made.mirror.poll_once()
    assert active(made) == {f"s{i}" for i in range(10)}


def test_polling_in_a_thread_becomes_ready_and_stops() -> None:
    store, _, _ = recording()
    ready = threading.Event()
    mirror = Mirror(
        store, USE_CASES, clock=lambda: NOW, metrics=Metrics(), poll_seconds=0.01, on_ready=ready.set
    )
    mirror.start()
    assert ready.wait(5.0)
    store.upsert(startup("later"))
    for _ in range(500):
        if mirror.rows["startup"].row("later") is not None:
            break
        threading.Event().wait(0.01)
    mirror.close()
    assert mirror.rows["startup"].active_ids() == ["later"]


def test_counts_of_an_item_that_is_not_listed_yet_wait_for_it() -> None:
    made = world([], [stats("s9", views=4)])
    rows = made.mirror.rows["startup"]
    assert active(made) == set()
    made.store.upsert(startup("s9"))
    made.mirror.poll_once()
    row = rows.row("s9")
    assert row is not None
    assert made.mirror.counts[USE_CASE].views(np.asarray([row])).tolist() == [4.0]


def test_counts_decay_alike_whenever_they_were_counted() -> None:
    half_life = USE_CASES[USE_CASE].popularity.half_life_days
    made = world(startups(2), [stats("s0", weight=4.0), stats("s1", weight=8.0)])
    later = NOW.timestamp() + half_life * 86_400
    found = made.mirror.counts[USE_CASE].decayed(2, NOW.fromtimestamp(later, tz=NOW.tzinfo))
    assert found.tolist() == pytest.approx([2.0, 4.0])


def test_an_item_that_cannot_be_indexed_does_not_keep_others_out() -> None:
    broken = startup("broken", embedding=Embedding((1.0, 2.0)), category=Categorical("games"))
    made = world([*startups(3), broken, startup("after", category=Categorical("games"))])
    assert "after" in made.content._index
    assert "broken" not in made.content._index
    assert "broken" in active(made)


def test_rows_of_a_reader_are_whole_while_the_writer_appends() -> None:
    rows = ItemRows(Kind("startup"), USE_CASES[USE_CASE].item_features)
    faults: list[str] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            count = rows.count
            held = np.zeros(count, dtype=np.bool_)
            held[rows.holding("category", "games", count)] = True
            if len(rows.active(count)) != count or not rows.active(count).all():
                faults.append("active")
            if np.isnan(rows.numbers("founded_year", count)).any():
                faults.append("founded_year")
            if count and rows.entity(count - 1).key.id != f"s{count - 1}":
                faults.append("entity")

    reader = threading.Thread(target=read)
    reader.start()
    items = startups(6000)
    for start in range(0, len(items), 50):
        rows.apply(items[start : start + 50])
    done.set()
    reader.join()
    assert faults == []


def test_a_feed_notices_another_list() -> None:
    pages = iter(
        [
            Page((replace(startup("a"), change_sequence=5),), "", 6),
            Page((), "", 6),
            Page((), "", 6),
            Page((), "", 3),
        ]
    )
    feed: Feed[Entity] = Feed(lambda start, token: next(pages), name=lambda entity: entity.key.id)
    assert [len(page) for page in feed.changes(verify=False)] == [1]
    assert list(feed.changes(verify=False)) == [()]
    with pytest.raises(ListReplaced):
        list(feed.changes(verify=True))
    with pytest.raises(ListReplaced):
        list(feed.changes(verify=False))
