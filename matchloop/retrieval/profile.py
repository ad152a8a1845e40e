"""What a subject looks for: its own values, and those of what it reacted to."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from matchloop.days import SECONDS_A_DAY
from matchloop.entities import Embedding, EntityId, Text, discrete_values
from matchloop.errors import InvalidInput
from matchloop.features.columns import unit
from matchloop.usecase import FeatureType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from matchloop.entities import Entity
    from matchloop.features.text import TextEmbedder
    from matchloop.usecase import UseCase

UNMATCHED_WEIGHT = 0.3
"""Weight of an item feature that no field match names: it speaks through reactions only."""

LATEST_EVENTS = 100
"""So many of a subject's latest events make its profile, in serving and in evaluation."""

HALF_LIFE_DAYS = 365.0
"""After this many days a reaction tells half as much about what the subject looks for."""

EVIDENCE = 4.0
"""Decayed event weight at which reactions speak half as loud as they ever will."""

REACTED_SHARE = 2.0
"""How loud reactions may speak beside the subject's own values, which speak 1."""


class SubjectEvent(NamedTuple):
    """One reaction of the subject; a tuple, for a list is made of hundreds.

    Parameters
    ----------
    time
        Aware UTC.
    reason
        Of a dislike that was recorded with one, else empty. Such a dislike says what was wrong: it acts
        through the weights of the values that its reason names, and pushes nothing else away.
    """

    item: EntityId
    event_type: str
    time: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ItemContent:
    """What content retrieval sees of an item.

    Parameters
    ----------
    values
        Discrete values by feature name, each once; no empty entries.
    vector
        Unit length, float32, or None.
    """

    values: Mapping[str, tuple[str, ...]]
    vector: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True)
class ContentProfile:
    """What a subject looks for, as item values.

    Parameters
    ----------
    weights
        By item feature, then by value: how much it is wanted before dislike factors, in [−1, 1]; negative
        ones push away.
    vector
        Direction of wanted items' vectors, float32, any length up to 1; None: nothing is known.
    factors
        By (item feature, value), 0 to 1: what dislikes have left of the value's weight; 1 where nothing
        stands. See `disliked_weight`.
    """

    weights: Mapping[str, Mapping[str, float]]
    vector: NDArray[np.float32] | None
    factors: Mapping[tuple[str, str], float] = dataclasses.field(default_factory=lambda: MappingProxyType({}))

    @property
    def has_signal(self) -> bool:
        """Whether anything is wanted at all."""
        wanted = any(w > 0.0 for values in self.weights.values() for w in values.values())
        return wanted or (self.vector is not None and bool(self.vector.any()))


def disliked_weight(weight: float, factor: float) -> float:
    """Return what dislikes leave of a value's weight: `factor` of it; what is not wanted is pushed away.

    Parameters
    ----------
    weight
        In [−1, 1].
    factor
        In [0, 1]; 1 leaves every weight as it is, and a smaller factor never gives a larger weight.
    """
    return weight * factor if weight > 0.0 else weight - (1.0 - factor)


def field_weights(use_case: UseCase) -> dict[str, float]:
    """Return the weight of every discrete item feature: the largest match weight, else `UNMATCHED_WEIGHT`."""
    discrete = (FeatureType.CATEGORICAL, FeatureType.MULTI)
    found = {name: UNMATCHED_WEIGHT for name, type_ in use_case.item_features.items() if type_ in discrete}
    matched: dict[str, float] = {}
    for match in use_case.match:
        matched[match.item] = max(matched.get(match.item, 0.0), match.weight)
    return found | matched


def text_of(entity: Entity) -> str:
    """Return an entity's texts in the order of their names, joined."""
    texts = [value.value for _, value in sorted(entity.features.items()) if isinstance(value, Text)]
    return "\n".join(text for text in texts if text)


def vectors_of(
    entities: Sequence[Entity], embedder: TextEmbedder, width: int
) -> list[NDArray[np.float32] | None]:
    """Return each entity's vector: the embedding it brings (the mean of several), else that of its texts.

    The latter is taken from the entity when this embedder derived it; vectors of another embedder lie in
    another space and are passed over.

    Raises
    ------
    InvalidInput
        If an embedding has another length than `width` or is not finite.
    """
    brought = [_brought(entity, width, embedder.name) for entity in entities]
    found: list[NDArray[np.float32] | None] = [None] * len(entities)
    alone = [at for at, own in enumerate(brought) if len(own) == 1]
    if alone:
        whole = np.asarray([brought[at][0] for at in alone], dtype=np.float64)  # (alone, width)
        _refuse([entities[at] for at in alone], [bool(np.isfinite(row).all()) for row in whole], width)
        sizes = np.sqrt((whole**2).sum(axis=1))[:, None]
        unit_rows = (whole / np.where(sizes > 0.0, sizes, 1.0)).astype(np.float32)
        for at, row in zip(alone, unit_rows, strict=True):
            found[at] = row if row.any() else None
    for at, own in enumerate(brought):
        if len(own) > 1:
            _refuse([entities[at]], [bool(np.isfinite(own).all())], width)
            mean = unit(np.sum([unit(np.asarray(vector)) for vector in own], axis=0))
            found[at] = mean if mean.any() else None
    texts = [(at, text) for at, own in enumerate(found) if own is None and (text := text_of(entities[at]))]
    for (at, _), row in zip(texts, embedder.embed([text for _, text in texts]), strict=True):
        found[at] = row if row.any() else None
    return found


