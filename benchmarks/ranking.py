"""Does the ranker earn its place, and what does it cost? ``python -m benchmarks.ranking --out FILE.json``.

A market is served as the system would serve it: a release is trained on the organic record, its lists are
shown in the rule-based order, the next release brings a ranker that orders the next lists, and the ranker
that is then trained from all of them is judged, on fresh lists for the same subjects. It is judged on
candidates of the retrieval that it learned from (``served``), and on those of its own release, whose
retrieval was trained again, on the same lists (``next``: harder: it was taught an older retrieval's scores).
Clicks follow the market's position-based model (`playground.market.clicks`: examination 1 / log2(rank + 1),
then the hidden preference). Five orders of the same 20 candidates are compared by NDCG@10 on the hidden
preference and by the clicks it lets expect: the MLP, the rule, retrieval's own, LightGBM's LambdaMART on the
same features and data, and chance. Each market is played in several worlds, one for each of `SEEDS`: how much
there is to gain differs from world to world. Figures are of the subjects of all of them, intervals percentile
bootstrap over these subjects, of paired differences.

`SEEDS` fix markets, panels and clicks. They were drawn once and are not for development: ``--seed`` has
others. A target is the ``served`` figure of the market where it is worst.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.ranking_orders import (
    LAMBDAMART,
    MLP,
    RETRIEVAL,
    RULE,
    Judged,
    LambdaMart,
    all_orders,
    compared,
    judge,
    rankable,
)
from benchmarks.ranking_speed import rerank_milliseconds, training_minutes
from benchmarks.ranking_world import NOW, Service
from benchmarks.reload import reload_figures
from benchmarks.report import Better, Out, Target, about, targets_table, write_report
from matchloop.usecase import load_use_cases
from playground.dataset import read_dataset
from playground.market import Market
from playground.market.generated import Sizes
from training_jobs import datasets
from training_jobs.config import load_config
from training_jobs.recipes.ranker import recalibrated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from matchloop.rerank.calibration import Platt
    from matchloop.rerank.placement import CandidateList
    from matchloop.rerank.scorer import Scorer
    from matchloop.snapshot import Snapshot
    from matchloop.usecase import Method
    from training_jobs.config import TrainingConfig
    from training_jobs.datasets import RankerDataset
    from training_jobs.evaluate.bootstrap import Interval

SEEDS = (358_175, 778_063, 873_363)
GENERATED = ("developer_startup", "investor_startup")
FITTED = ("investor_startup",)
SIZES = Sizes(developers=1500, investors=1000, startups=800)
SUBJECTS, ROUNDS = 800, 3
"""Subjects who ask in every round, and rounds that a release is served."""

Figures = dict[str, dict[str, "Interval"]]
"""By order and figure."""

console = Console()


@dataclass(frozen=True, slots=True)
class World:
    """One market played once: its orders' lists, judged, and what they rest on."""

    name: str
    seed: int
    judged: dict[str, Judged]
    told: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Played:
    """One market over its worlds: its orders' figures, and by world what they rest on."""

    name: str
    figures: Figures
    worlds: list[World]

    @classmethod
    def of(cls, worlds: Sequence[World]) -> Played:
        """Put together the subjects of worlds of one market."""
        parts = {order: [world.judged[order] for world in worlds] for order in worlds[0].judged}
        whole = {order: Judged.pooled(each) for order, each in parts.items()}
        return cls(worlds[0].name, compared(whole, np.random.default_rng(worlds[0].seed)), list(worlds))

    @property
    def which(self) -> str:
        """Whose candidates were ordered: ``served`` or ``next``."""
        return str(self.worlds[0].told["which"])

    @property
    def told(self) -> dict[str, dict[str, Any]]:
        """By world what its figures rest on, and its own lift of clicks."""
        return {
            str(world.seed): world.told
            | {"lift": asdict(Played.of([world]).figures[MLP]["lift_over_retrieval"])}
            for world in self.worlds
        }


def config_of() -> TrainingConfig:
    """Return the settings: retrieval as on a laptop, the ranker as shipped."""
    fast, shipped = load_config("fast"), load_config("default")
    return fast.model_copy(update={"name": "ranking", "ranker": shipped.ranker, "dataset": shipped.dataset})


