"""The best of many items when all but some keep a score that is known in advance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from matchloop.retrieval.scored import Scored

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEAD = 4096
"""Best rows of a base that are kept in order."""


@dataclass(frozen=True, slots=True)
class Base:
    """Scores that hold for everybody, with the best of them in order.

    Parameters
    ----------
    share
        float64 (n,), 0 or more, together 1, or all 0.
    head
        int64: the best rows of a share over 0, best first, the lower row first among equals; all, or `HEAD`.
    """

    share: NDArray[np.float64]
    head: NDArray[np.int64]

    @classmethod
    def of(cls, counts: NDArray[np.float64]) -> Base:
        """Norm `counts`, float64 (n,), finite and 0 or more, and find the head."""
        total = float(counts.sum())
        share = counts / total if total > 0.0 else np.zeros(len(counts))
        least = np.partition(share, len(share) - HEAD)[len(share) - HEAD] if len(share) > HEAD else 0.0
        rows = np.flatnonzero(share >= least if least > 0.0 else share > 0.0)
        return cls(share, rows[np.argsort(-share[rows], kind="stable")][:HEAD].astype(np.int64))


@dataclass(frozen=True, slots=True)
class Boosted:
    """A base in which some rows score more; the whole normed to sum 1.

    Parameters
    ----------
    rows
        int64 (b,), distinct.
    raised
        float64 (b,): their scores before norming, no less than the base's.
    """

    base: Base
    rows: NDArray[np.int64]
    raised: NDArray[np.float64]

    @property
    def total(self) -> float:
        """What scores are divided by, over 0."""
        known = 1.0 if len(self.base.head) else 0.0
        return (known + float((self.raised - self.base.share[self.rows]).sum())) or 1.0

    def scores(self) -> NDArray[np.float64]:
        """Return the score of every row, float64 (n,), each in [0, 1], together 1, or all 0."""
        every = self.base.share.copy()
        every[self.rows] = self.raised
        return every / self.total

    def best(self, k: int, allowed: NDArray[np.bool_] | None = None) -> Scored:
        """Return the `k` best rows, fewer only if no more are allowed; equal scores by row.

        A row that is not boosted is among the best only if it is among the first k allowed ones of the
        base, for boosts never lower a row. So the others are not looked at.
        """
        share, head, rows, raised = self.base.share, self.base.head, self.rows, self.raised
        if allowed is not None:
            head = head[allowed[head]]
            kept = allowed[rows]
            rows, raised = rows[kept], raised[kept]
        if len(head) < min(k, len(share)):
            scores = self.scores()
            every = np.arange(len(share)) if allowed is None else np.flatnonzero(allowed)
            return _ranked(every, scores[every], k)
        head = head[:k]
        plain = head[~np.isin(head, rows, assume_unique=True)]
        found = np.concatenate([rows, plain])
        return _ranked(found, np.concatenate([raised, share[plain]]) / self.total, k)


def _ranked(rows: NDArray[np.int64], scores: NDArray[np.float64], k: int) -> Scored:
    k = min(k, len(rows))
    if k == 0:
        return Scored(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32))
    if k < len(rows):
        near = np.flatnonzero(scores >= np.partition(scores, len(scores) - k)[len(scores) - k])
        rows, scores = rows[near], scores[near]
    order = np.lexsort((rows, -scores))[:k]
    return Scored(rows[order].astype(np.int64), scores[order].astype(np.float32))
