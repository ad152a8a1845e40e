"""Is ALS by Spark as good as by `implicit`? ``python -m benchmarks.spark_als FOLDER --out FILE.json``.

Both are the same recipe: settings chosen on the validation part of a data set's train part, factors from all
of it, judged on the test part by NDCG@10 over the whole catalogue, as ``benchmarks.quality`` does. Both draw
their first factors by a seed, so several seeds are taken, and the target is the ratio of the means.

``--quick`` takes one seed and one setting. A full run takes some minutes; it needs Java.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.quality import K, pairs_of, snapshot_of
from benchmarks.report import Better, Out, Target, about, targets_table, write_report
from matchloop.usecase import load_use_cases
from playground.dataset import read_dataset
from training_jobs import datasets
from training_jobs.config import AlsLibrary, load_config
from training_jobs.datasets.engine import spark_session
from training_jobs.evaluate import truth_of
from training_jobs.judges import als_judge
from training_jobs.material import Material
from training_jobs.recipes.als import refit_als, train_als
from training_jobs.scoring import Known, als_top

if TYPE_CHECKING:
    from playground.dataset import Dataset
    from training_jobs.config import TrainingConfig
    from training_jobs.datasets import AlsMatrix

BOUND = 0.97
SEEDS = 3
QUICK_TRIALS = 1

console = Console()


def matrix_of(material: Material) -> AlsMatrix:
    """Return the matrix of a material's training part."""
    return datasets.als_matrix(
        datasets.als_pairs(material.training_part),
        use_case=material.use_case.id,
        snapshot=material.snapshot.manifest.fingerprint,
    )


def measure(dataset: Dataset, config: TrainingConfig, seeds: int) -> dict[AlsLibrary, list[dict[str, Any]]]:
    """Train with both by turns, with the same seeds; returns what each run reached and took."""
    (use_case,) = dataset.use_cases[:1]
    interactions = dataset.interactions(use_case.id)
    by_time = dataset.split is not None and dataset.split.cutoff is not None
    found: dict[AlsLibrary, list[dict[str, Any]]] = {library: [] for library in AlsLibrary}
    with tempfile.TemporaryDirectory(prefix="spark-als-") as folder:
        snapshot = snapshot_of(dataset, interactions, Path(folder))
        share = config.dataset.validation_share
        material = Material(snapshot, use_case, validation_share=share, by_time=by_time)
        everything = Material(snapshot, use_case, validation_share=0.0)
        shape = (len(everything.subjects), len(everything.items))
        truth = truth_of(*pairs_of(interactions, everything), shape)
        known, judge = Known.of(everything.events), als_judge(material, config)
        part, whole = matrix_of(material), matrix_of(everything)
        for seed in range(config.seed, config.seed + seeds):
            for library in AlsLibrary:
                als = config.als.model_copy(update={"library": library})
                begin = time.perf_counter()
                chosen = train_als(part, als, seed=seed, judge=judge, console=console)
                model = refit_als(whole, als, chosen.trial, seed=seed).model
                seconds = time.perf_counter() - begin
                top = als_top(model, everything, known, truth, K)
                ndcg = float(truth.metrics(top, K)[f"ndcg@{K}"].mean())
                found[library].append({"ndcg": ndcg, "seconds": seconds, "trial": str(chosen.trial)})
                console.print(
                    f"seed {seed}, {library}: NDCG@{K} {ndcg:.4f}, {seconds:.0f} s ({chosen.trial})"
                )
    return found


def ratio(found: dict[AlsLibrary, list[dict[str, Any]]]) -> Target:
    """``spark_als_vs_implicit``: mean NDCG over mean NDCG; low and high are the least and best seed's."""
    spark, implicit = ([run["ndcg"] for run in found[of]] for of in (AlsLibrary.SPARK, AlsLibrary.IMPLICIT))
    each = [own / other for own, other in zip(spark, implicit, strict=True)]
    measured = mean(spark) / mean(implicit)
    return Target("spark_als_vs_implicit", measured, BOUND, Better.HIGHER, min(each), max(each))


def main(
    folder: Annotated[Path, typer.Argument(help="A data set: dataset.toml and its files.")],
    out: Out = None,
    seeds: Annotated[int, typer.Option(help="How often both are trained.")] = SEEDS,
    *,
    quick: Annotated[bool, typer.Option(help="One seed, one setting.")] = False,
) -> None:
    """Compare MLlib's factors with `implicit`'s on a data set's first use case."""
    told = about()
    config = load_config(Path(__file__).with_name("quality.toml"))
    if quick:
        als = config.als.model_copy(update={"trials": config.als.trials[:QUICK_TRIALS]})
        config = config.model_copy(update={"als": als})
    spark_session().sparkContext.setLogLevel("ERROR")
    found = measure(read_dataset(folder, load_use_cases()), config, 1 if quick else seeds)
    target = ratio(found)
    table = Table("library", f"NDCG@{K} by seed", "seconds", title=folder.name)
    for library, runs in found.items():
        values = (
            " ".join(f"{run[of]:{form}}" for run in runs)
            for of, form in (("ndcg", ".4f"), ("seconds", ".0f"))
        )
        table.add_row(library, *values)
    console.print(table, targets_table("Spark's ALS", [target]))
    write_report(out, told, {str(library): runs for library, runs in found.items()}, [target])


if __name__ == "__main__":
    typer.run(main)