def play(
    name: str, market: Market, use_case_id: str, *, seed: int, subjects: int, rounds: int
) -> list[World]:
    """Serve a market with two releases, train the third, and judge its ranker on lists of the last two."""
    began, config = time.perf_counter(), config_of()
    panel = market.panel(use_case_id, subjects, np.random.default_rng(seed + 1))
    found: dict[str, dict[str, CandidateList]] = {}
    with tempfile.TemporaryDirectory(prefix="ranking-") as folder:
        service = Service(market, market.direction(use_case_id).use_case, Path(folder), seed=seed)
        for number in range(2):
            service.train(config, f"release{number}")
            for round_ in range(rounds):
                service.play(panel, number * rounds + round_ + 1)
        served = service.ranker.calibration if service.ranker else {}
        found["served"] = {subject: service.find(subject) for subject in panel}
        snapshot = service.train(config, "release2")
        found["next"] = {subject: service.find(subject) for subject in panel}
        examples, calibration = examples_of(snapshot, service, config, served)
    assert service.ranker is not None, "too few strong positives for a ranker"
    share = config.dataset.validation_share
    trees = LambdaMart.train(examples, service.columns, calibration, validation_share=share, seed=seed)
    learned: dict[str, Scorer] = {MLP: service.ranker, LAMBDAMART: trees}
    told = {
        "examples": examples.manifest.sources,
        "release": {
            n: v for n, v in service.metrics.items() if n.startswith(("ranker", "teacher", "served"))
        },
        "seconds": time.perf_counter() - began,
    }
    return [
        World(f"{name}, {which}", seed, orders, {"which": which, "lists": len(orders[MLP].ndcg)} | told)
        for which, lists in found.items()
        for orders in [judged(service, lists, learned, np.random.default_rng(seed + 2))]
    ]


def judged(
    service: Service,
    found: Mapping[str, CandidateList],
    learned: Mapping[str, Scorer],
    rng: np.random.Generator,
) -> dict[str, Judged]:
    """Judge every order of the lists that are ranked at all."""
    market, use_case = service.market, service.use_case
    kept = {subject: each for subject, each in found.items() if rankable(each)}
    rows = market.direction(use_case.id).item_row
    preferences = [
        market.relevance(use_case.id, subject)[[rows[item] for item in each.items]]
        for subject, each in kept.items()
    ]
    orders = all_orders(list(kept.values()), service.columns, use_case, learned, rng)
    return {order: judge(lists, preferences) for order, lists in orders.items()}


def examples_of(
    snapshot: Snapshot, service: Service, config: TrainingConfig, served: Mapping[Method, Platt]
) -> tuple[RankerDataset, dict[Method, Platt]]:
    """Return the ranker's examples as its training has them."""
    examples = datasets.ranker_dataset(
        datasets.ranker_examples(datasets.open_tables(snapshot), service.use_case, config.dataset),
        use_case=service.use_case,
        snapshot=snapshot.manifest.fingerprint,
        weighting=config.dataset.ranker_weighting,
    )
    least = config.ranker.least_calibration_positives
    return recalibrated(examples, served, least_positives=least)


def markets(data: Path | None, seed: int) -> Iterator[tuple[str, Market, str]]:
    """Yield the markets to play, with names and use cases."""
    known = load_use_cases()
    generated = Market.generated(known, seed=seed, now=NOW, sizes=SIZES)
    for use_case in GENERATED:
        yield f"generated {use_case}", generated, use_case
    if data is not None:
        dataset = read_dataset(data, known)
        fitted = Market.fitted(dataset, list(dataset.readings), seed=seed, now=NOW)
        for use_case in FITTED:
            yield f"{data.name} {use_case}", fitted, use_case


