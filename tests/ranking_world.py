"""A small world around ranking_svc: candidates whose right order is known, and neighbours that can fail."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, Self

from matchloop.entities import EntityId, EntityKey, Kind, Tombstone
from matchloop.errors import MatchloopError, NotFound
from matchloop.observe.metrics import Metrics
from matchloop.release.manifest import Manifest, SnapshotReference
from matchloop.release.slot import Loaded
from matchloop.rerank.features import FeatureColumns
from matchloop.usecase import Method, Tier, UseCase, load_use_cases
from ranking_svc.domain import Candidate, Candidates, Contribution, Rank, Recommend, Session, SubjectGlimpse
from ranking_svc.ordering import Ordering
from ranking_svc.pipeline import Pipeline
from ranking_svc.popular import PopularLists
from ranking_svc.releases import RankingPart, Releases
from ranking_svc.served import Served
from ranking_svc.session_log import SessionLog
from ranking_svc.spool import Spool
from ranking_svc.wire import read_session, session_to_proto

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from matchloop.experiments.experiment import Experiment
    from matchloop.feedback.v1 import session_pb2

USE_CASES = load_use_cases()
MOVIE = USE_CASES["user_movie"]
SENT_NAMES = tuple(name for name in FeatureColumns.of(MOVIE).item_names if name != "recency")
"""What candidate_svc computes; recency is about the moment of ranking."""
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Poll until the condition holds, at most so long."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "not in time"
        time.sleep(0.002)


def candidate(number: int, *, method: Method = Method.CONTENT, score: float | None = None) -> Candidate:
    """Candidate ``m<number>``: the higher the number, the lower the score."""
    return Candidate(
        f"m{number}",
        method,
        1.0 / (number + 1) if score is None else score,
        create_time=NOW - timedelta(days=30),
        features=tuple(0.5 for _ in SENT_NAMES),
        diversity_values=((f"genre{number % 3}",), (), ("en",)),
        contributions=(Contribution("genres~genres", (f"genre{number % 3}",), 0.25),),
    )


@dataclass
class FakeGraves:
    """`ErasedSource`; `fault` is raised while set."""

    found: list[Tombstone] = field(default_factory=list)
    fault: MatchloopError | None = None

    def bury(self, kind: str, entity_id: str) -> None:
        digest = EntityKey(Kind(kind), EntityId(entity_id)).digest
        self.found.append(Tombstone(Kind(kind), digest, datetime.now(UTC), len(self.found)))

    def erased(self, kinds: Sequence[str], from_sequence: int) -> tuple[tuple[Tombstone, ...], int]:
        if self.fault:
            raise self.fault
        new = (each for each in self.found if each.kind in kinds and each.change_sequence >= from_sequence)
        return tuple(new), len(self.found)


@dataclass
class FakeCandidates:
    """`CandidateSource` and `TrendingSource`; `fault` is raised by every call while set."""

    items: Sequence[Candidate] = tuple(candidate(i) for i in range(40))
    popular: Sequence[Candidate] = ()
    release: str = ""
    tier: Tier = Tier.WARM
    feature_names: tuple[str, ...] = SENT_NAMES
    degraded: tuple[str, ...] = ()
    fault: MatchloopError | None = None
    asked: list[tuple[Any, int]] = field(default_factory=list)
    challenged: list[bool] = field(default_factory=list)
    challenger_release: str = ""

    def _answer(self, items: Sequence[Candidate]) -> Candidates:
        return Candidates(tuple(items), self.tier, self.release, self.feature_names, degraded=self.degraded)

    def find(self, ask: Recommend, count: int, *, challenger: bool = False) -> Candidates:
        self.asked.append((ask, count))
        self.challenged.append(challenger)
        if self.fault:
            raise self.fault
        found = self._answer([each for each in self.items if each.item_id not in ask.exclude][:count])
        return (
            replace(found, release=self.challenger_release)
            if challenger and self.challenger_release
            else found
        )

    def describe(self, ask: Rank, *, challenger: bool = False) -> Candidates:
        self.challenged.append(challenger)
        if self.fault:
            raise self.fault
        return self._answer([each for each in self.items if each.item_id in ask.items])

    def trending(self, use_case: UseCase, count: int) -> tuple[Candidate, ...]:
        if self.fault:
            raise self.fault
        return tuple(self.popular[:count]) if use_case is MOVIE else ()


class FakeStore:
    """`SessionStore`, `SubjectSource` and `SessionSource` in memory; `fault` as for `FakeCandidates`.

    `poison` names a subject whose sessions are never taken. `seconds` is the patience of every caller,
    `before_record` is called with the sessions' number before they are looked at.
    """

    def __init__(self) -> None:
        self.sessions: dict[str, session_pb2.Session] = {}
        self.arrivals: list[str] = []
        self.batches: list[int] = []
        self.fault: MatchloopError | None = None
        self.poison = ""
        self.seconds = 60.0
        self.before_record: Callable[[int], None] = lambda _sessions: None
        self.hidden: frozenset[str] = frozenset()
        self.interactions = 0

    def encode(self, session: Session) -> bytes:
        return session_to_proto(session).SerializeToString()

    def patience(self) -> float:
        return self.seconds

    def record(self, encoded: Sequence[bytes], *, seconds: float) -> None:
        from matchloop.feedback.v1 import session_pb2

        assert seconds <= self.seconds
        self.before_record(len(encoded))
        if self.fault:
            raise self.fault
        found = [session_pb2.Session.FromString(each) for each in encoded]
        if any(each.subject_id == self.poison for each in found):
            raise NotFound("no such thing")
        self.batches.append(len(found))
        for each in found:
            if each.session_id not in self.sessions:
                self.sessions[each.session_id] = each
                self.arrivals.append(each.session_id)

    def glimpse(self, use_case: str, subject_id: str) -> SubjectGlimpse:
        if self.fault:
            raise self.fault
        return SubjectGlimpse(self.interactions, self.hidden)

    def session(self, session_id: str) -> tuple[Session, bool]:
        if session_id not in self.sessions:
            raise NotFound("no such session")
        return read_session(self.sessions[session_id]), False


class FakeSlot:
    """Two releases at most, the current one first."""

    def __init__(self, *loaded: Loaded[RankingPart]) -> None:
        self.loaded = loaded

    def current(self) -> Loaded[RankingPart] | None:
        return self.loaded[0] if self.loaded else None

    def find(self, release: str) -> Loaded[RankingPart] | None:
        return next((each for each in self.loaded if each.release == release), None)


def loaded(release: str, ranker: Any) -> Loaded[RankingPart]:
    """A release in memory with this ranker (None: without)."""
    manifest = Manifest(
        release=release,
        use_case=MOVIE.id,
        created=NOW,
        schema_fingerprint=MOVIE.schema_fingerprint,
        snapshot=SnapshotReference(watermark="17", manifest_sha256="a" * 64),
        parts=(),
        files={},
    )
    return Loaded(release, "1", RankingPart(ranker), manifest, NOW)


@dataclass
class World:
    """A pipeline over fakes."""

    folder: Path
    slot: FakeSlot = field(default_factory=FakeSlot)
    candidates: FakeCandidates = field(default_factory=FakeCandidates)
    store: FakeStore = field(default_factory=FakeStore)
    metrics: Metrics = field(default_factory=Metrics)
    max_records: int = 100
    challenger: FakeSlot = field(default_factory=FakeSlot)
    experiment: Experiment | None = None

    def __post_init__(self) -> None:
        ids = count(1)
        lock = threading.Lock()

        def new_id() -> str:
            with lock:
                return f"s{next(ids)}"

        self.spool = Spool(self.folder / "spool", max_records=self.max_records, max_bytes=1 << 20)
        self.log = SessionLog(
            self.store,
            self.spool,
            self.metrics,
            rng=random.Random(1),
            first_pause=0.001,
            longest_pause=0.01,
        )
        self.graves = FakeGraves()
        self.popular = PopularLists(
            USE_CASES, self.candidates, self.graves, self.folder / "popular", refresh_seconds=3600.0
        )
        self.releases = Releases({MOVIE.id: self.slot}, {MOVIE.id: self.challenger})
        self.pipeline = Pipeline(
            candidates=self.candidates,
            subjects=self.store,
            popular=self.popular,
            ordering=Ordering(USE_CASES, self.releases),
            session_log=self.log,
            metrics=self.metrics,
            clock=lambda: NOW,
            new_id=new_id,
            experiments=self,
            served=Served(self.metrics),
        )

    def running(self, use_case: str) -> Experiment | None:
        return self.experiment if use_case == MOVIE.id else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.log.close()

    def recommend(self, **changes: Any) -> Any:
        return self.pipeline.recommend(replace(Recommend(MOVIE, "u1", count=5), **changes))

    def rank(self, *items: str, **changes: Any) -> Any:
        return self.pipeline.rank(replace(Rank(MOVIE, "u1", items), **changes))

    def unranked(self, reason: str) -> float:
        return self.metrics.value("matchloop_unranked_total", use_case=MOVIE.id, reason=reason)

    def degraded(self, part: str) -> float:
        return self.metrics.value("matchloop_degraded_total", use_case=MOVIE.id, part=part)
