"""What came of the last hour's lists: shown by arm and release, gone with the hour and with the store."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

from feedback_svc.operations.reactions import ReactionKinds, ServedLists
from feedback_svc.reaction_gauges import ReactionGauges
from feedback_svc.store.memory import MemoryStore
from matchloop.errors import Unavailable
from matchloop.experiments.reactions import Reactions
from matchloop.observe.metrics import Metrics
from tests.e2e.waiting import until
from tests.feedback_worlds import NOW, USE_CASE, event, facts, shown, use_cases

HOUR = timedelta(hours=1)


class AwayStore(MemoryStore):
    """May be away."""

    away = False

    def sum_reactions(self, which: ServedLists, kinds: ReactionKinds) -> tuple[Reactions, ...]:
        if self.away:
            raise Unavailable("the store cannot be reached")
        return super().sum_reactions(which, kinds)


def test_rates_are_those_of_the_last_hour_and_unknown_while_the_store_is_away() -> None:
    metrics, store, now = Metrics(), AwayStore(), NOW

    def clock() -> datetime:
        return now

    lists = [
        shown("old", ("i", "j"), release="r0", serve_time=NOW - timedelta(minutes=61)),
        shown("a", ("i", "j"), release="r1", serve_time=NOW - timedelta(minutes=59)),
        shown("b", ("i", "j"), subject="other", release="r1", serve_time=NOW - timedelta(minutes=1)),
    ]
    store.record_sessions(lists, now=NOW)
    rejected = [event("d", type_="dislike", item="i", session_id="a")]
    store.record_interactions(rejected, facts(rejected), now=NOW)
    gauges = ReactionGauges(store, use_cases(), clock, span=HOUR, seconds=60.0, metrics=metrics)

    def scraped(release: str) -> list[float | None]:
        labels = {"use_case": USE_CASE, "arm": "", "release": release}
        value = metrics.registry.get_sample_value
        rates = [
            value("matchloop_reaction_rate", {**labels, "reaction": reaction})
            for reaction in ("click", "strong_positive", "dislike")
        ]
        return [*(value(f"matchloop_listed_{of}", labels) for of in ("items", "subjects")), *rates]

    unknown = [None] * 5
    gauges.read()
    assert scraped("r1") == [4.0, 2.0, 0.0, 0.0, 0.25]
    assert scraped("r0") == unknown
    store.away = True
    gauges.read()
    assert scraped("r1") == unknown
    store.away = False
    now += timedelta(minutes=30)
    gauges.read()
    assert scraped("r1") == [2.0, 1.0, 0.0, 0.0, 0.0]
    now += timedelta(hours=1)
    gauges.read()
    assert scraped("r1") == unknown


def test_it_reads_at_its_start_and_ends_when_told() -> None:
    metrics, store = Metrics(), MemoryStore()
    store.record_sessions([shown("a", ("i",), release="r1", serve_time=NOW)], now=NOW)
    gauges = ReactionGauges(
        store, use_cases(), lambda: NOW + timedelta(seconds=1), span=HOUR, seconds=3600.0, metrics=metrics
    )
    labels = {"use_case": USE_CASE, "arm": "", "release": "r1"}
    gauges.start()
    until(lambda: metrics.value("matchloop_listed_items", **labels) == 1.0, "the first reading")
    threads = threading.active_count()
    gauges.close()
    assert threading.active_count() == threads - 1
