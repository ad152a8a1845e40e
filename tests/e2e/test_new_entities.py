"""Subjects and items that a release has never seen: personal lists, found within seconds, over restarts.

And what docs/candidates.md shows of a release: the two share the stack that has one.
"""

from __future__ import annotations

import shutil
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

from matchloop.candidate.v1 import candidate_service_pb2 as candidate_pb
from matchloop.candidate.v1.candidate_pb2 import Candidate
from matchloop.catalog.v1 import catalog_service_pb2 as catalog_pb
from matchloop.catalog.v1.entity_pb2 import Entity, EntityKey, FeatureValue, Values
from matchloop.entities import Categorical
from matchloop.feedback.v1 import feedback_service_pb2 as feedback_pb
from matchloop.feedback.v1.interaction_pb2 import Interaction
from matchloop.feedback.v1.session_pb2 import (
    METHOD_ALS,
    METHOD_CONTENT,
    METHOD_POPULAR,
    METHOD_TWO_TOWER,
    Method,
    Tier,
)
from matchloop.release import CHAMPION, Manifest, MlflowRegistry
from matchloop.rpc.convert import value_to_proto
from matchloop.usecase import load_use_cases
from playground.processes import ServiceProcess
from tests.e2e.candidates_page import check_page
from tests.e2e.trained import USE_CASE, Trained, trained_stack
from tests.e2e.waiting import until
from tests.feedback_worlds import open_folder

pytestmark = [pytest.mark.processes, pytest.mark.timeout(400)]

LONGEST = 5.0
"""Seconds from an upsert to a list with the item."""

LIST = 20
METHODS = (METHOD_CONTENT, METHOD_TWO_TOWER)
PERSONAL_FIRST = (METHOD_CONTENT, METHOD_POPULAR)
"""The use case's order for cold subjects; a release may have found another one better."""


@pytest.fixture(scope="module")
def trained(new_registry: Callable[[Path], str]) -> Iterator[Trained]:
    with open_folder() as folder, trained_stack(folder, new_registry) as running:
        yield running


def multi(*values: str) -> FeatureValue:
    return FeatureValue(multi=Values(values=values))


def upsert(trained: Trained, kind: str, id_: str, **features: FeatureValue) -> None:
    entity = Entity(key=EntityKey(kind=kind, id=id_), features=features)
    trained.clients.catalog.UpsertEntities(catalog_pb.UpsertEntitiesRequest(entities=[entity]), timeout=5)


def react(trained: Trained, subject_id: str, *item_ids: str, event_type: str = "like") -> None:
    interactions = [
        Interaction(
            interaction_id=str(uuid.uuid4()),
            use_case=USE_CASE,
            subject_id=subject_id,
            item_id=item_id,
            event_type=event_type,
        )
        for item_id in item_ids
    ]
    request = feedback_pb.RecordInteractionsRequest(interactions=interactions)
    trained.clients.feedback.RecordInteractions(request, timeout=5)


def found_by(trained: Trained, subject: str, item: str) -> set[int]:
    """Return the methods that have the item among the first of a subject's list."""
    return {
        method
        for method in METHODS
        if item in ids(trained.candidates(subject, count=LIST, methods=[method]).candidates)
    }


def ids(candidates: Collection[Candidate]) -> list[str]:
    return [each.item_id for each in candidates]


def categories(trained: Trained) -> dict[str, str]:
    """Return the market's startups and their categories."""
    found = {}
    for entity in trained.market.entities["startup"]:
        value = entity.features["category"]
        assert isinstance(value, Categorical)
        found[str(entity.key.id)] = value.value
    return found


def popular(trained: Trained) -> list[str]:
    request = candidate_pb.ListTrendingRequest(use_case=USE_CASE, page_size=LIST)
    return ids(trained.clients.candidate.ListTrending(request, timeout=5).candidates)


def restart(service: ServiceProcess | None) -> None:
    assert service is not None
    assert service.stop() == 0
    service.start()
    service.wait_serving()


def promote_a_copy(trained: Trained) -> str:
    """Promote the champion again under another name: a swap to a release that knows no newer item."""
    registry, copy = MlflowRegistry(trained.stack.registry_uri), trained.stack.folder / "copy"
    champion = registry.resolve(USE_CASE, CHAMPION)
    assert champion is not None
    fetched = registry.fetch(champion, trained.stack.folder / "fetched")
    shutil.copytree(fetched, copy)
    manifest, name = Manifest.read(copy), f"{champion.release}-again"
    Manifest.write(
        copy,
        release=name,
        use_case=load_use_cases()[USE_CASE],
        created=manifest.created,
        snapshot=manifest.snapshot,
        parts=manifest.parts,
        metrics=manifest.metrics,
    )
    registered = registry.register(copy, USE_CASE, run_id=None, metrics={})
    registry.set_alias(USE_CASE, CHAMPION, registered.version)
    return name


