"""How good are the candidates? ``python -m benchmarks.quality FOLDER... --out FILE.json``.

Trains on a data set's train part as a retraining does, and ranks for every test subject the whole catalogue
less the subject's train pairs. Method orders and settings are chosen on a validation part of train; test is
looked at once.

The tiers part the test pairs: ``warm`` has those with both sides in train, ``cold_subject`` those whose
subject is not in train but whose item is, ``cold_item`` those whose item is not, whoever the subject is;
``all`` has every pair. (``cold_subject`` once had the pairs of an unseen subject with an unseen item too.
They counted in two tiers, and nothing learned from reactions finds such an item, so the figure said as much
about the share of new items as about the method.) Figures are means over the subjects that have a pair in the
tier; ``pairs`` says how many pairs those are. ``routed`` is what the subject's tier would give it; ``random``
an order by chance; ``item_knn`` and ``ease`` (small catalogues) are baselines, never served. An event type
that the data set counts as relevant counts as a reaction in training too, rejections included: what is asked
is which items a subject will turn to.
"""

from __future__ import annotations

import json
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import pyarrow as pa
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.report import Out
from matchloop.retrieval.choices import Choices
from matchloop.retrieval.fusion import POOL
from matchloop.snapshot import TableName, entity_tables, write_snapshot
from matchloop.usecase import Method, load_use_cases
from playground.dataset import read_dataset
from training_jobs.assemble import two_tower_model
from training_jobs.choosing import ensemble_top
from training_jobs.config import TrainingConfig, load_config
from training_jobs.datasets.rows import rows_in
from training_jobs.evaluate import random_top, truth_of
from training_jobs.evaluate.baselines import baseline_tops
from training_jobs.evaluate.tiers import part_with, split_parts
from training_jobs.fit import Fitted, fit
from training_jobs.material import Material
from training_jobs.scoring import Known, als_top, popular_top, routed_top, tiers_of, two_tower_top
from training_jobs.scoring_content import content_index, content_top

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from matchloop.snapshot import Snapshot
    from matchloop.usecase import UseCase
    from playground.dataset import Dataset, Interactions
    from training_jobs.evaluate import Truth

K = 10
REPORTED = (f"ndcg@{K}", f"hit@{K}", f"recall@{K}")
Figures = dict[str, dict[str, dict[str, float]]]
"""By tier, method and metric."""
Pairs = tuple["NDArray[np.int64]", "NDArray[np.int64]"]
"""Rows of subjects and of items."""

console = Console()


def snapshot_of(dataset: Dataset, interactions: Interactions, folder: Path) -> Snapshot:
    """Write a snapshot of the data set's entities and the train part of its events."""
    use_case, train = interactions.use_case, interactions.train
    count = int(train.sum())
    times = interactions.time[train]
    times = np.where(np.isnat(times), np.datetime64(0, "us"), times)
    time_column = pa.array(times, pa.timestamp("us")).cast(pa.timestamp("us", tz="UTC"))
    types = interactions.event_type[train].astype(object)
    counted = dataset.split.relevant if dataset.split else frozenset()
    if use_case.dislike_event in counted:
        types[types == use_case.dislike_event] = next(iter(sorted(use_case.view_events)))
    table = pa.table(
        {
            "sequence": np.arange(count),
            "interaction_id": interactions.interaction_id[train].astype(object),
            "use_case": pa.array([use_case.id] * count, pa.string()),
            "subject_id": interactions.subject_id[train].astype(object),
            "item_id": interactions.item_id[train].astype(object),
            "event_type": types,
            "event_time": time_column,
            "receive_time": time_column,
            "source": pa.array(["organic"] * count, pa.string()),
            **{name: pa.nulls(count) for name in ("session_id", "rank", "score", "method", "release")},
        }
    )
    entities = (e for kind in (use_case.subject, use_case.item) for e in dataset.entities[kind])
    tables = {**entity_tables(entities), TableName.INTERACTIONS: table}
    return write_snapshot(folder, tables, watermark=count, created=datetime.now(UTC))


def measure(dataset: Dataset, use_case: UseCase, config: TrainingConfig) -> Figures:
    """Train on the use case's train part and measure every method on its test part."""
    interactions = dataset.interactions(use_case.id)
    by_time = dataset.split is not None and dataset.split.cutoff is not None
    with tempfile.TemporaryDirectory(prefix="quality-") as folder:
        snapshot = snapshot_of(dataset, interactions, Path(folder))
        share = config.dataset.validation_share
        material = Material(snapshot, use_case, validation_share=share, by_time=by_time)
        fitted = fit(material, config, calibration={}, console=console)
        everything = Material(snapshot, use_case, validation_share=0.0, by_time=True)
        _print_choices(fitted)
        return _on_test(fitted, material, everything, interactions, config)


def pairs_of(interactions: Interactions, material: Material) -> tuple[Pairs, Pairs]:
    """Return the test and the train part as rows of `material`."""
    # A data set's rows are in the order of its files, a material's in the order of ids.
    subject = rows_in(pa.chunked_array([interactions.subject_id.astype(object)]), material.subject_ids)
    item = rows_in(pa.chunked_array([interactions.item_id.astype(object)]), material.item_ids)
    test, train = ((subject[mask], item[mask]) for mask in (interactions.test, interactions.train))
    return test, train


