"""Lists that were served, as what drift is measured on: every item's features and score, and whose it was."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from matchloop.rerank.calibration import CLIENT_METHOD, DEFAULT_PLATT, SCORE_FLOOR, logit, sigmoid
from matchloop.usecase import Method

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from numpy.typing import NDArray

    from matchloop.rerank.calibration import Platt
    from matchloop.rerank.scorer import Scorer


@dataclass(frozen=True, slots=True)
class Lists:
    """Items of served lists in columns of equal length n.

    Parameters
    ----------
    names
        F ranking features.
    features
        (n, F) float32 as they were when the list was served.
    score
        (n,) float32: the final score.
    method
        (n,) names of the methods that found the items; empty or None where the client brought them.
    subject, session
        int64 (n,): whose list it was, and which, numbered from 0.
    first, last
        When the first and the last of the lists were served; None for no list.
    """

    names: tuple[str, ...]
    features: NDArray[np.float32]
    score: NDArray[np.float32]
    method: NDArray[np.object_]
    subject: NDArray[np.int64]
    session: NDArray[np.int64]
    first: datetime | None = None
    last: datetime | None = None

    def __len__(self) -> int:
        """Return how many lists there are."""
        return len(np.unique(self.session))

    @property
    def subjects(self) -> int:
        """How many subjects they were shown to."""
        return len(np.unique(self.subject))

    def ranked(self) -> Lists:
        """Return those that were ranked: not the ones `popular` alone found, whose order stays as it came."""
        sessions = int(self.session.max(initial=-1)) + 1
        other = self.method != Method.POPULAR.value
        keep = np.bincount(self.session[other], minlength=sessions)[self.session] > 0
        return replace(
            self,
            features=self.features[keep],
            score=self.score[keep],
            method=self.method[keep],
            subject=_numbered(self.subject[keep]),
            session=_numbered(self.session[keep]),
        )

    def as_scored_by(self, scorer: Scorer, served: Mapping[Method, Platt]) -> Lists:
        """Return the lists with the `original_score` and final scores that a scorer would give these items.

        A release brings a calibration and a ranker of its own: without this its scores would have drifted
        from those of the lists it was trained on, which another release served, before it served any.

        Parameters
        ----------
        served
            The calibration that these lists were served under; a method without has `DEFAULT_PLATT`'s.
        """
        column = self.names.index("original_score")
        original = self.features[:, column].astype(np.float64)
        names = np.array([name or CLIENT_METHOD.value for name in self.method.tolist()], dtype=object)
        for method in map(Method, dict.fromkeys(names.tolist())):
            rows = names == method.value
            old = served.get(method) or DEFAULT_PLATT[method]
            new = scorer.calibration.get(method) or DEFAULT_PLATT[method]
            if new == old:
                continue
            evidence = (logit(self.features[rows, column]) - old.intercept) / old.slope
            original[rows] = sigmoid(new.slope * evidence + new.intercept)
        features = self.features.copy()
        features[:, column] = np.clip(original, SCORE_FLOOR, 1.0 - SCORE_FLOOR)
        diversity = features[:, self.names.index("diversity")].copy()
        score = scorer.final(scorer.by_diversity(features)(diversity)) if len(features) else self.score
        return replace(self, features=features, score=np.asarray(score, dtype=np.float32))


def _numbered(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the numbers anew, from 0, in the order they had."""
    return np.unique(codes, return_inverse=True)[1].astype(np.int64)
