"""What makes a retraining due runs one: twenty dislikes, drift; then it is due no more, and says so."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from matchloop.acts import ActKind
from matchloop.feedback.v1 import dislike_pb2, insight_pb2, session_pb2
from matchloop.feedback.v1 import feedback_service_pb2 as feedback_pb
from matchloop.observe.job_metrics import ADDRESS
from matchloop.release import CHAMPION, MlflowRegistry
from matchloop.usecase import load_use_cases
from playground.clients import Clients
from playground.load import event_message, load_entities, record_in_batches
from playground.market import Market
from playground.market.generated import Sizes
from playground.stack import Ports, Stack
from tests.e2e.trained import drifted, retrained, retraining
from tests.e2e.waiting import recommend, until_recommended
from tests.feedback_worlds import open_folder
from tests.pushes import pushes
from tests.unit.training_worlds import rule_scores
from training_jobs.operations import Operations

pytestmark = [pytest.mark.processes, pytest.mark.timeout(600)]

USE_CASE = "developer_startup"
DISLIKES = 20
LISTS = 150
FEATURES = load_use_cases()[USE_CASE].ranking.features
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
def stack(market: Market, new_registry: Callable[[Path], str]) -> Iterator[Stack]:
    """A stack of its own with a champion: a retraining marks every negative there is."""
    with open_folder() as folder, Stack(folder, ports=Ports.free(), poll_seconds=0.5) as running:
        with running.clients() as clients:
            for entities in market.only((USE_CASE,)).entities.values():
                load_entities(clients, entities)
            until_recommended(clients, USE_CASE, market.direction(USE_CASE).subject_ids[0])
            history = (e for e in market.history(np.random.default_rng(5)) if e.use_case == USE_CASE)
            record_in_batches(clients, map(event_message, history))
            serve(clients, market, release="", seed=1)
        new_registry(running.folder / "mlflow")
        done = retrained(running, CONFIG)
        assert done.returncode == 0, done.stdout + done.stderr
        yield running


def serve(clients: Clients, market: Market, *, release: str, seed: int, recency: float = 1.0) -> None:
    """Store lists as ranking_svc would have; `recency` changes what that feature is."""
    rng, direction = np.random.default_rng(seed), market.direction(USE_CASE)
    sessions = []
    for _ in range(LISTS):
        features = rng.random((5, len(FEATURES)))
        features[:, FEATURES.index("recency")] *= recency
        items = rng.choice(len(direction.item_ids), 5, replace=False)
        session = session_pb2.Session(
            session_id=str(uuid.uuid4()),
            use_case=USE_CASE,
            subject_id=direction.subject_ids[int(rng.integers(len(direction.subject_ids)))],
            release=release,
            tier=session_pb2.TIER_WARM,
            source=session_pb2.SESSION_SOURCE_RANKING,
            feature_names=FEATURES,
        )
        scores = rule_scores(load_use_cases()[USE_CASE], features)  # the release has no ranker
        for item, row, score in zip(items, features, scores, strict=True):
            session.items.add(
                item_id=direction.item_ids[int(item)],
                score=score,
                method=session_pb2.METHOD_ALS,
                features=row.tolist(),
            )
        sessions.append(session)
    for at in range(0, LISTS, 50):
        batch = feedback_pb.RecordSessionsRequest(sessions=sessions[at : at + 50])
        clients.feedback.RecordSessions(batch, timeout=10)


def champion_of(stack: Stack) -> str:
    champion = MlflowRegistry(stack.registry_uri).resolve(USE_CASE, CHAMPION)
    assert champion is not None
    return champion.release


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


def test_drift_is_told_and_trained_away(stack: Stack, market: Market) -> None:
    """Comes first: the lists trained on and those served are alike, none of them in the release's order."""
    release = champion_of(stack)
    with stack.clients() as clients, Operations(stack.addresses.feedback) as operations:
        serve(clients, market, release=release, seed=3)
        stayed = drifted(stack, CONFIG)
        assert stayed.returncode == 0, stayed.stdout + stayed.stderr
        assert "nothing drifted" in stayed.stdout

        serve(clients, market, release=release, seed=4, recency=0.1)
        file = stack.folder / "drift.prom"
        with pushes() as gateway, pytest.MonkeyPatch.context() as environment:
            environment.setenv(ADDRESS, gateway.url)
            found = drifted(stack, CONFIG, "--textfile", str(file))
        assert found.returncode == 4, found.stdout + found.stderr
        pushed = gateway.of("matchloop-drift", USE_CASE)
        assert pushed["matchloop_job_failed", ()] == 0.0
        assert pushed["matchloop_drifted_features", (f"use_case={USE_CASE}",)] >= 1.0
        assert f"{release}: recency" in found.stdout
        assert f'matchloop_drift_psi{{feature="recency",use_case="{USE_CASE}"}}' in file.read_text()
        assert drifted(stack, CONFIG).returncode == 4
        (told,) = operations.acts(USE_CASE, kinds=[ActKind.DRIFTED])
        assert told.release == release
        over = [number.name for number in told.numbers if number.value > (number.threshold or 0.0)]
        assert "recency" in over

        waits = retrained(stack, CONFIG, "--if-due")
        assert waits.returncode == 0, waits.stdout + waits.stderr
        assert "not retrained: drift due, but drift alone waits after a run: not before" in waits.stdout
        assert champion_of(stack) == release

        done = retrained(stack, CONFIG + "[triggers]\nleast_hours = 0.0\n", "--if-due")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "retraining: drift due" in done.stdout
        assert champion_of(stack) != release
        mended = drifted(stack, CONFIG)
        assert mended.returncode == 0, mended.stdout + mended.stderr
        assert "0 lists served since" in mended.stdout


