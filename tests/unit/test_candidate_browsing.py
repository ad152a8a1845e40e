"""Lists that are about no subject: items like an item, and what is popular, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from candidate_svc.domain import Equals, SimilarAsked, TrendingAsked
from candidate_svc.released import ReleaseLoader
from candidate_svc.trending import Position
from matchloop.entities import Categorical, Embedding, EntityId, Multi
from matchloop.errors import NotFound
from matchloop.features import HashingEmbedder
from matchloop.release.manifest import verify
from matchloop.release.slot import Loaded
from matchloop.usecase import Method
from tests.candidate_release import write_release
from tests.candidate_world import NOW, World, ids, startup, startups, stats, use_case, world

# --- trending


def listed(made: World, size: int = 10, filters: Sequence[Equals] = ()) -> list[list[str]]:
    """Return all pages, as ids."""
    pages: list[list[str]] = []
    after: Position | None = None
    while after is not None or not pages:
        page = made.retriever.trending(TrendingAsked(use_case(), size, after, tuple(filters)))
        pages.append(ids(page.candidates))
        after = page.end
    return pages


def test_pages_cover_the_catalogue_once_the_popular_first() -> None:
    made = world(startups(25), [stats("s20", weight=2.0), stats("s21", weight=3.0)])
    pages = listed(made)
    seen = [item for page in pages for item in page]
    assert [len(page) for page in pages] == [10, 10, 5]
    assert seen[:2] == ["s21", "s20"]
    assert sorted(seen) == sorted(f"s{i}" for i in range(25))


def test_a_last_page_that_is_full_ends_the_listing() -> None:
    assert [len(page) for page in listed(world(startups(20)))] == [10, 10]
    assert listed(world()) == [[]]


def test_scores_are_shares_of_all_that_is_counted() -> None:
    made = world(startups(3), [stats("s0", weight=3.0), stats("s1", weight=1.0)])
    page = made.retriever.trending(TrendingAsked(use_case(), filters=(Equals("country", "fr"),)))
    assert ids(page.candidates) == ["s1"]
    assert page.candidates[0].score == pytest.approx(0.25)


def test_no_item_comes_twice_while_counts_change() -> None:
    made = world(startups(30), [stats(f"s{i}", weight=1.0 + i) for i in range(20)])
    first = made.retriever.trending(TrendingAsked(use_case(), page_size=10))
    assert ids(first.candidates) == [f"s{i}" for i in range(19, 9, -1)]
    # s3 rises past what was listed, s12 rises among what was listed, s25 comes to where the next page is.
    made.store.count(stats("s3", weight=90.0), stats("s12", weight=50.0), stats("s25", weight=6.5))
    made.mirror.poll_once()
    rest: list[str] = []
    after = first.end
    while after is not None:
        page = made.retriever.trending(TrendingAsked(use_case(), 7, after))
        rest += ids(page.candidates)
        after = page.end
    assert not set(rest) & set(ids(first.candidates))
    assert len(set(rest)) == len(rest) == 19  # all but s3
    assert rest[3:6] == ["s6", "s25", "s5"]


def test_another_process_goes_on_where_this_one_ended() -> None:
    """One that listed the catalogue in another order and at another time, and saw the counts decayed."""
    items = startups(40)
    counts = [stats(f"s{i}", weight=1.0 + i % 6) for i in range(20)]
    one = world(items, counts)
    half_life = timedelta(days=use_case().popularity.half_life_days)
    decayed = [
        replace(each, decayed_weight=each.decayed_weight / 8.0, decay_time=NOW + 3 * half_life)
        for each in counts
    ]
    other = world(list(reversed(items)), list(reversed(decayed)))
    assert listed(one) == listed(other)
    first = one.retriever.trending(TrendingAsked(use_case(), page_size=10))
    ours = one.retriever.trending(TrendingAsked(use_case(), 30, first.end))
    theirs = other.retriever.trending(TrendingAsked(use_case(), 30, first.end))
    assert ids(ours.candidates) == ids(theirs.candidates)
    assert len(ours.candidates) == 30


def test_the_release_s_counts_stand_in_while_none_are_live(tmp_path: Path) -> None:
    made = released(world(startups(12)), tmp_path)
    pages = listed(made, 5)
    assert pages[0][:2] == ["s0", "s11"]
    assert sorted(item for page in pages for item in page) == sorted(f"s{i}" for i in range(12))


# --- similar items


def released(made: World, folder: Path) -> World:
    """Put a release over the startups of the world that have a category in place."""
    items = [each for each in made.store.stored.values() if each.features]
    written = write_release(folder / "r", items)
    rows = made.mirror.rows["startup"]
    loader = ReleaseLoader(use_case(), rows, HashingEmbedder(use_case().embedding_width))
    manifest = verify(written, use_case())
    made.release = Loaded("r", "1", loader.load(written, manifest), manifest, NOW)
    return made


def like(made: World, item: str, **more: object) -> list[tuple[str, Method]]:
    found, _ = made.retriever.similar(SimilarAsked(use_case(), EntityId(item), **more))  # type: ignore[arg-type]
    assert item not in ids(found)
    return [(each.item_id, each.method) for each in found]


def test_similar_items_share_values() -> None:
    made = world(startups(61))
    assert like(made, "s0", count=1) == [("s60", Method.CONTENT)]
    fits = [int(name[1:]) % 3 for name, _ in like(made, "s0", filters=(Equals("country", "us"),))]
    assert set(fits) == {2}


def test_an_unknown_and_an_inactive_item_have_none_alike() -> None:
    made = world(startups(4))
    made.store.deactivate("s1")
    made.mirror.poll_once()
    for item in ("nobody", "s1"):
        with pytest.raises(NotFound):
            like(made, item)
    assert "s1" not in dict(like(made, "s0"))


def test_similar_items_are_explained_field_by_field() -> None:
    made = world(startups(61))
    found, _ = made.retriever.similar(SimilarAsked(use_case(), EntityId("s0"), count=1, explain=True))
    parts = {part.field: part.values for part in found[0].contributions}
    assert parts["category~category"] == ("fintech",)
    assert parts["country~country"] == ("de",)
    assert sum(part.amount for part in found[0].contributions) == pytest.approx(found[0].score, abs=1e-5)


def test_the_release_s_vectors_fill_up_what_content_does_not_find(tmp_path: Path) -> None:
    items = [startup(f"g{i}", category=Categorical("games"), tags=Multi((f"t{i}",))) for i in range(3)]
    made = world([*items, startup("h", category=Categorical("health"))])
    released(made, tmp_path)
    assert made.release is not None
    assert {method for _, method in like(made, "g0")[:2]} == {Method.CONTENT}
    made.store.upsert(startup("g1"))  # its features are gone, what subjects did with it is not
    made.mirror.poll_once()
    found = like(made, "g1")
    assert found == [("g0", Method.ALS), ("g2", Method.ALS)]


def test_an_item_without_features_or_history_has_none_alike() -> None:
    made = world([startup("bare"), *startups(5)])
    assert like(made, "bare") == []
    vector = Embedding((1.0,) + (0.0,) * (use_case().embedding_width - 1))
    made.store.upsert(startup("near", embedding=vector), startup("bare", embedding=vector))
    made.mirror.poll_once()
    assert like(made, "bare") == [("near", Method.CONTENT)]
