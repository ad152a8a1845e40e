"""ALS by `implicit`, in this process."""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

from training_jobs.recipes.als_checkpoint import Reached
from training_jobs.recipes.als_fit import Fit

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from matchloop.retrieval.als import AlsModel
    from training_jobs.recipes.als_checkpoint import AlsCheckpoint


class ImplicitFit(Fit):
    """Goes on from a checkpoint where there is one; an iteration depends on the factors alone."""

    _als: Any

    def go(
        self,
        kept: AlsCheckpoint,
        advance: Callable[[str], None],
        watch: Callable[[int, AlsModel], None] | None = None,
    ) -> None:
        """See `Fit`; keeps a checkpoint every `config.checkpoint_seconds` and at the end."""
        from implicit.als import AlternatingLeastSquares

        name = f"{self._trial}, {self._iterations} iterations"
        reached = kept.load(name)
        with warnings.catch_warnings(), threadpool_limits(limits=1, user_api="blas"):
            warnings.simplefilter("ignore")
            als = self._als = AlternatingLeastSquares(
                factors=self._factors,
                regularization=self._trial.regularization,
                alpha=self._alpha,
                iterations=self._iterations,
                num_threads=self._config.threads,
                random_state=self._seed,
                use_gpu=False,
            )
            if reached is not None:
                als.user_factors, als.item_factors = reached.subjects, reached.items
                self.losses = reached.losses
                als.iterations -= len(self.losses)
                for loss in self.losses:
                    advance(f"loss {loss:.4f}")

            saved = time.monotonic()

            def done(_iteration: int, _seconds: float, _loss: float | None) -> None:
                nonlocal saved
                advance(self.note())
                due = time.monotonic() - saved >= self._config.checkpoint_seconds
                if due or len(self.losses) == self._iterations:
                    saved = time.monotonic()
                    kept.save(name, Reached(self.losses, *self.factors))
                if watch is not None:
                    watch(len(self.losses), self.model())

            als.fit(self._weights, show_progress=False, callback=done)

    @property
    def factors(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See `Fit`."""
        return self._als.user_factors, self._als.item_factors
