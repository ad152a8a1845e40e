"""ALS by Spark's MLlib: on as many machines as the session has.

MLlib minimises the same loss with two differences. Its confidence of a known pair is 1 + r, and r must be
over 0, so it is given r = c − 1, at least `LEAST`. And it regularises a subject or an item by λ times its
number of pairs (Zhou, Wilkinson, Schreiber, Pan 2008, "Large-scale parallel collaborative filtering for the
Netflix prize"), so λ is divided by that number's mean, and halved (`SHARE`). `implicit`, and folding in at
serving, take λ as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from training_jobs.datasets.engine import spark_session
from training_jobs.recipes.als_fit import Fit

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from matchloop.retrieval.als import AlsModel
    from training_jobs.recipes.als_checkpoint import AlsCheckpoint

LEAST = 1e-3
SHARE = 0.5
"""Of λ: what is regularised by its number of pairs is best off with less where that number is large."""


class SparkFit(Fit):
    """Runs to its end in one go: MLlib shows nothing of the iterations between, so the loss is told once."""

    _factors_of: tuple[NDArray[np.float32], NDArray[np.float32]]

    def go(
        self,
        kept: AlsCheckpoint,  # noqa: ARG002 - there is nothing to keep
        advance: Callable[[str], None],
        watch: Callable[[int, AlsModel], None] | None = None,
    ) -> None:
        """See `Fit`; `watch` is told at the end."""
        session = spark_session()
        from pyspark.ml.recommendation import ALS

        subjects, items = self._confidence.shape
        pairs = self._confidence.tocoo()
        mean = pairs.nnz / np.sqrt(float(subjects) * items)
        blocks = session.sparkContext.defaultParallelism
        als = ALS(
            rank=self._factors,
            maxIter=self._iterations,
            regParam=SHARE * self._trial.regularization / mean,
            implicitPrefs=True,
            alpha=1.0,
            userCol="subject",
            itemCol="item",
            ratingCol="rating",
            seed=self._seed,
            numUserBlocks=blocks,
            numItemBlocks=blocks,
        )
        rating = np.maximum(pairs.data - np.float32(1.0), np.float32(LEAST))
        found = als.fit(
            session.createDataFrame(pa.table({"subject": pairs.row, "item": pairs.col, "rating": rating}))
        )
        self._factors_of = (
            _rows(found.userFactors, subjects, self._factors),
            _rows(found.itemFactors, items, self._factors),
        )
        told = self.note()
        for _ in range(self._iterations):
            advance(told)
        if watch is not None:
            watch(self._iterations, self.model())

    @property
    def factors(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See `Fit`."""
        return self._factors_of


def _rows(factors: Any, count: int, width: int) -> NDArray[np.float32]:
    """Return MLlib's factors by id, float32 (count, width)."""
    found = factors.toArrow()
    rows = np.zeros((count, width), dtype=np.float32)
    flat = found["features"].combine_chunks().flatten().to_numpy()
    rows[found["id"].to_numpy()] = flat.reshape(-1, width)
    return rows
