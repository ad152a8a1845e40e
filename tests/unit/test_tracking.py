"""Runs in MLflow: everything that was told is there, however much it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from matchloop.release import MlflowRegistry
from training_jobs import tracking
from training_jobs.plots import plot_curves
from training_jobs.tracking import MlflowTracker

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's, of SQLAlchemy


def client_of(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def test_a_run_has_parameters_metrics_curves_plots_and_manifests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_registry: Callable[[Path], str]
) -> None:
    monkeypatch.setattr(tracking, "METRICS", 10)
    uri = new_registry(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "als.json").write_text("{}")
    run = MlflowTracker(MlflowRegistry(uri)).log(
        "user_movie",
        "r1",
        parameters={"als": {"factors": 8}, **{f"p{n}": n for n in range(130)}},
        metrics={"ndcg@10": 0.5, "lost": math.nan, **{f"m{n}": float(n) for n in range(25)}},
        curves={"als_loss": [3.0, 2.0, 1.0], "empty": []},
        artifacts=tmp_path / "run",
    )
    assert run is not None
    client = client_of(uri)
    kept = client.get_run(run)

    assert kept.info.status == "FINISHED"
    assert kept.data.params["als.factors"] == "8"
    assert len(kept.data.params) == 131
    assert kept.data.metrics["ndcg_at_10"] == 0.5
    assert "lost" not in kept.data.metrics
    assert kept.data.metrics["m24"] == 24.0
    steps = [(each.step, each.value) for each in client.get_metric_history(run, "curve_als_loss")]
    assert sorted(steps) == [(1, 3.0), (2, 2.0), (3, 1.0)]
    assert [file.path for file in client.list_artifacts(run, "training")] == ["training/als.json"]
    assert [file.path for file in client.list_artifacts(run, "plots")] == ["plots/curves.png"]


def test_a_run_that_was_not_written_whole_is_failed(
    tmp_path: Path, new_registry: Callable[[Path], str]
) -> None:
    uri = new_registry(tmp_path)
    registry = MlflowRegistry(uri)
    with pytest.raises(ValueError, match="could not convert"):
        MlflowTracker(registry).log(
            "user_movie",
            "r1",
            parameters={},
            metrics={"x": "no number"},  # type: ignore[dict-item]
            curves={},
            artifacts=tmp_path,
        )
    (found,) = client_of(uri).search_runs([registry.experiment_id("user_movie")])
    assert found.info.status == "FAILED"


def test_no_curves_give_no_plot(tmp_path: Path) -> None:
    plot_curves({"empty": []}, tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
