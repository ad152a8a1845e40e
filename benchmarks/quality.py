"""How good are the candidates? ``python -m benchmarks.quality FOLDER --out FILE.json``.

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
from rich.progress import track
from rich.table import Table

from matchloop.features import load_embedder
from matchloop.retrieval.content import ContentIndex
from matchloop.retrieval.profile import SubjectEvent
from matchloop.snapshot import TableName, entity_tables, write_snapshot
from matchloop.usecase import Method, Tier, load_use_cases
from playground.dataset import read_dataset
from training_jobs.assemble import two_tower_model
from training_jobs.config import TrainingConfig, load_config
from training_jobs.evaluate import Truth, random_top, truth_of
from training_jobs.evaluate.baselines import baseline_tops
from training_jobs.fit import Fitted, fit
from training_jobs.material import Material
from training_jobs.scoring import (
    Known,
    als_top,
    best_orders,
    popular_top,
    routed_top,
    tiers_of,
    two_tower_top,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from matchloop.snapshot import Snapshot
    from matchloop.usecase import UseCase
    from playground.dataset import Dataset, Interactions

K = 10
REPORTED = (f"ndcg@{K}", f"hit@{K}", f"recall@{K}")
CONTENT_EVENTS = 50
CONTENT_VALIDATION = 500
Figures = dict[str, dict[str, dict[str, float]]]
"""By tier, method and metric."""

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


def content_top(
    index: ContentIndex, material: Material, known: Known, truth: Truth, title: str
) -> NDArray[np.int64]:
    """Return what content retrieval finds from each subject's own values and what it reacted to."""
    row = {id_: at for at, id_ in enumerate(material.item_ids)}
    events = known.events
    now = events.time.max().astype("datetime64[us]").item().replace(tzinfo=UTC)
    times = events.time.astype("datetime64[us]")
    top = np.full((len(truth), K), -1, dtype=np.int64)
    for at, subject in enumerate(track(truth.subjects.tolist(), title, console=console, transient=True)):
        numbers = known.by_subject.get(subject, np.zeros(0, np.int64))
        latest = sorted(numbers.tolist(), key=lambda n: times[n])[-CONTENT_EVENTS:]
        reacted = [
            SubjectEvent(
                material.items[events.item[n]].key.id,
                events.event_type[n],
                times[n].item().replace(tzinfo=UTC),
            )
            for n in latest
        ]
        profile = index.profile(material.subjects[subject], reacted, {}, now)
        seen = [material.items[item].key.id for item in truth.seen[at].indices.tolist()]
        hits = index.search(profile, K, exclude=seen)
        top[at, : len(hits)] = [row[str(hit.item)] for hit in hits]
    return top


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
        index = ContentIndex(use_case, load_embedder(None, use_case.embedding_width))
        index.upsert(material.items)
        return _on_test(fitted, material, everything, interactions, index, config)


def _on_test(
    fitted: Fitted,
    material: Material,
    everything: Material,
    interactions: Interactions,
    index: ContentIndex,
    config: TrainingConfig,
) -> Figures:
    use_case = material.use_case
    rng = np.random.default_rng(config.seed)
    shape = (len(material.subjects), len(material.items))
    test, train = (
        (interactions.subject_row[mask].astype(np.int64), interactions.item_row[mask].astype(np.int64))
        for mask in (interactions.test, interactions.train)
    )
    truth = truth_of(test, train, shape)
    known = Known.of(everything.events)
    tops: dict[Method, NDArray[np.int64]] = {
        Method.CONTENT: content_top(index, everything, known, truth, f"{use_case.id} content")
    }
    parts = fitted.parts
    if parts.als is not None:
        tops[Method.ALS] = als_top(parts.als, everything, known, truth, K)
    if parts.two_tower is not None:
        model = two_tower_model(material, parts.two_tower)
        tops[Method.TWO_TOWER] = two_tower_top(model, everything, known, truth, K, material.encoded)
    if parts.popular is not None:
        tops[Method.POPULAR] = popular_top(parts.popular, everything, known, truth, K)
    orders = _orders(fitted, material, index, config)
    console.print({tier.value: [str(m) for m in order] for tier, order in orders.items()})
    tiers = tiers_of(use_case, known.counts(truth.subjects))
    named = {str(method): top for method, top in tops.items()}
    named["routed"] = routed_top(tops, orders, tiers, K)
    named["random"] = random_top(truth, K, rng)
    named |= baseline_tops(train, truth, shape, K)
    return {tier: _figures(part, rows, named) for tier, (part, rows) in _tiers(truth, train, shape).items()}


