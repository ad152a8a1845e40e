"""Build the data sets and train every part, on the earlier events, measured on the latest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from matchloop.errors import TooFewExamples
from matchloop.retrieval.choices import Choices
from matchloop.retrieval.fusion import POOL
from matchloop.usecase import Method
from training_jobs import datasets
from training_jobs.assemble import Parts, two_tower_model
from training_jobs.build import DataSets, build_datasets
from training_jobs.choosing import Evidence, choose_fusions, choose_orders, ensemble_top
from training_jobs.evaluate import ItemKnn, Truth, interval_of, random_top
from training_jobs.evaluate.baselines import binary
from training_jobs.gates import lift_of
from training_jobs.judges import als_judge, tower_judge
from training_jobs.lists import shown_truth
from training_jobs.recipes.als import refit_als, train_als
from training_jobs.recipes.popular import Counting, default_settings, tune_popular
from training_jobs.scoring import Known, als_top, popular_top, routed_top, tiers_of, two_tower_top
from training_jobs.scoring_content import content_index, content_top

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.console import Console

    from matchloop.rerank.calibration import Platt
    from matchloop.retrieval.als import AlsModel
    from matchloop.retrieval.popular import PopularModel
    from training_jobs.config import TrainingConfig
    from training_jobs.material import Material
    from training_jobs.recipes.checkpoint import Checkpoints


@dataclass(slots=True)
class Stopwatch:
    """Seconds by step."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the time of the block to `name`."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin


@dataclass(slots=True)
class Fitted:
    """Everything training gave.

    Parameters
    ----------
    skipped
        By part that is missing: why, with the numbers.
    ndcg
        NDCG@k of each validation subject by method, `routed` and `random` among them.
    routed
        Each validation subject's items, rows of `Material.items`, best first.
    listed
        The same for `shown_truth`: the items of the latest lists as the release would order them.
    tops
        By method, each validation subject's items, `POOL` of them: as many as an ensemble is made of.
    """

    parts: Parts
    skipped: dict[str, str]
    metrics: dict[str, float]
    curves: dict[str, list[float]]
    truth: Truth
    ndcg: dict[str, NDArray[np.float64]]
    routed: NDArray[np.int64]
    listed: NDArray[np.int64]
    tops: dict[Method, NDArray[np.int64]]


def fit(
    material: Material,
    config: TrainingConfig,
    *,
    calibration: Mapping[Method, Platt],
    data: DataSets | None = None,
    watch: Stopwatch | None = None,
    console: Console | None = None,
    checkpoints: Checkpoints | None = None,
) -> Fitted:
    """Train all parts; a part with too little data is left out, and said so.

    The latest share of the events chooses and measures: by what was made of the latest lists, where there are
    enough, else over the whole catalogue. ALS and the popular counts are then made once more
    from all events, with what was chosen: they cost seconds, and the latest events matter most. The
    Two-Tower stays as it is: its history input brings the latest events in at serving.

    Parameters
    ----------
    calibration
        Of the release that served the lists; see `recipes.ranker.recalibrated`.
    checkpoints
        Where recipes that take long keep their state, and go on from when they were killed.

    Raises
    ------
    TooFewExamples
        When not even one part could be made.
    """
    watch = watch or Stopwatch()
    with watch.step("datasets"):
        data = data or build_datasets(material, config, console=console)
    rng = np.random.default_rng(config.seed)
    run = _Run(material, config, data, watch, console, checkpoints)
    run.attempt("als", run.als)
    run.attempt("two_tower", run.two_tower)
    with watch.step("popular"):
        run.popular()
    run.attempt("ranker", lambda: run.ranker(calibration))
    with watch.step("content"):
        run.content()
    with watch.step("choose"):
        run.choose()
    with watch.step("evaluate"):
        run.evaluate(rng)
    if not run.parts.names:
        raise TooFewExamples("; ".join(run.skipped.values()))
    return Fitted(
        run.parts, run.skipped, run.metrics, run.curves, run.truth, run.ndcg, run.routed, run.listed, run.tops
    )


