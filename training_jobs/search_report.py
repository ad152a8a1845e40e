"""What a search leaves: a configuration that a training takes, its trials, a plot, and a run."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

from rich.table import Table

from training_jobs.plots import best_so_far, plot_history
from training_jobs.search import choice_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from training_jobs.config import TrainingConfig
    from training_jobs.datasets import DatasetManifest
    from training_jobs.search import Found
    from training_jobs.tracking import Tracker

SHOWN = 5
"""Trials in the table for people."""


def write_config(config: TrainingConfig, path: Path, about: str) -> None:
    """Write a configuration as TOML that ``--config`` takes; its name is then the file's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = config.model_dump(mode="json", exclude_none=True, exclude={"name"})
    plain = [f"{name} = {_toml(value)}" for name, value in settings.items() if not isinstance(value, dict)]
    lines = [*(f"# {line}" for line in about.splitlines()), "", *plain]
    for name, part in settings.items():
        if isinstance(part, dict):
            lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in part.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)  # texts, numbers and booleans are written alike in both


def write_findings(
    found: Found, best: TrainingConfig, manifest: DatasetManifest, folder: Path, title: str
) -> Path:
    """Write ``best.toml``, ``trials.csv``, ``history.png`` and the data's manifest; returns the first."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest.write(folder)
    plot_history(found.trials, title, folder / "history.png")
    settings = sorted({name for trial in found.trials for name in trial.choice})
    with (folder / "trials.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["number", "state", "quality", "seconds", *settings, "steps"])
        for trial in found.trials:
            chosen = [trial.choice.get(name) for name in settings]
            quality, seconds = trial.quality, round(trial.seconds, 2)
            rows.writerow([trial.number, trial.state, quality, seconds, *chosen, json.dumps(trial.steps)])
    path = folder / "best.toml"
    about = f"{title}\nNDCG {found.best.quality:.4f} on validation, trial {found.best.number}."
    write_config(best, path, about)
    return path


def log_search(
    tracker: Tracker, use_case: str, name: str, found: Found, told: Mapping[str, Any], folder: Path
) -> str | None:
    """Keep the search as one run: values by trial as curves, the folder's files as artefacts."""
    values = [trial.quality for trial in found.trials if trial.quality is not None]
    states = [trial.state for trial in found.trials]
    assert found.best.quality is not None
    return tracker.log(
        use_case,
        name,
        parameters={**told, "best": dict(found.best.choice)},
        metrics={
            "search_best": found.best.quality,
            "search_best_trial": float(found.best.number),
            "search_seconds": found.seconds,
            **{f"search_{state}": float(states.count(state)) for state in ("complete", "pruned", "fail")},
        },
        curves={"search_quality": values, "search_best": best_so_far(values)},
        artifacts=folder,
    )


def best_table(found: Found, title: str) -> Table:
    """Return the best trials as a table for people."""
    table = Table("trial", "NDCG", "seconds", "settings", title=title)
    complete = [trial for trial in found.trials if trial.quality is not None]
    for trial in sorted(complete, key=lambda trial: -(trial.quality or 0.0))[:SHOWN]:
        table.add_row(
            str(trial.number), f"{trial.quality:.4f}", f"{trial.seconds:.1f}", choice_text(trial.choice)
        )
    return table
