"""Sessions: one list shown to one subject, as it was when it was served."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from matchloop.usecase import Method, Tier


class SessionSource(StrEnum):
    """Who decided the list; only `RANKING` trains the ranker."""

    RANKING = "ranking"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Session:
    """One list; the per-item tuples run in rank order, rank 1 first.

    Parameters
    ----------
    scores
        What the list was ordered by; finite.
    methods
        None for an item of a client's own list.
    propensities
        In (0, 1], 0 where none was logged.
    feature_values
        Items x `feature_names`, row by row; empty when no item has features.
    retrieval_scores
        The retrieval methods' own, finite; None where none was logged, empty when none was for any item.
    """

    session_id: str
    use_case: str
    subject_id: str
    release: str
    arm: str
    tier: Tier | None
    reranked: bool
    source: SessionSource
    serve_time: datetime
    feature_names: tuple[str, ...]
    item_ids: tuple[str, ...]
    scores: tuple[float, ...]
    methods: tuple[Method | None, ...]
    propensities: tuple[float, ...]
    feature_values: tuple[float, ...]
    retrieval_scores: tuple[float | None, ...] = ()

    def place_of(self, item_id: str) -> int:
        """Return the item's rank, from 1; 0 when it was not on the list."""
        return self.item_ids.index(item_id) + 1 if item_id in self.item_ids else 0

    def without(self, items: Collection[str]) -> Session | None:
        """Return the list without the places of these items; None when nothing is left."""
        places = [place for place, item in enumerate(self.item_ids) if item not in items]
        if not places:
            return None
        width = len(self.feature_names) if self.feature_values else 0
        return replace(
            self,
            item_ids=tuple(self.item_ids[place] for place in places),
            scores=tuple(self.scores[place] for place in places),
            methods=tuple(self.methods[place] for place in places),
            propensities=tuple(self.propensities[place] for place in places),
            feature_values=tuple(
                value
                for place in places
                for value in self.feature_values[place * width : (place + 1) * width]
            ),
            retrieval_scores=logged([self.retrieval_scores[place] for place in places])
            if self.retrieval_scores
            else (),
        )


def logged(retrieval_scores: Sequence[float | None]) -> tuple[float | None, ...]:
    """Return a list's retrieval scores as a session holds them: empty when there is none at all."""
    return tuple(retrieval_scores) if any(score is not None for score in retrieval_scores) else ()


@dataclass(frozen=True, slots=True)
class SessionsRecorded:
    """What recording sessions did."""

    stored: int
    duplicates: tuple[str, ...]
    tied: int


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """What to list of a use case; empty text and None mean any."""

    use_case: str
    subject_id: str = ""
    item_id: str = ""
    release: str = ""
    from_time: datetime | None = None
    to_time: datetime | None = None
