"""Popular: decayed counts, overall and by segment; how much each segment says, chosen on validation."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from matchloop.entities import EntityId, Numeric, discrete_values
from matchloop.retrieval.popular import PopularModel
from matchloop.retrieval.segment_counts import SegmentColumn
from matchloop.retrieval.segments import EARLIER, UNKNOWN, bucket_names, bucket_of, decimal_year

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training_jobs.config import PopularConfig
    from training_jobs.material import Events, Material

Judge = Callable[[PopularModel], "NDArray[np.float64]"]
"""What a model reaches, subject by subject, (n,)."""

EXPONENT = 0.7
"""Where none was chosen: segments overlap, so each says less than it would alone."""

BETTER = 0.5
"""By how many standard errors of the mean difference a setting has to beat the one before it."""


@dataclass(frozen=True, slots=True)
class PopularSettings:
    """What `tune_popular` chooses.

    Parameters
    ----------
    smoothing
        Mass of the prior in events of mean weight.
    half_life_days
        Of the ratios; the overall counts keep the use case's, as the store's live counts do.
    exponents
        By segment, 0 or more.
    """

    smoothing: float
    half_life_days: float
    exponents: Mapping[str, float]

    @property
    def metrics(self) -> dict[str, float]:
        """The settings as figures of a run."""
        named = {
            f"popular_exponent_{name.replace(' ', '_')}": value for name, value in self.exponents.items()
        }
        return {
            "popular_smoothing": self.smoothing,
            "popular_ratio_half_life_days": self.half_life_days,
            **named,
        }


@dataclass(frozen=True, slots=True)
class Counting:
    """Events ready to be counted with any settings."""

    material: Material
    events: Events
    columns: Mapping[str, SegmentColumn]

    @classmethod
    def of(cls, material: Material, events: Events) -> Counting:
        """Find each event's segments, as the subject was at that time."""
        popularity = material.use_case.popularity
        columns = {}
        for name in popularity.segments:
            values = [discrete_values(subject.features.get(name)) for subject in material.subjects]
            columns[name] = SegmentColumn(values, events.subject)
        for name, bounds in popularity.ages.items():
            began = [subject.features.get(name) for subject in material.subjects]
            year = np.array([each.value if isinstance(each, Numeric) else np.nan for each in began])
            age = decimal_year(events.time) - year[events.subject] if len(year) else np.zeros(0)
            columns[name] = _buckets(bucket_of(age, bounds), (*bucket_names(bounds), UNKNOWN))
        if popularity.earlier:
            names = bucket_names(popularity.earlier)
            columns[EARLIER] = _buckets(bucket_of(earlier_of(events), popularity.earlier), names)
        return cls(material, events, columns)

    def model(self, settings: PopularSettings) -> PopularModel:
        """Count; ages are from the latest event."""
        events = self.events
        latest = events.time.max() if len(events) else np.datetime64(0, "us")
        weights = events.weight[events.positive]
        return PopularModel.build(
            [EntityId(id_) for id_ in self.material.item_ids],
            events.item,
            (latest - events.time) / np.timedelta64(1, "D"),
            events.weight,
            self.columns,
            half_life_days=self.material.use_case.popularity.half_life_days,
            ratio_half_life_days=settings.half_life_days,
            smoothing=settings.smoothing * (float(weights.mean()) if len(weights) else 1.0),
            exponents=settings.exponents,
        )


def default_settings(material: Material) -> PopularSettings:
    """Return what is used when there is too little to choose by."""
    popularity = material.use_case.popularity
    names = (*popularity.segments, *popularity.ages, *((EARLIER,) if popularity.earlier else ()))
    return PopularSettings(100.0, popularity.half_life_days, dict.fromkeys(names, EXPONENT))


def tune_popular(
    counting: Counting,
    config: PopularConfig,
    judge: Judge,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> PopularSettings:
    """Choose settings one at a time, again and again until none is better, or time is up.

    A setting takes the place of another only if it is better by more than `BETTER` standard errors of the
    difference: among many tried, one is always better by chance.
    """
    end = clock() + config.seconds
    best = default_settings(counting.material)
    reached = judge(counting.model(best))
    known = {_key(best)}
    for _ in range(config.rounds):
        before = best
        for name in (*best.exponents, "smoothing", "half_life_days"):
            for tried in _alternatives(best, name, config, counting.material):
                if _key(tried) in known or clock() >= end:
                    continue
                known.add(_key(tried))
                found = judge(counting.model(tried))
                gain = found - reached
                if gain.mean() > BETTER * gain.std() / np.sqrt(max(len(gain), 1)):
                    best, reached = tried, found
        if best is before:
            break
    return best


def _alternatives(
    settings: PopularSettings, name: str, config: PopularConfig, material: Material
) -> list[PopularSettings]:
    if name == "smoothing":
        return [replace(settings, smoothing=value) for value in config.smoothing]
    if name == "half_life_days":
        own = material.use_case.popularity.half_life_days
        return [replace(settings, half_life_days=own * value) for value in config.half_lives]
    return [replace(settings, exponents={**settings.exponents, name: value}) for value in config.exponents]


def _key(settings: PopularSettings) -> tuple[object, ...]:
    return (settings.smoothing, settings.half_life_days, *sorted(settings.exponents.items()))


def earlier_of(events: Events) -> NDArray[np.int64]:
    """Return how many events of the same subject came before each event, (n,); those of one moment don't."""
    order = np.lexsort((events.time, events.subject))
    subject, when = events.subject[order], events.time[order]
    at = np.arange(len(order))
    first = np.ones((2, len(order)), dtype=np.bool_)
    first[:, 1:] = subject[1:] != subject[:-1]
    first[1, 1:] |= when[1:] != when[:-1]
    own, moment = np.maximum.accumulate(np.where(first, at, 0), axis=1)
    found = np.empty(len(order), dtype=np.int64)
    found[order] = moment - own
    return found


def _buckets(place: NDArray[np.int64], names: tuple[str, ...]) -> SegmentColumn:
    """Name the parts; place −1 is the last name."""
    return SegmentColumn([(name,) for name in names], np.where(place < 0, len(names) - 1, place))