def quality_targets(played: Sequence[Played]) -> list[Target]:
    """Return the targets of the orders, each by the market where its lower end is lowest."""
    found = []
    for order, bound in ((RULE, 0.0), (RETRIEVAL, 0.0), (LAMBDAMART, -0.01)):
        worst = min((each.figures[order]["mlp_over"] for each in played), key=lambda each: each.low)
        found.append(_target(f"mlp_over_{order}_ndcg", worst, bound))
    lifts = (each.figures[MLP]["lift_over_retrieval"] for each in played)
    found.append(_target("mlp_click_lift", min(lifts, key=lambda each: each.mean), 0.05))
    return found


def _target(name: str, found: Interval, bound: float) -> Target:
    return Target(name, found.mean, bound, Better.HIGHER, found.low, found.high)


def speed_targets(repeats: int = 3, *, reload: bool = True) -> tuple[list[Target], dict[str, Any]]:
    """Measure what ranking costs, and what a reload does if asked to; return targets and figures."""
    medians = [float(np.median(rerank_milliseconds())) for _ in range(repeats)]
    rerank = Target(
        "rerank_20_p50_ms", float(np.median(medians)), 1.0, Better.LOWER, min(medians), max(medians)
    )
    with tempfile.TemporaryDirectory(prefix="ranking-") as folder:
        told = training_minutes(Path(folder))
    minutes = told["minutes"]
    train = Target("ranker_1m_minutes", minutes, 2.0, Better.LOWER, minutes, minutes)
    targets = [rerank, train]
    figures: dict[str, Any] = {"rerank_20_p50_ms": medians, "ranker_1m": told}
    if reload:
        target, figures["reload"] = reload_figures()
        targets.append(target)
    return targets, figures


def orders_table(each: Played) -> Table:
    """Return the orders of one market as a table for people."""
    table = Table("order", "NDCG@10", "clicks an item", "lift over retrieval", "MLP's NDCG over it")
    table.title = f"{each.name}: {sum(world.told['lists'] for world in each.worlds)} lists"
    for order, figures in each.figures.items():
        ndcg, clicks, lift, over = (
            figures[name] for name in ("ndcg", "clicks", "lift_over_retrieval", "mlp_over")
        )
        table.add_row(
            order,
            f"{ndcg.mean:.4f} [{ndcg.low:.4f}, {ndcg.high:.4f}]",
            f"{clicks.mean:.4f}",
            f"{lift.mean:+.1%} [{lift.low:+.1%}, {lift.high:+.1%}]",
            "" if order == MLP else f"{over.mean:+.4f} [{over.low:+.4f}, {over.high:+.4f}]",
        )
    return table


def main(
    out: Out = None,
    data: Annotated[Path | None, typer.Option(help="a data set to fit a market to")] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="for development: others than the benchmark's")
    ] = None,
    subjects: int = SUBJECTS,
    rounds: int = ROUNDS,
    only: Annotated[list[str] | None, typer.Option(help="use cases, of those that are played")] = None,
    *,
    speed: Annotated[bool, typer.Option(help="measure speed too")] = True,
    reload: Annotated[bool, typer.Option(help="as `benchmarks.reload`, with speed")] = True,
) -> None:
    """Play the markets, print the orders, and measure what ranking costs."""
    told, seeds = about(), list(seed or SEEDS)
    targets: list[Target] = []
    figures: dict[str, Any] = {"seeds": seeds}
    if speed:
        targets, figures["speed"] = speed_targets(reload=reload)
    worlds: dict[str, list[World]] = {}
    for each in seeds:
        for name, market, use_case in markets(data, each):
            if only and use_case not in only:
                continue
            for world in play(name, market, use_case, seed=each, subjects=subjects, rounds=rounds):
                worlds.setdefault(world.name, []).append(world)
            console.print(f"{name}, world {each}: played in {world.told['seconds']:.0f} s")
    played = [Played.of(each) for each in worlds.values()]
    for market_ in played:
        console.print(orders_table(market_))
    figures["orders"] = {
        each.name: {o: {n: asdict(i) for n, i in f.items()} for o, f in each.figures.items()}
        for each in played
    }
    figures["told"] = {each.name: each.told for each in played}
    targets += quality_targets([each for each in played if each.which == "served"])
    console.print(targets_table("ranking; an order's interval has to keep its bound", targets))
    write_report(out, told, figures, targets)


if __name__ == "__main__":
    typer.run(main)
