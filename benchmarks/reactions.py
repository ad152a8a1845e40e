"""Reactions such as a busy market sends, made as fast as a store takes them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from feedback_svc.interactions import Interaction
from feedback_svc.sessions import Session, SessionSource
from matchloop.usecase import Method, Tier

if TYPE_CHECKING:
    from numpy.typing import NDArray

USE_CASE: Final = "developer_startup"
EVENTS: Final = {"view": 0.60, "click": 0.25, "like": 0.05, "apply": 0.05, "dislike": 0.05}
"""Share of each event type."""

BATCH: Final = 500
SESSIONS: Final = 25
FROM_A_SESSION: Final = 5
"""Of a batch, 25 lists caused 5 reactions each; the other 375 came from no list."""

LIST_LENGTH: Final = 20
FEATURES: Final = ("model_score", "recency", "popularity", "subject_affinity", "original_score")
SCORES: Final = tuple(0.95 - 0.04 * place for place in range(LIST_LENGTH))


@dataclass(frozen=True, slots=True)
class Reactions:
    """A batch, and the lists that caused a part of it."""

    sessions: tuple[Session, ...]
    interactions: tuple[Interaction, ...]


class Market:
    """Draws batches: few subjects and items have most of the reactions, every id is random.

    Parameters
    ----------
    rng
        Source of all chance.
    subjects, items
        How many there are; the n-th comes up in proportion to 1 / (n + 10).
    """

    def __init__(self, rng: np.random.Generator, *, subjects: int = 200_000, items: int = 50_000) -> None:
        self._rng = rng
        self._subjects = _cumulated(subjects)
        self._items = _cumulated(items)
        self._types = tuple(EVENTS)
        self._shares = np.array(tuple(EVENTS.values()))

    def batch(self, now: datetime, *, size: int = BATCH) -> Reactions:
        """Return `size` reactions of the hour before `now`, and the lists that some came from."""
        rng = self._rng
        lists = SESSIONS * size // BATCH
        tied = lists * FROM_A_SESSION
        shown = [f"startup-{n}" for n in self._draw(self._items, lists * LIST_LENGTH).tolist()]
        viewers = [f"developer-{n}" for n in self._draw(self._subjects, lists).tolist()]
        starts = range(0, len(shown) + 1, LIST_LENGTH)
        sessions = tuple(
            _session(id_, viewer, tuple(dict.fromkeys(shown[start:end])), now, rng)
            for id_, viewer, (start, end) in zip(self._ids(lists), viewers, pairwise(starts), strict=True)
        )
        sources = [session for session in sessions for _ in range(FROM_A_SESSION)]
        places = rng.integers(0, LIST_LENGTH, tied).tolist()
        organic = size - tied
        subjects = [s.subject_id for s in sources]
        subjects += [f"developer-{n}" for n in self._draw(self._subjects, organic).tolist()]
        items = [s.item_ids[p % len(s.item_ids)] for s, p in zip(sources, places, strict=True)]
        items += [f"startup-{n}" for n in self._draw(self._items, organic).tolist()]
        causes = [s.session_id for s in sources] + [""] * organic
        return Reactions(sessions, self._interactions(subjects, items, causes, now))

    def of_subject(self, subject: str, size: int, now: datetime) -> tuple[Interaction, ...]:
        """Return `size` reactions of one subject, from no list, to items that all come up as often."""
        items = [f"startup-{n}" for n in self._rng.integers(0, len(self._items), size).tolist()]
        return self._interactions([subject] * size, items, [""] * size, now)

    def _interactions(
        self, subjects: list[str], items: list[str], sessions: list[str], now: datetime
    ) -> tuple[Interaction, ...]:
        size = len(subjects)
        types = [self._types[n] for n in self._rng.choice(len(self._types), size, p=self._shares).tolist()]
        micros = self._rng.integers(0, 3_600_000_000, size).tolist()
        return tuple(
            Interaction(id_, USE_CASE, subject, item, type_, now - timedelta(microseconds=ago), session)
            for id_, subject, item, type_, ago, session in zip(
                self._ids(size), subjects, items, types, micros, sessions, strict=True
            )
        )

    def _ids(self, count: int) -> list[str]:
        """Return random ids in the form of UUIDs."""
        text = self._rng.bytes(16 * count).hex()
        each = (text[start : start + 32] for start in range(0, len(text), 32))
        return [f"{t[:8]}-{t[8:12]}-{t[12:16]}-{t[16:20]}-{t[20:]}" for t in each]

    def _draw(self, cumulated: NDArray[np.float64], count: int) -> NDArray[np.int64]:
        return np.searchsorted(cumulated, self._rng.random(count)).astype(np.int64)


def _cumulated(count: int) -> NDArray[np.float64]:
    weights = 1.0 / (np.arange(count) + 10.0)
    shares: NDArray[np.float64] = np.cumsum(weights) / weights.sum()
    return shares


def _session(
    id_: str, subject: str, items: tuple[str, ...], now: datetime, rng: np.random.Generator
) -> Session:
    return Session(
        session_id=id_,
        use_case=USE_CASE,
        subject_id=subject,
        release="release-1",
        arm="",
        tier=Tier.WARM,
        reranked=True,
        source=SessionSource.RANKING,
        serve_time=now - timedelta(hours=1),
        feature_names=FEATURES,
        item_ids=items,
        scores=SCORES[: len(items)],
        methods=(Method.ALS,) * len(items),
        propensities=(0.0,) * len(items),
        feature_values=tuple(rng.random(len(items) * len(FEATURES)).round(4).tolist()),
    )
