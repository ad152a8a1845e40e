"""The last popular lists: refreshed, kept over restarts, never replaced by nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from matchloop.errors import Unavailable
from matchloop.usecase import Method
from ranking_svc import popular as module
from ranking_svc.popular import PopularLists
from tests.ranking_world import MOVIE, USE_CASES, FakeCandidates, FakeGraves, candidate, until

OTHERS = set(USE_CASES) - {MOVIE.id}
"""Use cases that there is never a list for."""


def make(folder: Path, source: FakeCandidates, graves: FakeGraves | None = None) -> PopularLists:
    return PopularLists(USE_CASES, source, graves or FakeGraves(), folder, refresh_seconds=0.01)


def popular(*numbers: int) -> list[object]:
    return [candidate(i, method=Method.POPULAR, score=50.0 - i) for i in numbers]


def ids(lists: PopularLists) -> list[str] | None:
    found = lists.last(MOVIE.id)
    return None if found is None else [item.item_id for item in found]


def test_a_list_is_kept_over_restarts_with_all_that_is_needed(tmp_path: Path) -> None:
    source = FakeCandidates(popular=popular(3, 4))  # type: ignore[arg-type]
    lists = make(tmp_path, source)
    assert ids(lists) is None
    assert lists.refresh() == OTHERS
    assert ids(lists) == ["m3", "m4"]
    source.fault = Unavailable("away")
    again = make(tmp_path, source)
    found, kept = lists.last(MOVIE.id), again.last(MOVIE.id)
    assert found is not None
    assert kept is not None
    assert [(i.item_id, i.score, i.method, i.diversity_values) for i in kept] == [
        (i.item_id, i.score, i.method, i.diversity_values) for i in found
    ]
    assert again.refresh() == set(USE_CASES)
    assert ids(again) == ["m3", "m4"]


def test_nothing_does_not_replace_a_list(tmp_path: Path) -> None:
    source = FakeCandidates(popular=popular(3))  # type: ignore[arg-type]
    lists = make(tmp_path, source)
    lists.refresh()
    source.popular = ()
    assert lists.refresh() == OTHERS
    assert ids(lists) == ["m3"]


@pytest.mark.parametrize(
    "content", ["", "[[", "[1]", '[["m1", NaN, []]]', "[[3, 1.0, []]]", '{"a": 1}', "\0"]
)
def test_a_damaged_file_is_no_list(tmp_path: Path, content: str) -> None:
    (tmp_path / f"{MOVIE.id}.json").write_text(content)
    assert ids(make(tmp_path, FakeCandidates())) is None


def test_a_list_that_is_not_there_yet_is_asked_for_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    source = FakeCandidates()
    lists = PopularLists(USE_CASES, source, FakeGraves(), tmp_path, refresh_seconds=3600.0)
    lists.start()
    source.popular = popular(1)  # type: ignore[assignment]
    until(lambda: ids(lists) == ["m1"])
    lists.close()


def test_the_thread_refreshes(tmp_path: Path) -> None:
    source = FakeCandidates(popular=popular(1), fault=Unavailable("away"))  # type: ignore[arg-type]
    lists = make(tmp_path, source)
    lists.start()
    source.fault = None
    until(lambda: ids(lists) == ["m1"])
    source.popular = popular(2)  # type: ignore[assignment]
    until(lambda: ids(lists) == ["m2"])
    lists.close()


def test_what_is_erased_leaves_the_lists_and_does_not_come_back(tmp_path: Path) -> None:
    source, graves = FakeCandidates(popular=popular(3, 4)), FakeGraves()  # type: ignore[arg-type]
    make(tmp_path, source, graves).refresh()
    graves.bury("movie", "m3")
    graves.bury("startup", "m4")
    source.fault = Unavailable("away")
    lists = make(tmp_path, source, graves)
    assert ids(lists) == ["m3", "m4"]
    lists.refresh(())
    assert ids(lists) == ["m4"]
    assert "m3" not in (tmp_path / f"{MOVIE.id}.json").read_text()
    source.fault = None  # a source that has not learned of it yet
    lists.refresh()
    assert ids(lists) == ["m4"]
    graves.bury("movie", "m4")
    graves.fault = Unavailable("away")
    lists.refresh(())
    assert ids(lists) == ["m4"]
    graves.fault = None
    lists.refresh(())
    assert ids(lists) is None
    lists.refresh()
    lists.refresh()
    assert ids(lists) == ["m3", "m4"]  # named again by a source that has learned of it since: it came back
