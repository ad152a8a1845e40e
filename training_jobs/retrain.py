"""A retraining from snapshot to promotion, each step idempotent and keyed by watermark and settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from matchloop.errors import NotFound, ReleaseRefused
from matchloop.release import CHAMPION, Manifest
from matchloop.release.manifest import verify
from matchloop.snapshot import read_snapshot
from training_jobs.assemble import assemble
from training_jobs.build import DataSets, build_datasets
from training_jobs.champion import orders_of
from training_jobs.champion_folder import served_calibration, usable_folder
from training_jobs.comparison import Tops
from training_jobs.drift import Baseline
from training_jobs.drift.training import latest_lists
from training_jobs.evaluate.report import write_report
from training_jobs.fit import Stopwatch, fit
from training_jobs.gate_sequence import Judged, ask
from training_jobs.gates import Gate, Verdict, passed
from training_jobs.material import Material
from training_jobs.measuring import background_of, evaluate_release
from training_jobs.promotion import note_gates, promote_version
from training_jobs.provenance import provenance_of
from training_jobs.tracking import NoTracker, Tracker
from training_jobs.work_folder import WorkFolder

if TYPE_CHECKING:
    from rich.console import Console

    from matchloop.release import RegisteredRelease, Registry
    from matchloop.rerank.calibration import Platt
    from matchloop.rerank.scorer import Scorer
    from matchloop.usecase import Method, UseCase
    from training_jobs.config import TrainingConfig
    from training_jobs.evaluate.evaluation import Evaluation

Clock = Callable[[], datetime]
MarkUsed = Callable[[str, int], int]
"""From the release and the watermark to how many negatives were newly marked as used."""


def utc_now() -> datetime:
    """Return the time, aware."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Retrained:
    """What a retraining came to.

    Parameters
    ----------
    release
        Id of the candidate.
    promoted
        Whether it is champion now: it passed every gate, in this run or an earlier one.
    gates
        In the order they were asked.
    skipped
        By part that the release does not have: why.
    seconds
        By step; a step that was done before is missing.
    marked
        Negatives newly marked as used; None when nobody was told.
    """

    use_case: str
    release: str
    promoted: bool
    gates: list[Gate]
    metrics: Mapping[str, float]
    skipped: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    marked: int | None = None


