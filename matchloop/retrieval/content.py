"""Content retrieval: items whose values fit what the subject looks for; no training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from matchloop.errors import InvalidInput
from matchloop.retrieval.content_pool import BestByValue, pool_size
from matchloop.retrieval.content_rows import ContentRows
from matchloop.retrieval.profile import (
    HALF_LIFE_DAYS,
    ContentProfile,
    ItemContent,
    build_profile,
    content_of,
    disliked_weight,
    field_weights,
)
from matchloop.retrieval.scored import best_allowed, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from matchloop.entities import Entity, EntityId
    from matchloop.features.text import TextEmbedder
    from matchloop.retrieval.profile import SubjectEvent
    from matchloop.retrieval.scored import Hit
    from matchloop.usecase import UseCase

EXACT_BELOW = 50_000
"""From this many items on, embeddings are compared for those alone whose values fit best."""

EMBEDDING = "embedding"
"""Name of the embedding's part among the contributions."""


@dataclass(frozen=True, slots=True)
class ContentHit:
    """An item and why.

    Parameters
    ----------
    item, score
        The score is at most 1; 0 or less for an item that `ContentIndex.search` would leave out.
    contributions
        How much each item feature, and ``embedding``, added to the score or took from it; features that did
        neither are left out. They sum to the score.
    """

    item: EntityId
    score: float
    contributions: Mapping[str, float]


