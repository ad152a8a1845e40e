"""A market served in process: the candidates, the order and the record of a real system, without its wires.

Candidates come from `candidate_svc`'s retriever over a release that was really trained, lists from
`matchloop.rerank`, what happens from the market's click model; all of it is kept as a snapshot keeps it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from candidate_svc.counts import ItemCounts, ItemStats
from candidate_svc.domain import Asked, SubjectState
from candidate_svc.methods import Content, methods_of
from candidate_svc.popularity import LivePopularity
from candidate_svc.released import Models, ReleaseLoader
from candidate_svc.retrieve import RECENCY, Retriever
from candidate_svc.rows import ItemRows
from feedback_svc.dislikes import Cut, decayed_factor, fold, values_cut
from matchloop.days import SECONDS_A_DAY
from matchloop.entities import EntityId, Kind
from matchloop.features import HashingEmbedder
from matchloop.observe.metrics import Metrics
from matchloop.release.slot import Loaded
from matchloop.rerank.features import FeatureColumns, recency
from matchloop.rerank.placement import CandidateList, RankedList, place
from matchloop.rerank.scorer import Ranker, RuleScorer
from matchloop.retrieval.profile import SubjectEvent
from matchloop.snapshot import DISLIKES, INTERACTIONS, SESSIONS, TableName, entity_tables, write_snapshot
from playground.market import Shown
from training_jobs.assemble import assemble
from training_jobs.fit import fit
from training_jobs.material import Material

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from candidate_svc.domain import Found
    from matchloop.entities import Entity
    from matchloop.snapshot import Snapshot
    from matchloop.usecase import UseCase
    from playground.market import Market, Reaction
    from training_jobs.config import TrainingConfig

NOW = datetime(2026, 1, 1, tzinfo=UTC)
"""When the history ends; round n is played n days later."""

CANDIDATES, SHOWN = 20, 10
STATE_EVENTS = 500


@dataclass(slots=True)
class _Subject:
    """What the store would tell of a subject."""

    entity: Entity
    count: int = 0
    events: list[SubjectEvent] = field(default_factory=list)
    hidden: set[str] = field(default_factory=set)
    cuts: dict[tuple[str, str], list[Cut]] = field(default_factory=lambda: defaultdict(list))

    def state(self, now: datetime) -> SubjectState:
        factors = {}
        for value, cuts in self.cuts.items():
            factor = fold(cuts)
            if factor is not None:
                factors[value] = decayed_factor(factor.factor, factor.as_of, now)
        return SubjectState(
            entity=self.entity,
            interaction_count=self.count,
            recent_events=tuple(self.events[: -STATE_EVENTS - 1 : -1]),
            hidden=frozenset(self.hidden),
            weight_factors=factors,
        )


class Service:
    """One use case of a market, served.

    Parameters
    ----------
    market
        Its history is the organic record before the first list.
    folder
        For snapshots and releases.
    seed
        Of the history.
    """

    def __init__(self, market: Market, use_case: UseCase, folder: Path, *, seed: int) -> None:
        self.market, self.folder = market, folder
        self.use_case = use_case
        self.columns = FeatureColumns.of(self.use_case)
        self.now = NOW
        self.loaded: Loaded[Models] | None = None
        self.ranker: Ranker | None = None
        self.metrics: dict[str, float] = {}
        self._serve()
        self._subjects = {
            str(entity.key.id): _Subject(entity) for entity in market.entities[self.use_case.subject]
        }
        self._counted: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
        self.interactions: list[dict[str, Any]] = []
        self.sessions: list[dict[str, Any]] = []
        self.dislikes: list[dict[str, Any]] = []
        for event in market.history(np.random.default_rng(seed)):
            if event.use_case == use_case.id:
                self._record(event.subject_id, event.item_id, event.event_type, event.event_time)
        self._count()

    def _serve(self) -> None:
        use_case = self.use_case
        self._rows = ItemRows(Kind(use_case.item), use_case.item_features)
        items = self.market.entities[use_case.item]
        self._rows.apply(items)
        self._counts = ItemCounts(
            self._rows, half_life_days=use_case.popularity.half_life_days, reference=NOW
        )
        embedder = HashingEmbedder(use_case.embedding_width)
        content = Content(use_case, embedder)
        content.items_changed(Kind(use_case.item), items)
        self._loader = ReleaseLoader(use_case, self._rows, embedder)
        self._retriever = Retriever(
            use_case,
            self._rows,
            self._counts,
            methods_of(content, LivePopularity(self._counts)),
            content=content,
            release=lambda: self.loaded,
            clock=lambda: self.now,
            metrics=Metrics(),
        )

    def _record(
        self, subject_id: str, item_id: str, type_: str, time: datetime, tie: dict[str, Any] | None = None
    ) -> None:
        number = len(self.interactions) + 1
        self.interactions.append(
            {
                "sequence": number,
                "interaction_id": f"i{number}",
                "use_case": self.use_case.id,
                "subject_id": subject_id,
                "item_id": item_id,
                "event_type": type_,
                "event_time": time,
                "receive_time": time,
                "source": "recommendation" if tie else "organic",
                **(tie or {}),
            }
        )
        event, subject = self.use_case.events[type_], self._subjects[subject_id]
        subject.count += 1
        subject.events.append(SubjectEvent(EntityId(item_id), type_, time))
        if event.strong or type_ == self.use_case.dislike_event:
            subject.hidden.add(item_id)
        if event.weight > 0.0:
            counted = self._counted[item_id]
            counted[0 if event.view else 1] += 1.0
            age = (time - NOW).total_seconds() / SECONDS_A_DAY
            counted[2] += event.weight * float(2.0 ** (age / self.use_case.popularity.half_life_days))

    def _count(self) -> None:
        self._counts.apply(
            ItemStats(EntityId(item), int(views), int(others), weight, NOW, 0)
            for item, (views, others, weight) in self._counted.items()
        )

    def find(self, subject_id: str) -> CandidateList:
        """Return the subject's candidates with their ITEM features, as ranking_svc would have them."""
        state = self._subjects[subject_id].state(self.now)
        asked = Asked(self.use_case, EntityId(subject_id), count=CANDIDATES)
        return self._candidates(self._retriever.find(asked, state))

    def _candidates(self, found: Found) -> CandidateList:
        columns = {
            name: [each.features[at] for each in found.candidates]
            for at, name in enumerate(found.feature_names)
        }
        ages = [
            (self.now - each.create_time).total_seconds() / SECONDS_A_DAY if each.create_time else np.nan
            for each in found.candidates
        ]
        columns[RECENCY] = recency(ages).tolist()
        names = self.columns.item_names
        features = np.array([columns[name] for name in names], dtype=np.float32).T
        return CandidateList(
            items=tuple(str(each.item_id) for each in found.candidates),
            retrieval_scores=np.array([each.score for each in found.candidates], dtype=np.float32),
            methods=tuple(each.method for each in found.candidates),
            item_features=features.reshape(len(found.candidates), len(names)),
            diversity_values=[each.diversity_values for each in found.candidates],
        )

    def play(self, panel: Sequence[str], number: int) -> None:
        """Show a list to each subject in the release's order, let the market react, and record both."""
        self.now = NOW + timedelta(days=number)
        scorer = self.ranker or RuleScorer(self.use_case)
        found = [self.find(name) for name in panel]
        lists = [place(each, self.columns, scorer, limit=SHOWN) for each in found]
        shown = [Shown(name, ranked.items) for name, ranked in zip(panel, lists, strict=True)]
        told = self.market.react_all(self.use_case.id, shown, number)
        for name, each, ranked, reactions in zip(panel, found, lists, told, strict=True):
            session_id = f"l{len(self.sessions)}"
            self._show(session_id, name, ranked, each.retrieval_scores[ranked.order])
            for reaction in reactions:
                self._react(reaction, session_id, ranked)
        self._count()

    def _show(
        self, session_id: str, subject_id: str, ranked: RankedList, scores: NDArray[np.float32]
    ) -> None:
        self.sessions.append(
            {
                "sequence": len(self.sessions),
                "session_id": session_id,
                "use_case": self.use_case.id,
                "subject_id": subject_id,
                "release": self.loaded.release if self.loaded else None,
                "reranked": ranked.reranked,
                "source": "ranking",
                "serve_time": self.now,
                "item_ids": list(ranked.items),
                "scores": ranked.scores.tolist(),
                "methods": [method.value for method in ranked.methods],
                "retrieval_scores": scores.tolist(),
                "feature_names": list(ranked.feature_names),
                "feature_values": ranked.features.reshape(-1).tolist(),
            }
        )

    def _react(self, reaction: Reaction, session_id: str, ranked: RankedList) -> None:
        at = reaction.rank - 1
        time = self.now + timedelta(minutes=1)
        score = float(ranked.scores[at])
        tie = {
            "session_id": session_id,
            "rank": reaction.rank,
            "score": score,
            "method": ranked.methods[at].value,
            "release": self.loaded.release if self.loaded else None,
        }
        self._record(reaction.subject_id, reaction.item_id, reaction.event_type, time, tie)
        if reaction.reason is not None:
            self._dislike(reaction, session_id, score, time)

    def _dislike(self, reaction: Reaction, session_id: str, score: float, time: datetime) -> None:
        subject, reason = self._subjects[reaction.subject_id], reaction.reason or "other"
        number = f"d{len(self.dislikes)}"
        self.dislikes.append(
            {
                "dislike_id": number,
                "use_case": self.use_case.id,
                "subject_id": reaction.subject_id,
                "item_id": reaction.item_id,
                "session_id": session_id,
                "reason": reason,
                "predicted_score": score,
                "error": score,
                "event_time": time,
            }
        )
        last = subject.events[-1]
        subject.events[-1] = SubjectEvent(last.item, last.event_type, last.time, reason)
        effect = self.use_case.dislikes[reason]
        for name, value in values_cut(effect, self._rows.find(reaction.item_id)):
            subject.cuts[name, value].append(Cut(name, value, effect.cut, time, number))

    def snapshot(self, name: str) -> Snapshot:
        """Write all that happened so far."""
        entities = (
            e for kind in (self.use_case.subject, self.use_case.item) for e in self.market.entities[kind]
        )
        tables = {
            **entity_tables(entities),
            TableName.INTERACTIONS: pa.Table.from_pylist(self.interactions, INTERACTIONS),
            TableName.SESSIONS: pa.Table.from_pylist(self.sessions, SESSIONS),
            TableName.DISLIKES: pa.Table.from_pylist(self.dislikes, DISLIKES),
        }
        created = self.now + timedelta(hours=12)
        return write_snapshot(self.folder / name, tables, watermark=len(self.interactions), created=created)

    def train(self, config: TrainingConfig, name: str) -> Snapshot:
        """Train a release on what happened so far, write it, and serve it; return what it was trained on."""
        snapshot = self.snapshot(f"{name}-snapshot")
        material = Material(snapshot, self.use_case, validation_share=config.dataset.validation_share)
        served = self.ranker.calibration if self.ranker else {}
        fitted = fit(material, config, calibration=served)
        self.metrics = fitted.metrics
        folder, created = self.folder / name, self.now
        manifest = assemble(
            folder, name, material, fitted.parts, metrics={}, created=created, seed=config.seed
        )
        models = self._loader.load(folder, manifest)
        self.loaded = Loaded(name, "1", models, manifest, created)
        self.ranker = Ranker.load(folder / "ranker", self.use_case) if "ranker" in manifest.parts else None
        return snapshot