class _Run:
    """The state of one `fit`."""

    def __init__(
        self,
        material: Material,
        config: TrainingConfig,
        data: DataSets,
        watch: Stopwatch,
        console: Console | None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.checkpoints = checkpoints
        self.material, self.config, self.data = material, config, data
        self.checkpoints = checkpoints
        self.watch, self.console = watch, console
        self.truth = material.truth(at_most=config.evaluate.subjects, seed=config.seed)
        self.lists = shown_truth(material)
        self.list_tops: dict[Method, NDArray[np.int64]] = {}
        # What chooses among settings and orders: the latest lists, where there are enough; see `lists`.
        self.by_lists = len(self.lists) >= config.gates.least_pairs
        self.judged = self.lists if self.by_lists else self.truth
        self.known = Known.of(material.training_events)
        # As many as an ensemble is made of, and as are measured.
        self.depth = max(POOL, config.evaluate.depth)
        self.parts = Parts()
        self.skipped: dict[str, str] = {}
        self.metrics: dict[str, float] = {}
        self.curves: dict[str, list[float]] = {}
        self.ndcg: dict[str, NDArray[np.float64]] = {}
        self.tops: dict[Method, NDArray[np.int64]] = {}
        self.routed = self.listed = np.zeros((0, config.evaluate.k), dtype=np.int64)

    def attempt(self, part: str, train: Callable[[], None]) -> None:
        """Train a part; too few examples leave it out."""
        with self.watch.step(part):
            try:
                train()
            except TooFewExamples as error:
                self.skipped[part] = error.message

    def als(self) -> None:
        depth = self.depth

        def top(model: AlsModel, truth: Truth) -> NDArray[np.int64]:
            return als_top(model, self.material, self.known, truth, depth)

        config, seed = self.config.als, self.config.seed
        judge = als_judge(self.material, self.config, self.judged)
        folders = [
            self.checkpoints.folder / name if self.checkpoints else None for name in ("als", "als_all")
        ]
        found = train_als(
            self.data.als, config, seed=seed, judge=judge, checkpoints=folders[0], console=self.console
        )
        self.curves |= found.curves
        self.tops[Method.ALS] = top(found.model, self.truth)
        self.list_tops[Method.ALS] = top(found.model, self.lists)
        self.metrics |= found.metrics
        self.metrics |= {f"als_{name}": value for name, value in found.trial if value is not None}
        pairs = datasets.als_pairs(
            self.material.ordered, least_interactions=self.config.dataset.least_interactions
        )
        everything = datasets.als_matrix(
            pairs, use_case=self.material.use_case.id, snapshot=self.material.snapshot.manifest.fingerprint
        )
        refitted = refit_als(everything, config, found.trial, seed=seed, checkpoints=folders[1])
        self.parts = replace(self.parts, als=refitted.model)

    def two_tower(self) -> None:
        from training_jobs.recipes.two_tower import train_two_tower

        self.data.pairs.require(datasets.LEAST_PAIRS)
        config = self.config
        with self.watch.step("encode"):
            encoded = self.material.encoded
        found = train_two_tower(
            self.data.pairs,
            encoded.subjects,
            encoded.items,
            config.two_tower,
            random_negatives=config.dataset.random_of(self.material.use_case),
            seed=config.seed,
            judge=tower_judge(self.material, config) if len(self.truth) else None,
            console=self.console,
            checkpoints=self.checkpoints,
            subject_ids=self.material.subject_ids,
            item_ids=self.material.item_ids,
        )
        self.curves |= found.curves
        self.metrics["two_tower_best_epoch"] = float(found.best_epoch)
        self.parts = replace(self.parts, two_tower=found)
        model = two_tower_model(self.material, found)
        for tops, truth in ((self.tops, self.truth), (self.list_tops, self.lists)):
            tops[Method.TWO_TOWER] = two_tower_top(
                model, self.material, self.known, truth, self.depth, encoded
            )

    def popular(self) -> None:
        k, config = self.config.evaluate.k, self.config.popular
        counting = Counting.of(self.material, self.material.training_events)
        settings = default_settings(self.material)
        if len(self.judged) >= config.least_subjects:
            few = self.judged
            if len(few) > config.subjects:
                rng = np.random.default_rng(self.config.seed)
                few = few.of(np.sort(rng.choice(len(few), config.subjects, replace=False)))

            def judge(model: PopularModel) -> NDArray[np.float64]:
                return few.weighted_ndcg(popular_top(model, self.material, self.known, few, k), k)

            settings = tune_popular(counting, config, judge)
        self.metrics |= settings.metrics
        model = counting.model(settings)
        for tops, truth in ((self.tops, self.truth), (self.list_tops, self.lists)):
            tops[Method.POPULAR] = popular_top(model, self.material, self.known, truth, self.depth)
        everything = Counting.of(self.material, self.material.events).model(settings)
        if everything.overall.any():
            self.parts = replace(self.parts, popular=everything)
        else:
            self.skipped["popular"] = "popular: no event of positive weight"

    def ranker(self, calibration: Mapping[Method, Platt]) -> None:
        from training_jobs.recipes.ranker import recalibrated, train_ranker

        config = self.config
        dataset = self.data.ranker
        dataset.require(config.ranker.least_positives)
        dataset, fitted = recalibrated(
            dataset, calibration, least_positives=config.ranker.least_calibration_positives
        )
        found = train_ranker(
            dataset,
            config.ranker,
            validation_share=config.dataset.validation_share,
            seed=config.seed,
            calibration=fitted,
            console=self.console,
        )
        self.curves |= found.curves
        self.metrics |= found.metrics
        self.parts = replace(self.parts, ranker=found)

    def content(self) -> None:
        index = content_index(self.material)
        for tops, truth in ((self.tops, self.truth), (self.list_tops, self.lists)):
            tops[Method.CONTENT] = content_top(
                index, self.material, self.known, truth, self.depth, console=self.console
            )

    def choose(self) -> None:
        """Choose ensembles over the whole catalogue, and orders by what judges; see `choosing`.

        Not ensembles by lists: places among the few items that were shown are not places in the catalogue.
        """
        config, use_case, k = self.config.ensemble, self.material.use_case, self.config.evaluate.k
        known = np.unique(self.material.training_events.item)
        tiers, list_tiers = self.tiers_of(self.truth), self.tiers_of(self.lists)
        whole = Evidence.of(self.truth, tiers, self.tops, known)
        fusions = choose_fusions(whole, k, config, seed=self.config.seed)
        for tops, of in ((self.tops, tiers), (self.list_tops, list_tiers)):
            tops[Method.ENSEMBLE] = ensemble_top(tops, fusions, of, self.depth)
        if self.by_lists:
            judges, margin = Evidence.of(self.lists, list_tiers, self.list_tops, None), 1.0
        else:
            judges, margin = Evidence.of(self.truth, tiers, self.tops, known), config.margin
        orders = choose_orders(use_case, judges, k, margin=margin)
        chosen = Choices({tier: order.methods for tier, order in orders.items()}, fusions)
        self.parts = replace(self.parts, choices=chosen)
        for tier, order in orders.items():
            self.metrics |= {f"order_{tier}_{name}": value for name, value in order.metrics.items()}
        for tier, fusion in fusions.items():
            self.metrics[f"ensemble_{tier}_constant"] = fusion.constant
            self.metrics |= {f"ensemble_{tier}_{m}": weight for m, weight in fusion.weights.items()}

    def tiers_of(self, truth: Truth) -> NDArray[np.str_]:
        return tiers_of(self.material.use_case, self.known.counts(truth.subjects))

    def evaluate(self, rng: np.random.Generator) -> None:
        k = self.config.evaluate.k
        tops = {str(method): top for method, top in self.tops.items()}
        depth = self.config.evaluate.depth
        orders = self.parts.choices.orders if self.parts.choices else {}
        self.routed = routed_top(self.tops, orders, self.tiers_of(self.truth), depth)
        self.listed = routed_top(self.list_tops, orders, self.tiers_of(self.lists), k)
        tops["routed"] = self.routed
        tops["random"] = random_top(self.truth, depth, rng)
        for name, top in tops.items():
            found = self.truth.metrics(top, k)
            self.ndcg[name] = found[f"ndcg@{k}"]
            self.metrics |= {f"{name}_{metric}": _mean(values) for metric, values in found.items()}
            interval = interval_of(self.ndcg[name], rng=rng, resamples=self.config.evaluate.bootstrap)
            self.metrics |= {f"{name}_ndcg@{k}_low": interval.low, f"{name}_ndcg@{k}_high": interval.high}
        self.metrics["validation_subjects"] = float(len(self.truth))
        self.lift(k)

    def lift(self, k: int) -> None:
        """Measure the lead over item neighbours trained on the same events; see `gates.lift_evidence`."""
        events = self.material.training_events
        liked = events.subject[events.positive], events.item[events.positive]
        shape = len(self.material.subjects), len(self.material.items)
        if len(self.truth):
            known = binary(*liked, shape)[self.truth.subjects]
            near = ItemKnn.fit(*liked, shape).top(known, self.truth, k)
            theirs = self.truth.metrics(near, k)[f"ndcg@{k}"]
            self.metrics |= lift_of(self.ndcg["routed"], theirs)


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else 0.0
