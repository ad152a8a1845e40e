"""What a search tries: for each part, its settings' ranges and how one choice is trained and judged."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from optuna.distributions import BaseDistribution, CategoricalDistribution

from matchloop.errors import TooFewExamples
from training_jobs import datasets
from training_jobs.config import AlsTrial, Loss
from training_jobs.judges import als_judge, judging_truth, tower_judge
from training_jobs.search_ranges import any_of, around, widths
from training_jobs.search_ranker import RankerSpace

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from matchloop.retrieval.als import AlsModel
    from training_jobs.config import TrainingConfig
    from training_jobs.material import Material

Report = Callable[[int, float], None]
"""Told a step, from 1, and the validation quality then; may raise to end the trial."""

Choice = Mapping[str, Any]
"""One value for each setting of a space."""


class Searched(StrEnum):
    """The parts that can be searched for."""

    ALS = "als"
    TWO_TOWER = "two_tower"
    RANKER = "ranker"


class Space(Protocol):
    """The settings of one part, around a configuration."""

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Ranges by setting."""

    def starts(self) -> Sequence[Choice]:
        """Return the configuration's own settings, which are tried first."""

    def config_of(self, choice: Choice) -> TrainingConfig:
        """Return the configuration with a choice in it."""

    def quality_of(self, choice: Choice, report: Report) -> float:
        """Train on the training part and return NDCG@k on the validation part, telling how it comes."""

    @property
    def manifest(self) -> datasets.DatasetManifest:
        """Of the data that is trained on."""


class AlsSpace:
    """ALS: factors, regularization, alpha, half-life and saturation; judged every other iteration.

    Raises
    ------
    TooFewExamples
        When the validation part holds nothing to judge by.
    """

    EVERY = 2
    """Iterations between reports."""

    def __init__(self, material: Material, config: TrainingConfig) -> None:
        from training_jobs.recipes.als import train_als

        self._config, self._train = config, train_als
        _require_validation(material, config)
        pairs = datasets.als_pairs(
            material.training_part, least_interactions=config.dataset.least_interactions
        )
        fingerprint = material.snapshot.manifest.fingerprint
        self._matrix = datasets.als_matrix(pairs, use_case=material.use_case.id, snapshot=fingerprint)
        self._judge = als_judge(material, config)

    @functools.cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        """See `Space`."""
        own = self._config.als
        return {
            "factors": any_of((32, 64, 128, 256), own.factors),
            "regularization": around(0.1, 1000.0, *(trial.regularization for trial in own.trials)),
            "alpha": around(0.1, 1000.0, *(trial.alpha for trial in own.trials)),
            "half_life_days": any_of((None, 90.0, 365.0, 1000.0), *(t.half_life_days for t in own.trials)),
            "saturation": any_of((None, 0.1, 1.0, 10.0), *(t.saturation for t in own.trials)),
        }

    def starts(self) -> Sequence[Choice]:
        """See `Space`: every trial of the configuration."""
        return [{"factors": self._config.als.factors, **dict(trial)} for trial in self._config.als.trials]

    def config_of(self, choice: Choice) -> TrainingConfig:
        """See `Space`."""
        settings = dict(choice)
        factors = settings.pop("factors")
        als = self._config.als.model_copy(update={"factors": factors, "trials": (AlsTrial(**settings),)})
        return self._config.model_copy(update={"als": als})

    def quality_of(self, choice: Choice, report: Report) -> float:
        """See `Space`."""
        config = self.config_of(choice)

        def watch(done: int, model: AlsModel) -> None:
            if done % self.EVERY == 0 and done < config.als.iterations:
                report(done, self._judge(model))

        return self._judge(self._train(self._matrix, config.als, seed=config.seed, watch=watch).model)

    @property
    def manifest(self) -> datasets.DatasetManifest:
        """See `Space`."""
        return self._matrix.manifest


