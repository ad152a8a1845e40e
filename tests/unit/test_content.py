"""Content retrieval: profiles, scores, explanations, changes of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from matchloop.entities import (
    Categorical,
    Embedding,
    Entity,
    EntityId,
    EntityKey,
    FeatureValue,
    Kind,
    Multi,
    Text,
)
from matchloop.errors import InvalidInput
from matchloop.features import HashingEmbedder
from matchloop.retrieval.content import ContentIndex
from matchloop.retrieval.profile import (
    ContentProfile,
    SubjectEvent,
    content_of,
    disliked_weight,
    field_weights,
)
from matchloop.testing.worlds import checkerboard
from matchloop.usecase import UseCase, load_use_cases

NOW = datetime(2025, 1, 1, tzinfo=UTC)
INVESTOR_STARTUP = load_use_cases()["investor_startup"]
EMBEDDER = HashingEmbedder(INVESTOR_STARTUP.embedding_width)


def startup(id_: str, **features: FeatureValue) -> Entity:
    return Entity(EntityKey(Kind("startup"), EntityId(id_)), features)


def investor(**features: FeatureValue) -> Entity:
    return Entity(EntityKey(Kind("investor"), EntityId("me")), features)


def index(*items: Entity, use_case: UseCase = INVESTOR_STARTUP) -> ContentIndex:
    built = ContentIndex(use_case, EMBEDDER)
    built.upsert(items)
    return built


def event(item: str, kind: str = "like", days_ago: float = 0.0) -> SubjectEvent:
    return SubjectEvent(EntityId(item), kind, NOW - timedelta(days=days_ago))


BIO_GB = startup("bio_gb", category=Categorical("bio"), country=Categorical("GB"))
BIO_FR = startup("bio_fr", category=Categorical("bio"), country=Categorical("FR"))
WEB_GB = startup("web_gb", category=Categorical("web"), country=Categorical("GB"))
WEB_FR = startup("web_fr", category=Categorical("web"), country=Categorical("FR"))
FOUR = (BIO_GB, BIO_FR, WEB_GB, WEB_FR)


def ids(*names: str) -> list[EntityId]:
    return [EntityId(name) for name in names]


def found(built: ContentIndex, profile: ContentProfile, k: int = 9, **kwargs: object) -> list[str]:
    return [hit.item for hit in built.search(profile, k, **kwargs)]  # type: ignore[arg-type]


def test_a_cold_subject_is_matched_by_its_profile() -> None:
    built = index(*FOUR)
    me = investor(categories=Multi(("bio",)), country=Categorical("GB"))
    profile = built.profile(me, [], {}, NOW)
    hits = built.search(profile, 9)
    assert [hit.item for hit in hits] == ["bio_gb", "bio_fr", "web_gb"]  # web_fr does not fit at all
    assert hits[0].score == pytest.approx(1.0)
    best, worst = built.explain(profile, ids("bio_gb", "unknown", "web_fr"))
    assert (worst.item, worst.score, worst.contributions) == ("web_fr", 0.0, {})
    assert best.contributions == pytest.approx({"category": 1.0 / 1.4, "country": 0.4 / 1.4})
    assert hits[1].score == pytest.approx(1.0 / 1.4)


def test_a_subject_with_only_events_is_matched_by_what_it_reacted_to() -> None:
    built = index(*FOUR)
    profile = built.profile(None, [event("bio_fr")], {}, NOW)
    assert found(built, profile, exclude=[EntityId("bio_fr")]) == ["bio_gb", "web_fr"]


def test_recent_reactions_weigh_more_and_strong_ones_too() -> None:
    built = index(*FOUR)
    old_and_new = [event("bio_gb", days_ago=2000.0), event("web_gb", days_ago=1.0)]
    assert found(built, built.profile(None, old_and_new, {}, NOW), 1) == ["web_gb"]
    weak_and_strong = [event("bio_gb", "interest"), event("web_gb", "view")]
    assert found(built, built.profile(None, weak_and_strong, {}, NOW), 1) == ["bio_gb"]


def test_dislikes_push_away() -> None:
    built = index(*FOUR)
    me = investor(categories=Multi(("bio", "web")))
    assert found(built, built.profile(me, [], {}, NOW), 1) == ["bio_gb"]
    disliked = built.profile(me, [event("bio_gb", "dislike"), event("bio_fr", "dislike")], {}, NOW)
    assert found(built, disliked, 2) == ["web_gb", "web_fr"]
    only = built.profile(None, [event("bio_gb", "dislike")], {}, NOW)
    assert not only.has_signal
    assert found(built, only) == []


def test_dislike_weights_cut_a_value() -> None:
    built = index(*FOUR)
    me = investor(categories=Multi(("bio", "web")))
    cut = built.profile(me, [], {("category", "bio"): 0.85}, NOW)
    full = built.profile(me, [], {}, NOW)
    assert found(built, cut, 2) == ["web_gb", "web_fr"]
    before, after = (
        next(hit.score for hit in built.search(profile, 9) if hit.item == "bio_gb") for profile in (full, cut)
    )
    assert after < before
    one = built.profile(investor(categories=Multi(("bio",))), [], {("category", "bio"): 0.85}, NOW)
    assert built.search(one, 1)[0].score == pytest.approx(0.85)
    with pytest.raises(InvalidInput):
        built.profile(me, [], {("category", "bio"): float("nan")}, NOW)


def test_a_cut_is_exact_and_leaves_other_values_alone() -> None:
    built = index(*FOUR, startup("bio_us", category=Categorical("bio"), country=Categorical("US")))
    me = investor(categories=Multi(("bio", "web")), country=Categorical("GB"))  # bio is the commoner one

    def parts(factors: dict[tuple[str, str], float]) -> dict[str, Mapping[str, float]]:
        profile = built.profile(me, [], factors, NOW)
        return {hit.item: hit.contributions for hit in built.explain(profile, ids("bio_gb", "web_gb"))}

    full, cut = parts({}), parts({("category", "bio"): 0.85})
    assert cut["bio_gb"]["category"] / full["bio_gb"]["category"] == pytest.approx(0.85, abs=1e-12)
    assert cut["bio_gb"]["country"] == full["bio_gb"]["country"]
    assert cut["web_gb"] == full["web_gb"]


def test_what_is_not_wanted_and_was_disliked_is_pushed_away() -> None:
    built = index(*FOUR)
    me = investor(country=Categorical("GB"))
    assert found(built, built.profile(me, [], {("category", "bio"): 0.85}, NOW)) == ["web_gb", "bio_gb"]
    weights = [-0.5, 0.0, 0.5]
    for weight in weights:
        lower = [disliked_weight(weight, factor) for factor in (1.0, 0.85, 0.2)]
        assert lower[0] == weight
        assert lower == sorted(lower, reverse=True)
        assert lower[2] < lower[0]


def test_a_dislike_with_a_reason_pushes_nothing_away_but_by_its_factors() -> None:
    built = index(*FOUR)
    me = investor(categories=Multi(("bio",)))
    reacted = [event("web_fr", "like")]
    rejected = [*reacted, event("bio_gb", "dislike")._replace(reason="other")]
    assert built.profile(me, rejected, {}, NOW).weights == built.profile(me, reacted, {}, NOW).weights


def test_rare_values_count_more_than_those_every_item_has() -> None:
    items = [startup(f"s{i}", tags=Multi(("b2b", f"t{i}"))) for i in range(20)]
    built = index(*items, startup("plain", tags=Multi(("b2b", "other"))))
    hits = built.search(built.profile(investor(tags=Multi(("b2b", "t7"))), [], {}, NOW), 2)
    assert hits[0].item == "s7"
    assert hits[0].score > 2 * hits[1].score


def test_texts_are_embedded_and_a_brought_embedding_wins() -> None:
    width = INVESTOR_STARTUP.embedding_width
    north = Embedding((1.0, *[0.0] * (width - 1)))
    south = Embedding((-1.0, *[0.0] * (width - 1)))
    built = index(
        startup("robots", name=Text("warehouse robots")),
        startup("fish", name=Text("fish market")),
        startup("north", name=Text("warehouse robots"), embedding=north),
        startup("south", embedding=south),
    )
    robots = built.profile(investor(name=Text("robots for the warehouse")), [], {}, NOW)
    assert found(built, robots, 1) == ["robots"]
    assert built.explain(robots, ids("robots"))[0].contributions.keys() == {"embedding"}
    brought = built.search(built.profile(investor(embedding=north), [], {}, NOW), 9)
    assert brought[0].item == "north"
    assert brought[0].score == pytest.approx(1.0)
    assert "south" not in [hit.item for hit in brought]


def test_contributions_sum_to_the_score() -> None:
    rng = np.random.default_rng(1)
    items = [
        startup(
            f"s{i}",
            name=Text(f"name{rng.integers(5)} of {rng.integers(9)}"),
            category=Categorical(f"c{rng.integers(4)}"),
            tags=Multi(tuple(f"t{t}" for t in rng.integers(0, 9, 3))),
            country=Categorical(f"l{rng.integers(3)}"),
        )
        for i in range(60)
    ]
    built = index(*items)
    me = investor(name=Text("name1"), categories=Multi(("c1", "c2")), tags=Multi(("t1",)))
    events = [event("s3"), event("s4", "view", 20.0), event("s5", "dislike", 3.0)]
    profile = built.profile(me, events, {("category", "c2"): 0.5}, NOW)
    hits = built.search(profile, 20)
    assert len(hits) == 20
    explained = built.explain(profile, [hit.item for hit in hits])
    for hit, why in zip(hits, explained, strict=True):
        assert 0.0 < hit.score <= 1.0
        assert why.item == hit.item
        assert why.score == pytest.approx(hit.score, abs=1e-5)
        assert sum(why.contributions.values()) == pytest.approx(hit.score, abs=1e-5)
    assert any(part < 0.0 for why in explained for part in why.contributions.values())


def test_items_change_and_go() -> None:
    built = index(*FOUR)
    profile = built.profile(investor(categories=Multi(("bio",))), [], {}, NOW)
    built.upsert(
        [startup("bio_gb", category=Categorical("web")), startup("new", category=Categorical("bio"))]
    )
    assert found(built, profile) == ["bio_fr", "new"]
    built.remove([EntityId("bio_fr"), EntityId("unknown")])
    assert found(built, profile) == ["new"]
    assert built.content(EntityId("bio_fr")) is None
    built.upsert([startup("again", category=Categorical("bio"))])
    assert set(found(built, profile)) == {"new", "again"}
    assert len(built) == 5


def test_exclusion_and_filter() -> None:
    built = index(*FOUR)
    profile = built.profile(investor(country=Categorical("GB")), [], {}, NOW)
    assert found(built, profile, exclude=[EntityId("bio_gb"), EntityId("unknown")]) == ["web_gb"]
    assert found(built, profile, allow=lambda item: item.startswith("bio")) == ["bio_gb"]
    assert found(built, profile, exclude=[item.key.id for item in FOUR]) == []
    assert found(built, profile, 0) == []
    assert found(index(), profile) == []


def test_what_is_like_an_item_is_found() -> None:
    built = index(*FOUR)
    profile = built.profile_like(EntityId("bio_fr"))
    assert profile is not None
    assert found(built, profile, exclude=[EntityId("bio_fr")]) == ["bio_gb", "web_fr"]
    assert built.profile_like(EntityId("unknown")) is None


def test_a_subject_that_knows_nothing_gives_no_signal() -> None:
    built = index(*FOUR)
    for subject in (None, investor(), investor(role=Categorical("angel"))):
        profile = built.profile(subject, [event("unknown"), event("bio_gb", "unheard_of")], {}, NOW)
        assert not profile.has_signal
        assert found(built, profile) == []


def test_what_is_not_finite_or_does_not_fit_is_refused() -> None:
    width = INVESTOR_STARTUP.embedding_width
    built = index(*FOUR)
    bad = [
        startup("short", embedding=Embedding((1.0,))),
        startup("nan", embedding=Embedding((float("nan"), *[0.0] * (width - 1)))),
    ]
    for item in bad:
        with pytest.raises(InvalidInput, match=item.key.id):
            built.upsert([BIO_GB, item])
    nan = np.full(width, np.nan, dtype=np.float32)
    for profile in (
        ContentProfile({"category": {"bio": float("nan")}}, None),
        ContentProfile({}, nan),
        ContentProfile({}, np.ones(3, dtype=np.float32)),
    ):
        with pytest.raises(InvalidInput):
            built.search(profile, 1)
    with pytest.raises(InvalidInput, match="wide"):
        ContentIndex(INVESTOR_STARTUP, HashingEmbedder(8))


def test_fields_without_a_match_speak_through_reactions_only() -> None:
    assert field_weights(INVESTOR_STARTUP)["team"] < field_weights(INVESTOR_STARTUP)["country"]
    built = index(startup("a", team=Multi(("ann",))), startup("b", team=Multi(("ann", "bob"))))
    assert found(built, built.profile(None, [event("a")], {}, NOW)) == ["a", "b"]
    contents = content_of([startup("c", category=Categorical(""))], {"category": 1.0}, EMBEDDER, 384)
    assert contents[0].values == {}


def test_content_separates_the_colours_of_the_checkerboard() -> None:
    world = checkerboard(8)
    built = index(*world.items)
    for subject in world.subjects:
        seen = world.seen(subject.key.id)
        profile = built.profile(subject, [], {}, NOW)
        assert found(built, profile, exclude=seen) == [world.withheld[subject.key.id]]
        events = [event(item) for item in sorted(seen)]
        assert found(built, built.profile(None, events, {}, NOW), 1, exclude=seen) == [
            world.withheld[subject.key.id]
        ]
