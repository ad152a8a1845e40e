"""A retraining from snapshot to champion: whole, idempotent, and refusing what is worse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matchloop.errors import NotFound, TooFewExamples
from matchloop.position import Weighting
from matchloop.release import CHAMPION, Manifest, check_golden, verify
from matchloop.rerank.scorer import Ranker
from matchloop.retrieval.als import AlsModel
from matchloop.retrieval.choices import Choices
from matchloop.retrieval.popular import PopularModel
from matchloop.snapshot import read_snapshot
from matchloop.testing.registries import FolderRegistry
from matchloop.usecase import Method, Tier
from tests.unit.training_worlds import INVESTORS, named, ranked_world, snapshot_of
from training_jobs import tracking
from training_jobs.champion import load_champion, load_two_tower, orders_of
from training_jobs.config import TrainingConfig, load_config
from training_jobs.datasets import open_tables, ranker_dataset, whole_lists
from training_jobs.gates import Verdict, folder_gates, passed
from training_jobs.lists import shown_truth
from training_jobs.promotion import gates_of, roll_back
from training_jobs.provenance import read_provenance
from training_jobs.ranker_gates import quality_gate
from training_jobs.retrain import Retraining, retrain

CLOCK = lambda: datetime(2026, 2, 1, tzinfo=UTC)  # noqa: E731


def quick(**more: Any) -> TrainingConfig:
    config = load_config("fast")
    changes = {
        "two_tower": config.two_tower.model_copy(
            update={
                "epochs": 20,
                "hidden": (16,),
                "width": 8,
                "batch": 128,
                "learning_rate": 0.01,
                "patience": 20,
            }
        ),
        "ranker": config.ranker.model_copy(update={"learning_rate": 0.01, "epochs": 10}),
        "evaluate": config.evaluate.model_copy(update={"bootstrap": 20}),
        **more,
    }
    return config.model_copy(update=changes)


class Steps:
    """A retraining of a small world with a registry of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = FolderRegistry(folder / "registry")
        self.marked: list[tuple[str, int]] = []

    def run(self, snapshot: Path, config: TrainingConfig | None = None) -> Any:
        def mark(release: str, watermark: int) -> int:
            self.marked.append((release, watermark))
            return 3

        work, settings = self.folder / "work", config or quick()
        return retrain(INVESTORS, snapshot, self.registry, settings, work=work, clock=CLOCK, mark_used=mark)

    def steps(self, snapshot: Path, config: TrainingConfig | None = None) -> Retraining:
        work, settings = self.folder / "work", config or quick()
        return Retraining(INVESTORS, snapshot, self.registry, settings, work=work, clock=CLOCK)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ranked_world(tmp_path_factory.mktemp("world")).folder


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, world: Path) -> tuple[Steps, Any]:
    steps = Steps(tmp_path_factory.mktemp("done"))
    return steps, steps.run(world)


def test_a_first_release_is_whole_and_promoted(done: tuple[Steps, Any]) -> None:
    steps, found = done
    champion = steps.registry.resolve(INVESTORS.id, CHAMPION)

    assert found.promoted
    assert passed(found.gates)
    assert champion is not None
    assert champion.release == found.release
    assert steps.marked == [(found.release, 600)]
    folder = steps.registry.fetch(champion, steps.folder / "fetched")
    manifest = verify(folder, INVESTORS)
    assert manifest.parts == ("als", "two_tower", "popular", "ranker")
    assert manifest.snapshot.watermark == "600"
    assert AlsModel.load(folder / "als").width >= 4
    assert load_two_tower(folder, INVESTORS).width == 8
    assert PopularModel.load(folder / "popular").overall.any()
    answerers = {
        "als": AlsModel.load(folder / "als").answer,
        "two_tower": load_two_tower(folder, INVESTORS).answer,
        "ranker": Ranker.load(folder / "ranker", INVESTORS).answer,
    }
    check_golden(folder, answerers)
    assert {Method.ALS, Method.POPULAR, Method.TWO_TOWER} <= set(orders_of(folder, INVESTORS)[Tier.WARM])


