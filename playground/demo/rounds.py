"""One round: every subject asks each policy, the market reacts, what was shown and done is recorded."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from matchloop.feedback.v1 import dislike_pb2, session_pb2
from matchloop.feedback.v1 import feedback_service_pb2 as feedback_pb
from matchloop.feedback.v1.interaction_pb2 import Interaction
from matchloop.ranking.v1 import ranking_service_pb2 as ranking_pb
from playground.demo.scoreboard import Policy, Row
from playground.load import record_in_batches
from playground.market import Shown, score_round

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.progress import Progress

    from playground.clients import Clients
    from playground.market import Market, Reaction

LIST_LENGTH = 10
_CLIENTS = 4
_TIMEOUT = 20.0


@dataclass(frozen=True, slots=True)
class Answers:
    """The lists of one policy, in the order of the subjects asked."""

    policy: Policy
    lists: tuple[Shown, ...]
    session_ids: tuple[str, ...]
    releases: frozenset[str]


@dataclass(frozen=True, slots=True)
class Contestant:
    """A policy and where it is asked; `preview` lists are not shown and leave no session."""

    policy: Policy
    clients: Clients
    preview: bool
    methods: tuple[session_pb2.Method.ValueType, ...] = ()


def ask(contestant: Contestant, use_case: str, subjects: Sequence[str], progress: Progress) -> Answers:
    """Ask `Recommend` for every subject, a few at a time."""
    task = progress.add_task(f"{use_case}: {contestant.policy}", total=len(subjects))

    def one(subject_id: str) -> ranking_pb.RecommendResponse:
        reply = contestant.clients.ranking.Recommend(
            ranking_pb.RecommendRequest(
                use_case=use_case,
                subject_id=subject_id,
                count=LIST_LENGTH,
                preview=contestant.preview,
                methods=contestant.methods,
            ),
            timeout=_TIMEOUT,
        )
        progress.advance(task)
        return reply

    with ThreadPoolExecutor(_CLIENTS) as pool:
        replies = list(pool.map(one, subjects))
    progress.remove_task(task)
    return Answers(
        policy=contestant.policy,
        lists=tuple(
            Shown(subject, tuple(item.item_id for item in reply.items))
            for subject, reply in zip(subjects, replies, strict=True)
        ),
        session_ids=tuple(reply.session_id for reply in replies),
        releases=frozenset(reply.release for reply in replies),
    )


def score(
    market: Market,
    use_case: str,
    answers: Answers,
    round_: int,
    *,
    excluded: Mapping[str, frozenset[str]],
    rng: np.random.Generator,
) -> Row:
    """Score the lists of one policy on the market's random numbers of this round."""
    happened = market.play(use_case, answers.lists, round_)
    figures = score_round(market, use_case, answers.lists, happened, excluded=excluded, rng=rng)
    return Row(
        use_case=use_case,
        policy=answers.policy,
        round=round_,
        click_rate=figures.click_rate,
        strong_positive_rate=figures.strong_positive_rate,
        dislike_rate=figures.dislike_rate,
        ndcg=figures.ndcg,
        low=figures.low,
        high=figures.high,
        release=", ".join(sorted(answers.releases)),
    )


def react(market: Market, use_case: str, answers: Answers, round_: int, clients: Clients) -> list[Reaction]:
    """Let the market react to lists that were shown; record every reaction with its session."""
    grouped = market.react_all(use_case, answers.lists, round_)
    now = datetime.now(UTC)
    interactions: list[Interaction] = []
    for session_id, reactions in zip(answers.session_ids, grouped, strict=True):
        for reaction in reactions:
            if reaction.event_type == "dislike":
                _dislike(clients, reaction, session_id, now)
            else:
                interactions.append(_interaction(reaction, session_id, now))
    record_in_batches(clients, interactions)
    return [reaction for reactions in grouped for reaction in reactions]


def _interaction(reaction: Reaction, session_id: str, now: datetime) -> Interaction:
    message = Interaction(
        interaction_id=str(uuid.uuid4()),
        use_case=reaction.use_case,
        subject_id=reaction.subject_id,
        item_id=reaction.item_id,
        event_type=reaction.event_type,
        session_id=session_id,
    )
    message.event_time.FromDatetime(now)
    return message


def _dislike(clients: Clients, reaction: Reaction, session_id: str, now: datetime) -> None:
    message = dislike_pb2.Dislike(
        dislike_id=str(uuid.uuid4()),
        use_case=reaction.use_case,
        subject_id=reaction.subject_id,
        item_id=reaction.item_id,
        reason=reaction.reason or "other",
        session_id=session_id,
    )
    message.event_time.FromDatetime(now)
    clients.feedback.RecordDislike(feedback_pb.RecordDislikeRequest(dislike=message), timeout=_TIMEOUT)
