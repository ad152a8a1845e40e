"""A mirror that starts from what it kept is the mirror that kept it, and reads only what changed since."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from candidate_svc.kept import FILE, KeptMirror
from candidate_svc.methods import Content
from candidate_svc.mirror import Mirror
from matchloop.entities import Categorical, Embedding, Multi, Text
from matchloop.features import HashingEmbedder
from matchloop.observe.metrics import Metrics
from matchloop.retrieval.profile import ContentProfile
from tests.candidate_world import NOW, USE_CASE, USE_CASES, FakeStore, startup, startups, stats, use_case


def opened(store: FakeStore, folder: Path) -> tuple[Mirror, Content]:
    content = Content(use_case(), HashingEmbedder(use_case().embedding_width))
    mirror = Mirror(store, USE_CASES, clock=lambda: NOW, metrics=Metrics())
    mirror.keeper = KeptMirror(folder, USE_CASES, {USE_CASE: content.index})
    mirror.subscribe(content)
    return mirror, content


def kept(store: FakeStore, folder: Path) -> Mirror:
    mirror, _ = opened(store, folder)
    assert not mirror.restore()
    assert mirror.poll_once()
    mirror._keep_when_due()
    return mirror


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    store = FakeStore()
    own = Embedding(tuple(float(at % 3) for at in range(use_case().embedding_width)))
    store.upsert(*startups(40), startup("text", about=Text("a text")), startup("own", embedding=own))
    store.deactivate("s3")
    store.count(stats("s1", views=5, weight=2.0), stats("later", views=2))
    first = kept(store, tmp_path)
    store.calls.clear()
    store.upsert(startup("new", category=Categorical("games"), tags=Multi(("t1", "x"))))
    again, content = opened(store, tmp_path)
    assert again.restore()
    assert not again.ready
    assert again.poll_once()
    rows, before = again.rows["startup"], first.rows["startup"]
    for name in [*before.ids(before.count), "new"]:
        if name != "new":
            assert rows.find(name) == before.find(name)
        assert (name in content.index) == (name not in ("s3", "later"))
    assert rows.active_ids() == [*before.active_ids(), "new"]
    assert rows.holding("category", "games", rows.count).tolist()[-1] == rows.row("new")
    one = np.asarray([rows.row("s1")])
    assert again.counts[USE_CASE].views(one).tolist() == [5.0]
    assert again.counts[USE_CASE].maximum == 5.0
    fresh, expected = opened(store, tmp_path / "other")
    assert fresh.poll_once()
    profile = ContentProfile({"category": {"games": 0.8}, "tags": {"t1": 1.0, "u2": 0.3}}, None)
    found, wanted = (each.index.search(profile, 20) for each in (content, expected))
    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in wanted])
    for name in ("own", "text"):
        mine, other = content.index.content(name), expected.index.content(name)  # type: ignore[arg-type]
        assert mine is not None
        assert other is not None
        assert np.array_equal(mine.vector, other.vector)  # type: ignore[arg-type]


def test_another_store_is_noticed(tmp_path: Path) -> None:
    store = FakeStore()
    store.upsert(*startups(10))
    kept(store, tmp_path)
    other = FakeStore()
    other.upsert(*startups(4), startup("other"))
    again, content = opened(other, tmp_path)
    assert again.restore()
    assert again.poll_once()
    assert set(again.rows["startup"].active_ids()) == {"s0", "s1", "s2", "s3", "other"}
    assert "s7" not in content.index


def test_what_is_erased_is_gone_from_disk_at_once(tmp_path: Path) -> None:
    store = FakeStore()
    store.upsert(*startups(10))
    mirror = kept(store, tmp_path)
    assert b"s2" in (tmp_path / FILE).read_bytes()
    store.erase("s2")
    assert mirror.poll_once()
    assert not (tmp_path / FILE).exists()
    mirror._keep_when_due()
    again, _ = opened(store, tmp_path)
    assert again.restore()
    assert again.rows["startup"].row("s2") is None
    assert again.poll_once()
    assert len(again.rows["startup"].active_ids()) == 9


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: data[:-200]]
)
def test_a_damaged_file_is_not_read(tmp_path: Path, damage: object) -> None:
    store = FakeStore()
    store.upsert(*startups(10))
    kept(store, tmp_path)
    path = tmp_path / FILE
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    again, _ = opened(store, tmp_path)
    assert not again.restore()
    assert again.poll_once()
    assert len(again.rows["startup"].active_ids()) == 10
