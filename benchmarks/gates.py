"""How often does a worse release pass the gates, and a better one not? ``python -m benchmarks.gates``.

The market's hidden preferences say which candidate is truly better. ``pooled`` is the gate as configured;
``separate`` refuses only what is clearly behind on lists or on own finds, each by itself; ``always`` passes
all. In the loop, where every third candidate has a fault, what counts is what the last champion is worth.
"""

from __future__ import annotations

import os
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import typer
from threadpoolctl import threadpool_limits

from benchmarks.gate_trials import trials
from benchmarks.report import Out, about, write_report
from matchloop.usecase import load_use_cases
from playground.market import Market
from training_jobs.config import GateConfig
from training_jobs.evaluate import paired_interval
from training_jobs.gates import Verdict, champion_gate, lift_evidence, lift_of, paired_evidence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.gate_trials import Rule, Trial

USE_CASES = ("developer_startup", "startup_developer")
CLEAR = 0.02
"""A candidate is clearly better or worse from this share of the champion's true NDCG on."""


def pooled(trial: Trial, config: GateConfig | None = None) -> bool:
    """Ask the gate that a retraining asks."""
    rng = np.random.default_rng([trial.seed, trial.round])
    evidence = [
        paired_evidence(name, found[0], found[1], found[2], rng=rng)
        for name, found in (("lists", trial.shown), ("own finds", trial.organic))
    ]
    lift = lift_evidence(lift_of(*trial.lift), lift_of(*trial.champion_lift), rng)
    gate = champion_gate([*evidence, *([lift] if lift else [])], config or GateConfig())
    return gate.verdict is not Verdict.REFUSED


def separate(trial: Trial) -> bool:
    """Refuse what is under 0.97 of the champion by lists or own finds, if chance does not explain it."""
    rng = np.random.default_rng([trial.seed, trial.round])
    for candidate, champion, _ in (trial.shown, trial.organic):
        if len(candidate) < GateConfig().least_pairs or candidate.mean() >= 0.97 * champion.mean():
            continue
        if paired_interval(candidate, champion, rng=rng).high < 0.0:
            return False
    return True


RULES: dict[str, Rule] = {"pooled": pooled, "separate": separate, "always": lambda _: True}


def error_rates(found: Sequence[Trial], rule: Rule) -> dict[str, float]:
    """Return how often the rule is wrong, by how the candidate truly is."""
    gain = np.array([trial.gain for trial in found])
    passed = np.array([rule(trial) for trial in found])
    sound = np.array([trial.fault == "none" for trial in found])
    return {
        "clearly_worse_passes": _share(passed[gain < -CLEAR]),
        "worse_passes": _share(passed[gain < 0]),
        "far_worse_passes": _share(passed[gain < -0.1]),
        "better_refused": _share(~passed[gain > 0]),
        "clearly_better_refused": _share(~passed[gain > CLEAR]),
        "sound_and_better_refused": _share(~passed[sound & (gain > 0)]),
    }


def _share(which: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float:
    return float(which.mean()) if len(which) else 0.0


def main(
    out: Out = None,
    first_seed: Annotated[int, typer.Option(help="Of the markets.")] = 100,
    markets: Annotated[int, typer.Option(help="How many, a seed each.")] = 10,
    rounds: int = 5,
    subjects: int = 200,
) -> None:
    """Play markets and print how often each rule is wrong, and what its last champion is worth."""
    told, known, now = about(), load_use_cases(), datetime(2026, 1, 1, tzinfo=UTC)
    found: list[Trial] = []
    worth: dict[str, list[float]] = defaultdict(list)
    with threadpool_limits(limits=1, user_api="blas"):
        for seed in range(first_seed, first_seed + markets):
            market = Market.generated(known, seed=seed, now=now).only(USE_CASES)
            for name in USE_CASES:
                found += trials(market, name, seed=seed, rounds=rounds, subjects=subjects)
                for rule, decide in RULES.items():
                    played = trials(market, name, seed=seed, rounds=rounds, subjects=subjects, rule=decide)
                    last = list(played)[-1]
                    worth[rule].append(last.worth * (1.0 + last.gain * decide(last)))
            print(f"seed {seed}: {len(found)} candidates", flush=True)
    figures = {
        rule: {**error_rates(found, decide), "last_champion_ndcg": float(np.mean(worth[rule]))}
        for rule, decide in RULES.items()
    }
    for rule, rates in figures.items():
        print(f"{rule:10}" + "".join(f"  {name} {value:.3f}" for name, value in rates.items()))
    write_report(out, told, figures)


if __name__ == "__main__":
    typer.run(main)
