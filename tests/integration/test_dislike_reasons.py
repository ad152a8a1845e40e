"""Every dislike reason of two use cases, through the three services, on a clock that is set.

Each subject has a twin who came at the same time, liked the same and rejected nothing: whatever else time
changes, changes for both, and what is left between them is the dislike.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from matchloop.catalog.v1 import catalog_service_pb2 as catalog_pb
from matchloop.entities import Categorical, Entity, Multi, discrete_values
from matchloop.feedback.v1 import feedback_service_pb2 as feedback_pb
from matchloop.feedback.v1.dislike_pb2 import DislikeReceipt
from matchloop.ranking.v1 import ranking_service_pb2 as ranking_pb
from matchloop.rpc.convert import entity_to_proto, key_to_proto, read_time
from playground.clocked import ClockedServices, SettableClock
from playground.dislikes.catalogues import CATALOGUES
from playground.dislikes.story import Shown, Teller
from playground.postgres import EmbeddedPostgres
from tests.feedback_worlds import fresh_database, key

HALF_LIFE = timedelta(days=90)

# What each reason takes from which of the disliked item's values; None: nothing.
EXPECTED: dict[tuple[str, str], tuple[str, str, float] | None] = {
    ("user_movie", "wrong_genre"): ("genres", "thriller", 0.15),
    ("user_movie", "poor_quality"): ("cast", "Mara Lind", 0.10),
    ("user_movie", "not_interested"): ("genres", "thriller", 0.075),
    ("user_movie", "franchise_fatigue"): ("series", "harbour", 0.12),
    ("user_movie", "already_watched"): None,
    ("user_movie", "other"): None,
    ("investor_startup", "wrong_category"): ("category", "climate", 0.15),
    ("investor_startup", "wrong_stage"): ("stages", "seed", 0.15),
    ("investor_startup", "wrong_location"): ("country", "SE", 0.15),
    ("investor_startup", "poor_quality"): ("team", "Ada Berg", 0.10),
    ("investor_startup", "not_interested"): ("category", "climate", 0.075),
    ("investor_startup", "already_known"): None,
    ("investor_startup", "other"): None,
}
REASONS = pytest.mark.parametrize(("use_case", "reason"), EXPECTED, ids=lambda value: str(value))
WITHDRAWN = [
    Entity(key("movie", f"extra-{number}"), {"genres": Multi(("thriller",))}) for number in range(14)
]
"""Can be disliked, but are in no list."""
_numbers = itertools.count()


@pytest.fixture(scope="module")
def services(
    postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ClockedServices]:
    """The services on a clock of their own, with the catalogues stored."""
    clock = SettableClock(datetime(2026, 5, 1, 12, tzinfo=UTC))
    folder: Path = tmp_path_factory.mktemp("clocked")
    with ClockedServices(fresh_database(postgres), folder, clock) as started:
        catalog = started.clients.catalog
        catalog.UpsertEntities(
            catalog_pb.UpsertEntitiesRequest(entities=[entity_to_proto(each) for each in WITHDRAWN])
        )
        catalog.DeactivateEntities(
            catalog_pb.DeactivateEntitiesRequest(keys=[key_to_proto(each.key) for each in WITHDRAWN])
        )
        for catalogue in CATALOGUES.values():  # once these are there, the withdrawn ones are gone
            Teller(started, catalogue).load()
        yield started


def teller_of(services: ClockedServices, use_case: str) -> Teller:
    return Teller(services, CATALOGUES[use_case])


def newcomers(teller: Teller) -> tuple[str, str]:
    """Let two arrive who are alike in everything."""
    number = next(_numbers)
    pair = (f"subject-{number}", f"twin-{number}")
    for each in pair:
        teller.arrive(each)
    return pair


def values_of(teller: Teller, item_id: str, feature: str) -> tuple[str, ...]:
    return discrete_values(teller.catalogue.by_id[item_id].features.get(feature))


def assert_only(
    teller: Teller, mine: Shown, twins: Shown, cut: tuple[str, str] | None, factor: float, *, hidden: str
) -> None:
    """Check that `mine` differs from the twin's list by one hidden item and one factor, and says so."""
    assert twins.items.keys() - mine.items.keys() == {hidden}
    touched = 0
    for item_id in mine.items:
        own, theirs = mine.content(item_id), twins.content(item_id)
        assert own.keys() == theirs.keys()
        for feature, part in own.items():
            is_cut = cut is not None and cut[0] == feature and cut[1] in values_of(teller, item_id, feature)
            touched += is_cut
            named = {each.value: each.factor for each in part.factors}
            assert named == (pytest.approx({cut[1]: factor}, abs=1e-12) if is_cut and cut else {})
            expected = theirs[feature].amount * (factor if is_cut else 1.0)
            assert part.amount == pytest.approx(expected, rel=1e-9)
        score = mine.items[item_id].explanation.retrieval_score
        if score > 0.0:
            assert mine.content_score(item_id) == pytest.approx(score, abs=1e-6)
    assert touched > (0 if cut else -1)


