"""A small market and a store of it, for tests of candidate_svc."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TypeVar

from candidate_svc.counts import ItemStats
from candidate_svc.domain import SubjectState
from candidate_svc.feed import Changed, Page
from candidate_svc.methods import Content, Retrieval, methods_of
from candidate_svc.mirror import Mirror
from candidate_svc.popularity import LivePopularity
from candidate_svc.released import Models
from candidate_svc.retrieve import Retriever
from matchloop.entities import (
    Categorical,
    Entity,
    EntityId,
    EntityKey,
    FeatureValue,
    Kind,
    Multi,
    Numeric,
    Tombstone,
)
from matchloop.errors import Unavailable
from matchloop.features import HashingEmbedder
from matchloop.observe.metrics import Metrics
from matchloop.release.slot import Loaded
from matchloop.retrieval.profile import SubjectEvent
from matchloop.usecase import Method, UseCase, UseCases, load_use_cases

T = TypeVar("T", bound=Changed)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
USE_CASE = "developer_startup"
CATEGORIES = ("fintech", "health", "games", "energy")
COUNTRIES = ("de", "fr", "us")

USE_CASES: UseCases = load_use_cases()


def use_case() -> UseCase:
    return USE_CASES[USE_CASE]


def startup(name: str, /, **features: FeatureValue) -> Entity:
    return Entity(
        EntityKey(Kind("startup"), EntityId(name)),
        MappingProxyType(features),
        create_time=NOW - timedelta(days=10),
        update_time=NOW - timedelta(days=10),
    )


def startups(count: int) -> list[Entity]:
    """Startup i has category i mod 4, country i mod 3, two tags, founding year 2000 + i mod 20."""
    return [
        startup(
            f"s{i}",
            category=Categorical(CATEGORIES[i % 4]),
            country=Categorical(COUNTRIES[i % 3]),
            tags=Multi((f"t{i % 5}", f"u{i % 7}")),
            founded_year=Numeric(2000.0 + i % 20),
        )
        for i in range(count)
    ]


def developer(name: str, /, **features: FeatureValue) -> Entity:
    return Entity(EntityKey(Kind("developer"), EntityId(name)), MappingProxyType(features))


def event(item: str, event_type: str = "like", days_ago: float = 1.0) -> SubjectEvent:
    return SubjectEvent(EntityId(item), event_type, NOW - timedelta(days=days_ago))


def state(entity: Entity | None = None, events: Iterable[SubjectEvent] = (), **more: object) -> SubjectState:
    events = tuple(events)
    given: dict[str, object] = {"interaction_count": len(events), **more}
    return SubjectState(entity=entity, recent_events=events, **given)  # type: ignore[arg-type]


def stats(item: str, *, views: int = 0, interactions: int = 0, weight: float = 0.0) -> ItemStats:
    return ItemStats(EntityId(item), views, interactions, weight, NOW, 0)


@dataclass
class FakeStore:
    """The catalogue and states of feedback_svc, in memory; small pages, so that paging is tested."""

    page: int = 7
    sequence: int = 0
    up: bool = True
    stored: dict[tuple[str, str], Entity] = field(default_factory=dict)
    counted: dict[tuple[str, str], ItemStats] = field(default_factory=dict)
    states: dict[str, SubjectState] = field(default_factory=dict)
    erased: dict[str, Tombstone] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    before_page: Callable[[], None] = lambda: None

    def upsert(self, *entities: Entity) -> None:
        for entity in entities:
            self.sequence += 1
            self.stored[entity.key.kind, entity.key.id] = replace(entity, change_sequence=self.sequence)

    def deactivate(self, *names: str) -> None:
        for name in names:
            self.upsert(replace(self.stored["startup", name], active=False))

    def erase(self, name: str, kind: str = "startup", time: datetime = NOW) -> None:
        self.stored.pop((kind, name), None)
        self.counted.pop((USE_CASE, name), None)
        self.states.pop(name, None)
        digest = EntityKey(Kind(kind), EntityId(name)).digest
        self.sequence += 1
        self.erased[digest] = Tombstone(Kind(kind), digest, time, self.sequence)

    def count(self, *counts: ItemStats, use_case: str = USE_CASE) -> None:
        for each in counts:
            self.sequence += 1
            self.counted[use_case, each.item_id] = replace(each, change_sequence=self.sequence)

    def _check(self, call: str) -> None:
        self.calls.append(call)
        if not self.up:
            raise Unavailable("the store is down")
        self.before_page()

    def entities(self, kinds: Sequence[str], from_sequence: int, page_token: str) -> Page[Entity | Tombstone]:
        self._check("entities")
        found: list[Entity | Tombstone] = [
            e for e in self.stored.values() if e.change_sequence >= from_sequence and e.key.kind in kinds
        ]
        found += self._buried(kinds, from_sequence)
        found.sort(key=lambda each: each.change_sequence)
        return self._cut(found, page_token)

    def tombstones(self, kinds: Sequence[str], from_sequence: int, page_token: str) -> Page[Tombstone]:
        self._check("tombstones")
        return self._cut(self._buried(kinds, from_sequence), page_token)

    def _buried(self, kinds: Sequence[str], from_sequence: int) -> list[Tombstone]:
        own = (t for t in self.erased.values() if t.change_sequence >= from_sequence and t.kind in kinds)
        return sorted(own, key=lambda t: t.change_sequence)

    def item_stats(self, use_case: str, from_sequence: int, page_token: str) -> Page[ItemStats]:
        self._check("item_stats")
        found = sorted(
            (
                s
                for (name, _), s in self.counted.items()
                if name == use_case and s.change_sequence >= from_sequence
            ),
            key=lambda s: s.change_sequence,
        )
        return self._cut(found, page_token)

    def _cut(self, found: Sequence[T], page_token: str) -> Page[T]:
        start = int(page_token or 0)
        end = start + self.page
        token = str(end) if end < len(found) else ""
        return Page(tuple(found[start:end]), token, self.sequence + 1)

    def lookup(self, use_case: str, subject_id: EntityId) -> SubjectState:
        self._check("lookup")
        return self.states.get(subject_id, SubjectState())


@dataclass
class World:
    """A store, a mirror that was polled once, and a retriever over it; no threads."""

    store: FakeStore
    mirror: Mirror
    metrics: Metrics
    content: Content
    methods: dict[Method, Retrieval]
    retriever: Retriever
    release: Loaded[Models] | None = None
    left: float | None = None


def world(entities: Iterable[Entity] = (), counts: Iterable[ItemStats] = ()) -> World:
    store = FakeStore()
    store.upsert(*entities)
    store.count(*counts)
    metrics = Metrics()
    mirror = Mirror(store, USE_CASES, clock=lambda: NOW, metrics=metrics)
    content = Content(use_case(), HashingEmbedder(use_case().embedding_width))
    mirror.subscribe(content)
    assert mirror.poll_once()
    methods = methods_of(content, LivePopularity(mirror.counts[USE_CASE]))
    retriever = Retriever(
        use_case(),
        mirror.rows["startup"],
        mirror.counts[USE_CASE],
        methods,
        content=content,
        release=lambda: made.release,
        clock=lambda: NOW,
        metrics=metrics,
        remaining=lambda: made.left,
    )
    made = World(store, mirror, metrics, content, methods, retriever)
    return made


def ids(found: Iterable[object]) -> list[str]:
    return [each.item_id for each in found]  # type: ignore[attr-defined]
