"""What came of lists, as sums over subjects: enough for intervals of rates when a subject sees many items."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums over subjects, of how many of the items shown to a subject drew a reaction.

    Parameters
    ----------
    total
        Items shown that drew it, over all subjects; an item of a list counts once.
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
    reranked_sessions
        Lists that a trained model ordered.
    mean_diversity, mean_freshness
        Means over the items shown whose features were logged; 0 for none.
    """

    arm: str
    release: str
    subjects: int = 0
    sessions: int = 0
    shown: int = 0
    shown_squares: float = 0.0
    clicks: Moments = Moments()
    strong_positives: Moments = Moments()
    dislikes: Moments = Moments()
    reranked_sessions: int = 0
    mean_diversity: float = 0.0
    mean_freshness: float = 0.0