class ContentIndex:
    """Items by value and by vector, kept up to date as they come, change and go; safe for several threads.

    The score of an item is the weighted mean over the features of which the profile wants a value of the
    cosine between wanted and held values, rare values counting more, and of the cosine between the
    vectors, whose weight is the use case's `embedding_weight`. From `exact_below` items on, vectors are
    compared for those items only whose values fit best, more of them when too few are allowed.

    Parameters
    ----------
    use_case
        Names the item features, their matches and weights.
    embedder
        For items and subjects that bring texts but no embedding of their own; as wide as the use case says.
    exact_below
        From this many items on memory and time count more than the last bit of precision.
    """

    def __init__(self, use_case: UseCase, embedder: TextEmbedder, *, exact_below: int = EXACT_BELOW) -> None:
        if embedder.width != use_case.embedding_width:
            raise InvalidInput(f"embedder is {embedder.width} wide, {use_case.id} {use_case.embedding_width}")
        self.use_case = use_case
        self._embedder = embedder
        self._fields = field_weights(use_case)
        self._lock = Lock()
        self._exact_below = exact_below
        self._rows = ContentRows(use_case.embedding_width, exact_below=exact_below)

    def __len__(self) -> int:
        return len(self._rows.row)

    def __contains__(self, item: object) -> bool:
        return item in self._rows.row

    def content(self, item: EntityId) -> ItemContent | None:
        """Return what is known of an item; None if it is not there."""
        with self._lock:
            return self._rows.content(item)

    @property
    def embedder(self) -> str:
        """Name of the embedder."""
        return self._embedder.name

    def arrays(self) -> tuple[dict[str, NDArray[Any]], tuple[list[str], list[str], list[str]]]:
        """Return the items as arrays and names, for `restore`; valid until the next change."""
        with self._lock:
            return self._rows.arrays(), self._rows.names()

    def restore(
        self,
        arrays: Mapping[str, NDArray[Any]],
        ids: Sequence[EntityId],
        features: Sequence[str],
        values: Sequence[str],
    ) -> None:
        """Take what `arrays` of an index of the same use case and embedder gave, in place of all there is.

        Raises
        ------
        KeyError, ValueError
            If something is missing or malformed; nothing is changed.
        """
        rows = ContentRows(self.use_case.embedding_width, exact_below=self._exact_below)
        rows.restore(arrays, ids, features, values)
        with self._lock:
            self._rows = rows

    def upsert(self, items: Sequence[Entity]) -> None:
        """Add items, replacing those that are there; the last wins if an id stands twice.

        Raises
        ------
        InvalidInput
            If an embedding has a wrong length or is not finite; nothing is changed.
        """
        width = self.use_case.embedding_width
        contents = content_of(items, self._fields, self._embedder, width)
        with self._lock:
            rows = [
                self._rows.put(item.key.id, content.values)
                for item, content in zip(items, contents, strict=True)
            ]
            self._rows.vectors.put(rows, [content.vector for content in contents])

    def remove(self, ids: Collection[EntityId]) -> None:
        """Remove items; ids that are not there are ignored."""
        with self._lock:
            for id_ in ids:
                self._rows.remove(id_)

    def profile(
        self,
        subject: Entity | None,
        events: Sequence[SubjectEvent],
        value_weights: Mapping[tuple[str, str], float],
        now: datetime,
        *,
        half_life_days: float = HALF_LIFE_DAYS,
    ) -> ContentProfile:
        """Build the profile of a subject from what this index knows; see `build_profile`."""
        return build_profile(
            self.use_case,
            subject,
            events,
            self.content,
            value_weights,
            now,
            embedder=self._embedder,
            half_life_days=half_life_days,
        )

    def profile_like(self, item: EntityId) -> ContentProfile | None:
        """Return the profile that wants just this item's values; None if it is not there."""
        content = self.content(item)
        if content is None:
            return None
        weights = {
            field: dict.fromkeys(values, 1.0 / math.sqrt(len(values)))
            for field, values in content.values.items()
        }
        return ContentProfile(weights, content.vector)

    def search(
        self,
        profile: ContentProfile,
        k: int,
        *,
        exclude: Collection[EntityId] = (),
        allow: Callable[[EntityId], bool] | None = None,
    ) -> list[Hit]:
        """Return the `k` items that fit best, best first; items that do not fit at all are left out.

        Parameters
        ----------
        profile
            Of `profile` or `build_profile` with the same use case and embedder.
        k
            0 or more.
        exclude
            Ids to leave out; unknown ones are ignored.
        allow
            Only items for which this is true, if given; it must not call the index.

        Returns
        -------
        list of Hit
            Scores in (0, 1]. Equal scores in an order that holds until the next change.

        Raises
        ------
        InvalidInput
            If a weight or the vector is not finite, or `k` is negative.
        """
        with self._lock:
            wanted = self._wanted(profile)
            share = self._embedding_share(profile, wanted)
            rows = rows_of(exclude, self._rows.row)
            if self._rows.signatures is not None and share < 1.0:
                best = BestByValue(self._rows, wanted, 1.0 - share)
                return self._search_pools(profile, best, share, k, rows, allow)
            scores = self._by_value(wanted, share)
            if share > 0.0 and profile.vector is not None:
                scores += share * self._rows.vectors.dot(profile.vector, len(scores))
            return self._best(scores, k, self._rows.ids, rows, allow)

    def _best(
        self,
        scores: NDArray[np.float32],
        k: int,
        ids: Sequence[EntityId | None] | _Picked,
        exclude: NDArray[np.int64],
        allow: Callable[[EntityId], bool] | None,
    ) -> list[Hit]:
        scores = np.minimum(scores, np.float32(1.0))
        scores[scores <= 0.0] = -np.inf
        return best_allowed(scores, k, ids, exclude=exclude, allow=allow)  # type: ignore[arg-type]

    def _search_pools(
        self,
        profile: ContentProfile,
        by_value: BestByValue,
        share: float,
        k: int,
        exclude: NDArray[np.int64],
        allow: Callable[[EntityId], bool] | None,
    ) -> list[Hit]:
        """Compare vectors of those only whose values fit best, of ever more until `k` are allowed."""
        size = pool_size(k) + len(exclude)
        while True:
            pool, scores = by_value.pool(size)
            if share > 0.0 and profile.vector is not None:
                scores = scores + share * self._rows.vectors.dot_rows(profile.vector, pool)
            ids = _Picked(self._rows.ids, pool)
            left_out = np.flatnonzero(np.isin(pool, exclude)) if len(exclude) else exclude
            hits = self._best(scores, k, ids, left_out, allow)
            if len(hits) >= k or len(pool) >= by_value.count:
                return hits
            size *= 16

    def explain(self, profile: ContentProfile, items: Sequence[EntityId]) -> list[ContentHit]:
        """Say what the score of these items is made of, in the order given; unknown ones are left out.

        Costs what these items cost, however many there are in the index.

        Raises
        ------
        InvalidInput
            As `search`.
        """
        with self._lock:
            wanted = self._wanted(profile)
            share = self._embedding_share(profile, wanted)
            return [
                self._explained(item, content, profile, wanted, share)
                for item in items
                if (content := self._rows.content(item)) is not None
            ]

    def _wanted(self, profile: ContentProfile) -> dict[str, dict[str, float]]:
        """Return the weight of each value: damped by how common it is, cut, times its feature's share."""
        fields = [field for field in profile.weights if field in self._fields]
        total = sum(self._fields[f] for f in fields if max(profile.weights[f].values(), default=0.0) > 0.0)
        wanted = {field: self._damped(field, profile.weights[field]) for field in fields}
        for (field, value), factor in profile.factors.items():
            if (field, value) in self._rows.postings:
                own = wanted.setdefault(field, {})
                own[value] = disliked_weight(own.get(value, 0.0), factor)
        return {
            field: {value: weight * self._fields[field] / (total or 1.0) for value, weight in own.items()}
            for field, own in wanted.items()
        }

    def _damped(self, field: str, values: Mapping[str, float]) -> dict[str, float]:
        """Shift weight from common values to rare ones, among those that items have; their length stays."""
        if not np.isfinite(_size(values.values())):
            raise InvalidInput(f"profile: a weight of `{field}` is not finite")
        known = {v: w for v, w in values.items() if (field, v) in self._rows.postings}
        count = len(self._rows.row)
        damped = {v: w * math.log1p(count / len(self._rows.postings[field, v])) for v, w in known.items()}
        before, after = _size(known.values()), _size(damped.values())
        return {v: w * before / after for v, w in damped.items()} if after > 0.0 else damped

    def _embedding_share(self, profile: ContentProfile, wanted: Mapping[str, Mapping[str, float]]) -> float:
        if profile.vector is None or not profile.vector.any():
            return 0.0
        if profile.vector.shape != (self._rows.vectors.width,) or not np.isfinite(profile.vector).all():
            raise InvalidInput(f"profile: the vector must be {self._rows.vectors.width} finite numbers")
        by_value = any(w > 0.0 for values in wanted.values() for w in values.values())
        return self.use_case.embedding_weight if by_value else 1.0

    def _by_value(self, wanted: Mapping[str, Mapping[str, float]], share: float) -> NDArray[np.float32]:
        """Return what the values of each row add to its score."""
        scores = np.zeros(len(self._rows.ids), dtype=np.float32)
        for field, values in wanted.items():
            for value, weight in values.items():
                rows, held = self._rows.postings[field, value].arrays
                scores[rows] += np.float32((1.0 - share) * weight) * held
        return scores

    def _explained(
        self,
        item: EntityId,
        content: ItemContent,
        profile: ContentProfile,
        wanted: Mapping[str, Mapping[str, float]],
        share: float,
    ) -> ContentHit:
        parts = {
            field: (1.0 - share) * sum(values.get(v, 0.0) for v in held) / math.sqrt(len(held))
            for field, held in content.values.items()
            if (values := wanted.get(field))
        }
        if share > 0.0 and profile.vector is not None and content.vector is not None:
            parts[EMBEDDING] = share * float(content.vector @ profile.vector)
        score = min(sum(parts.values()), 1.0)
        return ContentHit(item, score, {name: part for name, part in parts.items() if part != 0.0})


class _Picked:
    """The ids of some rows, looked up one by one."""

    def __init__(self, ids: Sequence[EntityId | None], rows: NDArray[np.int32]) -> None:
        self._ids, self._rows = ids, rows

    def __getitem__(self, at: int) -> EntityId | None:
        return self._ids[int(self._rows[at])]


def _size(weights: Collection[float]) -> float:
    return math.sqrt(sum(w * w for w in weights))
