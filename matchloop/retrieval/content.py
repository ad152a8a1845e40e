"""Content retrieval: items whose values fit what the subject looks for; no training."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from matchloop.errors import InvalidInput
from matchloop.retrieval.postings import Posting
from matchloop.retrieval.profile import (
    HALF_LIFE_DAYS,
    ContentProfile,
    ItemContent,
    build_profile,
    content_of,
    field_weights,
)
from matchloop.retrieval.scored import Hit, best_allowed, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from matchloop.entities import Entity, EntityId
    from matchloop.features.text import TextEmbedder
    from matchloop.retrieval.profile import SubjectEvent
    from matchloop.usecase import UseCase

EMBEDDING = "embedding"
"""Name of the embedding's part among the contributions."""


@dataclass(frozen=True, slots=True)
class ContentHit:
    """An item and why.

    Parameters
    ----------
    item, score
        The score is in (0, 1].
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
    vectors, whose weight is the use case's `embedding_weight`.

    Parameters
    ----------
    use_case
        Names the item features, their matches and weights.
    embedder
        For items and subjects that bring texts but no embedding of their own; as wide as the use case says.
    """

    def __init__(self, use_case: UseCase, embedder: TextEmbedder) -> None:
        if embedder.width != use_case.embedding_width:
            raise InvalidInput(f"embedder is {embedder.width} wide, {use_case.id} {use_case.embedding_width}")
        self.use_case = use_case
        self._embedder = embedder
        self._fields = field_weights(use_case)
        self._lock = Lock()
        self._row: dict[EntityId, int] = {}
        self._ids: list[EntityId | None] = []  # None: a free row
        self._contents: list[ItemContent | None] = []
        self._free: list[int] = []
        self._vectors = np.zeros((0, use_case.embedding_width), dtype=np.float32)
        self._postings: dict[tuple[str, str], Posting] = {}

    def __len__(self) -> int:
        return len(self._row)

    def __contains__(self, item: object) -> bool:
        return item in self._row

    def content(self, item: EntityId) -> ItemContent | None:
        """Return what is known of an item; None if it is not there."""
        row = self._row.get(item)
        return None if row is None else self._contents[row]

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
            for item, content in zip(items, contents, strict=True):
                self._put(item.key.id, content)

    def remove(self, ids: Collection[EntityId]) -> None:
        """Remove items; ids that are not there are ignored."""
        with self._lock:
            for id_ in ids:
                row = self._row.pop(id_, None)
                if row is not None:
                    self._clear(row)
                    self._ids[row] = None
                    self._free.append(row)

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
            field: dict.fromkeys(values, 1.0 / float(np.sqrt(len(values))))
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
    ) -> list[ContentHit]:
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
        list of ContentHit
            Equal scores in an order that holds until the next change.

        Raises
        ------
        InvalidInput
            If a weight or the vector is not finite, or `k` is negative.
        """
        with self._lock:
            wanted = self._wanted(profile)
            share = self._embedding_share(profile, wanted)
            scores = self._scores(profile, wanted, share)
            scores[scores <= 0.0] = -np.inf
            rows = rows_of(exclude, self._row)
            hits = best_allowed(scores, k, self._ids, exclude=rows, allow=allow)  # type: ignore[arg-type]
            return [self._explained(hit, profile, wanted, share) for hit in hits]

    def _wanted(self, profile: ContentProfile) -> dict[str, dict[str, float]]:
        """Return the weight of each value: damped by how common it is, times its feature's share."""
        fields = [field for field in profile.weights if field in self._fields]
        total = sum(self._fields[f] for f in fields if max(profile.weights[f].values(), default=0.0) > 0.0)
        return {
            field: {
                value: weight * self._fields[field] / (total or 1.0)
                for value, weight in self._damped(field, profile.weights[field]).items()
            }
            for field in fields
        }

    def _damped(self, field: str, values: Mapping[str, float]) -> dict[str, float]:
        """Shift weight from common values to rare ones, among those that items have; their length stays."""
        if not np.isfinite(_size(values.values())):
            raise InvalidInput(f"profile: a weight of `{field}` is not finite")
        known = {v: w for v, w in values.items() if (field, v) in self._postings}
        count = len(self._row)
        damped = {v: w * float(np.log1p(count / len(self._postings[field, v]))) for v, w in known.items()}
        before, after = _size(known.values()), _size(damped.values())
        return {v: w * before / after for v, w in damped.items()} if after > 0.0 else damped

    def _embedding_share(self, profile: ContentProfile, wanted: Mapping[str, Mapping[str, float]]) -> float:
        if profile.vector is None or not profile.vector.any():
            return 0.0
        if profile.vector.shape != (self._vectors.shape[1],) or not np.isfinite(profile.vector).all():
            raise InvalidInput(f"profile: the vector must be {self._vectors.shape[1]} finite numbers")
        by_value = any(w > 0.0 for values in wanted.values() for w in values.values())
        return self.use_case.embedding_weight if by_value else 1.0

    def _scores(
        self, profile: ContentProfile, wanted: Mapping[str, Mapping[str, float]], share: float
    ) -> NDArray[np.float32]:
        scores = np.zeros(len(self._ids), dtype=np.float32)
        for field, values in wanted.items():
            for value, weight in values.items():
                rows, held = self._postings[field, value].arrays
                scores[rows] += np.float32((1.0 - share) * weight) * held
        if share > 0.0 and profile.vector is not None:
            scores += share * (self._vectors[: len(self._ids)] @ profile.vector)
        return np.minimum(scores, np.float32(1.0))

    def _explained(
        self, hit: Hit, profile: ContentProfile, wanted: Mapping[str, Mapping[str, float]], share: float
    ) -> ContentHit:
        row = self._row[hit.item]
        content = self._contents[row]
        assert content is not None
        parts = {
            field: (1.0 - share) * sum(values.get(v, 0.0) for v in held) / float(np.sqrt(len(held)))
            for field, held in content.values.items()
            if (values := wanted.get(field))
        }
        if share > 0.0 and profile.vector is not None:
            parts[EMBEDDING] = share * float(self._vectors[row] @ profile.vector)
        return ContentHit(hit.item, hit.score, {name: part for name, part in parts.items() if part != 0.0})

    def _put(self, id_: EntityId, content: ItemContent) -> None:
        row = self._row.get(id_)
        if row is None:
            row = self._row[id_] = self._new_row()
            self._ids[row] = id_
        else:
            self._clear(row)
        self._contents[row] = content
        if content.vector is not None:
            self._vectors[row] = content.vector
        for field, values in content.values.items():
            for value in values:
                posting = self._postings.setdefault((field, value), Posting())
                posting.put(row, 1.0 / float(np.sqrt(len(values))))

    def _new_row(self) -> int:
        if self._free:
            return self._free.pop()
        self._ids.append(None)
        self._contents.append(None)
        if len(self._ids) > len(self._vectors):
            grown = np.zeros((max(64, 2 * len(self._vectors)), self._vectors.shape[1]), dtype=np.float32)
            grown[: len(self._vectors)] = self._vectors
            self._vectors = grown
        return len(self._ids) - 1

    def _clear(self, row: int) -> None:
        content = self._contents[row]
        assert content is not None
        for field, values in content.values.items():
            for value in values:
                posting = self._postings[field, value]
                posting.drop(row)
                if not len(posting):
                    del self._postings[field, value]
        self._contents[row] = None
        self._vectors[row] = 0.0


def _size(weights: Collection[float]) -> float:
    return float(np.sqrt(sum(w * w for w in weights)))
