"""Gates: what a candidate must reach before it may serve. Each says name, value, threshold and verdict."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from matchloop.errors import ReleaseRefused
from matchloop.release import check_golden, verify
from matchloop.rerank.scorer import Ranker
from matchloop.retrieval.als import AlsModel
from matchloop.retrieval.choices import ENSEMBLE, Choices
from training_jobs.champion import load_two_tower
from training_jobs.evaluate.bootstrap import interval_of, resampled_sums

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from matchloop.release.golden import Answerer
    from matchloop.usecase import UseCase
    from training_jobs.config import GateConfig


RESAMPLES = 1000

LEAST_LEAD = 0.1
"""What a champion is worth at least, as a share of its NDCG."""


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

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Gate:
        """Return the gate that `to_json` told of."""
        return cls(**{**told, "verdict": Verdict(told["verdict"])})


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


@dataclass(frozen=True, slots=True)
class Evidence:
    """One independent look at how far the candidate is ahead of the champion.

    Parameters
    ----------
    name, count
        What was looked at, and how many subjects it rests on.
    gap
        By how much the candidate is ahead; 0.1 is a tenth of what the champion is worth.
    draws
        (r,): the gap as it would come out with other subjects; their deviation weights the evidence.
    """

    name: str
    count: int
    gap: float
    draws: NDArray[np.float64]


def paired_evidence(
    name: str,
    candidate: NDArray[np.float64],
    champion: NDArray[np.float64],
    chance: NDArray[np.float64],
    *,
    rng: np.random.Generator,
) -> Evidence:
    """Compare NDCG of the same n subjects, (n,) each, `chance` being what an order by chance would reach.

    What the champion is worth is its lead over chance, yet at least `LEAST_LEAD` of its own NDCG: among items
    that it chose itself, its order is little better than chance.
    """
    n = len(candidate)
    worth = max(_mean(champion) - _mean(chance), LEAST_LEAD * _mean(champion), 1e-9)
    gaps = (candidate - champion)[:, None] / worth
    draws = resampled_sums(gaps, rng=rng, resamples=RESAMPLES)[:, 0] / max(n, 1)
    return Evidence(name, n, _mean(gaps), draws)


def lift_of(candidate: NDArray[np.float64], reference: NDArray[np.float64]) -> dict[str, float]:
    """Return the logarithm of mean NDCG over the reference's, of the same subjects, and its standard error.

    Returns
    -------
    dict
        ``lift``, ``lift_error`` (delta method, paired) and ``lift_subjects``, as the release's metrics keep
        them: the next candidate is compared with them.
    """
    n = len(candidate)
    mine, theirs = max(_mean(candidate), 1e-3), max(_mean(reference), 1e-3)
    spread = candidate / mine - reference / theirs
    error = float(spread.std(ddof=1)) / n**0.5 if n > 1 else 0.0
    return {"lift": float(np.log(mine / theirs)), "lift_error": error, "lift_subjects": float(n)}


def lift_evidence(
    candidate: Mapping[str, float], champion: Mapping[str, float], rng: np.random.Generator
) -> Evidence | None:
    """Compare `lift_of` of two releases' metrics, each over item neighbours trained on the same events as it.

    Reactions to lists favour whoever made the lists, so a candidate's NDCG over the whole catalogue does not
    compare with the champion's on them. Each one's lead over a reference trained on the same
    events and judged on the same ones does: what the record favours, it favours for both of a pair
    (a difference in differences, Angrist, Pischke 2009, ch. 5). None where a release does not say.
    """
    both = (candidate, champion)
    if any("lift" not in metrics for metrics in both):
        return None
    gap = candidate["lift"] - champion["lift"]
    error = float(np.hypot(candidate["lift_error"], champion["lift_error"]))
    count = int(min(metrics["lift_subjects"] for metrics in both))
    return Evidence("lift over item neighbours", count, gap, gap + error * rng.standard_normal(RESAMPLES))


def champion_gate(evidence: Sequence[Evidence], config: GateConfig) -> Gate:
    """Ask that the candidate not be behind the champion by more than a tolerance, all evidence together.

    Evidence on at least `least_pairs` subjects is pooled with inverse-variance weights (Cochran 1954); the
    lower bound of the pooled gap, at `confidence` (one-sided, bootstrap), must be −`tolerance` or more.
    Without enough evidence the gate is skipped.
    """
    name = "against_champion"
    told = ", ".join(f"{each.name} {each.gap:+.3f} ({each.count})" for each in evidence)
    enough = [each for each in evidence if each.count >= config.least_pairs]
    if not enough:
        note = f"{told or 'nothing'}: {config.least_pairs} subjects are needed"
        return Gate(name, 0.0, -config.tolerance, Verdict.SKIPPED, note)
    weights = np.array([1.0 / max(float(each.draws.var()), 1e-6) for each in enough])
    weights /= weights.sum()
    gap = float(weights @ [each.gap for each in enough])
    low = float(np.quantile(weights @ np.stack([each.draws for each in enough]), 1.0 - config.confidence))
    note = f"{config.confidence:.0%} lower bound of the gap {gap:+.3f}: {told}"
    return Gate(name, low, -config.tolerance, _verdict(low >= -config.tolerance), note)


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
        note = f"{len(candidate)} latest lists were reacted to, {config.least_pairs} are needed"
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
        check_golden(folder, answerers(folder, use_case, manifest.parts))
        gates.append(Gate("golden_requests", 0.0, 0.0, Verdict.PASSED, "faults"))
    except ReleaseRefused as error:
        gates.append(Gate("whole", 1.0, 0.0, Verdict.REFUSED, error.message))
    return gates


def answerers(folder: Path, use_case: UseCase, parts: Sequence[str]) -> dict[str, Answerer]:
    """Load every part that has golden requests, as the services do."""
    found: dict[str, Answerer] = {}
    choices = Choices.read(folder)
    if choices.fusions:
        found[ENSEMBLE] = choices.answer
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


def _high(differences: NDArray[np.float64], rng: np.random.Generator) -> float:
    """Return the upper end of the mean's 95 % bootstrap interval."""
    return interval_of(differences, rng=rng, resamples=RESAMPLES).high