class Retraining:
    """The steps of one retraining; each is done once per snapshot and settings, and says what it found later.

    Parameters
    ----------
    use_case, snapshot
        What to train on; the folder of a finished snapshot.
    registry, tracker
        Where releases and runs go.
    work
        Folder for data sets, releases and reports, kept between runs.
    resume
        Whether training goes on from the checkpoints of a run that was killed; they lie in the work folder
        until the release is made.
    may_promote
        Asked right before a promotion; raises when this run must not promote any more.
    """

    def __init__(
        self,
        use_case: UseCase,
        snapshot: Path,
        registry: Registry,
        config: TrainingConfig,
        *,
        work: Path,
        tracker: Tracker | None = None,
        clock: Clock = utc_now,
        console: Console | None = None,
        resume: bool = True,
        may_promote: Callable[[], None] | None = None,
    ) -> None:
        self.use_case, self.registry, self.config = use_case, registry, config
        self.snapshot = read_snapshot(snapshot)
        self.tracker = tracker or NoTracker()
        self.clock, self.console = clock, console
        self.watch = Stopwatch()
        manifest = self.snapshot.manifest
        key = f"w{manifest.watermark}-{manifest.fingerprint[:8]}-{config.fingerprint[:8]}"
        self.release = f"{use_case.id}-{key}"
        self.folder = work / use_case.id / key
        self.release_folder = self.folder / "release" / self.release
        self.resume, self.may_promote = resume, may_promote
        self.work, self.kept = work, WorkFolder(self.folder)
        self._material: Material | None = None
        self._data: DataSets | None = None

    @property
    def material(self) -> Material:
        """The snapshot as the recipes read it; opened once."""
        if self._material is None:
            with self.watch.step("read"):
                share = self.config.dataset.validation_share
                engine = self.config.dataset.engine
                self._material = Material(self.snapshot, self.use_case, validation_share=share, engine=engine)
        return self._material

    def datasets(self) -> DataSets:
        """Build the data sets; writes their manifests and the ranker's examples."""
        if self._data is None:
            material = self.material
            with self.watch.step("datasets"):
                self._data = build_datasets(material, self.config, console=self.console)
                folder = self.folder / "datasets"
                for manifest in self._data.manifests:
                    manifest.write(folder)
                self._data.ranker.write(folder)
        return self._data

    def write_datasets(self) -> Path:
        """Build the data sets and write all of them as Parquet; returns their folder."""
        data, folder = self.datasets(), self.folder / "datasets"
        with self.watch.step("write"):
            data.write(folder, self.material)
        return folder

    def train(self) -> Manifest:
        """Train and assemble the release, unless it is there and whole; a killed training is gone on with.

        Raises
        ------
        TooFewExamples
            When no part could be trained.
        """
        if self._is_assembled():
            return Manifest.read(self.release_folder)
        from training_jobs.recipes.checkpoint import Checkpoints

        served = served_calibration(self._usable(self.registry.resolve(self.use_case.id, CHAMPION)))
        checkpoints = Checkpoints(self.folder / "checkpoints", resume=self.resume)
        found = fit(
            self.material,
            self.config,
            calibration=served,
            data=self.datasets(),
            watch=self.watch,
            console=self.console,
            checkpoints=checkpoints,
        )
        with self.watch.step("assemble"):
            self.kept.write("curves.json", found.curves)
            self.kept.write("skipped.json", found.skipped)
            tops: dict[str, Any] = {f"top_{method}": top for method, top in found.tops.items()}
            np.savez(self.folder / "validation.npz", routed=found.routed, listed=found.listed, **tops)
            manifest = assemble(
                self.release_folder,
                self.release,
                self.material,
                found.parts,
                metrics=found.metrics,
                created=self.clock(),
                seed=self.config.seed,
                provenance=provenance_of(self.config, self.datasets().manifests),
                baseline=lambda scorer: self._drift_baseline(scorer, served),
            )
            checkpoints.clear()
            return manifest

    def skipped(self) -> Mapping[str, str]:
        """Return why, by part that the trained release does not have."""
        found: dict[str, str] = self.kept.read("skipped.json") or {}
        return found

    def evaluate(self) -> list[Gate]:
        """Ask the gates, once for each champion it is compared with; ``gates.json`` keeps the answers."""
        manifest = self.train()
        champion = self.registry.resolve(self.use_case.id, CHAMPION)
        name = champion.release if champion else ""
        kept = self.kept.read("gates.json")
        if kept and (kept["champion"] == name or name == self.release):
            gates = [Gate.from_json(gate) for gate in kept["gates"]]
        else:
            with self.watch.step("gates"):
                gates = self._ask(manifest, champion)
            self.kept.write("gates.json", {"champion": name, "gates": [gate.to_json() for gate in gates]})
        return [*gates, *self._rolled_back()]

    def report(self) -> Evaluation:
        """Measure every method on the validation part; writes ``evaluation.json`` and ``report.html``."""
        manifest = self.train()
        with self.watch.step("report"):
            with np.load(self.folder / "validation.npz") as kept:
                tops = {name.removeprefix("top_"): kept[name] for name in kept if name != "listed"}
            evaluation = evaluate_release(self.release, tops, self.material, self.config)
            manifests = [self.kept.read(f"datasets/{name}.json") for name in ("als", "two_tower", "ranker")]
            background = background_of(
                manifest,
                self.material,
                self.config,
                orders=orders_of(self.release_folder, self.use_case),
                manifests=[found for found in manifests if found],
                curves=self.kept.read("curves.json") or {},
                gates=(self.kept.read("gates.json") or {}).get("gates", ()),
                skipped=self.kept.read("skipped.json") or {},
                evaluation=evaluation,
            )
            self.kept.write("evaluation.json", evaluation.to_json())
            write_report(self.folder / "report.html", evaluation, background)
        return evaluation

    def register(self) -> RegisteredRelease:
        """Put the run and the release into the registry, promoted or not; again, it changes nothing."""
        manifest = self.train()
        for known in self.registry.list(self.use_case.id):
            if known.release == self.release:
                return known
        with self.watch.step("register"):
            self.report()
            run = self.kept.gather(self.folder / "run")
            run_id = self.tracker.log(
                self.use_case.id,
                self.release,
                parameters=self.config.model_dump(mode="json"),
                metrics=manifest.metrics,
                curves=self.kept.read("curves.json") or {},
                artifacts=run,
            )
            return self.registry.register(
                self.release_folder,
                self.use_case.id,
                run_id=run_id,
                metrics=manifest.metrics if run_id is None else {},
            )

    def promote(self, *, force: bool = False) -> bool:
        """Make it champion if it passed every gate, or is forced; returns whether it is champion.

        What the gates said is noted with the version in either case, and what a forced promotion went over.
        """
        gates = self.evaluate()
        registered = self.register()
        champion = (self.kept.read("gates.json") or {}).get("champion", "")
        note_gates(self.registry, registered, gates, champion)
        if not force and not passed(gates):
            return False
        if self.may_promote is not None:
            self.may_promote()
        with self.watch.step("promote"):
            promote_version(self.registry, registered, clock=self.clock, gates=gates, force=force)
        return True

    def run(self, mark_used: MarkUsed | None = None) -> Retrained:
        """Do all of it; after a promotion, say which negatives were used."""
        gates = self.evaluate()
        promoted = self.promote()
        marked = None
        if promoted and mark_used is not None:
            with self.watch.step("mark_used"):
                marked = mark_used(self.release, self.snapshot.manifest.watermark)
        return Retrained(
            use_case=self.use_case.id,
            release=self.release,
            promoted=promoted,
            gates=gates,
            metrics=Manifest.read(self.release_folder).metrics,
            skipped=self.skipped(),
            seconds=dict(self.watch.seconds),
            marked=marked,
        )

    def _ask(self, manifest: Manifest, champion: RegisteredRelease | None) -> list[Gate]:
        rival = champion is not None and champion.release != self.release
        folder = self._usable(champion) if rival else None
        with np.load(self.folder / "validation.npz") as kept:
            tops = Tops(routed=kept["routed"], listed=kept["listed"])
        examples = self.datasets().ranker if "ranker" in manifest.parts else None
        return ask(Judged(self.release_folder, manifest, folder, self.material, tops, self.config, examples))

    def _rolled_back(self) -> list[Gate]:
        """Refuse a release that was rolled back: training it again would promote it again."""
        for known in self.registry.list(self.use_case.id):
            if known.release == self.release and known.rolled_back is not None:
                note = f"at {known.rolled_back.isoformat(timespec='seconds')}: {known.rollback_reason}"
                return [Gate("rolled_back", 1.0, 0.0, Verdict.REFUSED, note)]
        return []

    def _usable(self, champion: RegisteredRelease | None) -> Path | None:
        """Return the champion's folder; None without one, or when it can't be used any more."""
        return None if champion is None else usable_folder(self.registry, champion, self.use_case, self.work)

    def _drift_baseline(self, scorer: Scorer, served: Mapping[Method, Platt]) -> Baseline | None:
        lists = latest_lists(self.material.tables, self.use_case, self.config.triggers)
        return Baseline.of(lists.as_scored_by(scorer, served))

    def _is_assembled(self) -> bool:
        try:
            verify(self.release_folder, self.use_case)
        except (ReleaseRefused, NotFound):
            return False
        return (self.folder / "validation.npz").is_file()


def retrain(
    use_case: UseCase,
    snapshot: Path,
    registry: Registry,
    config: TrainingConfig,
    *,
    work: Path,
    tracker: Tracker | None = None,
    clock: Clock = utc_now,
    console: Console | None = None,
    mark_used: MarkUsed | None = None,
) -> Retrained:
    """Train on a snapshot, evaluate, register, and promote what passes; see `Retraining`.

    Raises
    ------
    TooFewExamples
        When not one part could be trained.
    """
    steps = Retraining(
        use_case, snapshot, registry, config, work=work, tracker=tracker, clock=clock, console=console
    )
    return steps.run(mark_used)