def test_every_reason_is_told() -> None:
    declared = {(name, reason) for name in CATALOGUES for reason in _use_case(name)}
    assert declared == EXPECTED.keys()


def _use_case(name: str) -> tuple[str, ...]:
    from matchloop.usecase import load_use_cases

    return tuple(load_use_cases()[name].dislikes)


@REASONS
def test_a_reason_acts_on_the_next_list_and_half_of_it_is_gone_after_the_half_life(
    services: ClockedServices, use_case: str, reason: str
) -> None:
    teller, expected = teller_of(services, use_case), EXPECTED[use_case, reason]
    subject, twin = newcomers(teller)
    rejected, now = teller.catalogue.disliked, services.clock()
    before = teller.show(subject)
    for item_id in before.items:
        assert before.items[item_id].explanation == teller.show(twin).items[item_id].explanation

    receipt = teller.dislike(subject, rejected, reason, session_id=before.session_id, comment="no more")
    assert list(receipt.hidden_item_ids) == [rejected]
    assert receipt.prediction_error == before.items[rejected].score
    assert receipt.example_weight == 0.8
    if expected is None:
        assert not receipt.weight_changes
    else:
        (change,) = receipt.weight_changes
        assert (change.feature, change.value, change.factor_before) == (*expected[:2], 1.0)
        assert change.factor_after == pytest.approx(1.0 - expected[2], abs=1e-12)
        assert read_time(change.half_life_time) == now + HALF_LIFE

    cut, share = (expected[:2], expected[2]) if expected else (None, 0.0)
    assert_only(teller, teller.show(subject), teller.show(twin), cut, 1.0 - share, hidden=rejected)
    services.clock.advance(HALF_LIFE)
    assert_only(teller, teller.show(subject), teller.show(twin), cut, 1.0 - share / 2, hidden=rejected)
    services.clock.advance(HALF_LIFE)
    assert_only(teller, teller.show(subject), teller.show(twin), cut, 1.0 - share / 4, hidden=rejected)


@REASONS
def test_the_list_follows(services: ClockedServices, use_case: str, reason: str) -> None:
    """An item that shares no more than the cut value with the disliked one loses score; the first stays."""
    teller, expected = teller_of(services, use_case), EXPECTED[use_case, reason]
    subject, _ = newcomers(teller)
    before = teller.show(subject)
    teller.dislike(subject, teller.catalogue.disliked, reason)
    after = teller.show(subject)
    assert next(iter(before.items)) == next(iter(after.items))
    model_scores = [_feature(shown, "model_score") for shown in (before, after)]
    for item_id in after.items:
        is_cut = expected is not None and expected[1] in values_of(teller, item_id, expected[0])
        lower = model_scores[1][item_id] < model_scores[0][item_id] - 1e-6
        least = before.content_score(item_id) == min(map(before.content_score, before.items))
        assert lower == (is_cut and not least), item_id


def _feature(shown: Shown, name: str) -> dict[str, float]:
    return {
        item_id: next(each.value for each in item.explanation.features if each.name == name)
        for item_id, item in shown.items.items()
    }