def _on_test(
    fitted: Fitted,
    material: Material,
    everything: Material,
    interactions: Interactions,
    config: TrainingConfig,
) -> Figures:
    use_case = material.use_case
    rng = np.random.default_rng(config.seed)
    shape = (len(material.subjects), len(material.items))
    test, train = pairs_of(interactions, material)
    truth = truth_of(test, train, shape)
    known = Known.of(everything.events)
    tops: dict[Method, NDArray[np.int64]] = {
        Method.CONTENT: content_top(
            content_index(everything), everything, known, truth, POOL, console=console
        )
    }
    parts = fitted.parts
    if parts.als is not None:
        tops[Method.ALS] = als_top(parts.als, everything, known, truth, POOL)
    if parts.two_tower is not None:
        model = two_tower_model(material, parts.two_tower)
        tops[Method.TWO_TOWER] = two_tower_top(model, everything, known, truth, POOL, material.encoded)
    if parts.popular is not None:
        tops[Method.POPULAR] = popular_top(parts.popular, everything, known, truth, POOL)
    tiers, choices = tiers_of(use_case, known.counts(truth.subjects)), parts.choices or Choices()
    tops[Method.ENSEMBLE] = ensemble_top(tops, choices.fusions, tiers, POOL)
    named = {str(method): top for method, top in tops.items()}
    named["routed"] = routed_top(tops, choices.orders, tiers, K)
    named["random"] = random_top(truth, K, rng)
    named |= baseline_tops(train, truth, shape, K)
    splits = {tier: part_with(truth, pairs) for tier, pairs in split_parts(truth, *train).items()}
    return {tier: _figures(part, rows, named) for tier, (part, rows) in splits.items()}


def _print_choices(fitted: Fitted) -> None:
    """Print what the validation part decided: orders, ensembles, and what they reached."""
    choices, metrics = fitted.parts.choices or Choices(), fitted.metrics
    table = Table("tier", "order", "NDCG", "over the usual", "ensemble", title="chosen on validation")
    for tier, order in choices.orders.items():
        reached, gain = (
            f"{metrics[f'order_{tier}_{name}']:.4f} ± {metrics[f'order_{tier}_{error}']:.4f}"
            if f"order_{tier}_{name}" in metrics
            else "too few"
            for name, error in (("ndcg", "error"), ("gain", "gain_error"))
        )
        fusion = choices.fusion(tier)
        weights = ", ".join(f"{method} {fusion.weights[method]:g}" for method in fusion.methods)
        table.add_row(tier, ", ".join(order), reached, gain, f"k {fusion.constant:g}: {weights}")
    console.print(table)


def _figures(
    truth: Truth, rows: NDArray[np.int64], tops: dict[str, NDArray[np.int64]]
) -> dict[str, dict[str, float]]:
    figures = {}
    for method, top in tops.items():
        found = truth.metrics(top[rows], K)
        means = {name: float(found[name].mean()) if len(rows) else 0.0 for name in REPORTED}
        figures[method] = {**means, "subjects": len(rows), "pairs": int(truth.relevant.nnz)}
    return figures


def _print(use_case: str, figures: Figures) -> None:
    """Print a line for each method: NDCG and, behind it, the share of subjects with a hit."""
    table = Table("method", title=f"{use_case}: NDCG@{K} (hit@{K})")
    for tier, by_method in figures.items():
        counts = next(iter(by_method.values()))
        table.add_column(f"{tier}\n{counts['subjects']:,.0f} subjects\n{counts['pairs']:,.0f} pairs")
    for method in figures["all"]:
        found = [by_method[method] for by_method in figures.values()]
        cells = [f"{each[f'ndcg@{K}']:.4f} ({each[f'hit@{K}']:.2f})" for each in found]
        table.add_row(method, *cells, style="bold" if method == "routed" else "")
    console.print(table)


def main(
    folders: Annotated[list[Path], typer.Argument(help="Data sets: dataset.toml and its files, each.")],
    out: Out = None,
    config: Annotated[str, typer.Option(help="default, fast, deep or a .toml file.")] = "quality",
    use_case: Annotated[list[str] | None, typer.Option(help="Only these use cases.")] = None,
) -> None:
    """Measure candidates by use case, tier and method."""
    settings = load_config(Path(__file__).with_name("quality.toml") if config == "quality" else config)
    figures: dict[str, Figures] = {}
    for folder in folders:
        dataset = read_dataset(folder, load_use_cases())
        for fault in dataset.faults[:20]:
            console.print(f"left out: {fault}")
        for declared in dataset.use_cases:
            if use_case and declared.id not in use_case:
                continue
            begin = time.perf_counter()
            figures[declared.id] = measure(dataset, declared, settings)
            _print(declared.id, figures[declared.id])
            console.print(f"{declared.id}: {time.perf_counter() - begin:.0f} s")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
