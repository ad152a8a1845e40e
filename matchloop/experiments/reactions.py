"""What came of the lists of an arm and a release: sums over subjects, which intervals of rates need."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums over the subjects of a group, of how many of the items shown to a subject drew a reaction.

    Parameters
    ----------
    total
        Items shown that drew it; an item of a list counts once.
    squares
        The sum over subjects of the square of a subject's number.
    products
        The sum over subjects of its number times the items it was shown.
    """

    total: int = 0
    squares: float = 0.0
    products: float = 0.0


@dataclass(frozen=True, slots=True)
class Reactions:
    """What came of the lists of one arm and release; rates are per item shown.

    Parameters
    ----------
    shown
        Items on these lists.
    shown_squares
        The sum over subjects of the square of the items it was shown.
    clicks
        Any reaction with a positive weight but a mere view.
    strong_positives, dislikes
        Strong positives of the use case; rejections.
    reranked_sessions
        Lists that a trained model ordered.
    mean_diversity, mean_freshness
        Of the items whose features `diversity`, `recency` were logged; 0 for none.
    """

    arm: str
    release: str
    subjects: int
    sessions: int
    shown: int
    shown_squares: float
    clicks: Moments
    strong_positives: Moments
    dislikes: Moments
    reranked_sessions: int
    mean_diversity: float
    mean_freshness: float
