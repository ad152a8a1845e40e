"""Use cases: what ships is whole, and every mistake in a user's file is reported at once."""

from pathlib import Path

import pytest

from matchloop.errors import InvalidInput, NotFound, Reason
from matchloop.usecase import Tier, Tiers, load_use_cases

SHIPPED = ["developer_startup", "investor_startup", "startup_developer", "startup_investor", "user_movie"]

MARKET = """
id = "reader_book"
title = "Readers look for a book"
subject = "reader"
item = "book"
[events]
view = { weight = 0.5, label = 0.4, view = true }
buy = { weight = 3.0, label = 1.0, strong = true }
dislike = { weight = -1.0, label = 0.0 }
[features.reader]
tastes = "multi"
[features.book]
genre = "categorical"
[[match]]
subject = "tastes"
item = "genre"
[dislikes]
wrong_genre = { fields = ["genre"], cut = 0.15 }
"""


def test_the_specified_use_cases_are_shipped() -> None:
    assert list(load_use_cases()) == SHIPPED


@pytest.mark.parametrize(
    ("use_case", "event", "weight", "label", "strong"),
    [
        ("developer_startup", "view", 0.5, 0.4, False),
        ("developer_startup", "click", 1.0, 0.6, False),
        ("investor_startup", "like", 2.0, 0.8, True),
        ("investor_startup", "favorite", 2.5, 0.9, True),
        ("developer_startup", "apply", 3.0, 1.0, True),
        ("investor_startup", "interest", 3.5, 1.0, True),
        ("investor_startup", "dislike", -1.0, 0.0, False),
        ("startup_investor", "contact", 3.0, 1.0, True),
        ("startup_developer", "apply_received", 2.5, 0.9, True),
        ("user_movie", "favorite", 2.5, 0.9, True),
    ],
)
def test_event_weights_are_the_specified_ones(
    use_case: str, event: str, weight: float, label: float, strong: bool
) -> None:
    declared = load_use_cases()[use_case].events[event]
    assert (declared.weight, declared.label, declared.strong) == (weight, label, strong)


def test_a_reverse_use_case_turns_the_forward_matches() -> None:
    use_cases = load_use_cases()
    forward = {(m.subject, m.item) for m in use_cases["developer_startup"].match}
    reverse = {(m.item, m.subject) for m in use_cases["startup_developer"].match}
    assert forward == reverse


def test_a_forward_use_case_knows_its_reverse() -> None:
    use_cases = load_use_cases()
    reverses = {name: reverse.id for name in use_cases if (reverse := use_cases.reverse_of(name))}
    assert reverses == {
        "developer_startup": "startup_developer",
        "investor_startup": "startup_investor",
    }


REVERSE = """
id = "book_reader"
title = "Books look for a reader"
subject = "book"
item = "reader"
reverse_of = "reader_book"
[events]
contact = { weight = 3.0, label = 1.0, strong = true }
dislike = { weight = -1.0, label = 0.0 }
[dislikes]
other = {}
"""


@pytest.mark.parametrize(
    ("turned", "fault"),
    [
        (
            MARKET.replace('id = "reader_book"', 'id = "lost"\nreverse_of = "reader_film"'),
            "there is no use case `reader_film`",
        ),
        (MARKET.replace('"reader_book"', '"again"'), ""),
        (REVERSE.replace('"book_reader"', '"second"'), "`reader_book` has a reverse already: `book_reader`"),
        (
            MARKET.replace('id = "reader_book"', 'id = "again"\nreverse_of = "book_reader"'),
            "`book_reader` is a reverse itself",
        ),
        (
            MARKET.replace('id = "reader_book"', 'id = "same_way"\nreverse_of = "reader_book"'),
            "`reader_book` goes from reader to book, this one from reader to book",
        ),
    ],
)
def test_a_reverse_turns_one_forward_use_case(tmp_path: Path, turned: str, fault: str) -> None:
    (tmp_path / "a.toml").write_text(MARKET)
    (tmp_path / "b.toml").write_text(REVERSE)
    (tmp_path / "c.toml").write_text(turned)
    if not fault:
        assert load_use_cases(tmp_path).reverse_of("reader_book") is not None
        return
    with pytest.raises(InvalidInput) as caught:
        load_use_cases(tmp_path)
    assert [violation.description for violation in caught.value.violations] == [fault]