def _orders(
    fitted: Fitted, material: Material, index: ContentIndex, config: TrainingConfig
) -> dict[Tier, tuple[Method, ...]]:
    """Choose each tier's method order on the validation part, content among them."""
    truth = fitted.truth
    rows = np.arange(len(truth))
    if len(rows) > CONTENT_VALIDATION:
        rows = np.sort(np.random.default_rng(config.seed).choice(rows, CONTENT_VALIDATION, replace=False))
    part = Truth(truth.subjects[rows], truth.relevant[rows], truth.seen[rows])
    known = Known.of(material.training_events)
    tops = {method: top[rows] for method, top in fitted.tops.items()}
    tops[Method.CONTENT] = content_top(index, material, known, part, "content on validation")
    tiers = tiers_of(material.use_case, known.counts(part.subjects))
    return best_orders(material.use_case, tops, part, tiers, K)


def _tiers(
    truth: Truth, train: tuple[NDArray[np.int64], NDArray[np.int64]], shape: tuple[int, int]
) -> dict[str, tuple[Truth, NDArray[np.int64]]]:
    """Return, by tier, the truth with only that tier's pairs, and its subjects' places in `truth`."""
    subject_known = np.isin(truth.subjects, train[0])
    item_known = np.zeros(shape[1], dtype=np.bool_)
    item_known[train[1]] = True
    pairs = truth.relevant.tocoo()
    row_known, column_known = subject_known[pairs.row], item_known[pairs.col]
    masks = {
        "warm": row_known & column_known,
        "cold_item": ~column_known,
        "cold_subject": ~row_known & column_known,
        "all": np.ones(len(pairs.row), dtype=np.bool_),
    }
    found = {}
    for tier, mask in masks.items():
        part = truth.relevant.tocsr().copy()
        part.data = np.where(mask, 1.0, 0.0).astype(np.float32)[: len(part.data)]
        part.eliminate_zeros()
        rows = np.flatnonzero(np.diff(part.indptr) > 0)
        found[tier] = (Truth(truth.subjects[rows], part[rows], truth.seen[rows]), rows)
    return found


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
    methods = list(figures["all"])
    table = Table("tier", "subjects", "pairs", *methods, title=f"{use_case}: NDCG@{K} (hit, recall)")
    for tier, by_method in figures.items():
        cells = [" ".join(f"{by_method[method][name]:.4f}" for name in REPORTED) for method in methods]
        first = by_method[methods[0]]
        table.add_row(tier, str(int(first["subjects"])), str(int(first["pairs"])), *cells)
    console.print(table)


def main(
    folder: Annotated[Path, typer.Argument(help="A data set: dataset.toml and its files.")],
    out: Annotated[Path, typer.Option(help="Where the figures go, as JSON.")],
    config: Annotated[str, typer.Option(help="default, fast, deep or a .toml file.")] = "quality",
    use_case: Annotated[list[str] | None, typer.Option(help="Only these use cases.")] = None,
) -> None:
    """Measure candidates by use case, tier and method."""
    dataset = read_dataset(folder, load_use_cases())
    for fault in dataset.faults[:20]:
        console.print(f"left out: {fault}")
    settings = load_config(Path(__file__).with_name("quality.toml") if config == "quality" else config)
    figures: dict[str, Figures] = {}
    for declared in dataset.use_cases:
        if use_case and declared.id not in use_case:
            continue
        begin = time.perf_counter()
        figures[declared.id] = measure(dataset, declared, settings)
        _print(declared.id, figures[declared.id])
        console.print(f"{declared.id}: {time.perf_counter() - begin:.0f} s")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