class TowerSpace:
    """Two-Tower: widths, dropout, loss, temperature, history and the optimiser's; judged every epoch.

    Raises
    ------
    TooFewExamples
        When the validation part holds nothing to judge by.
    """

    def __init__(self, material: Material, config: TrainingConfig) -> None:
        from training_jobs.recipes.two_tower import train_two_tower

        self._config, self._train, self._encoded = config, train_two_tower, material.encoded
        _require_validation(material, config)
        use_case, settings = material.use_case, config.dataset
        examples = datasets.two_tower_examples(material.training_part, material.tables, use_case, settings)
        self._pairs = datasets.two_tower_dataset(
            examples,
            subject_ids=material.subject_ids,
            item_ids=material.item_ids,
            use_case=use_case,
            snapshot=material.snapshot.manifest.fingerprint,
            weighting=settings.two_tower_weighting,
        )
        reverse = use_case.reverse_of is not None
        self._negatives = settings.random_negatives_reverse if reverse else settings.random_negatives
        self._judge = tower_judge(material, config)

    @functools.cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        """See `Space`."""
        own = self._config.two_tower
        return {
            "hidden": any_of(("128", "256", "512-256"), widths(own.hidden)),
            "dropout": any_of((0.0, 0.1, 0.2, 0.3), *own.dropout[:1]),
            "loss": CategoricalDistribution([str(loss) for loss in Loss]),
            "temperature": around(0.01, 1.0, own.temperature),
            "history": CategoricalDistribution([True, False]),
            "learning_rate": around(1e-4, 0.03, own.learning_rate),
            "weight_decay": around(1e-4, 0.3, max(own.weight_decay, 1e-8)),
            "batch": any_of((128, 256, 512, 1024), own.batch),
        }

    def starts(self) -> Sequence[Choice]:
        """See `Space`."""
        own = self._config.two_tower
        settings = {name: getattr(own, name) for name in self.distributions}
        settings["hidden"], settings["loss"] = widths(own.hidden), str(own.loss)
        settings["dropout"] = own.dropout[0] if own.dropout else 0.0
        settings["weight_decay"] = max(own.weight_decay, 1e-8)
        return [settings]

    def config_of(self, choice: Choice) -> TrainingConfig:
        """See `Space`; every hidden layer gets the same dropout."""
        hidden = tuple(int(width) for width in choice["hidden"].split("-"))
        changed: dict[str, Any] = {"hidden": hidden, "dropout": (choice["dropout"],) * len(hidden)}
        changed["loss"] = Loss(choice["loss"])
        two_tower = self._config.two_tower.model_copy(update={**choice, **changed})
        return self._config.model_copy(update={"two_tower": two_tower})

    def quality_of(self, choice: Choice, report: Report) -> float:
        """See `Space`: the best epoch's, which is the one a training keeps."""
        config = self.config_of(choice)
        epochs: list[float] = []

        def judge(subjects: NDArray[np.float32], items: NDArray[np.float32]) -> float:
            epochs.append(self._judge(subjects, items))
            report(len(epochs), max(epochs))
            return epochs[-1]

        self._train(
            self._pairs,
            self._encoded.subjects,
            self._encoded.items,
            config.two_tower,
            random_negatives=self._negatives,
            seed=config.seed,
            judge=judge,
        )
        return max(epochs)

    @property
    def manifest(self) -> datasets.DatasetManifest:
        """See `Space`."""
        return self._pairs.manifest


SPACES: Mapping[Searched, Callable[[Material, TrainingConfig], Space]] = {
    Searched.ALS: AlsSpace,
    Searched.TWO_TOWER: TowerSpace,
    Searched.RANKER: RankerSpace,
}


def _require_validation(material: Material, config: TrainingConfig) -> None:
    if len(judging_truth(material, config)) == 0:
        raise TooFewExamples(
            f"search: {material.count} interactions, and nobody in the last {material.count - material.cut} "
            "of them turned to an item that was new to them: there is nothing to choose by"
        )