def test_every_gate_is_asked_and_kept_with_the_version(done: tuple[Steps, Any]) -> None:
    steps, found = done
    (known,) = steps.registry.list(INVESTORS.id)

    assert [gate.name for gate in found.gates] == [
        "retrieval_ndcg@10",
        "ranker_ndcg@10",
        "ranker_direction",
        "ranker_calibration",
        "ranker_p50_ms",
        "ranker_p99_ms",
        "off_policy",
        "size_mb",
        "checksums_and_schema",
        "golden_requests",
    ]
    assert gates_of(known) == found.gates
    assert known.promoted == datetime(2026, 2, 1, tzinfo=UTC)


def test_a_release_tells_where_it_comes_from(done: tuple[Steps, Any], world: Path) -> None:
    told = read_provenance(done[0].steps(world).release_folder)

    assert set(told["data"]) == {"als", "two_tower", "ranker"}
    assert told["data"]["ranker"]["labels"]["1"] == 300
    assert told["settings"]["two_tower"]["width"] == 8


def test_the_models_beat_popularity_and_chance(done: tuple[Steps, Any]) -> None:
    metrics = done[1].metrics

    for method in ("two_tower", "routed"):
        assert metrics[f"{method}_ndcg@10"] > 1.2 * metrics["random_ndcg@10"]
        assert metrics[f"{method}_ndcg@10"] > metrics["popular_ndcg@10"]
    assert metrics["ranker_ndcg@10"] > metrics["teacher_ndcg@10"] + 0.1


def test_the_same_again_changes_nothing(done: tuple[Steps, Any], world: Path) -> None:
    steps, first = done
    made = (steps.steps(world).release_folder / "manifest.json").stat().st_mtime_ns
    again = steps.run(world)

    assert (again.release, again.promoted, again.gates) == (first.release, True, first.gates)
    assert (steps.steps(world).release_folder / "manifest.json").stat().st_mtime_ns == made
    assert len(steps.registry.list(INVESTORS.id)) == 1
    assert not {"als", "two_tower", "ranker", "register"} & set(again.seconds)


def test_data_set_manifests_say_where_the_release_comes_from(done: tuple[Steps, Any], world: Path) -> None:
    folder = done[0].steps(world).folder / "datasets"
    ranker = json.loads((folder / "ranker.json").read_text())

    assert ranker["labels"]["1"] == 300
    assert {path.name for path in folder.iterdir()} == {
        "als.json", "ranker.json", "ranker.parquet", "two_tower.json",
    }  # fmt: skip


def test_a_refused_candidate_is_registered_and_changes_nothing(tmp_path: Path, world: Path) -> None:
    steps = Steps(tmp_path)
    steps.run(world)
    champion = steps.registry.resolve(INVESTORS.id, CHAMPION)
    tight = load_config("fast").gates.model_copy(update={"largest_megabytes": 0.001})
    refused = steps.run(world, quick(gates=tight))

    assert not refused.promoted
    assert [gate.name for gate in refused.gates if gate.verdict is Verdict.REFUSED] == ["size_mb"]
    assert steps.registry.resolve(INVESTORS.id, CHAMPION) == champion
    (kept,) = [known for known in steps.registry.list(INVESTORS.id) if known.release == refused.release]
    assert gates_of(kept) == refused.gates
    assert [release for release, _ in steps.marked] == [champion.release if champion else ""]