@pytest.mark.parametrize(
    ("interactions", "tier"),
    [(0, Tier.COLD), (4, Tier.COLD), (5, Tier.WARM), (19, Tier.WARM), (20, Tier.HOT)],
)
def test_tier_bounds(interactions: int, tier: Tier) -> None:
    assert Tiers().of(interactions) is tier


def test_a_market_is_added_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "reader_book.toml").write_text(MARKET)
    use_case = load_use_cases(tmp_path)["reader_book"]
    assert use_case.strong_events == {"buy"}
    assert use_case.view_events == {"view"}


def test_every_problem_of_every_file_is_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("id = ")
    (tmp_path / "b.toml").write_text(
        MARKET.replace('item = "genre"', 'item = "gender"').replace("strong = true", "strong = false")
    )
    (tmp_path / "c.toml").write_text(
        MARKET.replace("reader_book", "startup_developer").replace("cut = 0.15", "cut = 2")
    )
    with pytest.raises(InvalidInput) as caught:
        load_use_cases(tmp_path)
    message = str(caught.value)
    for part in (
        "a.toml",
        "unknown feature `gender`",
        "none is strong",
        "is declared in",
        "dislikes.wrong_genre.cut",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("declared", "fault"),
    [
        ("ages = { born = [1.0, 4.0] }", ""),
        ("earlier = []", ""),
        ("ages = { died = [1.0] }", "popularity.ages: unknown feature `died`"),
        ("ages = { tastes = [1.0] }", "popularity.ages: `tastes` is multi, not numeric"),
        ("ages = { born = [4.0, 4.0] }", "ages.born: bounds must ascend"),
        ("ages = { born = [] }", "x.toml: popularity.ages.born"),
        ("ages = { born = [nan] }", "x.toml: popularity.ages.born.0"),
        ("earlier = [5, 1]", "earlier: bounds must ascend"),
        ("earlier = [0]", "x.toml: popularity.earlier.0"),
        ('segments = ["tastes", "tastes"]', "segments: a name stands twice"),
    ],
)
def test_segments_of_popularity_are_checked(tmp_path: Path, declared: str, fault: str) -> None:
    market = MARKET.replace('tastes = "multi"', 'tastes = "multi"\nborn = "numeric"')
    (tmp_path / "x.toml").write_text(f"{market}\n[popularity]\n{declared}\n")
    if not fault:
        load_use_cases(tmp_path)
        return
    with pytest.raises(InvalidInput) as caught:
        load_use_cases(tmp_path)
    assert fault in str(caught.value)


def test_one_kind_has_one_schema(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(MARKET.replace("book", "startup"))
    with pytest.raises(InvalidInput, match=r"features.startup: differs from developer_startup in .*category"):
        load_use_cases(tmp_path)


def test_an_unknown_use_case_names_the_known_ones() -> None:
    with pytest.raises(NotFound, match="investor_startup") as caught:
        load_use_cases()["dating"]
    assert caught.value.reason is Reason.USE_CASE_NOT_FOUND


def test_the_fingerprint_follows_the_schema_alone(tmp_path: Path) -> None:
    def fingerprint(text: str) -> str:
        (tmp_path / "x.toml").write_text(text)
        return load_use_cases(tmp_path)["reader_book"].schema_fingerprint

    first = fingerprint(MARKET)
    assert fingerprint(MARKET.replace("weight = 3.0", "weight = 2.0")) == first
    assert fingerprint(MARKET.replace('tastes = "multi"', 'tastes = "multi"\nage = "numeric"')) != first
