"""A market that reacts to lists which the real ranking pipeline served and chance varied."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from matchloop.position import examination
from matchloop.rerank.features import FeatureColumns
from matchloop.snapshot import INTERACTIONS, SESSIONS, Snapshot, TableName, entity_tables, write_snapshot
from matchloop.usecase import Exploration, Method, Tier, UseCase, load_use_cases
from playground.market.clicks import Shown
from playground.market.generated import Sizes
from playground.market.market import Market
from ranking_svc.domain import Candidate, Candidates, Rank, Recommend
from ranking_svc.wire import read_session
from tests.ranking_world import NOW, World

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ranking_svc.domain import ListItem, Session

USE_CASES = load_use_cases()
INVESTORS: UseCase = USE_CASES["investor_startup"]
SENT = tuple(name for name in FeatureColumns.of(INVESTORS).item_names if name != "recency")
LENGTH = 10
TRUE = examination(np.arange(1, LENGTH + 1))
"""The click model's examination by rank: what is to be found."""


@dataclass
class NoisyRetrieval:
    """`CandidateSource`: the best of 60 items by the hidden preference and noise; the same all round."""

    market: Market
    round_: int

    def find(self, ask: Recommend, count: int, *, challenger: bool = False) -> Candidates:
        direction = self.market.direction(INVESTORS.id)
        wanted = self.market.relevance(INVESTORS.id, ask.subject_id)
        rng = np.random.default_rng([self.round_, direction.subject_row[ask.subject_id]])
        rows = rng.choice(len(wanted), 60, replace=False)
        noisy = wanted[rows] + rng.normal(0.0, 0.3, 60)
        best = np.argsort(-noisy)[:count]
        rows, scores = rows[best], noisy[best]
        features = rng.random((count, len(SENT)))
        items = [
            Candidate(
                direction.item_ids[row],
                Method.CONTENT,
                float(scores[place]),
                create_time=NOW - timedelta(days=30),
                features=tuple(features[place].tolist()),
                diversity_values=((f"c{row % 7}",), (), ()),
            )
            for place, row in enumerate(rows.tolist())
        ]
        return Candidates(tuple(items), Tier.WARM, feature_names=SENT)

    def describe(self, ask: Rank, *, challenger: bool = False) -> Candidates:
        raise NotImplementedError


@dataclass
class Explored:
    """Lists served to every investor of a market, round after round, and what came of them.

    Parameters
    ----------
    plain, shown
        NDCG against the hidden preference of each list as it was ordered, and as it was shown: of the first
        `judged` rounds.
    """

    market: Market
    sessions: list[Session]
    reactions: list[dict[str, Any]]
    plain: NDArray[np.float64]
    shown: NDArray[np.float64]
    taken: datetime

    def snapshot(self, folder: Path) -> Snapshot:
        entities = [e for kind in (INVESTORS.subject, INVESTORS.item) for e in self.market.entities[kind]]
        rows = [_row(number, session) for number, session in enumerate(self.sessions)]
        tables = {
            **entity_tables(entities),
            TableName.INTERACTIONS: pa.Table.from_pylist(self.reactions, INTERACTIONS),
            TableName.SESSIONS: pa.Table.from_pylist(rows, SESSIONS),
        }
        return write_snapshot(folder, tables, watermark=len(self.reactions), created=self.taken)


def explore(
    folder: Path, policy: Exploration, *, rounds: int, judged: int = 8, investors: int = 300
) -> Explored:
    """Serve `rounds` lists of ten to each investor, half an hour apart, and play the clicks."""
    sizes = Sizes(developers=20, investors=investors, startups=150)
    market = Market.generated(USE_CASES, seed=0, now=NOW, sizes=sizes)
    sessions: list[Session] = []
    reactions: list[dict[str, Any]] = []
    gains: list[tuple[float, float]] = []
    with World(folder / "serving") as world:
        for round_ in range(rounds):
            now = NOW + timedelta(minutes=30 * round_)
            world.pipeline = replace(
                world.pipeline,
                candidates=NoisyRetrieval(market, round_),
                exploration={INVESTORS.id: policy},
                clock=partial(_same, now),
            )
            for subject in market.direction(INVESTORS.id).subject_ids:
                ask = Recommend(INVESTORS, subject, count=LENGTH)
                answer = world.pipeline.recommend(ask)
                sessions.append(read_session(world.store.sessions[answer.session_id]))
                if round_ >= judged:
                    continue
                before = world.pipeline.recommend(replace(ask, preview=True)).items
                gains.append((_ndcg(market, subject, before), _ndcg(market, subject, answer.items)))
        lists = [Shown(s.subject_id, tuple(item.item_id for item in s.items)) for s in sessions]
        per_round = len(lists) // rounds
        for round_ in range(rounds):
            part = slice(round_ * per_round, (round_ + 1) * per_round)
            told = market.react_all(INVESTORS.id, lists[part], round_)
            for session, happened in zip(sessions[part], told, strict=True):
                for reaction in happened:
                    reactions.append(_event(len(reactions), session, reaction))
    plain, shown = np.array(gains).T
    return Explored(market, sessions, reactions, plain, shown, NOW + timedelta(days=30))


def _same(moment: datetime) -> datetime:
    return moment


def _ndcg(market: Market, subject: str, items: Sequence[ListItem]) -> float:
    shown = Shown(subject, tuple(item.item_id for item in items))
    return market.truth_ndcg(INVESTORS.id, shown, k=LENGTH)


def _row(number: int, session: Session) -> dict[str, Any]:
    return {
        "sequence": number,
        "session_id": session.session_id,
        "use_case": session.use_case,
        "subject_id": session.subject_id,
        "reranked": session.reranked,
        "source": "ranking",
        "serve_time": session.serve_time,
        "item_ids": [item.item_id for item in session.items],
        "scores": [item.score for item in session.items],
        "methods": [item.method and item.method.value for item in session.items],
        "propensities": [item.propensity for item in session.items] if session.items[0].propensity else None,
        "retrieval_scores": [item.retrieval_score for item in session.items],
        "feature_names": list(session.feature_names),
        "feature_values": [value for item in session.items for value in item.features],
    }


def _event(number: int, session: Session, reaction: Any) -> dict[str, Any]:
    return {
        "sequence": number,
        "interaction_id": f"i{number}",
        "use_case": INVESTORS.id,
        "subject_id": session.subject_id,
        "item_id": reaction.item_id,
        "event_type": reaction.event_type,
        "event_time": session.serve_time + timedelta(seconds=reaction.rank),
        "receive_time": session.serve_time + timedelta(seconds=60),
        "source": "recommendation",
        "session_id": session.session_id,
        "rank": reaction.rank,
        "score": session.items[reaction.rank - 1].score,
    }