def trained_by_one_of_two(stack: Stack) -> str:
    """Run two jobs at once, of which one trains and the other does nothing; return what the first said."""
    both = [retraining(stack, CONFIG, "--if-due") for _ in range(2)]
    said = [(process.communicate(timeout=300)[0], process.returncode) for process in both]
    assert sorted(code for _, code in said) == [0, 5], said
    trained, refused = sorted(said, key=lambda each: each[1])
    assert "is champion" in trained[0]
    assert f"another run is at it: lease `retrain/{USE_CASE}` is held by" in refused[0]
    return trained[0]


def test_twenty_dislikes_are_learned_from_by_one_of_two_runs_once(stack: Stack, market: Market) -> None:
    direction = market.direction(USE_CASE)
    with stack.clients() as clients, Operations(stack.addresses.feedback) as operations:
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

        with pushes() as gateway, pytest.MonkeyPatch.context() as environment:
            environment.setenv(ADDRESS, gateway.url)
            done = trained_by_one_of_two(stack)
        assert "retraining: dislikes" in done
        assert f"{DISLIKES} negatives are marked as used by this release" in done
        assert "due before: yes (negatives" in done
        assert "due now: no" in done

        after = status_of(clients)
        assert (after.due, after.unused_negatives) == (False, 0)
        assert after.last_release == champion_of(stack)
        assert [stored.used_by_release for stored in listed(clients)] == [after.last_release] * DISLIKES
        unused = feedback_pb.ListDislikesRequest(use_case=USE_CASE, unused_only=True)
        assert not clients.feedback.ListDislikes(unused, timeout=10).dislikes
        metrics = clients.feedback.GetFeedbackMetrics(
            feedback_pb.GetFeedbackMetricsRequest(use_case=USE_CASE), timeout=10
        ).metrics
        assert (after.last_release, DISLIKES) in [(r.release, r.marked) for r in metrics.retrainings]

        pushed = gateway.of("matchloop-retrain", USE_CASE)
        assert pushed["matchloop_job_failed", ()] == 0.0
        assert pushed["matchloop_retrain_promoted", (f"release={after.last_release}",)] == 1.0
        gates = {label for name, label in pushed if name == "matchloop_gate_verdict"}
        assert ("gate=checksums_and_schema", "verdict=passed") in gates
        read = gateway.of("matchloop-export")["matchloop_snapshot_read_rows", ("table=dislikes",)]
        assert read == DISLIKES

        again = retrained(stack, CONFIG, "--if-due")
        assert again.returncode == 0, again.stdout + again.stderr
        assert "not retrained: nothing is due" in again.stdout
        assert champion_of(stack) == after.last_release
        idle, promoted, began, *_ = operations.acts(USE_CASE)
        assert [act.kind for act in (idle, promoted, began)] == [
            ActKind.NOT_DUE,
            ActKind.PROMOTED,
            ActKind.RETRAINED,
        ]
        assert (began.automatic, began.release) == (True, after.last_release)
        assert began.reason.startswith("dislikes")
        numbers = {number.name: (number.value, number.threshold) for number in began.numbers}
        assert list(numbers["dislikes"]) == [DISLIKES, 20]
        assert idle.reason == "nothing is due"
