"""What a retraining keeps between its steps: small JSON files beside data sets, checkpoints and release."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """A folder that comes into being with the first file; a file is named as its content is."""

    path: Path

    def write(self, name: str, value: Any) -> None:
        """Write a value as JSON, over one that was there."""
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(json.dumps(value, indent=1), encoding="utf-8")

    def read(self, name: str) -> Any:
        """Return what was written; None when nothing was."""
        path = self.path / name
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def gather(self, into: Path) -> Path:
        """Copy what tells of the training, reports and manifests, for the record; returns `into`."""
        into.mkdir(parents=True, exist_ok=True)
        told = (
            path for pattern in ("datasets/*.json", "*.json", "*.html") for path in self.path.glob(pattern)
        )
        for path in told:
            (into / path.name).write_bytes(path.read_bytes())
        return into
