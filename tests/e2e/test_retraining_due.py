"""Twenty dislikes make a retraining due; `training_jobs retrain` uses them, and it is due no more."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import pytest

from matchloop.feedback.v1 import dislike_pb2, insight_pb2
from matchloop.feedback.v1 import feedback_service_pb2 as feedback_pb
from matchloop.usecase import load_use_cases
from playground.clients import Clients
from playground.load import event_message, load_entities, record_in_batches
from playground.market import Market
from playground.market.generated import Sizes
from playground.stack import Ports, Stack
from tests.e2e.trained import retrained
from tests.e2e.waiting import recommend, until_recommended
from tests.feedback_worlds import open_folder

pytestmark = pytest.mark.processes

USE_CASE = "developer_startup"
DISLIKES = 20
CONFIG = """
[als]
factors = 32
iterations = 5
trials = [{ regularization = 10.0, alpha = 10.0 }]

[two_tower]
hidden = [64]
width = 32
dropout = [0.1]
loss = "sampled_softmax"
learning_rate = 0.003
epochs = 4
examples_per_epoch = 8000
threads = 1

[gates]
tolerance = 1.0
"""
"""Small and undemanding: this is about what is marked, not about how good the release is."""


@pytest.fixture(scope="module")
def market() -> Market:
    sizes = Sizes(developers=200, investors=5, startups=120, events=10.0)
    return Market.generated(load_use_cases(), seed=5, now=datetime.now(UTC), sizes=sizes)


@pytest.fixture(scope="module")
def stack(market: Market) -> Iterator[Stack]:
    """A stack of its own: a retraining marks every negative there is."""
    with open_folder() as folder, Stack(folder, ports=Ports.free(), poll_seconds=0.2) as running:
        with running.clients() as clients:
            for entities in market.only((USE_CASE,)).entities.values():
                load_entities(clients, entities)
            until_recommended(clients, USE_CASE, market.direction(USE_CASE).subject_ids[0])
        yield running


def status_of(clients: Clients) -> insight_pb2.RetrainingStatus:
    request = feedback_pb.GetRetrainingStatusRequest(use_case=USE_CASE)
    return clients.feedback.GetRetrainingStatus(request, timeout=10).status


def listed(clients: Clients) -> list[dislike_pb2.StoredDislike]:
    request = feedback_pb.ListDislikesRequest(use_case=USE_CASE)
    return list(clients.feedback.ListDislikes(request, timeout=10).dislikes)


def reject_first(clients: Clients, subject: str) -> None:
    """Ask for a list and reject what stands first on it."""
    shown = recommend(clients, USE_CASE, subject)
    dislike = dislike_pb2.Dislike(
        dislike_id=str(uuid.uuid4()),
        use_case=USE_CASE,
        subject_id=subject,
        item_id=shown.items[0].item_id,
        reason="wrong_category",
        session_id=shown.session_id,
    )
    clients.feedback.RecordDislike(feedback_pb.RecordDislikeRequest(dislike=dislike), timeout=10)


def test_twenty_dislikes_are_learned_from(stack: Stack, market: Market) -> None:
    direction = market.direction(USE_CASE)
    with stack.clients() as clients:
        history = (event for event in market.history(np.random.default_rng(5)) if event.use_case == USE_CASE)
        record_in_batches(clients, map(event_message, history))
        for subject in direction.subject_ids[: DISLIKES - 1]:
            reject_first(clients, subject)
        before = status_of(clients)
        # What stood first on a list had a high score: their error may make it due before their number does.
        assert insight_pb2.RETRAINING_CAUSE_NEGATIVES not in before.causes
        assert before.unused_negatives == DISLIKES - 1
        reject_first(clients, direction.subject_ids[DISLIKES - 1])
        due = status_of(clients)
        assert due.due
        assert insight_pb2.RETRAINING_CAUSE_NEGATIVES in due.causes
        assert (due.unused_negatives, due.unused_negatives_bound) == (DISLIKES, 20)
        assert due.scored_negatives == DISLIKES
        errors = [stored.prediction_error for stored in listed(clients)]
        assert due.mean_prediction_error == pytest.approx(sum(errors) / DISLIKES)

        done = retrained(stack, CONFIG)
        assert done.returncode == 0
        assert f"{DISLIKES} negatives are marked as used by this release" in done.stdout
        assert "due before: yes (negatives" in done.stdout
        assert "due now: no" in done.stdout

        after = status_of(clients)
        assert (after.due, after.unused_negatives) == (False, 0)
        assert after.last_release.startswith(f"{USE_CASE}-w")
        assert [stored.used_by_release for stored in listed(clients)] == [after.last_release] * DISLIKES
        unused = feedback_pb.ListDislikesRequest(use_case=USE_CASE, unused_only=True)
        assert not clients.feedback.ListDislikes(unused, timeout=10).dislikes
        metrics = clients.feedback.GetFeedbackMetrics(
            feedback_pb.GetFeedbackMetricsRequest(use_case=USE_CASE), timeout=10
        ).metrics
        assert [(r.release, r.marked) for r in metrics.retrainings] == [(after.last_release, DISLIKES)]
