"""Every benchmark: what it asks, how it is run small and in full, how long it may take."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Size(StrEnum):
    """How much a run does: small says that it works, full is what targets are of."""

    SMALL = "small"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark and its two sizes.

    Parameters
    ----------
    name
        Of the module, and of its results.
    asks
        The question it answers.
    small, full
        Arguments of each size. With ``{datasets}`` in them it needs a folder of data sets.
    seconds, minutes
        Limits of the small and of the full size, several times what they take on two cores that do nothing
        else; a run that takes longer is ended.
    datasets
        Arguments that come on top, in full, where there is a folder of data sets.
    keep
        Arguments that come on top where there is a folder for what is kept for the next run.
    """

    name: str
    asks: str
    small: str
    full: str
    seconds: float
    minutes: float
    datasets: str = ""
    keep: str = ""

    def limit(self, size: Size) -> float:
        """Return the seconds that a run may take."""
        return self.seconds if size is Size.SMALL else self.minutes * 60.0

    def needs_datasets(self, size: Size) -> bool:
        """Say whether nothing is measured without a folder of data sets."""
        return "{datasets}" in self._own(size)

    def arguments(self, size: Size, *, datasets: Path | None, kept: Path | None) -> list[str]:
        """Return the arguments of a run, as for ``python -m``; `kept` is used by the full size alone."""
        told = [self._own(size)]
        if size is Size.FULL and datasets is not None:
            told.append(self.datasets)
        if size is Size.FULL and kept is not None:
            told.append(self.keep)
        return [each.format(datasets=datasets, kept=kept) for each in shlex.split(" ".join(told))]

    def _own(self, size: Size) -> str:
        return self.small if size is Size.SMALL else self.full


BENCHMARKS = (
    Benchmark(
        "packages",
        "What does each image install, and is torch where none may be?",
        small="",
        full="",
        seconds=30,
        minutes=2,
    ),
    Benchmark(
        "security",
        "What does security cost a call?",
        small="--rounds 3 --calls 100",
        full="",
        seconds=60,
        minutes=10,
    ),
    Benchmark(
        "ingest",
        "How fast is what happens recorded, and does that slow down as the record grows?",
        small="--rows 20000 --rounds 2 --exports 1",
        full="",
        keep="--folder {kept}/ingest",
        seconds=120,
        minutes=60,
    ),
    Benchmark(
        "growth",
        "How much room does the record take?",
        small="--rows 20000",
        full="",
        seconds=60,
        minutes=20,
    ),
    Benchmark(
        "list_reactions",
        "How long does it take to sum up what came of a week's lists?",
        small="--lists 5000",
        full="",
        seconds=60,
        minutes=30,
    ),
    Benchmark(
        "retrieval",
        "How does retrieval hold up with a million items?",
        small="--items 5000",
        full="",
        keep="--folder {kept}/retrieval",
        seconds=180,
        minutes=30,
    ),
    Benchmark(
        "recommend",
        "How fast is a list, from call to answer?",
        small="--items 2000 --rounds 1 --seconds 1 --requests 1000",
        full="--processes 2",
        keep="--folder {kept}/recommend",
        seconds=40,
        minutes=60,
    ),
    Benchmark(
        "datasets",
        "How long do data sets take to build, over the same queries written by hand, and how much memory?",
        small="--interactions 100000 --turns 1",
        full="",
        keep="--folder {kept}/datasets",
        seconds=20,
        minutes=45,
    ),
    Benchmark(
        "learning_growth",
        "How do time and memory of learning grow with the record?",
        small="--scale 0.02 --only als",
        full="",
        seconds=20,
        minutes=45,
    ),
    Benchmark(
        "training",
        "How fast are the recipes beside the bare library?",
        small="--quick",
        full="",
        seconds=150,
        minutes=30,
    ),
    Benchmark(
        "ranking",
        "Does the ranker earn its place, and what does it cost?",
        small="--subjects 250 --rounds 1 --seed 1 --only developer_startup --no-speed",
        full="--no-reload",
        datasets="--data {datasets}/crunchbase2013",
        seconds=210,
        minutes=60,
    ),
    Benchmark(
        "reload",
        "Does swapping a release slow requests down?",
        small="--groups 1 --swaps 2",
        full="",
        seconds=210,
        minutes=20,
    ),
    Benchmark(
        "tracing",
        "What do traces cost?",
        small="--lists 50 --rounds 1",
        full="",
        seconds=180,
        minutes=20,
    ),
    Benchmark(
        "faults",
        "What fails, and what do clients notice?",
        small="--seconds 4 --only 'candidate_svc killed' --only 'PostgreSQL hangs'",
        full="",
        seconds=210,
        minutes=60,
    ),
    Benchmark(
        "start_orders",
        "Does it matter who starts first?",
        small="--orders 2",
        full="",
        seconds=150,
        minutes=20,
    ),
    Benchmark(
        "backup",
        "What does a backup cost the calls made meanwhile, and how long is the way back?",
        small="--rows 20000 --seconds 1",
        full="",
        seconds=120,
        minutes=20,
    ),
    Benchmark(
        "upgrade",
        "Does an upgrade fail a call?",
        small="--rows 20000 --seconds 1",
        full="",
        seconds=210,
        minutes=20,
    ),
    Benchmark(
        "market",
        "Can the simulated market be learned?",
        small="--rounds 2 --subjects 100",
        full="",
        seconds=60,
        minutes=20,
    ),
    Benchmark(
        "gates",
        "How often does a worse release pass the gates, and a better one not?",
        small="--markets 1 --rounds 1 --subjects 100",
        full="",
        seconds=90,
        minutes=60,
    ),
    Benchmark(
        "spark_als",
        "Is ALS by Spark's MLlib as good as by `implicit`?",
        small="{datasets}/ml100k --quick",
        full="{datasets}/ml100k",
        seconds=120,
        minutes=30,
    ),
    Benchmark(
        "quality",
        "How good are the candidates?",
        small="{datasets}/ml100k --config fast",
        full="{datasets}/ml100k {datasets}/crunchbase2013",
        seconds=240,
        minutes=30,
    ),
    Benchmark(
        "off_policy",
        "Do off-policy estimates hold on real logs?",
        small="--obd {datasets}/obd_men --coat {datasets}/coat --seeds 1",
        full="--obd {datasets}/obd_men --coat {datasets}/coat",
        seconds=90,
        minutes=30,
    ),
)


def by_name() -> dict[str, Benchmark]:
    """Return every benchmark by its name."""
    return {each.name: each for each in BENCHMARKS}
