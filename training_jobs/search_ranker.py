"""What a search for the ranker tries."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from training_jobs import datasets
from training_jobs.build import curve_of
from training_jobs.datasets.ranker import split_by_time
from training_jobs.search_ranges import any_of, around, widths

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna.distributions import BaseDistribution

    from training_jobs.config import TrainingConfig
    from training_jobs.material import Material

DROPOUTS = (0.0, 0.1, 0.2, 0.3, 0.5)


class RankerSpace:
    """Ranker: widths, dropout and the optimiser's settings; judged every epoch on the latest lists.

    Which examples there are, and their weights, are the data set's settings and not searched for: they say
    what the validation lists count as relevant, so their figures could not be compared.

    Raises
    ------
    TooFewExamples
        When there are too few strong positives, or none in the latest lists.
    """

    def __init__(self, material: Material, config: TrainingConfig) -> None:
        from training_jobs.recipes.ranker import recalibrated, train_ranker

        self._config, self._train = config, train_ranker
        settings = config.dataset
        found = datasets.ranker_dataset(
            datasets.ranker_examples(material.tables, material.use_case, settings),
            use_case=material.use_case,
            snapshot=material.snapshot.manifest.fingerprint,
            weighting=settings.ranker_weighting,
            curve=curve_of(material, config),
        )
        found.require(config.ranker.least_positives)
        split_by_time(found, settings.validation_share)[1].require(1)
        least = config.ranker.least_calibration_positives
        self._examples, self._calibration = recalibrated(found, {}, least_positives=least)

    @functools.cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        """See `Space`."""
        own = self._config.ranker
        return {
            "hidden": any_of(("16", "32-16", "64-32"), widths(own.hidden)),
            "dropout": any_of(DROPOUTS, own.dropout),
            "learning_rate": around(1e-4, 0.03, own.learning_rate),
            "weight_decay": around(1e-4, 0.3, max(own.weight_decay, 1e-8)),
            "batch": any_of((64, 128, 256, 512), own.batch),
        }

    def starts(self) -> Sequence[Mapping[str, Any]]:
        """See `Space`."""
        own = self._config.ranker
        settings = {name: getattr(own, name) for name in self.distributions}
        settings["hidden"] = widths(own.hidden)
        settings["weight_decay"] = max(own.weight_decay, 1e-8)
        return [settings]

    def config_of(self, choice: Mapping[str, Any]) -> TrainingConfig:
        """See `Space`."""
        hidden = tuple(int(width) for width in choice["hidden"].split("-"))
        ranker = self._config.ranker.model_copy(update={**choice, "hidden": hidden})
        return self._config.model_copy(update={"ranker": ranker})

    def quality_of(self, choice: Mapping[str, Any], report: Callable[[int, float], None]) -> float:
        """See `Space`: NDCG@10 on the latest lists, the best epoch's, which is the one a training keeps."""
        config = self.config_of(choice)
        found = self._train(
            self._examples,
            config.ranker,
            validation_share=config.dataset.validation_share,
            seed=config.seed,
            calibration=self._calibration,
            watch=report,
        )
        return found.metrics["ranker_ndcg@10"]

    @property
    def manifest(self) -> datasets.DatasetManifest:
        """See `Space`."""
        return self._examples.manifest
