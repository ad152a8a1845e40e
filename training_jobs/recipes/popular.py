"""Popular: decayed counts, overall and by the subject's segments; nothing to learn, all to count."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from matchloop.entities import EntityId, discrete_values
from matchloop.retrieval.popular import PopularModel

if TYPE_CHECKING:
    from matchloop.entities import Entity
    from matchloop.usecase import UseCase
    from training_jobs.material import Events, Material


def segment_values(use_case: UseCase, subject: Entity) -> dict[str, tuple[str, ...]]:
    """Return the subject's values of the features that popularity is counted within."""
    return {name: discrete_values(subject.features.get(name)) for name in use_case.popularity.segments}


def count_popular(material: Material, events: Events) -> PopularModel:
    """Count `events`; ages are from the latest of them."""
    use_case = material.use_case
    values = [segment_values(use_case, subject) for subject in material.subjects]
    latest = events.time.max() if len(events) else np.datetime64(0, "us")
    ages = (latest - events.time) / np.timedelta64(1, "D")
    return PopularModel.build(
        [EntityId(id_) for id_ in material.item_ids],
        events.item,
        ages,
        events.weight,
        {
            name: [values[row][name] for row in events.subject.tolist()]
            for name in use_case.popularity.segments
        },
        half_life_days=use_case.popularity.half_life_days,
    )