def content_of(
    entities: Sequence[Entity], fields: Mapping[str, float], embedder: TextEmbedder, width: int
) -> list[ItemContent]:
    """Return what content retrieval sees of items; see `vectors_of` for the errors."""
    return [
        ItemContent(
            {
                name: values
                for name in fields
                if (values := tuple(dict.fromkeys(filter(None, discrete_values(entity.features.get(name))))))
            },
            vector,
        )
        for entity, vector in zip(entities, vectors_of(entities, embedder, width), strict=True)
    ]


def build_profile(
    use_case: UseCase,
    subject: Entity | None,
    events: Sequence[SubjectEvent],
    items: Callable[[EntityId], ItemContent | None],
    value_weights: Mapping[tuple[str, str], float],
    now: datetime,
    *,
    embedder: TextEmbedder,
    half_life_days: float = HALF_LIFE_DAYS,
) -> ContentProfile:
    """Say what a subject looks for.

    Per item feature: the subject's own values in the features matched with it, at unit length, plus the
    mean over reactions of event weight × 0.5^(age / half-life) × the item's values at unit length, the
    louder the more evidence there is. Dislikes without a reason have a negative weight and push all their
    item's values away. The sum is brought to unit length; dislikes with a reason act on it as factors.

    Parameters
    ----------
    subject
        None if nothing is known but events.
    events
        Newest or oldest first; unknown event types and items are passed over.
    items
        What is known of an item; `ContentIndex.content`.
    value_weights
        By (item feature, value), 0 to 1: what dislikes have left of its weight.
    now
        Aware UTC.
    embedder
        That of the index.
    half_life_days
        Over 0.

    Raises
    ------
    InvalidInput
        If a value weight is outside 0 to 1, or an embedding of the subject is not finite.
    """
    if not all(0.0 <= weight <= 1.0 for weight in value_weights.values()):
        raise InvalidInput("a value weight is outside 0 to 1")
    reacted, direction, loudness = _reacted(use_case, events, items, now, half_life_days)
    weights: dict[str, Mapping[str, float]] = {}
    own = _own(use_case, subject)
    for field in sorted(own.keys() | reacted.keys()):
        total: Counts = defaultdict(float)
        for value, weight in _unit(own.get(field, {})).items():
            total[value] += weight
        for value, weight in reacted.get(field, {}).items():
            total[value] += loudness * weight
        weights[field] = _unit(total)
    factors = MappingProxyType({key: factor for key, factor in value_weights.items() if factor < 1.0})
    return ContentProfile(weights, _direction(use_case, subject, direction, loudness, embedder), factors)


Counts = dict[str, float]


def _own(use_case: UseCase, subject: Entity | None) -> dict[str, Counts]:
    found: defaultdict[str, Counts] = defaultdict(lambda: defaultdict(float))
    for match in use_case.match if subject is not None else ():
        assert subject is not None
        for value in filter(None, dict.fromkeys(discrete_values(subject.features.get(match.subject)))):
            found[match.item][value] += match.weight
    return dict(found)


def _reacted(
    use_case: UseCase,
    events: Sequence[SubjectEvent],
    items: Callable[[EntityId], ItemContent | None],
    now: datetime,
    half_life_days: float,
) -> tuple[dict[str, Counts], NDArray[np.float64] | None, float]:
    """Return mean wanted values by feature, the mean direction, and how loud both speak."""
    values: defaultdict[str, Counts] = defaultdict(lambda: defaultdict(float))
    vectors: list[NDArray[np.float32]] = []
    loud: list[float] = []  # weight of each vector
    evidence = 0.0
    for event in events:
        content, kind = items(event.item), use_case.events.get(event.event_type)
        if content is None or kind is None or event.reason:
            continue
        age = max((now - event.time).total_seconds() / SECONDS_A_DAY, 0.0)
        weight = kind.weight * 0.5 ** (age / half_life_days)
        evidence += abs(weight)
        for field, held in content.values.items():
            bucket, each = values[field], weight / math.sqrt(len(held))
            for value in held:
                bucket[value] += each
        if content.vector is not None:
            vectors.append(content.vector)
            loud.append(weight)
    if evidence == 0.0:
        return {}, None, 0.0
    mean = {field: {v: w / evidence for v, w in held.items()} for field, held in values.items()}
    loudness = REACTED_SHARE * evidence / (evidence + EVIDENCE)
    direction = np.asarray(loud) @ np.stack(vectors).astype(np.float64) / evidence if vectors else None
    return mean, direction, loudness


def _direction(
    use_case: UseCase,
    subject: Entity | None,
    reacted: NDArray[np.float64] | None,
    loudness: float,
    embedder: TextEmbedder,
) -> NDArray[np.float32] | None:
    own = None if subject is None else vectors_of([subject], embedder, use_case.embedding_width)[0]
    parts = [] if own is None else [own.astype(np.float64)]
    if reacted is not None and (own is None or reacted.shape == own.shape):
        parts.append(loudness * reacted)
    return unit(np.sum(parts, axis=0)) if parts else None


def _unit(weights: Mapping[str, float]) -> Mapping[str, float]:
    size = math.sqrt(sum(w * w for w in weights.values()))
    return {value: w / size for value, w in weights.items()} if size > 0.0 else weights


def _brought(entity: Entity, width: int, embedder: str) -> list[tuple[float, ...]]:
    """Return the embeddings that an entity brings."""
    brought = [
        value.vector
        for _, value in sorted(entity.features.items())
        if isinstance(value, Embedding) and value.embedder in ("", embedder)
    ]
    _refuse([entity], [all(len(vector) == width for vector in brought)], width)
    return brought


def _refuse(entities: Sequence[Entity], fine: Sequence[bool], width: int) -> None:
    """Raise InvalidInput that names the first entity that is not fine."""
    for entity, good in zip(entities, fine, strict=True):
        if not good:
            raise InvalidInput(f"{entity.key.kind}/{entity.key.id}: embedding must be {width} finite numbers")
