"""Checkpoints of ALS: factors after an iteration, and what settings that were tried came to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from rich.console import Console

    from training_jobs.datasets import AlsMatrix

FACTORS = "factors.npz"
TRIALS = "trials.json"


@dataclass(frozen=True, slots=True)
class Reached:
    """Where a fit stands.

    Parameters
    ----------
    losses
        By iteration done.
    subjects, items
        float32, (n, f) and (m, f).
    """

    losses: list[float]
    subjects: NDArray[np.float32]
    items: NDArray[np.float32]


class AlsCheckpoint:
    """One folder for one training on one matrix; what another training left there is not read.

    Every file is written beside its place and renamed, so that a kill leaves the one before.

    Parameters
    ----------
    folder
        None keeps nothing.
    key
        Of the matrix, the settings and the seed; see `key_of`.
    """

    def __init__(self, folder: Path | None, key: str, console: Console | None = None) -> None:
        self._folder, self._key, self._console = folder, key, console

    def save(self, fit: str, reached: Reached) -> None:
        """Keep how far the fit of this name has come, in place of what was kept before."""
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / FACTORS
        written = path.with_suffix(".part")
        with written.open("wb") as file:
            np.savez(
                file,
                key=self._key,
                fit=fit,
                losses=reached.losses,
                subjects=reached.subjects,
                items=reached.items,
            )
        written.replace(path)

    def load(self, fit: str) -> Reached | None:
        """Return how far the fit of this name has come; None when nothing of it is kept."""
        path = None if self._folder is None else self._folder / FACTORS
        if path is None or not path.is_file():
            return None
        try:
            with np.load(path) as kept:
                if (str(kept["key"]), str(kept["fit"])) != (self._key, fit):
                    return None
                return Reached(kept["losses"].tolist(), kept["subjects"], kept["items"])
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            self._say(f"{path.name} cannot be read, training begins anew: {error}")
            return None

    def _say(self, what: str) -> None:
        if self._console is not None:
            self._console.print(what, highlight=False)

    def save_trial(self, trial: str, quality: float) -> None:
        """Keep what a setting came to."""
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / TRIALS
        written = path.with_suffix(".part")
        found = {**self.trials(), trial: quality}
        written.write_text(json.dumps({"key": self._key, "quality": found}, indent=1), encoding="utf-8")
        written.replace(path)

    def trials(self) -> dict[str, float]:
        """Return what the settings tried so far came to."""
        path = None if self._folder is None else self._folder / TRIALS
        if path is None or not path.is_file():
            return {}
        kept = json.loads(path.read_text(encoding="utf-8"))
        return dict(kept["quality"]) if kept["key"] == self._key else {}


def key_of(matrix: AlsMatrix, settings: Mapping[str, Any], seed: int) -> str:
    """Return the hex SHA-256 of all that the factors depend on."""
    digest = hashlib.sha256(json.dumps({**settings, "seed": seed}, sort_keys=True).encode())
    weights = matrix.weights
    for array in (weights.data, weights.indices, weights.indptr, matrix.age_days):
        digest.update(np.ascontiguousarray(array).data)
    for ids in (matrix.subject_ids, matrix.item_ids):
        digest.update("\n".join(ids).encode())
    return digest.hexdigest()
