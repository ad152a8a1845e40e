"""Checkpoints: what a killed recipe goes on from, to the result it would have had."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """A folder of checkpoints.

    Parameters
    ----------
    folder
        Made when the first one is written.
    resume
        Whether one that is there is gone on from; false: it is written over.
    """

    folder: Path
    resume: bool = True

    def of(self, name: str, key: str, console: Console | None = None) -> Checkpoint:
        """Return the checkpoint of a recipe for data and settings with this key; see `key_of`."""
        return Checkpoint(self.folder / f"{name}-{key}.pt", self.resume, console)

    def clear(self) -> None:
        """Remove them all: what they were kept for is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One recipe's state, the latest only."""

    path: Path
    resume: bool = True
    console: Console | None = None

    def load(self) -> dict[str, Any] | None:
        """Return the state last saved; None when there is none to go on from. Says which."""
        if not self.resume or not self.path.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            self._say(f"{self.path.name} cannot be read, training begins anew: {error}")
            return None
        self._say(f"{self.path.name}: going on after epoch {state['epoch']}")
        return state

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the state (tensors, numbers, texts, and lists and mappings of them) whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_name(f"{self.path.name}.{os.getpid()}.unfinished")
        with unfinished.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self.path)

    def _say(self, what: str) -> None:
        if self.console is not None:
            self.console.print(what, highlight=False)


def key_of(*parts: Any) -> str:
    """Return 16 hex digits over arrays and over whatever else says by its text what it is."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).data)
        else:
            digest.update(repr(part).encode())
    return digest.hexdigest()[:16]
