"""What a client sees of a running stack: a list, its session, reactions that count at once."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from matchloop.catalog.v1 import catalog_service_pb2 as catalog_pb
from matchloop.catalog.v1.entity_pb2 import Entity, EntityKey, FeatureValue, Values
from matchloop.feedback.v1 import dislike_pb2, interaction_pb2
from matchloop.feedback.v1 import feedback_service_pb2 as feedback_pb
from matchloop.feedback.v1.session_pb2 import Tier
from matchloop.ranking.v1.ranking_service_pb2 import RecommendResponse
from playground.clients import Clients
from playground.market import Market
from playground.stack import Stack
from tests.e2e.conftest import USE_CASE
from tests.e2e.waiting import recommend, until

pytestmark = pytest.mark.processes

RECOMMEND = "/matchloop.ranking.v1.RankingService/Recommend"
BUF = str(Path(sys.executable).parent / "buf")


def buf_curl(address: str, *arguments: str, data: dict[str, object] | None = None) -> str:
    body = ["--data", json.dumps(data)] if data is not None else []
    url = [f"http://{address}{arguments[-1]}"] if arguments[-1].startswith("/") else [f"http://{address}"]
    flags = [argument for argument in arguments if not argument.startswith("/")]
    done = subprocess.run(
        [BUF, "curl", "--protocol", "grpc", "--http2-prior-knowledge", *flags, *body, *url],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_list_is_a_session_before_its_reply(clients: Clients, market: Market) -> None:
    subject = market.direction(USE_CASE).subject_ids[1]

    def in_full() -> RecommendResponse | None:
        """Ask again where a busy machine let the session be spooled: the reply says so, and it is late."""
        found = recommend(clients, USE_CASE, subject)
        return None if found.degraded else found

    reply = until(in_full, "a reply with nothing degraded")
    stored = clients.feedback.GetSession(
        feedback_pb.GetSessionRequest(session_id=reply.session_id), timeout=5
    ).session
    assert [item.item_id for item in stored.items] == [item.item_id for item in reply.items]
    assert [item.rank for item in reply.items] == list(range(1, 11))
    assert list(stored.feature_names)
    assert all(len(item.features) == len(stored.feature_names) for item in stored.items)


def test_reactions_count_at_once(clients: Clients, market: Market) -> None:
    subject = market.direction(USE_CASE).subject_ids[2]
    first = recommend(clients, USE_CASE, subject)
    liked = first.items[2]
    reactions = [
        interaction_pb2.Interaction(
            interaction_id=str(uuid.uuid4()),
            use_case=USE_CASE,
            subject_id=subject,
            item_id=item.item_id,
            event_type="like" if item is liked else "view",
            session_id=first.session_id,
        )
        for item in first.items[:6]
    ]
    clients.feedback.RecordInteractions(
        feedback_pb.RecordInteractionsRequest(interactions=reactions), timeout=5
    )
    second = recommend(clients, USE_CASE, subject)
    assert (first.tier, second.tier) == (Tier.TIER_COLD, Tier.TIER_WARM)
    assert liked.item_id not in {item.item_id for item in second.items}
    kept = clients.feedback.ListInteractions(
        feedback_pb.ListInteractionsRequest(use_case=USE_CASE, subject_id=subject, item_id=liked.item_id),
        timeout=5,
    ).interactions
    assert [one.rank for one in kept] == [3]
    assert kept[0].score == pytest.approx(liked.score)


def test_an_upserted_item_is_found_within_five_seconds(clients: Clients, market: Market) -> None:
    market_only = market.only((USE_CASE,))
    subject = market_only.entities["developer"][3]
    features = {
        name: FeatureValue(multi=Values(values=value.values))
        for name, value in subject.features.items()
        if name in {"tags", "stages"} and hasattr(value, "values")
    }
    wanted = subject.features["categories"]
    features["category"] = FeatureValue(categorical=wanted.values[0])  # type: ignore[union-attr]
    key = EntityKey(kind="startup", id="made-to-measure")
    clients.catalog.UpsertEntities(
        catalog_pb.UpsertEntitiesRequest(entities=[Entity(key=key, features=features)]), timeout=5
    )

    def found() -> bool:
        reply = recommend(clients, USE_CASE, str(subject.key.id), count=30, preview=True)
        return key.id in {item.item_id for item in reply.items}

    until(found, "the new item in the list of the subject it suits")
    clients.catalog.DeactivateEntities(catalog_pb.DeactivateEntitiesRequest(keys=[key]), timeout=5)
    until(lambda: not found(), "the deactivated item gone")


def test_with_nothing_but_reflection(stack: Stack, market: Market) -> None:
    """What the README does with grpcurl, done with `buf curl`."""
    addresses = stack.addresses
    listed = buf_curl(addresses.ranking, "--list-services")
    assert {"matchloop.ranking.v1.RankingService", "grpc.health.v1.Health"} <= set(listed.split())
    health = json.loads(buf_curl(addresses.ranking, "/grpc.health.v1.Health/Check", data={}))
    assert health == {"status": "SERVING"}
    subject = market.direction(USE_CASE).subject_ids[4]
    ask: dict[str, object] = {"useCase": USE_CASE, "subjectId": subject, "count": 5, "explain": True}
    first = json.loads(buf_curl(addresses.ranking, RECOMMEND, data=ask))
    assert len(first["items"]) == 5
    disliked = first["items"][0]["itemId"]
    dislike: dict[str, object] = {
        "dislike": {
            "dislikeId": str(uuid.uuid4()),
            "useCase": USE_CASE,
            "subjectId": subject,
            "itemId": disliked,
            "reason": "wrong_category",
            "sessionId": first["sessionId"],
        }
    }
    receipt = json.loads(
        buf_curl(addresses.feedback, "/matchloop.feedback.v1.FeedbackService/RecordDislike", data=dislike)
    )["receipt"]
    assert receipt["hiddenItemIds"] == [disliked]
    assert receipt["weightChanges"][0]["factorAfter"] == pytest.approx(0.85)
    second = json.loads(buf_curl(addresses.ranking, RECOMMEND, data=ask))
    assert disliked not in {item["itemId"] for item in second["items"]}


def test_a_dislike_sent_twice_counts_once(clients: Clients, market: Market) -> None:
    subject = market.direction(USE_CASE).subject_ids[5]
    shown = recommend(clients, USE_CASE, subject)
    request = feedback_pb.RecordDislikeRequest(
        dislike=dislike_pb2.Dislike(
            dislike_id=str(uuid.uuid4()),
            use_case=USE_CASE,
            subject_id=subject,
            item_id=shown.items[0].item_id,
            reason="not_interested",
            session_id=shown.session_id,
        )
    )
    first, second = (clients.feedback.RecordDislike(request, timeout=5).receipt for _ in range(2))
    assert (first.duplicate, second.duplicate) == (False, True)
    state = clients.feedback.LookupSubjectState(
        feedback_pb.LookupSubjectStateRequest(use_case=USE_CASE, subject_id=subject), timeout=5
    ).state
    assert state.interaction_count == 1