def test_what_was_rolled_back_is_not_promoted_by_the_same_training(tmp_path: Path, world: Path) -> None:
    steps = Steps(tmp_path)
    first = steps.run(world)
    other = steps.run(world, quick(seed=7))
    roll_back(steps.registry, INVESTORS.id, reason="disliked more", clock=CLOCK)
    again = steps.run(world, quick(seed=7))

    assert (other.promoted, again.promoted, again.release) == (True, False, other.release)
    assert [gate.name for gate in again.gates if gate.verdict is Verdict.REFUSED] == ["rolled_back"]
    assert "disliked more" in again.gates[-1].note
    champion = steps.registry.resolve(INVESTORS.id, CHAMPION)
    assert champion is not None
    assert champion.release == first.release

    assert steps.steps(world, quick(seed=7)).promote(force=True)
    champion = steps.registry.resolve(INVESTORS.id, CHAMPION)
    assert champion is not None
    assert (champion.release, champion.forced) == (other.release, "rolled_back")


def test_a_ranker_that_learned_upside_down_is_refused(tmp_path: Path) -> None:
    """The champion knows what is liked; the candidate's lists say the opposite until just before the end."""
    config = quick()
    latest = ranked_world(tmp_path / "world", lists=400).folder
    turned = ranked_world(tmp_path / "turned", lists=400, upside_down=True).folder
    champion, candidate = Steps(tmp_path / "champion"), Steps(tmp_path / "candidate")
    champion.run(latest, config)
    candidate.run(turned, config)
    rankers = []
    for steps, folder in ((champion, latest), (candidate, turned)):
        rankers.append(Ranker.load(steps.steps(folder).release_folder / "ranker", INVESTORS))
    examples = whole_lists(open_tables(read_snapshot(latest)), INVESTORS, config.dataset)
    lists = ranker_dataset(examples, use_case=INVESTORS, snapshot="", weighting=Weighting.INVERSE)
    gate = quality_gate(lists, rankers[1], rankers[0], config.gates, np.random.default_rng(0))

    assert gate.verdict is Verdict.REFUSED
    assert gate.value < 0.8 * gate.threshold


def test_a_champion_that_cannot_be_loaded_whole_stops_nothing(tmp_path: Path) -> None:
    """Its popular part and its choices are of another version: compared without them, and said so."""
    steps = Steps(tmp_path)
    first = steps.run(ranked_world(tmp_path / "first", lists=300).folder)
    champion = steps.registry.resolve(INVESTORS.id, CHAMPION)
    assert champion is not None
    folder = steps.registry.fetch(champion, tmp_path / "fetched")
    older = tmp_path / "older" / "old"
    shutil.copytree(folder, older)
    (older / "popular" / "reference.npy").unlink()
    (older / "routing.json").write_text('{"version": 99}')
    (older / "manifest.json").unlink()
    manifest = Manifest.read(folder)
    Manifest.write(
        older,
        release="old",
        use_case=INVESTORS,
        created=manifest.created,
        snapshot=manifest.snapshot,
        parts=manifest.parts,
        metrics=manifest.metrics,
    )
    registered = steps.registry.register(older, INVESTORS.id, run_id=None, metrics={})
    steps.registry.set_alias(INVESTORS.id, CHAMPION, registered.version)
    found = steps.run(ranked_world(tmp_path / "second", lists=400).folder)

    assert first.release != found.release
    said = next(gate for gate in found.gates if gate.name == "champion_parts")
    assert (said.value, said.verdict) == (2.0, Verdict.SKIPPED)
    assert "reference" in said.note
    assert "version 99" in said.note
    assert set(load_champion(older, INVESTORS).faults) == {"popular", "routing"}


def test_a_release_says_what_its_ensembles_are_made_of(done: tuple[Steps, Any]) -> None:
    steps, found = done
    champion = steps.registry.resolve(INVESTORS.id, CHAMPION)
    assert champion is not None
    folder = steps.registry.fetch(champion, steps.folder / "again")
    choices = Choices.read(folder)

    assert set(choices.orders) == set(Tier)
    for tier, fusion in choices.fusions.items():
        assert found.metrics[f"ensemble_{tier}_constant"] == fusion.constant
    check_golden(folder, {"ensemble": choices.answer})