def test_the_page_about_candidates_is_true(trained: Trained) -> None:
    check_page(trained)


def test_a_new_item_is_found_within_seconds_and_stays_over_restarts_and_releases(trained: Trained) -> None:
    model = trained.market.entities["startup"][3]
    wanted = categories(trained)[str(model.key.id)]
    profile = {
        "categories": multi(wanted),
        "tags": multi("embedded-rust"),
        "role": FeatureValue(categorical="backend"),
    }
    upsert(trained, "developer", "newcomer", **profile)
    before = trained.candidates("newcomer", count=LIST, methods=[METHOD_TWO_TOWER]).candidates
    assert len(before) == LIST
    best = trained.market.entities["startup"][int(before[0].item_id.rsplit("-", 1)[1])]
    features = {name: value_to_proto(value) for name, value in best.features.items()}
    features["tags"].multi.values.append("embedded-rust")
    began = time.monotonic()
    upsert(trained, "startup", "made-to-measure", **features)
    seen: dict[int, float] = {}

    def everywhere() -> bool:
        for method in found_by(trained, "newcomer", "made-to-measure") - seen.keys():
            seen[method] = time.monotonic() - began
        return len(seen) == len(METHODS)

    until(everywhere, "the new item by every method")
    for method, seconds in seen.items():
        name = Method.Name(method)  # type: ignore[arg-type]
        sys.stdout.write(f"{name}: upserted item in the list after {seconds:.2f} s\n")
    assert max(seen.values()) < LONGEST

    def whole() -> bool:
        return found_by(trained, "newcomer", "made-to-measure") == set(METHODS)

    restart(trained.stack.candidate)
    until(lambda: trained.candidates("newcomer", count=1).release == trained.release, "the release back")
    assert whole()
    restart(trained.stack.feedback)
    until(lambda: not trained.candidates("newcomer", count=1).degraded, "feedback_svc back")
    assert whole()
    again = promote_a_copy(trained)
    until(lambda: trained.candidates("newcomer", count=1).release == again, "the other release")
    assert whole()
    listed = trained.candidates("newcomer", count=LIST)
    assert "made-to-measure" in ids(listed.candidates)


def test_a_cold_subject_with_a_profile_gets_a_personal_list(trained: Trained) -> None:
    of = categories(trained)
    wanted = Counter(of.values()).most_common(1)[0][0]
    upsert(trained, "developer", "profiled", categories=multi(wanted))
    reply = trained.candidates("profiled", count=10, methods=PERSONAL_FIRST)
    assert reply.tier == Tier.TIER_COLD
    assert reply.candidates[0].method == METHOD_CONTENT
    personal = [each for each in reply.candidates if each.method != METHOD_POPULAR]
    fitting = sum(category == wanted for category in of.values())
    assert len(personal) >= min(fitting, 10)
    assert {of.get(each.item_id, wanted) for each in personal} == {wanted}
    assert ids(reply.candidates) != popular(trained)[:10]


def test_a_subject_with_three_events_gets_a_personal_list(trained: Trained) -> None:
    """It says nothing of itself: its list is about what it did."""
    of = categories(trained)
    wanted = Counter(of.values()).most_common(1)[0][0]
    liked = [item for item, category in of.items() if category == wanted][:3]
    react(trained, "three-events", *liked)
    reply = trained.candidates("three-events", count=10, methods=PERSONAL_FIRST)
    assert reply.tier == Tier.TIER_COLD
    assert {each.method for each in reply.candidates} == {METHOD_CONTENT}
    assert not set(liked) & set(ids(reply.candidates))
    share = sum(of.get(item) == wanted for item in ids(reply.candidates)) / 10
    assert share > 2 * sum(category == wanted for category in of.values()) / len(of)
    assert set(ids(reply.candidates)) != set(popular(trained)[:10])


def test_every_method_takes_a_subject_with_three_events(trained: Trained) -> None:
    """Other than popular's; ALS and the towers fold in what came after the training."""
    of = categories(trained)
    liked = list(of)[:3]
    react(trained, "folded-in", *liked)
    for method in (METHOD_CONTENT, METHOD_TWO_TOWER, METHOD_ALS):
        reply = trained.candidates("folded-in", count=10, methods=[method])
        assert not reply.skipped, method
        assert {each.method for each in reply.candidates} == {method}
        assert ids(reply.candidates) != popular(trained)[:10]
