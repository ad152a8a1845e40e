"""What ranking_svc takes of a release, and what it tells of it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from matchloop.errors import SchemaMismatch
from matchloop.observe.metrics import Metrics
from matchloop.observe.release_counters import ReleaseCounters
from matchloop.release.golden import check_golden
from matchloop.release.manifest import verify
from matchloop.testing.releases import build_release
from ranking_svc.releases import RankingPart, Releases, answers, loader
from tests.ranking_world import MOVIE, NOW, USE_CASES, FakeSlot, loaded


def test_a_ranker_is_loaded_and_answers_its_golden_requests(tmp_path: Path) -> None:
    folder = build_release(tmp_path, MOVIE)
    part = loader(MOVIE)(folder, verify(folder, MOVIE))
    assert part.ranker is not None
    check_golden(folder, answers(part))


def test_a_release_without_a_ranker_is_one(tmp_path: Path) -> None:
    folder = build_release(tmp_path, MOVIE)
    manifest = verify(folder, MOVIE).model_copy(update={"parts": ("als",)})
    part = loader(MOVIE)(folder, manifest)
    assert part == RankingPart(None)
    assert answers(part) == {}


def test_a_ranker_of_another_schema_is_refused(tmp_path: Path) -> None:
    folder = build_release(tmp_path, MOVIE)
    with pytest.raises(SchemaMismatch):
        loader(USE_CASES["developer_startup"])(folder, verify(folder, None))


def test_the_release_that_found_the_candidates_comes_first() -> None:
    slot = FakeSlot(loaded("r2", None), loaded("r1", None))
    releases = Releases({MOVIE.id: slot})
    for asked, expected in (("r1", "r1"), ("r3", "r2"), ("", "r2")):
        chosen = releases.choose(MOVIE.id, asked)
        assert chosen is not None
        assert chosen.release == expected
    assert releases.choose("another", "r1") is None
    assert releases.manifest(MOVIE.id, "r9") is None
    manifest = releases.manifest(MOVIE.id, "r1")
    assert manifest is not None
    assert manifest.release == "r1"


def test_a_challenger_is_found_by_its_release_and_never_stands_in_for_the_champion() -> None:
    champions, challengers = FakeSlot(loaded("r2", None), loaded("r1", None)), FakeSlot(loaded("r3", None))
    releases = Releases({MOVIE.id: champions}, {MOVIE.id: challengers})
    for asked, expected in (("r3", "r3"), ("r1", "r1"), ("r9", "r2")):
        chosen = releases.choose(MOVIE.id, asked)
        assert chosen is not None
        assert chosen.release == expected
    assert releases.manifest(MOVIE.id, "r3") is not None
    assert releases.expected(MOVIE.id, challenger=True) == "r3"
    assert releases.expected(MOVIE.id, challenger=False) == "r2"
    challengers.loaded = ()
    assert releases.expected(MOVIE.id, challenger=True) == "r2"
    assert releases.expected("another", challenger=True) == ""


def test_one_release_per_alias_is_shown_as_serving() -> None:
    metrics = Metrics()
    told = ReleaseCounters(metrics, lambda: NOW, [])
    told.release_loaded(MOVIE.id, "champion", "r1", NOW - timedelta(days=2))
    told.release_loaded(MOVIE.id, "champion", "r2", NOW - timedelta(days=1))

    def serving(release: str, alias: str = "champion") -> float | None:
        return metrics.registry.get_sample_value(
            "matchloop_release_info", {"use_case": MOVIE.id, "alias": alias, "release": release}
        )

    assert (serving("r1"), serving("r2")) == (None, 1.0)
    assert metrics.value("matchloop_release_age_seconds", use_case=MOVIE.id, alias="champion") == 86_400.0
    told.release_loaded(MOVIE.id, "challenger", "r3", NOW)
    assert (serving("r2"), serving("r3", "challenger")) == (1.0, 1.0)
    told.release_emptied(MOVIE.id, "challenger")
    told.release_emptied(MOVIE.id, "challenger")
    assert (serving("r2"), serving("r3", "challenger")) == (1.0, None)
    told.release_fault(MOVIE.id, "champion", "REGISTRY_UNAVAILABLE")
    told.release_fault(MOVIE.id, "champion", "SCHEMA_MISMATCH")
    assert metrics.value("matchloop_release_poll_failures_total", use_case=MOVIE.id) == 1
    assert metrics.value("matchloop_release_refused_total", use_case=MOVIE.id, reason="SCHEMA_MISMATCH") == 1