def test_without_enough_lists_it_releases_without_a_ranker(tmp_path: Path) -> None:
    found = Steps(tmp_path).run(ranked_world(tmp_path / "world", lists=60).folder)

    assert found.promoted
    assert "60 strong positives" in found.skipped["ranker"]


def test_a_record_with_nothing_in_it_trains_nothing(tmp_path: Path) -> None:
    empty = snapshot_of(tmp_path / "empty", [*named("investor", ["a"]), *named("startup", ["s", "t"])])

    with pytest.raises(TooFewExamples, match="als: 0 subjects"):
        Steps(tmp_path).run(empty.folder)
    with pytest.raises(NotFound):
        Steps(tmp_path).run(tmp_path / "nowhere")


def test_runs_are_told_what_was_done(tmp_path: Path, world: Path) -> None:
    told: dict[str, Any] = {}

    class Tracker:
        def log(
            self,
            use_case: str,
            name: str,
            *,
            parameters: Mapping[str, Any],
            metrics: Mapping[str, float],
            curves: Mapping[str, Sequence[float]],
            artifacts: Path,
        ) -> str | None:
            files = {path.name for path in artifacts.iterdir()}
            told.update(name=name, parameters=parameters, metrics=metrics, curves=curves, files=files)
            return None

    work = tmp_path / "work"
    registry = FolderRegistry(tmp_path / "registry")
    steps = Retraining(INVESTORS, world, registry, quick(), work=work, tracker=Tracker(), clock=CLOCK)
    steps.register()

    assert told["name"] == steps.release
    assert len(told["curves"]["ranker_loss"]) == 10
    assert {"ranker.json", "als.json", "two_tower.json", "curves.json"} <= told["files"]
    assert {"report.html", "evaluation.json"} <= told["files"]
    assert registry.resolve(INVESTORS.id, CHAMPION) is None
    assert Manifest.read(steps.release_folder).metrics == told["metrics"]


def test_settings_are_flat_for_mlflow() -> None:
    assert tracking.flat({"a": {"b": 1, "c": (1, 2)}, "d": "x"}) == {"a.b": 1, "a.c": "[1, 2]", "d": "x"}
    assert tracking.mlflow_name("ndcg@10") == "ndcg_at_10"


def test_what_is_new_to_a_champion_came_after_its_watermark(world: Path, tmp_path: Path) -> None:
    material = Steps(tmp_path).steps(world).material
    every, late = shown_truth(material), shown_truth(material, after=580)

    assert 0 < len(late) < len(every)
    assert len(shown_truth(material, after=600)) == 0
    assert every.shown is not None
    assert (every.shown.multiply(every.relevant > 0).sum(axis=1) > 0).all()
    truth = material.truth(at_most=1000, seed=0)
    organic = material.newer(truth, -1)
    assert 0 < organic.relevant.nnz < truth.relevant.nnz
    assert len(material.newer(truth, 600)) == 0


def test_factors_that_answer_otherwise_than_as_built_are_refused(world: Path, tmp_path: Path) -> None:
    steps = Steps(tmp_path).steps(world)
    steps.train()
    folder = steps.release_folder
    sound = [gate.verdict for gate in folder_gates(folder, INVESTORS, quick().gates)]
    assert Verdict.REFUSED not in sound

    als = np.load(folder / "als" / "item_factors.npy")
    np.save(folder / "als" / "item_factors.npy", als * 0.5)
    manifest = Manifest.read(folder)
    Manifest.write(
        folder,
        release=manifest.release,
        use_case=INVESTORS,
        created=manifest.created,
        snapshot=manifest.snapshot,
        parts=manifest.parts,
        metrics=manifest.metrics,
    )
    asked = folder_gates(folder, INVESTORS, quick().gates)
    refused = [gate for gate in asked if gate.verdict is Verdict.REFUSED]
    assert len(refused) == 1
    assert "als" in refused[0].note