def test_many_dislikes_stop_at_the_floor(services: ClockedServices) -> None:
    teller = teller_of(services, "user_movie")
    subject, twin = newcomers(teller)
    factor, receipt = 1.0, DislikeReceipt()
    for film in WITHDRAWN:
        receipt = teller.dislike(subject, film.key.id, "wrong_genre")
        (change,) = receipt.weight_changes
        assert change.factor_before == pytest.approx(factor)
        factor = max(0.2, factor * 0.85)
        assert change.factor_after == pytest.approx(factor)
    assert factor == receipt.weight_changes[0].factor_after == 0.2
    for left in (0.2, 0.6, 0.8):
        mine, twins = teller.show(subject), teller.show(twin)
        for item_id in ("f2", "f3", "f4", "f5"):
            own, theirs = mine.content(item_id)["genres"], twins.content(item_id)["genres"]
            assert own.amount == pytest.approx(theirs.amount * left, rel=1e-9)
            assert own.factors[0].factor == pytest.approx(left)
        services.clock.advance(HALF_LIFE)


def test_reasons_multiply_and_a_replay_does_not(services: ClockedServices) -> None:
    teller = teller_of(services, "user_movie")
    subject, _ = newcomers(teller)
    first = teller.dislike(subject, "f2", "wrong_genre")
    assert teller.dislike(subject, "f2", "wrong_genre").duplicate
    services.clock.advance(HALF_LIFE)
    (second,) = teller.dislike(subject, "f5", "not_interested").weight_changes
    assert first.weight_changes[0].factor_after == pytest.approx(0.85)
    assert second.factor_before == pytest.approx(0.925)
    assert second.factor_after == pytest.approx(0.925 * 0.925)
    (cut,) = teller.show(subject).content("f3")["genres"].factors
    assert cut.factor == pytest.approx(0.925 * 0.925)


def test_another_use_case_and_another_subject_feel_nothing(services: ClockedServices) -> None:
    investors = teller_of(services, "investor_startup")
    subject, twin = newcomers(investors)
    developer = Entity(
        key("developer", subject),
        {"categories": Multi(("climate", "health")), "country": Categorical("SE")},
    )
    services.clients.catalog.UpsertEntities(
        catalog_pb.UpsertEntitiesRequest(entities=[entity_to_proto(developer)])
    )

    def startups_for_the_developer() -> dict[str, list[bytes]]:
        reply = services.clients.ranking.Recommend(
            ranking_pb.RecommendRequest(
                use_case="developer_startup", subject_id=subject, count=20, explain=True
            )
        )
        return {
            item.item_id: [part.SerializeToString() for part in item.explanation.contributions]
            for item in reply.items
        }

    before, twins = startups_for_the_developer(), investors.show(twin)
    investors.dislike(subject, "s3", "wrong_category")
    assert startups_for_the_developer() == before
    assert "s3" in before
    after = investors.show(twin)
    assert {id_: item.explanation for id_, item in after.items.items()} == {
        id_: item.explanation for id_, item in twins.items.items()
    }
    state = services.clients.feedback.LookupSubjectState(
        feedback_pb.LookupSubjectStateRequest(use_case="developer_startup", subject_id=subject)
    ).state
    assert not state.weight_factors
    assert not state.hidden_item_ids


def test_a_session_and_a_dislike_carry_the_clocks_time(services: ClockedServices) -> None:
    teller = teller_of(services, "user_movie")
    subject, _ = newcomers(teller)
    shown = teller.show(subject)
    teller.dislike(subject, "f2", "other", session_id=shown.session_id)
    session = services.clients.feedback.GetSession(
        feedback_pb.GetSessionRequest(session_id=shown.session_id)
    ).session
    assert read_time(session.serve_time) == services.clock()
    (kept,) = services.clients.feedback.ListDislikes(
        feedback_pb.ListDislikesRequest(use_case="user_movie", subject_id=subject)
    ).dislikes
    assert read_time(kept.receive_time) == read_time(kept.dislike.event_time) == services.clock()
    assert kept.dislike.predicted_score == kept.prediction_error == shown.items["f2"].score
