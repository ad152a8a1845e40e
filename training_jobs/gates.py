"""Gates: what a candidate must reach before it may serve. Each says name, value, threshold and verdict."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from matchloop.errors import ReleaseRefused
from matchloop.release import check_golden, verify
from matchloop.rerank.scorer import Ranker
from matchloop.retrieval.als import AlsModel
from training_jobs.champion import load_two_tower

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from matchloop.release.golden import Answerer
    from matchloop.usecase import UseCase
    from training_jobs.config import GateConfig


class Verdict(StrEnum):
    """What a gate says."""

    PASSED = "passed"
    REFUSED = "refused"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate's outcome; `note` says what the threshold is."""

    name: str
    value: float
    threshold: float
    verdict: Verdict
    note: str = ""

    def to_json(self) -> dict[str, object]:
        """Return it as JSON can hold it."""
        return asdict(self)


def random_gate(
    candidate: NDArray[np.float64], random: NDArray[np.float64], config: GateConfig, *, k: int
) -> Gate:
    """Ask that the candidate beat the random order: NDCG of the same validation subjects, (n,) each."""
    name = f"retrieval_ndcg@{k}"
    if len(candidate) < config.least_pairs:
        note = f"only {len(candidate)} validation subjects, {config.least_pairs} are needed"
        return Gate(name, _mean(candidate), 0.0, Verdict.SKIPPED, note)
    passed = _mean(candidate) > _mean(random)
    return Gate(name, _mean(candidate), _mean(random), _verdict(passed), "the random order's")


def champion_gate(
    name: str,
    candidate: NDArray[np.float64],
    champion: NDArray[np.float64],
    config: GateConfig,
    rng: np.random.Generator,
) -> Gate:
    """Compare with the champion on what was new to both, NDCG of the same subjects, (n,) each.

    The candidate is refused when it is under `least_ratio` of the champion's, and the difference's bootstrap
    interval (paired, 95 %) is all under zero: a difference that chance explains refuses nobody.
    """
    if len(candidate) < config.least_pairs:
        note = f"only {len(candidate)} subjects since the champion, {config.least_pairs} are needed"
        return Gate(name, _mean(candidate), 0.0, Verdict.SKIPPED, note)
    threshold = config.least_ratio * _mean(champion)
    note = f"{config.least_ratio:g} × champion's {_mean(champion):.4f}, same {len(candidate)} subjects"
    passed = _mean(candidate) >= threshold or _high(candidate - champion, rng) >= 0.0
    return Gate(name, _mean(candidate), threshold, _verdict(passed), note)


def ranker_gate(
    candidate: NDArray[np.float64],
    rival: NDArray[np.float64],
    *,
    champion: bool,
    config: GateConfig,
    rng: np.random.Generator,
) -> Gate:
    """Compare NDCG on the same latest lists, (n,) each, with the champion's ranker or else the teacher."""
    name = "ranker_ndcg@10"
    if len(candidate) < config.least_pairs:
        note = f"{len(candidate)} validation lists with a positive, {config.least_pairs} are needed"
        return Gate(name, _mean(candidate), 0.0, Verdict.SKIPPED, note)
    threshold = config.ranker_least_ratio * _mean(rival)
    whose = "champion" if champion else "teacher"
    note = f"{config.ranker_least_ratio:g} × {whose}'s {_mean(rival):.4f}, same lists"
    ok = _mean(candidate) >= threshold or _high(candidate - rival, rng) >= 0.0
    return Gate(name, _mean(candidate), threshold, _verdict(ok), note)


def folder_gates(folder: Path, use_case: UseCase, config: GateConfig) -> list[Gate]:
    """Check size, checksums and schema, and ask the golden requests."""
    megabytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    limit = config.largest_megabytes
    gates = [Gate("size_mb", megabytes, limit, _verdict(megabytes <= limit), "at most")]
    try:
        manifest = verify(folder, use_case)
        gates.append(Gate("checksums_and_schema", 0.0, 0.0, Verdict.PASSED, "faults"))
        check_golden(folder, _answerers(folder, use_case, manifest.parts))
        gates.append(Gate("golden_requests", 0.0, 0.0, Verdict.PASSED, "faults"))
    except ReleaseRefused as error:
        gates.append(Gate("whole", 1.0, 0.0, Verdict.REFUSED, error.message))
    return gates


def _answerers(folder: Path, use_case: UseCase, parts: Sequence[str]) -> dict[str, Answerer]:
    """Load every part that has golden requests, as the services do."""
    found: dict[str, Answerer] = {}
    if "ranker" in parts:
        found["ranker"] = Ranker.load(folder / "ranker", use_case).answer
    if "als" in parts:
        found["als"] = AlsModel.load(folder / "als").answer
    if "two_tower" in parts:
        found["two_tower"] = load_two_tower(folder, use_case).answer
    return found


def passed(gates: list[Gate]) -> bool:
    """Return whether no gate refuses."""
    return all(gate.verdict is not Verdict.REFUSED for gate in gates)


def gate_table(gates: list[Gate], title: str) -> Table:
    """Return the gates as a table for a terminal."""
    table = Table("gate", "value", "threshold", "verdict", "", title=title)
    colours = {Verdict.PASSED: "green", Verdict.REFUSED: "red", Verdict.SKIPPED: "yellow"}
    for gate in gates:
        verdict = f"[{colours[gate.verdict]}]{gate.verdict}[/]"
        table.add_row(gate.name, f"{gate.value:.4f}", f"{gate.threshold:.4f}", verdict, gate.note)
    return table


def _verdict(ok: bool) -> Verdict:  # noqa: FBT001
    return Verdict.PASSED if ok else Verdict.REFUSED


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else 0.0


def _high(differences: NDArray[np.float64], rng: np.random.Generator, resamples: int = 500) -> float:
    n = len(differences)
    means = [differences[rng.integers(0, n, n)].mean() for _ in range(resamples)]
    return float(np.quantile(means, 0.975))
