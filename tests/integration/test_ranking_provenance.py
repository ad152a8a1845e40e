"""Explored lists and their provenance over the wire, with releases in MLflow's registry."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from matchloop.feedback.v1 import session_pb2
from matchloop.ranking.v1 import ranking_service_pb2 as pb
from matchloop.release import MlflowRegistry
from matchloop.release.manifest import Manifest, SnapshotReference
from matchloop.release.registry import CHAMPION
from matchloop.rpc.convert import timestamp
from matchloop.testing.releases import build_release
from tests.integration.ranking_rig import Rig
from tests.ranking_world import MOVIE, until

CREATED = datetime(2026, 1, 1, tzinfo=UTC)


def promote(registry: MlflowRegistry, folder: Path, number: int) -> str:
    """Build, register and promote release ``r<number>``, of a snapshot of its own."""
    name = f"r{number}"
    build_release(folder / name, MOVIE, release=name, seed=number)
    Manifest.write(
        folder / name,
        release=name,
        use_case=MOVIE,
        created=CREATED + timedelta(days=number),
        snapshot=SnapshotReference(watermark=str(100 * number), manifest_sha256=f"{number}" * 64),
        parts=["ranker"],
        metrics={},
    )
    registered = registry.register(folder / name, MOVIE.id, run_id=None, metrics={})
    registry.set_alias(MOVIE.id, CHAMPION, registered.version)
    return name


def check(rig: Rig, reply: pb.RecommendResponse, number: int) -> pb.TraceResponse:
    trace = rig.trace(reply.session_id)
    session = rig.feedback.sessions[reply.session_id]
    assert trace.session == session
    assert (session.release, session.tier, session.arm) == (f"r{number}", session_pb2.TIER_WARM, "")
    assert (trace.data_manifest_sha256, trace.snapshot_watermark) == (f"{number}" * 64, 100 * number)
    assert trace.release_create_time == timestamp(CREATED + timedelta(days=number))
    assert list(trace.degraded) == []
    for told, shown, logged in zip(trace.items, reply.items, session.items, strict=True):
        assert (told.item_id, told.rank, told.method) == (shown.item_id, shown.rank, logged.method)
        assert told.score == shown.score == logged.score
        assert told.explanation.retrieval_score == shown.explanation.retrieval_score
        assert told.explanation.retrieval_score == logged.retrieval_score == 1.0 / (int(told.item_id[1:]) + 1)
        assert [each.value for each in told.explanation.features] == list(logged.features)
    return trace


def test_a_list_is_traced_long_after_its_release_was_replaced(
    tmp_path: Path, new_registry: Callable[[Path], str]
) -> None:
    uri, database = new_registry(tmp_path), tmp_path / "mlflow.db"
    jobs = MlflowRegistry(uri)
    lists = {}
    with Rig(tmp_path, served_from=MlflowRegistry(uri), exploration_shares={MOVIE.id: 0.5}) as rig:
        for number in (1, 2, 3):
            name = promote(jobs, tmp_path / "built", number)
            until(lambda name=name: rig.recommend(preview=True).release == name, seconds=60)  # type: ignore[misc]
            lists[number] = rig.recommend(explain=True)
        for number, reply in lists.items():  # the first is not loaded any more
            trace = check(rig, reply, number)
            assert all(0.0 < item.propensity <= 1.0 for item in trace.session.items)
        sessions = rig.feedback.sessions
    with Rig(tmp_path / "anew", served_from=MlflowRegistry(uri)) as rig:  # another pod
        rig.feedback.sessions.update(sessions)
        check(rig, lists[2], 2)
        connection = sqlite3.connect(database)
        connection.execute("DROP TABLE model_versions")
        connection.close()
        trace = rig.trace(lists[1].session_id)
        assert (list(trace.degraded), trace.data_manifest_sha256) == (["registry"], "")
        assert trace.session == sessions[lists[1].session_id]
        check(rig, lists[2], 2)
        assert rig.value("unexpected_errors_total", service="ranking", method="Trace") == 0
        assert rig.value("degraded_total", use_case=MOVIE.id, part="registry") == 1


def test_a_retry_under_the_same_request_id_gets_the_same_list(tmp_path: Path) -> None:
    with Rig(tmp_path, exploration_shares={MOVIE.id: 0.5}, exploration_reach=3) as rig:
        request = pb.RecommendRequest(use_case=MOVIE.id, subject_id="u1", count=20)

        def ask(name: str) -> list[tuple[str, float]]:
            reply = rig.stub.Recommend(request, metadata=(("x-request-id", name),))
            session = rig.feedback.sessions[reply.session_id]
            assert [item.item_id for item in reply.items] == [item.item_id for item in session.items]
            return [(item.item_id, item.propensity) for item in session.items]

        lists = {name: ask(name) for name in "abcdefgh"}
        assert ask("c") == lists["c"]
        assert len({str(each) for each in lists.values()}) > 2
        logged = {propensity for each in lists.values() for _, propensity in each}
        assert logged - {1.0} == {0.125, 0.625}
        changed, kept = (
            rig.value("explored_lists_total", use_case=MOVIE.id, order=order) for order in ("changed", "kept")
        )
        assert changed + kept == 9
        assert min(changed, kept) > 0
