"""ranking_svc in an experiment, wired as in production: dealt, asked for, told, remembered, counted."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from matchloop.candidate.v1 import candidate_service_pb2 as candidate_pb
from matchloop.errors import NotFound, Unavailable
from matchloop.experiments.arms import CHALLENGER_ARM
from matchloop.experiments.experiment import Experiment
from matchloop.operations.v1 import operations_service_pb2 as operations_pb
from matchloop.operations.v1 import reactions_pb2
from matchloop.ranking.v1 import ranking_service_pb2 as pb
from matchloop.release import CHALLENGER, CHAMPION
from matchloop.rpc.channel import call
from matchloop.testing.releases import build_release
from ranking_svc.experiments import arm_in
from tests.integration.ranking_rig import Rig
from tests.ranking_world import MOVIE, until

START = datetime(2026, 3, 1, tzinfo=UTC)
EXPERIMENT = Experiment("e1", MOVIE.id, 0.3, "r1", "r2", START)
SUBJECTS = [f"u{number}" for number in range(60)]


def register(rig: Rig, folder: Path, release: str, alias: str) -> None:
    built = build_release(folder / "built" / release, MOVIE, release=release, seed=int(release[1:]))
    registered = rig.registry.register(built, MOVIE.id, run_id=None, metrics={})
    rig.registry.set_alias(MOVIE.id, alias, registered.version)


def results(rig: Rig) -> pb.GetExperimentResultsResponse:
    request = pb.GetExperimentResultsRequest(use_case=MOVIE.id)
    return call(rig.stub.GetExperimentResults, request, upstream="ranking_svc")


def group(arm: str, release: str, subjects: int, clicks: int) -> reactions_pb2.Reactions:
    return reactions_pb2.Reactions(
        arm=arm,
        release=release,
        subjects=subjects,
        sessions=subjects,
        shown=10 * subjects,
        shown_squares=100.0 * subjects,
        clicks=reactions_pb2.ReactionMoments(total=clicks, squares=clicks, products=10.0 * clicks),
        mean_diversity=0.25,
    )


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def serve_by_alias(rig: Rig) -> None:
    """Let candidate_svc answer with the release of the alias it is asked for, as the real one does."""
    releases = {"": "r1", CHAMPION: "r1", CHALLENGER: "r2"}

    def tell(reply: object) -> None:
        if isinstance(reply, candidate_pb.GetCandidatesResponse):
            reply.release = releases[rig.candidates.requests[-1].release_alias]

    rig.candidates.spoil = tell


def test_arms_are_dealt_asked_for_ranked_and_stored(rig: Rig, tmp_path: Path) -> None:
    with rig:
        serve_by_alias(rig)
        for release, alias in (("r1", CHAMPION), ("r2", CHALLENGER)):
            register(rig, tmp_path, release, alias)
        for release, alias in (("r1", CHAMPION), ("r2", CHALLENGER)):
            labels = {"use_case": MOVIE.id, "alias": alias, "release": release}
            until(lambda labels=labels: rig.value("release_info", **labels) == 1)  # type: ignore[misc]
        assert rig.recommend().arm == ""
        rig.operations.experiments.append(EXPERIMENT)
        until(lambda: rig.recommend(subject_id="u0").arm != "")
        for subject in SUBJECTS:
            reply = rig.recommend(subject_id=subject)
            arm = arm_in(EXPERIMENT, subject)
            assert (reply.arm, reply.release, reply.reranked) == (
                arm,
                "r2" if arm == CHALLENGER_ARM else "r1",
                True,
            )
            session = rig.feedback.sessions[reply.session_id]
            assert (session.arm, session.release) == (reply.arm, reply.release)
        trace = call(rig.stub.Trace, pb.TraceRequest(session_id=reply.session_id), upstream="ranking_svc")
        assert (trace.session.arm, trace.snapshot_watermark) == (reply.arm, 1)
        challenged = [subject for subject in SUBJECTS if arm_in(EXPERIMENT, subject) == CHALLENGER_ARM]
        counted = {"use_case": MOVIE.id, "arm": "challenger", "release": "r2", "outcome": "ok"}
        assert rig.value("served_total", **counted) >= len(challenged)
        rig.operations.experiments[0] = replace(EXPERIMENT, stop_time=START, stop_reason="seen enough")
        until(lambda: rig.recommend(subject_id="u0").arm == "")


def test_arms_stay_while_the_store_is_away_and_over_a_restart(tmp_path: Path) -> None:
    first = Rig(tmp_path)
    with first:
        first.operations.experiments.append(EXPERIMENT)
        until(lambda: first.recommend(subject_id="u0").arm != "")
        first.operations.fault = Unavailable("away")
        assert first.recommend(subject_id="u0").arm == arm_in(EXPERIMENT, "u0")
    # A process that starts without the store knows what is on disk, from its first answer on.
    with Rig(tmp_path, feedback_address="127.0.0.1:1") as offline:
        arms = [offline.recommend(subject_id=subject).arm for subject in SUBJECTS]
    assert arms == [arm_in(EXPERIMENT, subject) for subject in SUBJECTS]


def test_results_are_told_by_arm_while_it_runs_and_after(rig: Rig) -> None:
    with rig:
        with pytest.raises(NotFound):
            results(rig)
        rig.operations.experiments.append(EXPERIMENT)
        rig.operations.reactions += [
            group("", "r1", 50, 10),
            group("challenger", "r2", 300, 900),
            group("champion", "r1", 700, 700),
        ]
        told = results(rig)
        asked = [
            each for each in rig.operations.requests if isinstance(each, operations_pb.GetReactionsRequest)
        ][-1]
        assert asked.from_time.ToDatetime(tzinfo=UTC) == START
        assert not asked.HasField("to_time")
        champion, challenger = told.arms
        assert (champion.subjects, champion.shown, champion.release) == (700, 7000, "r1")
        assert (challenger.click_rate.rate, challenger.mean_diversity) == (0.3, 0.25)
        assert challenger.expected_share == pytest.approx(0.3)
        assert 0.1 < told.difference.click_rate.low < 0.2 < told.difference.click_rate.high < 0.3
        assert (told.confidence, told.sample_ratio_p_value) == (0.95, 1.0)
        assert (told.experiment_id, told.challenger_share, told.stopped) == ("e1", 0.3, False)
        gauge = {"use_case": MOVIE.id, "arm": "challenger", "reaction": "click", "bound": "rate"}
        until(lambda: rig.value("experiment_rate", **gauge) == 0.3)
        rig.operations.experiments[0] = replace(EXPERIMENT, stop_time=START, stop_reason="seen enough")
        rig.operations.reactions.clear()
        told = results(rig)
        assert (told.stopped, told.stop_reason) == (True, "seen enough")
        assert not told.HasField("difference")
        rig.operations.fault = Unavailable("away")
        with pytest.raises(Unavailable):
            results(rig)
