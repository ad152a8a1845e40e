"""The search step: around a retraining's data, with what it leaves in the work folder."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training_jobs.search import Found, Seconds, search
from training_jobs.search_report import log_search, write_findings
from training_jobs.search_spaces import SPACES, Searched

if TYPE_CHECKING:
    from pathlib import Path

    from training_jobs.retrain import Retraining


@dataclass(frozen=True, slots=True)
class Searching:
    """What a search came to, the file with the best configuration, and the run's id where runs are kept."""

    found: Found
    config: Path
    run: str | None


class Search:
    """One search, kept by the snapshot, the part and the configuration it starts from.

    Parameters
    ----------
    steps
        Tells snapshot, configuration, tracker, console and work folder.
    """

    def __init__(self, steps: Retraining, part: Searched) -> None:
        self.steps, self.part = steps, part
        self.folder = steps.folder.parent / "search" / f"{part}-{self._key()}"

    def run(
        self, minutes: float, *, began: float | None = None, clock: Seconds = time.monotonic
    ) -> Searching:
        """Search for so long, `began` on, and write and log what was found.

        Raises
        ------
        InvalidInput
            When `minutes` is not over 0.
        TooFewExamples
            When there is too little to train on or to choose by.
        """
        began = clock() if began is None else began
        steps, config = self.steps, self.steps.config
        space = SPACES[self.part](steps.material, config)
        found = search(
            space,
            self.folder / "study.db",
            seconds=60.0 * minutes,
            seed=config.seed,
            clock=clock,
            began=began,
            console=steps.console,
        )
        use_case = steps.use_case.id
        title = f"{use_case} {self.part}, snapshot {steps.snapshot.manifest.watermark}"
        best = space.config_of(found.best.choice)
        findings = self.folder / "found"
        path = write_findings(found, best, space.manifest, findings, title)
        told = {"part": str(self.part), "minutes": minutes, "from": config.model_dump(mode="json")}
        run = log_search(steps.tracker, use_case, f"search-{self.folder.name}", found, told, findings)
        return Searching(found, path, run)

    def _key(self) -> str:
        """Return eight hex digits over what a trial's quality depends on."""
        config = self.steps.config
        parts = {"dataset", "evaluate", "gates", "seed", self.part.value}
        settings = config.model_dump_json(include=parts)
        told = f"{self.steps.snapshot.manifest.fingerprint} {settings}"
        return hashlib.sha256(told.encode()).hexdigest()[:8]
